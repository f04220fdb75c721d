// BERT's tokenizer as visionclip/text/tokenizer.py makes it: lower case, a token for each Chinese character, WordPiece.
const CURLY = { "“": '"', "”": '"', "‘": "'", "’": "'" };
const CHINESE =
  /[\u4E00-\u9FFF\u3400-\u4DBF\u{20000}-\u{2A6DF}\u{2A700}-\u{2B73F}\u{2B740}-\u{2B81F}\u{2B920}-\u{2CEAF}\uF900-\uFAFF\u{2F800}-\u{2FA1F}]/gu;

function words(text) {
  const clean = text
    .replace(/[“”‘’]/g, (quote) => CURLY[quote])
    .replace(/[\t\n\r]|\p{White_Space}/gu, " ")
    .replace(/\p{C}|\uFFFD/gu, "")
    .replace(CHINESE, " $& ")
    .normalize("NFD")
    .replace(/\p{Mn}/gu, "");
  const lower = Array.from(clean, (character) => character.toLowerCase()).join("");
  return lower.replace(/[!-/:-@[-`{-~]|\p{P}/gu, " $& ").split(" ").filter(Boolean);
}

function piecesOf(word, vocabulary) {
  const characters = Array.from(word), found = [];
  if (characters.length > 100) return ["[UNK]"];
  for (let start = 0, end; start < characters.length; start = end) {
    const prefix = start ? "##" : "";
    for (end = characters.length; end > start; end--)
      if (Object.hasOwn(vocabulary, prefix + characters.slice(start, end).join(""))) break;
    if (end === start) return ["[UNK]"];
    found.push(prefix + characters.slice(start, end).join(""));
  }
  return found;
}

function tokenize(text, vocabulary, context) {
  const parts = text.split(/(\[(?:PAD|UNK|CLS|SEP|MASK)\])/);
  const found = parts.flatMap((part, place) =>
    place % 2 ? [part] : words(part).flatMap((word) => piecesOf(word, vocabulary)));
  return ["[CLS]", ...found.slice(0, context - 2), "[SEP]"].map((piece) => vocabulary[piece]);
}

function unfamiliar(text, vocabulary, seen) {
  return [...new Set(words(text))].filter((word) => piecesOf(word, vocabulary).some((piece) => !seen.has(piece)));
}
