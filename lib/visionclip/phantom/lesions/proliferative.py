"""Proliferative disease: new and abnormal vessels, their blood and scars, and the laser that treats them."""

import numpy as np

from visionclip.phantom.eye import Eye
from visionclip.phantom.lesions.shapes import draw_spots, draw_threads, patches

DEEP_BLOOD = (0.44, 0.74, 0.60)  # share of light absorbed by blood before the retina, R G B


def _capillaries(
    eye: Eye, canvas: np.ndarray, origin: np.ndarray, stems: int, reach: float, fan: float, rng: np.random.Generator
) -> None:
    """A net of fine new or widened capillaries, ``reach`` DD long: stems leave ``origin`` over ``fan`` radians, fork
    twice and thin out (30 to 12 micrometres), and loops join their ends."""
    heading = rng.uniform(0, 2 * np.pi) + fan * (np.linspace(-0.5, 0.5, stems) + rng.normal(0, 0.1, stems))
    start, length = origin + rng.normal(0, 0.02, (stems, 2)), np.full(stems, 0.5 * reach)
    for width in (0.017, 0.011, 0.007):
        length = length * rng.uniform(0.6, 1.3, len(start))
        curl = np.cumsum(rng.normal(0, 0.22, (len(start), 9)), axis=1) + rng.normal(0, 0.06, (len(start), 1)) * range(9)
        angle = heading[:, None] + curl
        step = (length / 9)[:, None, None]
        path = np.cumsum(np.stack((np.cos(angle), np.sin(angle)), axis=2) * step, axis=1)
        lines = np.concatenate((start[:, None], start[:, None] + path), axis=1)
        draw_threads(eye, canvas, lines[:, :6], width, 0.95)
        draw_threads(eye, canvas, lines[:, 5:], 0.8 * width, 0.9)
        owner = np.repeat(np.arange(len(lines)), 2)
        start = lines[owner, rng.integers(4, 10, len(owner))]
        heading = angle[owner, -1] + np.tile((-1, 1), len(lines)) * rng.uniform(0.3, 1.1, len(owner))
        length = 0.6 * length[owner]
    ends, beyond = lines[:, -1], 1.18  # neighbours' ends are joined by loops that bulge outwards
    order = np.argsort(np.arctan2(*(ends - origin).T[::-1]))
    ends, following = ends[order], np.roll(ends[order], -1, axis=0)
    close = np.hypot(*(ends - following).T) < 0.45 * reach
    top = origin + beyond * (0.5 * (ends + following) - origin)
    t = np.linspace(0, 1, 7)[:, None]
    loops = (1 - t) ** 2 * ends[:, None] + 2 * t * (1 - t) * top[:, None] + t**2 * following[:, None]
    draw_threads(eye, canvas, loops[close], 0.008, 0.9)


def irma(eye: Eye) -> None:
    """Intraretinal microvascular abnormalities: small tortuous loops between vessels (ICDR severe)."""
    rng = eye.dice("irma")
    canvas = eye.canvas()
    for origin in eye.scatter(int(eye.factors["irma"]), rng, rim=0.8):
        _capillaries(eye, canvas, origin, int(rng.integers(2, 4)), rng.uniform(0.2, 0.45), rng.uniform(1, 3), rng)
    eye.absorb("neovessel", eye.coverage(canvas) * rng.uniform(0.5, 1), (0.24, 0.6, 0.45))


def neovessels(eye: Eye) -> None:
    """New vessels: fans of fine loops on the disc (NVD) or along the arcades (NVE) (ICDR proliferative)."""
    count, rng = int(eye.factors["neovessels"]), eye.dice("neovessels")
    origins = eye.scatter(count, rng, lambda p: np.exp(-(((np.hypot(*p.T) - 2) / 1) ** 2)), rim=0.8)
    if rng.random() < 0.5:
        origins[:1] = rng.normal(0, 0.2, 2)
    canvas = eye.canvas()
    for origin in origins:
        _capillaries(eye, canvas, origin, int(rng.integers(4, 9)), rng.uniform(0.45, 1.1), rng.uniform(2, 5), rng)
    eye.absorb("neovessel", eye.coverage(canvas) * rng.uniform(0.5, 1), (0.22, 0.62, 0.46))


