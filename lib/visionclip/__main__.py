"""``python -m visionclip read eye.jpg`` says what the published model sees; ``reference`` says what that is worth."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from transformers.utils import logging

from visionclip import runs
from visionclip.data.folders import external_folder
from visionclip.evaluation import reference, scoring
from visionclip.models import visionclip
from visionclip.report import eyes
from visionclip.stages import synthesis, your_photograph
from visionclip.study.weights import write_digests

LANGUAGES, PROMPTS = ("zh", "en"), 6
HELD_OUT = 600  # phantoms that rules come from


def read(photographs: Sequence[str], model: Path, out: Path) -> None:
    """Print what is seen in photographs, and write their pages and predictions below ``out``."""
    network, tokenizer, processor = visionclip.load(model)
    beside = reference.load(model, network)
    paths = your_photograph.find(photographs)
    examined = your_photograph.examine(network, tokenizer, processor.size, beside, paths)
    pages = eyes.write(examined, beside.sets if beside else [], out)
    for eye, page in zip(examined, pages, strict=True):
        print(f"{eye.name}: {eye.sentence}\n  {runs.relative(page)}")
    print("Not for clinical use: the model was trained on drawn eyes alone and has been validated on no patient.")


def measure(model: Path, external: str, phantoms: int) -> None:
    """Make the reference of a model, from phantoms and the photographs for development, and write it beside it."""
    network, tokenizer, processor = visionclip.load(model)
    held_out = synthesis.draw_set(phantoms, synthesis.HELD_OUT, 0, processor.size, 0.0)
    real = scoring.load_development(external_folder(external), processor.size)
    made = reference.make(network, tokenizer, held_out, real, LANGUAGES, PROMPTS)
    reference.save(made, model)
    if (model / "SHA256SUMS").is_file():
        write_digests(model)
    print(f"{runs.relative(model / reference.FOLDER)}: {', '.join(made.sets) or 'phantoms alone'}")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command."""
    logging.set_verbosity_error()
    parser = argparse.ArgumentParser(prog="python -m visionclip", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    look = commands.add_parser("read", help="what is seen in photographs")
    look.add_argument("photographs", nargs="+", help="pictures, or folders of them")
    look.add_argument("--out", type=runs.resolve, default="runs/read", help="where pages and predictions.csv go")
    worth = commands.add_parser("reference", help="measure what a model's predictions are worth on photographs")
    worth.add_argument("--external", default="data/external", help="folder with one folder a dataset")
    worth.add_argument("--phantoms", type=int, default=HELD_OUT, help="drawn eyes that rules come from")
    for command in (look, worth):
        command.add_argument(
            "--model", type=runs.resolve, default=your_photograph.PUBLISHED, help="folder of a saved model"
        )
    given = parser.parse_args(arguments)
    try:
        if given.command == "read":
            read(given.photographs, given.model, given.out)
        else:
            measure(given.model, given.external, given.phantoms)
    except (ValueError, OSError) as error:
        parser.exit(2, f"{error}\n")


if __name__ == "__main__":
    main()
