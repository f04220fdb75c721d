"""What the photograph adds to the eye: light, haze, focus, stray light, sensor, file and the outline of the field."""

import cv2
import numpy as np

from visionclip.phantom.eye import Eye

# Per-channel gain, gamma and colour of scattered light: how photographs differ at a glance.
COLOURS = {
    "orange": ((1.10, 0.98, 0.42), 1.1, (0.55, 0.33, 0.10)),
    "pink": ((1.10, 1.12, 1.15), 1.0, (0.62, 0.45, 0.36)),
    "dim": ((1.00, 1.25, 1.50), 1.7, (0.20, 0.24, 0.18)),
    "neutral": ((1.05, 1.10, 0.95), 1.2, (0.45, 0.36, 0.24)),
    "red": ((1.15, 0.80, 0.55), 1.1, (0.55, 0.25, 0.12)),
    "dull": ((0.88, 0.92, 0.75), 1.3, (0.28, 0.28, 0.18)),
}


def _side(eye: Eye, rng: np.random.Generator) -> np.ndarray:
    """-1 to 1 across the field in a random direction."""
    angle = rng.uniform(0, 2 * np.pi)
    frame = (eye.x - eye.gaze[0]) * float(np.cos(angle)) + (eye.y - eye.gaze[1]) * float(np.sin(angle))
    return np.clip(frame / eye.factors["field_radius"], -1, 1)


def expose(eye: Eye) -> None:
    """Illumination, camera colours, and light scattered by lens and vitreous."""
    factors, rng = eye.factors, eye.dice("light")
    usual, gamma, scatter = COLOURS[factors["colour"]]
    gain = np.array(usual) * np.exp(rng.normal(0, (0.05, 0.09, 0.2)) + factors["tint"] * rng.normal(0, 0.3, 3))
    gamma *= rng.uniform(0.85, 1.2)
    light = 1 - 0.7 * factors["vignette"] * eye.radius ** rng.uniform(1.2, 3)
    light *= 1 + factors["unevenness"] * (0.5 * _side(eye, rng) + 0.14 * eye.noise(rng, 3))
    light = np.maximum(light, 0.05) * factors["exposure"]
    for plane, level in zip(eye.image, gain, strict=True):
        plane *= light * float(level)
        cv2.pow(np.maximum(plane, 0), gamma, dst=plane)
    if rng.random() < 0.4:  # many cameras lose the blue channel: crushed to black, mostly noise
        eye.image[2] = np.maximum(eye.image[2] - rng.uniform(0, 0.12), 0) + 0.01 * eye.noise(rng, 20)
    rim = np.clip((eye.radius - rng.uniform(0.5, 0.8)) * 2, 0, 1) * (rng.random() < 0.4) * 0.5
    veil = np.clip(
        0.45 * factors["haze"] * (0.8 + 0.3 * eye.noise(rng, 3)) + rim * (0.3 + 0.7 * factors["haze"]), 0, 0.8
    )
    eye.cover(None, veil, tuple(np.array(scatter) * factors["exposure"] * rng.uniform(0.85, 1.15)))


def lens(eye: Eye) -> None:
    """Cataract: yellow-brown absorption, a bright veil that takes contrast away, and blur."""
    strength = eye.factors["lens_opacity"]
    rng = eye.dice("lens")
    brown = rng.uniform(0.2, 1)
    eye.absorb(None, np.float32(strength), (0.05 * brown, 0.22 * brown, 0.6 * brown))
    veil = np.clip(strength * (0.55 + 0.15 * eye.noise(rng, 3) + 0.1 * (1 - eye.radius)), 0, 0.85)
    mean = eye.image[:, eye.radius < 0.9].mean(axis=1)
    grey = 0.6 * mean + 0.4 * mean.mean() * np.array((1.1, 1.0, 0.8))
    eye.cover(None, veil, tuple(grey * rng.uniform(0.9, 1.2)))


