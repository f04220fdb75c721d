"""The training set with its captions, in the formats that other CLIP programs train on.

``python -m visionclip.data.exports --synthesis DIR --captions DIR --format open_clip --out DIR`` writes the two
sets of stages 01 and 02, for training and for validation. Images are copied as they are encoded, and none is held.

- ``open_clip``: WebDataset shards ``train/00000.tar`` ... and ``valid/00000.tar`` ..., a sample being ``key.png`` (or
  ``key.jpg``), ``key.txt`` with a caption and ``key.json`` with what is known of the image. ``sizes.json`` counts the
  samples of each shard, so that open_clip asks for no ``--train-num-samples``. (It reads no shards with webdataset
  over 0.2.86, the version that ``open_clip_torch[training]`` installs.)
- ``chinese_clip``: ``train_imgs.tsv`` and ``valid_imgs.tsv`` (image id, tab, base64), ``train_texts.jsonl`` and
  ``valid_texts.jsonl`` ({"text_id", "text", "image_ids"}), for its ``build_lmdb_dataset.py --splits train,valid``. Ids
  are whole numbers, as its evaluation needs: that of an image is its place in the set, from 0.
"""

import argparse
import base64
from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import zip_longest
from pathlib import Path

from visionclip import runs, streams
from visionclip.data import shards, streaming
from visionclip.progress import progress
from visionclip.text import captions

SPLITS = {"synthetic": "train", "validation": "valid"}  # the sets of stage 01, and how others name them


def open_clip(
    images: Path, texts: Path, out: Path, split: str, every: bool = False, seed: int = 0, per_shard: int = 1000
) -> None:
    """Write the set in the folders ``images`` (shards) and ``texts`` (captions) as shards of ``out/split``.

    An image has one of its captions, drawn at random, or, with ``every``, a sample for each. open_clip wants at least
    as many shards as it has processes that load data: ``per_shard`` samples are in each.

    Raises:
        FileNotFoundError: a folder holds no such set.
        ValueError: the captions were written for other images, or a sample has no image.
    """
    table, texts_of, keys = captions.load(texts)
    rng = streams.rng(seed, "captions of exported images")
    chosen = texts_of if every else [[rng.choice(own)] for own in texts_of]

    def samples() -> Iterator[shards.Sample]:
        for own, sample in zip(chosen, _encoded(images, keys), strict=True):
            for number, text in enumerate(own):
                key = f"{sample['__key__']}-{number}" if every else sample["__key__"]
                yield {**sample, "__key__": key, "txt": table[text].text.encode()}

    shards.write(out / split, samples(), per_shard)
    count = sum(map(len, chosen))
    sizes = {f"{start // per_shard:05d}.tar": min(per_shard, count - start) for start in range(0, count, per_shard)}
    runs.write_json(out / split / "sizes.json", sizes)


def chinese_clip(images: Path, texts: Path, out: Path, split: str) -> None:
    """Write the set in the folders ``images`` and ``texts`` as ``out/{split}_imgs.tsv`` and ``{split}_texts.jsonl``.

    Raises:
        As ``open_clip``.
    """
    table, texts_of, keys = captions.load(texts)
    with runs.atomic(out / f"{split}_imgs.tsv") as path, path.open("w", encoding="utf-8", newline="\n") as file:
        for place, sample in enumerate(_encoded(images, keys)):
            image = next(sample[kind] for kind in ("png", "jpg") if kind in sample)
            file.write(f"{place}\t{base64.b64encode(image).decode()}\n")
    images_of = defaultdict(list)
    for place, own in enumerate(texts_of):
        for text in own:
            images_of[text].append(place)
    records = [{"text_id": text, "text": table[text].text, "image_ids": images_of[text]} for text in sorted(images_of)]
    captions.write_lines(out / f"{split}_texts.jsonl", records)


def _encoded(folder: Path, keys: Sequence[str]) -> Iterator[dict]:
    """The samples of a set of shards, still encoded: ``__key__``, ``png`` or ``jpg``, and ``json``.

    Raises:
        FileNotFoundError: there is no shard in the folder.
        ValueError: its keys are not these, or a sample has no image.
    """
    from webdataset import WebDataset

    stored = WebDataset([str(path) for path in streaming.paths(folder)], shardshuffle=False)
    for key, sample in zip_longest(keys, progress(stored, f"export of {folder.name}", len(keys))):
        if sample is None or sample["__key__"] != key:
            raise ValueError(f"{runs.relative(folder)}: other images than the captions are of; run 02-captions again")
        kept = {kind: sample[kind] for kind in ("__key__", "png", "jpg", "json") if kind in sample}
        if not kept.keys() & {"png", "jpg"}:
            raise ValueError(f"{runs.relative(folder)}: sample {key} has no image (png or jpg)")
        yield kept


def main(arguments: Sequence[str] | None = None) -> None:
    """Export both sets as the command line says; what is wrong is one line on standard error and exit code 2."""
    parser = argparse.ArgumentParser(
        prog="python -m visionclip.data.exports", description="The training set as other CLIP programs train on it."
    )
    parser.add_argument("--synthesis", type=runs.resolve, required=True, help="folder of stage 01")
    parser.add_argument("--captions", type=runs.resolve, required=True, help="folder of stage 02")
    parser.add_argument("--format", choices=("open_clip", "chinese_clip"), required=True)
    parser.add_argument("--every-caption", action="store_true", help="open_clip: a sample for each caption of an image")
    parser.add_argument("--per-shard", type=int, default=1000, help="open_clip: samples in each shard")
    parser.add_argument("--seed", type=int, default=0, help="open_clip: of which caption an image has")
    parser.add_argument("--out", type=Path, required=True, help="folder that is written")
    given = parser.parse_args(arguments)
    if given.per_shard < 1:
        parser.error("per-shard must be at least 1")
    try:
        for name, split in SPLITS.items():
            folders = given.synthesis / name, given.captions / name, given.out.absolute(), split
            if given.format == "open_clip":
                open_clip(*folders, given.every_caption, given.seed, given.per_shard)
            else:
                chinese_clip(*folders)
    except (ValueError, OSError) as error:
        parser.exit(2, f"{error}\n")


if __name__ == "__main__":
    main()
