// The page: a photograph and sentences in, shares and a map out. What it is made of stands in visionclip/report/in_browser.py.
const element = (id) => document.getElementById(id);
const facts = JSON.parse(element("facts").textContent);
const seen = new Set(facts.seen);
const MOST_PIXELS = 89e6; // as images.read has it
const state = { towers: null, eye: null, ready: {}, map: null };

// --- the model --------------------------------------------------------------------------------------------------------
async function unpacked(id) {
  const text = atob(element(id).textContent), bytes = new Uint8Array(text.length);
  for (let place = 0; place < text.length; place++) bytes[place] = text.charCodeAt(place);
  element(id).remove();
  return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).arrayBuffer();
}

async function load() {
  ort.env.wasm.numThreads = 1;
  ort.env.wasm.wasmBinary = await unpacked("runtime");
  const tower = async (id) => ort.InferenceSession.create(new Uint8Array(await unpacked(id)), { executionProviders: ["wasm"] });
  state.towers = { image: await tower("image"), text: await tower("text") };
}

async function encodeTexts(texts) { // [{embedding, query}]
  const ids = texts.map((text) => tokenize(text, facts.vocabulary, facts.context));
  const length = Math.max(...ids.map((one) => one.length));
  const flat = (value) => BigInt64Array.from(ids.flatMap((one) => Array.from({ length }, (_, place) => BigInt(value(one, place)))));
  const shape = [texts.length, length];
  const found = await state.towers.text.run({
    input_ids: new ort.Tensor("int64", flat((one, place) => one[place] ?? facts.padding), shape),
    attention_mask: new ort.Tensor("int64", flat((one, place) => (place < one.length ? 1 : 0)), shape),
  });
  const row = (tensor, place) => tensor && tensor.data.slice(place * tensor.dims[1], (place + 1) * tensor.dims[1]);
  return texts.map((_, place) => ({ embedding: row(found.embeddings, place), query: row(found.queries, place) }));
}

async function encodeImage({ data }) { // prepared pixels → {embedding, cells}
  const size = facts.size, planes = new Uint8Array(data.length);
  for (let place = 0; place < size * size; place++)
    for (let channel = 0; channel < 3; channel++) planes[channel * size * size + place] = data[3 * place + channel];
  const found = await state.towers.image.run({ pixels: new ort.Tensor("uint8", planes, [1, 3, size, size]) });
  return { embedding: found.embeddings.data, cells: found.cells };
}

const dot = (one, other) => one.reduce((sum, value, place) => sum + value * other[place], 0);

function logits(eye, texts) {
  return texts.map(({ embedding }) => facts.scale * dot(eye.embedding, embedding) + facts.bias);
}

function softmax(values) {
  const most = Math.max(...values), powers = values.map((value) => Math.exp(value - most));
  const total = powers.reduce((one, other) => one + other, 0);
  return powers.map((power) => power / total);
}

function pointed(eye, { query }) { // {side, data}: the probability of each cell
  const [, depth, side] = eye.cells.dims, count = side * side, sums = new Float32Array(count).fill(facts.cell_bias);
  for (let channel = 0; channel < depth; channel++)
    for (let cell = 0; cell < count; cell++) sums[cell] += query[channel] * eye.cells.data[channel * count + cell];
  return { side, data: sums.map((value) => 1 / (1 + Math.exp(-value))) };
}

// --- photographs ------------------------------------------------------------------------------------------------------
async function pixelsOf(blob) {
  const bitmap = await createImageBitmap(blob, { colorSpaceConversion: "none", premultiplyAlpha: "none" });
  const { width, height } = bitmap;
  if (width * height > MOST_PIXELS) throw new Error("larger than 89 megapixels");
  const canvas = Object.assign(document.createElement("canvas"), { width, height });
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(bitmap, 0, 0);
  const { data } = context.getImageData(0, 0, width, height), rgb = new Uint8Array(width * height * 3);
  for (let from = 0, to = 0; from < data.length; from += 4, to += 3) // what is fully transparent is black
    if (data[from + 3]) for (let channel = 0; channel < 3; channel++) rgb[to + channel] = data[from + channel];
  return { width, height, data: rgb };
}

async function see(blob, name) {
  await say(`Reading ${name} …`);
  let image;
  try {
    image = await pixelsOf(blob);
  } catch (error) {
    const larger = /megapixels/.test(error.message);
    return say(`${name}: ${larger ? error.message : "no image that this browser can read"}; use a JPEG or PNG file`, true);
  }
  const field = find(image), prepared = prepare(image, facts.size, field);
  state.eye = { ...(await encodeImage(prepared)), prepared };
  element("remark").textContent = facts.surrounds[field.surround] ? `Taken care of: ${facts.surrounds[field.surround]}.` : "";
  element("eye").hidden = false;
  element("invitation").hidden = true;
  await show();
  await say(`${name}, as the model sees it.`);
}

// --- what people see ----------------------------------------------------------------------------------------------------
async function say(text, failed = false) {
  element("status").textContent = text;
  element("status").classList.toggle("failed", failed);
  await new Promise((done) => setTimeout(done, 30)); // so that it is painted before the model takes the thread
}

const language = () => document.querySelector("[name=language]:checked").value;
const percent = (share) => `${(100 * share).toFixed(share < 0.0995 ? 1 : 0)} %`;

function bar(tag, name, share, detail = "") {
  const made = (kind, className, text = "") => Object.assign(document.createElement(kind), { className, textContent: text });
  const whole = made(tag, "bar"), track = made("span", "track"), fill = document.createElement("i");
  fill.style.width = `${100 * (share ?? 0)}%`;
  track.append(fill);
  whole.append(made("span", "name", name), made("span", "share", share === undefined ? "–" : percent(share)), track);
  if (detail) whole.append(made("span", "detail", detail));
  return whole;
}

