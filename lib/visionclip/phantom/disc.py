"""The optic disc: halo and crescent round it, neuroretinal rim, cup, buried drusen.

It is drawn in a window around its middle, as most of the photograph lies elsewhere. Its outlines, edges and striae are
tables over the angle about a centre: 0 temporal, a quarter turn below, half a turn nasal.
"""

import copy

import cv2
import numpy as np

from visionclip.phantom.anatomy import BLOND, DARK, bare_choroid
from visionclip.phantom.eye import Eye, blobs

TURN = np.linspace(0, 2 * np.pi, 720, endpoint=False)
COS, SIN = np.cos(TURN), np.sin(TURN)
NASAL = (1 - COS) / 2
# Light against that of the ground (R, G, B), before the camera: medians, so that photographed phantoms have those of
# photographs (IDRiD train, whose discs are marked: 1.3, 1.4, 1.7 for the rim and 1.4, 1.8, 2.1 temporally in the cup).
RIM, CUP = np.log((1.27, 1.36, 1.48)), np.log((1.35, 1.74, 2.0))
CHALK = (1.02, 0.9, 0.72)  # a nerve that has lost its fibres and capillaries


def disc(eye: Eye) -> None:
    """Optic disc and cup, with mask "disc" and "cup". Drawn under the vessels, so call it before them.

    Vertical diameter 1 DD by definition, horizontal about 0.92 (Jonas, Surv Ophthalmol 1999); the edge is sharper
    temporally than nasally, where nerve fibres blur it; the rim is pink to orange, the cup pale yellow.
    """
    eye.masks |= {name: np.zeros((eye.size, eye.size), bool) for name in ("disc", "cup")}
    rng, tilt = eye.dice("disc"), eye.factors["disc_tilt"]
    lean, wide = rng.normal(0, 0.2) * (0.5 + tilt), rng.normal(0.46, 0.02) * (1 - 0.35 * tilt)
    outline = _wavy(rng, 0.018)
    height = float(np.ptp(outline * (0.5 * SIN * np.cos(lean) + wide * COS * np.sin(lean))))
    wide, tall = wide / height, 0.5 / height
    colours = _colours(eye)
    _crescent(eye, lean, wide, colours[1])
    near, place = _window(eye, 1.1, lean)
    if near.x.size:
        shape, angle = _polar(near, (0, 0), wide, tall)
        shape /= _at(outline, angle)
        _halo(near, shape, angle)
        edge = _rim(near, shape, angle, colours[0])
        inside = _cup(near, edge, wide, lean, colours[1])
        _margin(near, shape, angle, colours[1])
        near.masks |= {"disc": shape < 1, "cup": inside & (shape < 1)}
        _keep(eye, near, place)
    _disc_drusen(eye)


def _window(eye: Eye, half: float, lean: float) -> tuple[Eye, tuple[slice, slice]]:
    """The eye within ``half`` DD of the disc's centre, painting into the same image but with masks of its own, and its
    rows and columns. Its x and y are turned by ``lean``."""
    middle, reach = eye.pixels(np.zeros(2)), half * eye.scale
    low, high = (np.clip(edge, 0, eye.size).astype(int) for edge in (middle - reach, middle + reach + 1))
    place = slice(low[1], high[1]), slice(low[0], high[0])
    near = copy.copy(eye)
    near.image, near.masks = eye.image[:, *place], {}
    x, y, cos, sin = eye.x[place], eye.y[place], float(np.cos(lean)), float(np.sin(lean))
    near.x, near.y = x * cos + y * sin, y * cos - x * sin
    return near, place


def _keep(eye: Eye, near: Eye, place: tuple[slice, slice]) -> None:
    """Add the masks of the window to those of the eye."""
    for name, mask in near.masks.items():
        whole = eye.masks.setdefault(name, np.zeros((eye.size, eye.size), bool))
        whole[place] |= mask


def _polar(eye: Eye, centre: tuple[float, float], wide: float, tall: float) -> tuple[np.ndarray, np.ndarray]:
    """Distance from ``centre`` in half axes of an ellipse, and the place in a table of the angle about it."""
    across, down = (eye.x - float(centre[0])) / float(wide), (eye.y - float(centre[1])) / float(tall)
    distance, angle = cv2.cartToPolar(across, down)
    return distance, np.minimum(angle * np.float32(len(TURN) / (2 * np.pi)), len(TURN) - 1).astype(np.intp)


def _at(table: np.ndarray, angle: np.ndarray) -> np.ndarray:
    """The table over a whole turn, read at each pixel's angle."""
    return table.astype(np.float32)[angle]