def preretinal(eye: Eye) -> None:
    """Preretinal haemorrhage: dense, boat-shaped with a level top where blood has settled, or a vitreous cloud."""
    rng = eye.dice("preretinal")
    blood = np.zeros((eye.size, eye.size), np.float32)
    cloud, ripple = eye.noise(rng, 18), eye.noise(rng, 12)
    for centre in eye.scatter(int(eye.factors["preretinal"]), rng, rim=0.75):
        wide = np.exp(rng.uniform(np.log(0.2), np.log(0.85)))
        tall = wide * rng.uniform(0.35, 0.8)
        edge = np.exp(rng.uniform(np.log(0.04), np.log(0.3)))
        alpha = patches(eye, centre[None], np.array([[wide, tall]]), rng, edge, 1.0)
        below = (eye.y - np.float32(centre[1])) / np.float32(tall)
        if rng.random() < 0.6:  # cells sink: level above, denser below
            level = below + rng.normal(0, 0.12) * (eye.x - np.float32(centre[0])) + 0.05 * ripple
            alpha = alpha * np.clip((level + 0.3) * tall / rng.uniform(0.05, 0.16), 0, 1)
            alpha = alpha * np.clip(0.75 + 0.3 * below, 0.4, 1)
        else:
            alpha = alpha * np.clip(0.7 + 0.3 * cloud, 0.1, 1)
        blood = np.maximum(blood, alpha * rng.uniform(0.5, 1))
    mean = eye.image.mean(axis=(1, 2))  # it hides what lies below
    eye.cover("haemorrhage", 0.5 * blood, tuple(mean * (1 - 0.9 * np.array(DEEP_BLOOD))))
    eye.absorb("haemorrhage", 0.75 * blood, DEEP_BLOOD)


def fibrosis(eye: Eye) -> None:
    """Fibrovascular tissue: grey-white bands and veils along the arcades and on the disc (advanced PDR, Klein 1984)."""
    rng = eye.dice("fibrosis")
    for _ in range(int(eye.factors["fibrosis"])):
        angle = rng.choice((-1, 1)) * rng.uniform(0.6, 1.5)
        start = rng.uniform(0, 1.2) * np.array((np.cos(angle), np.sin(angle)))
        heading = angle * np.linspace(1, 0.2, 14) + rng.normal(0, 0.2, 14)
        line = start + np.cumsum(np.stack((np.cos(heading), np.sin(heading)), axis=1), axis=0) * rng.uniform(0.08, 0.18)
        canvas = eye.canvas()
        eye.stroke(canvas, line[None], rng.uniform(0.1, 0.3), 0.9)
        eye.stroke(canvas, line[None, : int(rng.integers(4, 12))], rng.uniform(0.2, 0.5), 0.9)
        veil = eye.coverage(canvas, 0.06) * np.clip(0.75 + 0.3 * eye.noise(rng, 18), 0, 1)
        eye.cover("fibrosis", veil * rng.uniform(0.25, 0.75), (0.88, 0.80, 0.66))


def laser(eye: Eye) -> None:
    """Panretinal photocoagulation scars: rows of pale spots of 0.1-0.3 DD outside the arcades (DRS), faint to plain;
    old ones gather pigment."""
    count, rng = int(eye.factors["laser"]), eye.dice("laser")
    size = rng.uniform(0.05, 0.1)
    spacing = size * rng.uniform(2.6, 5)
    span = np.arange(-5, 5, spacing)
    grid: np.ndarray = np.stack(np.meshgrid(span, span), axis=2).reshape(-1, 2) + eye.gaze
    grid = grid + rng.normal(0, 0.18 * spacing, grid.shape)
    outside = (np.hypot(*(grid - eye.fovea).T) > 1.9) & (np.hypot(*grid.T) > 1.0)
    grid = grid[outside & (np.hypot(*(grid - eye.gaze).T) < 0.97 * eye.factors["field_radius"])]
    focus = eye.scatter(3, rng)  # sittings: the spots lie in fields
    apart = np.hypot(*np.moveaxis(grid[:, None] - focus, 2, 0)).min(axis=1)
    centres = grid[np.argsort(rng.exponential(1, len(grid)) / (0.1 + np.exp(-((apart / 1.2) ** 2))))[:count]]
    count = len(centres)
    radii = size * np.exp(rng.normal(0, 0.25, count)).clip(0.5, 1.6)
    faded = np.clip(0.6 + rng.normal(0, 0.25, count), 0.1, 1)
    canvas, pigment = eye.canvas(), eye.canvas()
    draw_spots(eye, canvas, centres, radii, faded, rng, 0.25, rng.uniform(1, 1.4, count), rng.uniform(0, np.pi, count))
    pale = np.array((0.88, 0.74, 0.5)) - rng.uniform(0, 1) * np.array((0.25, 0.12, 0.02))
    alpha = eye.coverage(canvas, rng.uniform(0.012, 0.035)) * rng.uniform(0.15, 0.7)
    eye.cover("scar", alpha * np.clip(0.85 + 0.25 * eye.noise(rng, 60), 0, 1.2), tuple(pale))
    old = np.nonzero(rng.random(count) < rng.uniform(-0.3, 0.8))[0].repeat(3)
    grains = centres[old] + radii[old, None] * rng.normal(0, 0.45, (len(old), 2))
    draw_spots(
        eye, pigment, grains, radii[old] * rng.uniform(0.12, 0.45, len(old)), rng.uniform(0.2, 0.9, len(old)), rng, 0.5
    )
    eye.absorb("scar", eye.coverage(pigment, 0.008), (0.5, 0.55, 0.5))
    eye.parameters["laser_spots"] = count