def focus(eye: Eye) -> None:
    """Defocus, and the blur of a cloudy lens: one Gaussian for both."""
    strength = eye.factors["lens_opacity"]
    sigma = np.hypot(eye.factors["blur"], 0.11 * strength**1.5 if strength > 0.2 else 0) * eye.scale
    if sigma > 0.3:
        for plane in eye.image:
            cv2.GaussianBlur(plane, (0, 0), sigma, dst=plane)


def aberration(eye: Eye) -> None:
    """Lateral chromatic aberration: red drawn a little larger, blue a little smaller than green."""
    share, middle = eye.factors["aberration"], (eye.size - 1) / 2
    if share * eye.reach < 0.15:
        return
    for plane, scale in ((eye.image[0], 1 + share / 2), (eye.image[2], 1 - share / 2)):
        matrix = np.array([[scale, 0, middle * (1 - scale)], [0, scale, middle * (1 - scale)]])
        plane[:] = cv2.warpAffine(plane, matrix, (eye.size, eye.size), borderMode=cv2.BORDER_REPLICATE)


def lashes(eye: Eye) -> None:
    """Eyelashes before the lens: dark, curved, out of focus, reaching in from above or below."""
    count, rng = int(eye.factors["lashes"]), eye.dice("lashes")
    if not count:
        return
    reach, upwards = eye.factors["field_radius"], float(rng.choice((-1, 1)))
    root = np.stack((rng.uniform(-0.8, 0.8, count), np.full(count, 1.05 * upwards)), axis=1) * reach
    heading = -upwards * (np.pi / 2 + rng.normal(0, 0.25, (count, 1)) + rng.normal(0, 0.06, (count, 1)) * np.arange(10))
    step = reach * rng.uniform(0.03, 0.1, (count, 1, 1))
    path = np.cumsum(np.stack((np.cos(heading), np.sin(heading)), axis=2), axis=1) * step
    canvas = eye.canvas()
    eye.stroke(canvas, eye.gaze + root[:, None] + path, 0.07)
    eye.absorb(None, eye.coverage(canvas, 0.05), (0.7, 0.75, 0.75))


def stray_light(eye: Eye) -> None:
    """Flare crescents, veils, shadows, lens ghosts and dust: bright and dark things that are no disease."""
    rng = eye.dice("stray")
    flare = eye.factors["flare"]
    if flare:
        side = _side(eye, rng)
        crescent = np.clip((eye.radius - 0.78) / 0.2, 0, 1) * np.clip((side - 0.4) / 0.4, 0, 1)
        hue = [(0.75, 0.8, 0.35), (0.95, 0.35, 0.1), (0.3, 0.42, 0.4), (0.9, 0.85, 0.75)][rng.integers(4)]
        eye.cover(None, crescent * flare * 0.9, hue)
    _veil(eye)
    _shadow(eye)
    _ghosts(eye)
    _dust(eye)


def _veil(eye: Eye) -> None:
    """A pale sheet of light over one side of the field, without an edge, from a misaligned pupil."""
    if not eye.factors["glow"]:
        return
    rng = eye.dice("veil")
    sheet = np.clip((_side(eye, rng) + rng.uniform(-0.2, 0.5)) / rng.uniform(0.6, 1.4) + 0.1 * eye.noise(rng, 4), 0, 1)
    hue = ((0.85, 0.8, 0.7), (0.5, 0.5, 0.52), (0.7, 0.72, 0.45), (0.9, 0.6, 0.4))[rng.integers(4)]
    eye.cover(None, 0.6 * eye.factors["glow"] * sheet, hue)


def _shadow(eye: Eye) -> None:
    """A grey patch without an edge, mostly towards the middle: what floats in the vitreous, or too small a pupil."""
    if not eye.factors["shadow"]:
        return
    rng = eye.dice("shadow")
    place = eye.gaze + rng.normal(0, 0.35, 2) * eye.factors["field_radius"]
    size, blue = rng.uniform(0.35, 1.3), rng.uniform(0.4, 1)
    warped = eye.distance(place) / size + 0.15 * eye.noise(rng, 5)
    eye.absorb(None, eye.factors["shadow"] * np.exp(-(warped**2)), (0.85, 0.8, 0.8 * blue))