function showConditions() {
  const rows = facts.conditions[language()].map(({ name, classes }, place) => {
    const shares = state.eye && softmax(logits(state.eye, state.ready[language()][place]));
    const likeliest = shares && classes.length > 2 ? 1 + shares.slice(1).indexOf(Math.max(...shares.slice(1))) : 0;
    const detail = likeliest ? `${classes[likeliest].name}: ${percent(shares[likeliest])}` : "";
    const row = bar("button", name, shares ? 1 - shares[0] : undefined, detail);
    row.type = "button";
    row.title = classes.map(({ sentence }) => sentence).join("\n");
    row.onclick = () => {
      element("sentences").value = row.title;
      compare();
      element("sentences").focus();
    };
    return row;
  });
  element("conditions").replaceChildren(...rows);
}

async function compare() {
  const texts = element("sentences").value.split("\n").map((line) => line.trim()).filter(Boolean);
  const strange = [...new Set(texts.flatMap((text) => unfamiliar(text, facts.vocabulary, seen)))];
  element("warning").hidden = !strange.length;
  element("warning").textContent =
    `No training caption has ${strange.slice(0, 20).join(", ")}: the model does not understand that, and shares of such sentences mean nothing.`;
  if (!texts.length || !state.towers || !state.eye) return element("shares").replaceChildren();
  const values = logits(state.eye, await encodeTexts(texts)), shares = softmax(values);
  const cosine = (place) => `cosine ${((values[place] - facts.bias) / facts.scale).toFixed(3)}`;
  element("shares").replaceChildren(...texts.map((text, place) => bar("div", text, shares[place], cosine(place))));
}

async function showEye() {
  const canvas = element("eye"), context = canvas.getContext("2d"), size = facts.size;
  const text = element("finding")?.value.trim();
  if (!state.eye) return;
  const { data } = state.eye.prepared, pixels = new ImageData(size, size);
  for (let place = 0; place < size * size; place++)
    pixels.data.set([data[3 * place], data[3 * place + 1], data[3 * place + 2], 255], 4 * place);
  context.putImageData(pixels, 0, 0);
  if (!element("peak")) return;
  element("peak").textContent = "";
  state.map = null;
  if (!text) return;
  const [one] = await encodeTexts([text]);
  const { side, data: map } = (state.map = pointed(state.eye, one));
  const layer = Object.assign(document.createElement("canvas"), { width: side, height: side });
  const colours = new ImageData(side, side);
  map.forEach((value, cell) => colours.data.set([60 + 195 * value, 230 - 10 * value, 255 - 215 * value, 225 * value], 4 * cell));
  layer.getContext("2d").putImageData(colours, 0, 0);
  context.drawImage(layer, 0, 0, size, size);
  const strange = unfamiliar(text, facts.vocabulary, seen);
  element("peak").textContent = strange.length
    ? `No training caption has ${strange.join(", ")}: the map means nothing.`
    : `“${text}”: at most ${percent(map.reduce((most, value) => Math.max(most, value), 0))} in a cell of 4 × 4 pixels.`;
}

async function show() {
  showConditions();
  await compare();
  await showEye();
}

function showLanguage() {
  const asked = facts.conditions[language()].find(({ key }) => key === "gc");
  element("sentences").value = asked.classes.map(({ sentence }) => sentence).join("\n");
  element("findings")?.replaceChildren(...facts.findings[language()].map((name) => {
    const chip = Object.assign(document.createElement("button"), { type: "button", textContent: name });
    chip.onclick = () => point(name);
    return chip;
  }));
  if (element("finding")) element("finding").value = "";
  return show();
}

function point(name) {
  element("finding").value = name;
  return showEye();
}

function listen() {
  const drop = element("drop");
  for (const kind of ["dragover", "dragleave", "drop"])
    addEventListener(kind, (event) => {
      event.preventDefault();
      drop.classList.toggle("over", kind === "dragover");
      const [file] = kind === "drop" ? event.dataTransfer.files : [];
      if (file) ready.then(() => see(file, file.name));
    });
  element("file").onchange = ({ target }) => target.files[0] && ready.then(() => see(target.files[0], target.files[0].name));
  document.querySelectorAll(".example").forEach((button) => (button.onclick = () => ready.then(() => example(button))));
  element("language").onchange = showLanguage;
  element("ask").onsubmit = (event) => (event.preventDefault(), compare());
  element("where")?.addEventListener("submit", (event) => (event.preventDefault(), showEye()));
  element("clear")?.addEventListener("click", () => point(""));
}

async function example(button) {
  const bytes = Uint8Array.from(atob(button.querySelector("img").src.split(",")[1]), (one) => one.charCodeAt(0));
  await see(new Blob([bytes], { type: "image/png" }), button.textContent.trim());
}

async function start() {
  listen();
  showLanguage();
  await say("Unpacking the model …");
  await load();
  for (const [spoken, conditions] of Object.entries(facts.conditions)) {
    const texts = await encodeTexts(conditions.flatMap(({ classes }) => classes.map(({ sentence }) => sentence)));
    state.ready[spoken] = conditions.map(({ classes }) => texts.splice(0, classes.length));
  }
  await say("Ready: drop a photograph, or press a phantom.");
}

const ready = start();
ready.catch((error) => say(`The model can't run in this browser: ${error.message}. A current Firefox, Chrome, Edge or Safari can.`, true));
globalThis.visionclip = { ready, state, facts, find, prepare, pixelsOf, tokenize, unfamiliar, encodeImage, encodeTexts, logits, pointed, see, point };