def _wavy(rng: np.random.Generator, amount: float) -> np.ndarray:
    """A table about 1: an outline that is no ellipse."""
    waves = np.arange(2, 6)[:, None]
    ripples = np.cos(waves * TURN + rng.uniform(0, 2 * np.pi, waves.shape))
    return 1 + np.sum(rng.normal(0, 2 * amount / waves) * ripples, axis=0)


def _striae(rng: np.random.Generator, count: int) -> np.ndarray:
    """A table of about unit variance and mean 0 with ``count`` humps: nerve-fibre bundles seen along their course."""
    return cv2.resize(rng.standard_normal((1, count)), (len(TURN), 1), interpolation=cv2.INTER_CUBIC)[0]


def _fibres(rng: np.random.Generator, shape: np.ndarray, angle: np.ndarray) -> np.ndarray:
    """Noise of about unit variance drawn out along the radius: bundles of nerve fibres, some of them short."""
    columns = angle.astype(np.float32) * np.float32(64 / len(TURN))
    return cv2.remap(
        rng.standard_normal((16, 64), np.float32), columns, 2.5 * shape, cv2.INTER_LINEAR, None, cv2.BORDER_WRAP
    )


def _grain(eye: Eye, rng: np.random.Generator, fine: float) -> np.ndarray:
    """Smooth noise of about unit variance, ``fine`` humps a DD."""
    coarse = rng.standard_normal((32, 32), np.float32)
    columns, rows = (axis * np.float32(fine) + 16 for axis in (eye.x, eye.y))
    return cv2.remap(coarse, columns, rows, cv2.INTER_LINEAR, None, cv2.BORDER_WRAP)


def _step(depth: np.ndarray, width: np.ndarray | float) -> np.ndarray:
    """0 outside to 1 inside, a half at depth 0, over ``width``."""
    ramp = np.clip(depth / width + 0.5, 0, 1)
    return ramp * ramp * (3 - 2 * ramp)


def _colours(eye: Eye) -> tuple[np.ndarray, np.ndarray]:
    """Rim and cup of this eye, R, G, B: brighter than its ground by a share that varies widely between eyes."""
    rng, factors = eye.dice("disc colour"), eye.factors
    ground = BLOND + (DARK - BLOND) * factors["pigment"]
    contrast = np.exp(np.clip(rng.normal(0.05, 0.36), -0.4, 0.75)) * (0.85 + 0.3 * factors["pigment"])
    tint = rng.normal(0, (0.02, 0.03, 0.06))
    rim = ground * np.exp(contrast * RIM + tint)
    bare = 0.85 + 0.3 * factors["cup_depth"]  # the less tissue lies over the lamina cribrosa, the whiter it shines
    cup = ground * np.exp(contrast * rng.uniform(0.85, 1.15) * bare * CUP + tint)
    rim = rim + 0.85 * factors["disc_glare"] * (np.maximum(cup, rim) * (1.0, 0.97, 0.95) - rim)
    rim = rim + factors["disc_pallor"] * (np.maximum(cup, CHALK) - rim)
    return rim, np.maximum(cup, rim)


def _halo(eye: Eye, shape: np.ndarray, angle: np.ndarray) -> None:
    """Brightness round the disc: light scattered from it, and nerve fibres that crowd towards it, most at the poles."""
    rng = eye.dice("halo")
    poles = 1 + rng.uniform(0, 0.8) * SIN**2
    fibres = 1 + rng.uniform(0, 0.3) * _fibres(rng, shape, angle)
    fade = np.exp(-np.maximum(shape - 1, 0) / rng.uniform(0.2, 0.6)) * np.clip((2.1 - shape) / 0.7, 0, 1)
    strength = rng.uniform(0, 0.4)
    eye.absorb(None, -strength * fade * fibres * _at(poles, angle), (0.4, 0.9, 0.8))


def _rim(eye: Eye, shape: np.ndarray, angle: np.ndarray, rim: np.ndarray) -> np.ndarray:
    """The disc but for its cup: pink, striated, its nasal half nearest to the ground. Gives its coverage, 0 to 1."""
    rng, swelling = eye.dice("rim"), eye.factors["disc_swelling"]
    temporal, nasal = rng.uniform(0.06, 0.28), rng.uniform(0.1, 0.4)
    bundles = _striae(rng, 40) * (0.3 + 0.7 * NASAL)
    width = temporal + nasal * NASAL**1.5 + 0.5 * swelling
    ragged = 0.05 * width * bundles
    edge = _step(1 + 0.35 * swelling + _at(ragged, angle) - shape, _at(width, angle))
    rim = rim + 0.9 * swelling * (np.array([0.97, 0.63, 0.44]) - rim)
    hidden = 1 - rng.uniform(0, 0.55) * NASAL * (1 - eye.factors["disc_pallor"]) * (1 - swelling)
    cover = edge * _at(hidden, angle) * (1 - 0.25 * swelling)
    eye.cover("swelling" if swelling else None, cover, tuple(rim))
    uneven = rng.uniform(0.01, 0.05) * _fibres(rng, shape, angle) * np.minimum(shape, 1) + 0.04 * _grain(eye, rng, 5)
    eye.absorb(None, edge * uneven, (0.4, 1.0, 0.9))
    return edge