def _spot(eye: Eye, place: np.ndarray, size: float) -> tuple[np.ndarray, np.ndarray]:
    """The part of the image within 1.6 ``size`` DD of ``place``, 3×h×w, and distances from there in ``size``, h×w."""
    (column, row), half = eye.pixels(place), 1.6 * size * eye.scale + 1
    window = tuple(slice(max(0, int(at - half)), max(0, int(at + half) + 1)) for at in (row, column))
    distance = np.hypot(eye.x[window] - place[0], eye.y[window] - place[1]) / size
    return eye.image[(slice(None), *window)], distance.astype(np.float32)


def _ghosts(eye: Eye) -> None:
    """Reflexes of lens and cornea: pale bluish, green or white discs and rings, and bright points, often opposite each
    other about the middle of the field."""
    rng = eye.dice("ghosts")
    axis = rng.uniform(0, 2 * np.pi)
    for _ in range(int(eye.factors["ghosts"])):
        away, angle = rng.normal(0, 0.25) * eye.factors["field_radius"], axis + rng.normal(0, 0.25)
        place = eye.gaze + away * np.array((np.cos(angle), np.sin(angle))) + rng.normal(0, 0.08, 2)
        size = np.exp(rng.uniform(np.log(0.02), np.log(0.35)))
        image, distance = _spot(eye, place, size)
        disc = np.clip((1 - distance) / rng.uniform(0.15, 1) + 0.5, 0, 1)
        if size > 0.08 and rng.random() < 0.3:
            disc *= np.clip(distance, 0.2, 1) ** 2
        hue = ((0.75, 0.72, 0.95), (0.55, 0.75, 0.6), (0.95, 0.93, 0.88), (0.95, 0.8, 0.55))[rng.integers(4)]
        disc *= rng.uniform(0.08, 0.35 if size > 0.08 else 0.8)
        image += disc * (np.array(hue, np.float32)[:, None, None] - image)


def _dust(eye: Eye) -> None:
    """Specks on the lens, bright or dark anywhere in the field: sharp points, and soft discs where out of focus."""
    rng = eye.dice("dust")
    for _ in range(int(eye.factors["dust"])):
        place = eye.gaze + rng.normal(0, 0.45, 2) * eye.factors["field_radius"]
        size, depth = np.exp(rng.uniform(np.log(0.015), np.log(0.12))), rng.uniform(0.1, 0.6)
        image, distance = _spot(eye, place, size)
        speck = depth * np.clip((1 - distance) / rng.uniform(0.15, 1) + 0.3, 0, 1)
        if rng.random() < 0.7:
            image += speck * (np.array((0.85, 0.8, 0.7), np.float32)[:, None, None] - image)
        else:
            image *= 1 - 0.55 * speck


def hide(eye: Eye) -> None:
    """Make unreadable what a fault names: the whole, macula, disc or most of the retina."""
    rng = eye.dice("hide")
    _hide_place(eye, eye.factors["macula_fault"], eye.fovea, 1.1, rng)
    _hide_place(eye, eye.factors["disc_fault"], np.zeros(2), 0.85, rng)
    kind = eye.factors["retina_fault"]
    if kind != "none":
        most = np.clip(2.5 * (_side(eye, rng) + rng.uniform(0.15, 0.5)) + 0.5 * eye.noise(rng, 5), 0, 1)
        _ruin(eye, kind, most, rng)
    if eye.factors["fault"] != "none":
        _ruin(eye, eye.factors["fault"], np.float32(1), rng)


def _hide_place(eye: Eye, kind: str, centre: np.ndarray, radius: float, rng: np.random.Generator) -> None:
    if kind in ("dark", "flash"):
        alpha = eye.region(centre + rng.normal(0, 0.08, 2), (radius * 1.25, radius * 1.25), rng, 0.25, 0.6)
        _ruin(eye, kind, alpha, rng)


