"""One page an eye: what a model sees in a photograph, by itself in one file."""

import base64
import itertools
from pathlib import Path

import cv2
import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from visionclip import runs
from visionclip.report import html
from visionclip.stages import your_photograph
from visionclip.stages.your_photograph import Examined

TEMPLATES = Path(__file__).parent / "templates"
CSV = "predictions.csv"


def page(eye: Examined, sets: list[str]) -> str:
    """The page of a photograph, its pictures within; ``sets`` are the photographs that say what it is worth."""
    environment = Environment(loader=FileSystemLoader(TEMPLATES), undefined=StrictUndefined, autoescape=True)
    environment.filters["in_words"] = html.in_words
    pictures = {} if eye.refused else {"picture": _inline(eye.picture), "overlay": _inline(eye.overlay)}
    near = [(_inline(image), words, alike) for image, words, alike in eye.nearest]
    return environment.get_template("eye.html.j2").render(eye=eye, sets=sets, near=near, **pictures)


def _inline(picture: np.ndarray) -> str:
    """uint8 H×W×3 as the address of a JPEG that is in it."""
    _, encoded = cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 88])
    return f"data:image/jpeg;base64,{base64.b64encode(encoded.tobytes()).decode()}"


def write(examined: list[Examined], sets: list[str], folder: Path) -> list[Path]:
    """Write a page for each photograph and ``predictions.csv`` below ``folder``; return the pages.

    Of several photographs of one name the pages are numbered.
    """
    folder.mkdir(parents=True, exist_ok=True)
    pages: list[Path] = []
    for eye in examined:
        stem = Path(eye.name).stem
        others = (folder / f"{stem} {number}.html" for number in itertools.count(2))
        place = next(one for one in itertools.chain([folder / f"{stem}.html"], others) if one not in pages)
        with runs.atomic(place) as temporary:
            temporary.write_text(page(eye, sets), "utf-8")
        pages.append(place)
    with runs.atomic(folder / CSV) as temporary:
        your_photograph.table(examined).to_csv(temporary, index=False)
    return pages