def _cup_outline(eye: Eye, wide: float, lean: float) -> tuple[tuple[float, float], float, float, np.ndarray]:
    """Centre, half axes and table of the cup, whose height is ``cup_to_disc`` DD exactly.

    A healthy rim is widest below, then above, nasally, temporally (ISNT; Jonas, Surv Ophthalmol 1999), so that a
    healthy cup is as wide as it is high or wider. Where rim is lost the cup is tall and close to the edge below, or
    above.
    """
    rng, factors = eye.dice("cup"), eye.factors
    ratio, loss = factors["cup_to_disc"], factors["rim_loss"]
    below = rng.uniform(0.5, 0.6) - loss * rng.uniform(0.36, 0.5)
    nasal = rng.uniform(0.5, 0.75)
    if rng.random() < 0.3:  # the rim goes above first in about a third
        below = below + 2 * (0.5 - below) * min(1.0, 2 * loss)
    outline = _wavy(rng, 0.02)
    half = wide * min(ratio * rng.uniform(1.0, 1.12) * (1 - 0.3 * loss), 0.97)
    # The notch lies where the wedge of lost fibres starts: both come from the same throw.
    side = float(eye.dice("nerve fibre defect").choice((-1, 1)))
    notch = (
        factors["rim_notch"] * (1 - ratio) / ratio * np.exp((np.cos(TURN - side * rng.uniform(0.9, 1.4)) - 1) / 0.15)
    )
    outline = outline + 0.75 * notch
    across = half * outline * COS * np.sin(lean)
    rise = outline * SIN * np.cos(lean)
    tall = ratio / 2
    for _ in range(3):
        tall *= ratio / float(np.ptp(across + tall * rise))
    bottom = float((across + tall * rise).max())
    centre = (nasal - 0.5) * 2 * (wide - half), 0.5 - below * (1 - ratio) - bottom
    return centre, half, tall, outline


def _cup(eye: Eye, edge: np.ndarray, wide: float, lean: float, pale: np.ndarray) -> np.ndarray:
    """The cup, from a saucer that slopes into the rim to a punched-out one, its nasal wall in shade and the pores of
    the lamina cribrosa on its floor. Gives where it is: within the contour at which it is half as pale as inside."""
    centre, half, tall, outline = _cup_outline(eye, wide, lean)
    rng, factors = eye.dice("cup floor"), eye.factors
    depth, glare = factors["cup_depth"], factors["disc_glare"]
    from_centre, angle = _polar(eye, centre, half, tall)
    shape = from_centre / _at(outline, angle)
    slope = 0.07 / factors["cup_to_disc"] + 0.85 * (1 - depth) ** 1.3 * (1 - 0.4 * NASAL)
    hollow = _step(1 - shape, _at(slope, angle)) * edge * (1 - 0.8 * factors["disc_swelling"])
    seen = rng.uniform(0.5, 0.9) + 0.3 * depth
    floor = 1.05 - 0.15 * shape + 0.1 * _grain(eye, rng, 4) * (1 - glare)
    eye.cover(None, np.clip(min(seen, 1.0) * hollow * floor, 0, 1), tuple(pale))
    if depth > 0.5:
        pores = np.clip(_grain(eye, rng, 25), 0, 1) * np.clip(1.3 - 1.6 * shape, 0, 1)
        wall = np.exp(-(((shape - 0.9) / 0.14) ** 2)) * _at(NASAL**2, angle)
        shade = (depth - 0.5) * (1 - glare) * hollow * (0.35 * pores + rng.uniform(0, 0.6) * wall)
        eye.absorb(None, shade, (0.3, 0.55, 0.6))
    spot = (float(centre[0] + rng.uniform(0, 0.12)), float(centre[1] + rng.normal(0, 0.06)))
    burnt = np.exp(-((eye.distance(spot) / rng.uniform(0.25, 0.5)) ** 2))
    eye.cover(None, 0.8 * glare * burnt * edge, tuple(pale * rng.uniform(1.0, 1.2)))
    return shape < 1