def _ruin(eye: Eye, kind: str, alpha: np.ndarray | np.floating, rng: np.random.Generator) -> None:
    """Darkness, flash, extreme blur or a closing lid with strength ``alpha``."""
    if kind == "dark":
        eye.absorb(None, alpha, (0.9, 0.93, 0.94))
    elif kind == "flash":
        shine = np.clip(alpha * (0.9 + 0.1 * eye.noise(rng, 4)), 0, 1)
        eye.cover(None, shine * 0.96, ((0.98, 0.95, 0.88), (0.75, 0.78, 0.6))[rng.integers(2)])
    elif kind == "blur":
        sigma = rng.uniform(0.45, 0.8) * eye.scale
        for plane in eye.image:
            plane += alpha * (cv2.GaussianBlur(plane, (0, 0), sigma) - plane)
    elif kind == "lid":
        lid = np.clip(3 * (_side(eye, rng) + 0.55), 0, 1)
        eye.cover(None, lid, ((0.72, 0.5, 0.42), (0.25, 0.2, 0.18))[rng.integers(2)])


def field(eye: Eye) -> np.ndarray:
    """Bool size×size: a circle, cut above and below, cropped on all sides, or with a tab at the rim, which says which
    way is up. Towards its edge the light fades."""
    rng, shape = eye.dice("field"), eye.factors["field_shape"]
    inside = eye.radius < 1
    half = (eye.size - 1) / 2
    axis = np.abs(np.arange(eye.size) - half) / eye.reach
    if shape == "cut":
        inside &= (axis < rng.uniform(0.74, 0.92))[:, None]
    elif shape == "cropped":
        inside &= (axis < rng.uniform(0.72, 0.9))[:, None] & (axis < rng.uniform(0.8, 0.95))[None, :]
    elif shape == "notched":
        rows, columns = np.ogrid[: eye.size, : eye.size]
        spot = half + eye.reach * np.array((rng.choice((-1, 1)), rng.choice((-1, 1)))) / np.sqrt(2)
        inside |= np.hypot(columns - spot[0], rows - spot[1]) < rng.uniform(0.02, 0.05) * eye.reach
    away = cv2.distanceTransform(np.pad(inside, 1).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)[1:-1, 1:-1]
    # The edge runs through its last pixels, which are half in the light.
    eye.image *= np.clip((away - 0.5) / (1 + rng.uniform(0, 0.02) * eye.reach), 0, 1)
    return inside


def develop(eye: Eye) -> None:
    """What a camera makes of its picture: noise, then colours from grey to neon, local contrast and sharp edges.

    Both enhancements add what a pixel is above its surroundings (unsharp masking), wide ones for the local contrast.
    Those of the sharpening are no narrower than 0.6 pixels: at 96 px all of the usual radii are.
    """
    factors = eye.factors
    if factors["noise"]:
        grain = eye.dice("sensor").standard_normal(eye.image.shape, np.float32)
        grain *= factors["noise"] * np.array((0.8, 0.8, 1.6), np.float32)[:, None, None]
        eye.image += grain
    grey = np.tensordot(np.array((0.3, 0.59, 0.11), np.float32), eye.image, 1)
    eye.image += (factors["saturation"] - 1) * (eye.image - grey)
    if factors["local_contrast"]:
        eye.image += factors["local_contrast"] * (grey - cv2.blur(grey, [1 + 2 * round(0.45 * eye.scale)] * 2))
    if factors["sharpening"]:
        sigma = max(0.6, factors["sharpening_radius"] * eye.scale)
        for plane in eye.image:
            plane += factors["sharpening"] * (plane - cv2.GaussianBlur(plane, (0, 0), sigma))


def save(eye: Eye, inside: np.ndarray) -> np.ndarray:
    """Black surround and the losses of a JPEG file; uint8 size×size×3."""
    image = cv2.merge(list(eye.image * 255))
    field = np.asarray(cv2.merge([inside.astype(np.uint8)] * 3), np.uint8)
    pixels = np.clip(image, 0, 255).astype(np.uint8) * field
    quality = int(eye.factors["jpeg_quality"])
    if quality < 100:
        swapped = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)
        _, encoded = cv2.imencode(".jpg", swapped, (cv2.IMWRITE_JPEG_QUALITY, quality))
        decoded = np.asarray(cv2.imdecode(encoded, cv2.IMREAD_COLOR), np.uint8)
        pixels = np.asarray(cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB), np.uint8) * field
    return pixels
