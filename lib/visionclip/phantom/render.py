"""One phantom from conditions: the order in which an eye is put together."""

from dataclasses import dataclass

import numpy as np

from visionclip.conditions import VOCABULARY, Conditions, check, complete
from visionclip.phantom import anatomy, camera, disc, vessels
from visionclip.phantom.eye import Eye
from visionclip.phantom.factors import USUAL, Dice, Ranges, draw
from visionclip.phantom.factors import check as check_factors
from visionclip.phantom.lesions import order

ANATOMY = ("field", "disc", "cup", "artery", "vein", "fovea")
LESIONS = (
    "microaneurysms",
    "haemorrhage",
    "exudate",
    "cotton_wool",
    "drusen",
    "atrophy",
    "neovessel",
    "fibrosis",
    "scar",
    "pigment",
    "membrane",
    "swelling",
)
MASKS = (*ANATOMY, *LESIONS)


@dataclass(frozen=True)
class Phantom:
    """A drawn eye.

    ``image`` is uint8 S×S×3 RGB, black outside the field; ``masks`` bool S×S, one for every name of ``MASKS``;
    ``parameters`` what was drawn, fit for JSON: every factor, and places and counts that follow.
    """

    image: np.ndarray
    masks: dict[str, np.ndarray]
    parameters: dict[str, object]


def render(
    conditions: Conditions, rng: np.random.Generator, size: int = 256, ranges: Ranges = USUAL, **factors: object
) -> Phantom:
    """Draw one eye with these conditions (partial or complete) at ``size``×``size`` pixels.

    The same state of ``rng`` gives the same image, and under other conditions the same eye, so that a pair shows what
    a disease changes. ``factors`` fix what would be drawn by chance (see ``FACTORS`` for names and limits), and
    ``ranges`` say by what chance.

    Raises:
        ValueError: an unknown condition or factor, a value outside its range, or a size under 32.
    """
    fixed = check_factors(factors)
    if size < 32:
        raise ValueError(f"render: size is {size}; the smallest that shows an eye is 32")
    eye_conditions = complete(check(conditions, "render", VOCABULARY))
    dice = Dice(rng)
    eye = Eye(eye_conditions, draw(eye_conditions, dice, fixed, ranges), dice, size)
    for painter in (anatomy.background, anatomy.choroid, anatomy.fovea):
        eye.layer(painter)
    order.paint(eye, order.UNDER)
    for painter in (disc.disc, vessels.vessels, anatomy.sheen):
        eye.layer(painter)
    order.paint(eye, order.OVER)
    camera.expose(eye)
    camera.lens(eye)
    camera.focus(eye)
    camera.aberration(eye)
    camera.stray_light(eye)
    camera.hide(eye)
    camera.lashes(eye)
    camera.develop(eye)
    inside = camera.field(eye)
    image = camera.save(eye, inside)
    return Phantom(image, _masks(eye, inside), _parameters(eye))


def _masks(eye: Eye, inside: np.ndarray) -> dict[str, np.ndarray]:
    drawn = {name: mask & inside for name, mask in eye.masks.items()} | {"field": inside}
    return {name: drawn.get(name, np.zeros_like(inside)) for name in (*ANATOMY, *LESIONS)}


def _parameters(eye: Eye) -> dict[str, object]:
    def place(point: np.ndarray) -> list[float]:
        return [round(float(v), 2) for v in eye.pixels(point) + 0.5]

    return {
        **{name: round(value, 4) if isinstance(value, float) else value for name, value in eye.factors.items()},
        **eye.parameters,
        "disc_centre": place(np.zeros(2)),
        "fovea_centre": place(eye.fovea),
        "disc_diameter_pixels": round(float(eye.scale), 2),
    }