def _margin(eye: Eye, shape: np.ndarray, angle: np.ndarray, pale: np.ndarray) -> None:
    """What may line the disc: the bright scleral ring and a broken line of pigment, both mostly temporal."""
    rng, seen = eye.dice("margin"), 1 - eye.factors["disc_swelling"]
    ring, line = np.clip(rng.uniform((-0.8, -1.2), (0.4, 0.6)), 0, 1) * seen
    where = np.clip(_striae(rng, 7) + rng.uniform(-0.5, 0.5), 0, 1) * (1 - 0.7 * NASAL)
    if ring:
        eye.cover(None, ring * np.exp(-(((shape - 1.02) / 0.05) ** 2)) * _at(where[::-1], angle), tuple(pale))
    if line:
        eye.absorb(None, line * np.exp(-(((shape - 1.08) / 0.07) ** 2)) * _at(where, angle), (0.3, 0.4, 0.35))


def _crescent(eye: Eye, lean: float, wide: float, pale: np.ndarray) -> None:
    """Peripapillary atrophy, temporal first: a pale beta zone beside the disc, an alpha zone of uneven pigment outside
    it (Jonas, Surv Ophthalmol 1999); in long eyes it surrounds the disc. Over 0.35 DD it counts as atrophy (META-PM
    takes it with diffuse atrophy); smaller ones are a look-alike."""
    width, rng = eye.factors["crescent"], eye.dice("crescent")
    if not width:
        return
    near, place = _window(eye, 0.7 + 1.6 * width, lean)
    if not near.x.size:
        return
    name = "atrophy" if width > 0.35 else None
    towards = rng.normal(0.15, 0.4)
    round_about = rng.uniform(0, 0.15) + 0.5 * np.clip(width - 0.4, 0, 1) * rng.random()
    shift = 0.5 * width * (1 - round_about)
    centre = float(shift * np.cos(towards)), float(shift * np.sin(towards))
    half = 0.5 * width * (1 + round_about)
    shape, angle = _polar(near, centre, wide + half, 0.5 + half * rng.uniform(0.35, 0.7))
    shape = shape / _at(_wavy(rng, 0.03), angle)
    shape = shape + rng.uniform(0.01, 0.03) * _grain(near, rng, 5) + 0.012 * _grain(near, rng, 14)
    alpha = _step(1 - shape, rng.uniform(0.06, 0.3))
    outer, zone = rng.uniform(1.05, 1.25), rng.uniform(-0.3, 0.3)
    fringe = _step(outer - shape, 0.15) * (1 - alpha) * np.clip(0.6 + 0.4 * _grain(near, rng, 5), 0, 1)
    near.absorb(None, zone * fringe * _at(1 - 0.7 * NASAL, angle), (0.6, 0.8, 0.7))
    if name:
        texture = bare_choroid(eye, rng, rng.uniform(0.1, 0.8))[place] * rng.uniform(0.55, 1)
    else:
        texture = np.clip(0.8 + 0.15 * _grain(near, rng, 8) + 0.15 * _grain(near, rng, 20), 0.1, 1) * rng.beta(2, 2.5)
    bare = pale * (1, 0.97, 0.9)
    sclera = bare + np.clip((width - 0.35) / 0.4, 0, 1) * (np.maximum(bare, (1.06, 0.84, 0.54)) - bare)
    near.cover(name, np.clip(alpha * texture, 0, 1), tuple(sclera * rng.uniform(0.9, 1.2)))
    if rng.random() < 0.4:
        broken = np.clip(_grain(near, rng, 3), 0, 1) * _at(1 - NASAL**0.5, angle)
        line = np.exp(-(((shape - 1) / 0.05) ** 2)) * broken
        near.absorb("pigment" if name else None, rng.uniform(0.2, 0.7) * line, (0.5, 0.55, 0.5))
    _keep(eye, near, place)


def _disc_drusen(eye: Eye) -> None:
    """Buried hyaline bodies: lumpy, yellow, refractile nodules under a cupless disc."""
    count = int(eye.factors["disc_drusen"])
    if not count:
        return
    rng = eye.dice("disc drusen")
    centres = rng.normal(0, 0.26, (count, 2))
    canvas = eye.canvas()
    eye.fill(canvas, blobs(centres, rng.uniform(0.05, 0.11, count), rng, 0.15), rng.uniform(0.5, 0.9, count))
    eye.cover("drusen", eye.coverage(canvas, 0.015), (1.0, 0.9, 0.6))
