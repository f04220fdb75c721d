"""Pictures that show no retina, drawn: what a rule of refusal is measured on, as none may be downloaded.

Easy ones (black frames, pages, textures) and ones made to be mistaken: orange discs with veins, retinas with other
colours, upside-down light or their pieces mixed up, and what else is round and red.
"""

from collections.abc import Callable

import cv2
import numpy as np

from visionclip import streams

Painter = Callable[[np.random.Generator, int, np.ndarray], np.ndarray]  # also given the picture of a retina
WORDS = ("patient", "left", "Visit 3", "IOP 14", "Total 27.90", "dear colleague", "see page 8", "the fox", "OD OS")


def draw(retinas: np.ndarray, count: int, seed: int) -> dict[str, np.ndarray]:
    """``count`` pictures uint8 N×S×S×3 of each kind of ``KINDS``, by its name; some are made of ``retinas`` of that
    shape, taken by turns."""
    side = retinas.shape[1]
    return {
        name: np.stack(
            [
                paint(streams.rng(seed, f"pictures of no retina: {name}", place), side, retinas[place % len(retinas)])
                for place in range(count)
            ]
        )
        for name, paint in KINDS.items()
    }


def _noise(rng: np.random.Generator, side: int, width: float, channels: int = 1) -> np.ndarray:
    """Smooth noise of one width, float32 S×S×C from 0 to 1."""
    field = cv2.GaussianBlur(rng.normal(size=(side, side, channels)).astype(np.float32), (0, 0), width)
    field = field.reshape(side, side, channels)
    low, high = field.min((0, 1)), field.max((0, 1))
    return (field - low) / (high - low + 1e-6)


def _clouds(rng: np.random.Generator, side: int, channels: int = 1) -> np.ndarray:
    """Noise of several widths."""
    octaves = [_noise(rng, side, side / 2**octave, channels) * 0.6**octave for octave in range(2, 7)]
    return np.sum(octaves, axis=0) / 1.2


def _bytes(picture: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(np.broadcast_to(picture.clip(0, 1) * 255, (*picture.shape[:2], 3)).astype(np.uint8))


def _disc(side: int, radius: float = 0.46) -> np.ndarray:
    """float32 S×S×1, 1 inside of a circle in the middle."""
    axis = (np.arange(side) + 0.5) / side - 0.5
    return (np.hypot(axis[:, None], axis) < radius).astype(np.float32)[..., None]


def _colour(rng: np.random.Generator) -> tuple[int, ...]:
    return tuple(int(one) for one in rng.integers(0, 256, 3))


def _frame(rng: np.random.Generator, side: int, retina: np.ndarray) -> np.ndarray:
    """A lens cap, a blank page or a sensor's noise."""
    level = rng.choice([0, 0.02, 1])
    return _bytes(level + rng.normal(0, 0.01 * rng.random(), (side, side, 3)))


def _page(rng: np.random.Generator, side: int, retina: np.ndarray) -> np.ndarray:
    page = np.full((side, side, 3), 255 - rng.integers(0, 40), np.uint8)
    for line in range(8, side, int(rng.integers(9, 18))):
        text = " ".join(rng.choice(WORDS, 5))
        cv2.putText(page, text, (int(rng.integers(2, 12)), line), cv2.FONT_HERSHEY_SIMPLEX, side / 450, (30, 30, 30))
    return page


def _screen(rng: np.random.Generator, side: int, retina: np.ndarray) -> np.ndarray:
    """A table or a chart in windows."""
    screen = np.full((side, side, 3), _colour(rng), np.uint8)
    for _ in range(int(rng.integers(3, 9))):
        corner = rng.integers(0, side, 2)
        end = corner + rng.integers(side // 8, side, 2)
        cv2.rectangle(screen, tuple(map(int, corner)), tuple(map(int, end)), _colour(rng), -1)
    bars = rng.integers(side // 10, side // 2, 8)
    for place, bar in enumerate(bars):
        left = side // 6 + place * side // 12
        cv2.rectangle(screen, (left, side - 8 - int(bar)), (left + side // 20, side - 8), _colour(rng), -1)
    return screen


def _kitchen(rng: np.random.Generator, side: int, retina: np.ndarray) -> np.ndarray:
    """Walls, tiles, cupboards, a window's light and things on a table."""
    room = np.full((side, side, 3), (215, 200, 175), np.uint8)
    step = int(rng.integers(side // 16, side // 6))
    for line in range(0, side // 2, step):
        cv2.line(room, (0, line), (side, line), (170, 160, 150), 1)
        cv2.line(room, (line * 2, 0), (line * 2, side // 2), (170, 160, 150), 1)
    for left in range(0, side, side // int(rng.integers(2, 5))):
        cv2.rectangle(room, (left + 2, side // 2), (left + side // 4, side), _colour(rng), -1)
    for _ in range(int(rng.integers(3, 8))):
        middle = (int(rng.integers(side)), int(rng.integers(side // 3, side)))
        cv2.circle(room, middle, int(rng.integers(side // 30, side // 8)), _colour(rng), -1)
    light = 0.6 + 0.6 * _noise(rng, side, side / 4)
    return _bytes(room / 255 * light + rng.normal(0, 0.02, room.shape))


def _portrait(rng: np.random.Generator, side: int, retina: np.ndarray) -> np.ndarray:
    skin = np.array([(230, 190, 165), (200, 150, 120), (140, 95, 70), (90, 60, 45)][rng.integers(4)], float)
    face = np.full((side, side, 3), _colour(rng), np.uint8)
    middle, size = (side // 2 + int(rng.integers(-8, 8)), side // 2), side * rng.uniform(0.25, 0.42)
    tone = tuple(map(int, skin))
    cv2.ellipse(face, (middle[0], side), (int(side * 0.45), int(side * 0.3)), 0, 0, 360, _colour(rng), -1)
    cv2.ellipse(face, middle, (int(size * 1.1), int(size * 1.35)), 0, 0, 360, (40, 28, 20), -1)
    cv2.ellipse(face, (middle[0], middle[1] + 6), (int(size * 0.9), int(size * 1.2)), 0, 0, 360, tone, -1)
    for sign in (-1, 1):
        eye = (middle[0] + sign * int(size * 0.4), middle[1] - int(size * 0.2))
        cv2.ellipse(face, eye, (int(size * 0.18), int(size * 0.09)), 0, 0, 360, (245, 245, 245), -1)
        cv2.circle(face, eye, max(int(size * 0.08), 1), (50, 35, 25), -1)
    cv2.ellipse(face, (middle[0], middle[1] + int(size * 0.6)), (int(size * 0.3), 3), 0, 0, 180, (150, 60, 60), -1)
    return _bytes(cv2.GaussianBlur(face, (0, 0), 1.2) / 255 * (0.7 + 0.5 * _noise(rng, side, side / 3)))


def _texture(rng: np.random.Generator, side: int, retina: np.ndarray) -> np.ndarray:
    """Stone, grass or cloth: noise of one width, coloured."""
    low, high = (np.array(_colour(rng)) / 255 for _ in range(2))
    grain = _noise(rng, side, float(rng.uniform(0.6, 6)))
    return _bytes(low + (high - low) * grain)


def _wood(rng: np.random.Generator, side: int, retina: np.ndarray) -> np.ndarray:
    rows = np.linspace(0, rng.uniform(8, 30), side)[:, None, None]
    rings = np.sin(rows + 4 * _clouds(rng, side)) / 2 + 0.5
    return _bytes(np.array([0.45, 0.27, 0.13]) + rings * np.array([0.3, 0.22, 0.13]))


def _bricks(rng: np.random.Generator, side: int, retina: np.ndarray) -> np.ndarray:
    wall = np.full((side, side, 3), (190, 180, 170), np.uint8)
    high = int(rng.integers(side // 16, side // 7))
    for row, top in enumerate(range(0, side, high)):
        for left in range(-2 * high * (row % 2) // 2, side, 2 * high):
            tone = np.array([170, 75, 50]) + rng.integers(-25, 25)
            cv2.rectangle(wall, (left + 1, top + 1), (left + 2 * high - 2, top + high - 2), tuple(map(int, tone)), -1)
    return _bytes(wall / 255 + 0.1 * (_noise(rng, side, 1.0) - 0.5))


def _orange(rng: np.random.Generator, side: int, retina: np.ndarray) -> np.ndarray:
    """A disc of a retina's mean colour, even or shaded."""
    shade = 1 + rng.uniform(0, 0.5) * (_noise(rng, side, side / 3) - 0.5)
    return _bytes(np.array([0.75, 0.38, 0.15]) * rng.uniform(0.5, 1.2) * shade * _disc(side))


def _veined(rng: np.random.Generator, side: int, retina: np.ndarray) -> np.ndarray:
    """An orange disc with straight lines in place of vessels."""
    disc = _orange(rng, side, retina)
    for _ in range(int(rng.integers(3, 12))):
        ends = rng.integers(0, side, (2, 2))
        cv2.line(disc, tuple(map(int, ends[0])), tuple(map(int, ends[1])), (110, 30, 20), int(rng.integers(1, 4)))
    return disc * _disc(side).astype(np.uint8)


def _inverted(rng: np.random.Generator, side: int, retina: np.ndarray) -> np.ndarray:
    return (255 - retina) * (retina.max(2, keepdims=True) > 12)


def _other_colours(rng: np.random.Generator, side: int, retina: np.ndarray) -> np.ndarray:
    """A retina with its channels exchanged: green or blue as autofluorescence and maps of depth are shown."""
    return retina[..., [(2, 1, 0), (1, 0, 2), (1, 2, 0), (2, 0, 1)][rng.integers(4)]]


def _grey(rng: np.random.Generator, side: int, retina: np.ndarray) -> np.ndarray:
    """A retina in grey, light as in infrared or dark as in angiography."""
    grey = cv2.cvtColor(retina, cv2.COLOR_RGB2GRAY)[..., None]
    grey = (255 - grey) * (grey > 12) if rng.random() < 0.5 else grey
    return np.repeat(grey, 3, axis=2)


def _pieces(rng: np.random.Generator, side: int, retina: np.ndarray) -> np.ndarray:
    """The pieces of a retina in another order."""
    count = int(rng.choice([4, 8]))
    step = side // count
    pieces = retina[: step * count, : step * count].reshape(count, step, count, step, 3).swapaxes(1, 2)
    mixed = pieces.reshape(-1, step, step, 3)[rng.permutation(count * count)].reshape(pieces.shape)
    return np.ascontiguousarray(mixed.swapaxes(1, 2).reshape(step * count, step * count, 3))


def _layers(rng: np.random.Generator, side: int, retina: np.ndarray) -> np.ndarray:
    """A section as optical coherence tomography shows it: bright layers over a pit, in speckle."""
    column = np.linspace(-1, 1, side)
    depth = np.arange(side)[:, None] / side
    pit = 0.4 + 0.06 * column**2 + 0.09 * np.exp(-((column / 0.15) ** 2)) + rng.uniform(-0.1, 0.1)
    light = sum(
        bright * np.exp(-(((depth - pit - below) / thin) ** 2))
        for below, thin, bright in (
            (0, 0.02, 0.8),
            (0.08, 0.03, 0.4),
            (0.16, 0.012, 0.9),
            (0.2, 0.02, 1.0),
            (0.3, 0.1, 0.4),
        )
    )
    return _bytes((0.08 + light * rng.gamma(4, 0.25, (side, side)))[..., None])


def _fan(rng: np.random.Generator, side: int, retina: np.ndarray) -> np.ndarray:
    """Ultrasound: a fan of speckle."""
    rows, columns = np.mgrid[:side, :side] / side
    distance, turn = np.hypot(rows, columns - 0.5), np.arctan2(columns - 0.5, rows)
    inside = (distance < 0.95) & (np.abs(turn) < 0.7)
    return _bytes(((_clouds(rng, side)[..., 0] ** 2) * rng.gamma(3, 0.4, (side, side)) * inside)[..., None])


def _chest(rng: np.random.Generator, side: int, retina: np.ndarray) -> np.ndarray:
    """Grey shapes as in radiography: two dark fields, ribs, a pale middle."""
    film = np.full((side, side), 0.55, np.float32)
    for sign in (-1, 1):
        place = (side // 2 + sign * side // 5, side // 2)
        cv2.ellipse(film, place, (side // 7, int(side * rng.uniform(0.28, 0.4))), 0, 0, 360, 0.2, -1)
    for top in range(side // 6, side, side // 9):
        cv2.ellipse(film, (side // 2, top + side // 5), (side // 2, side // 5), 0, 180, 360, 0.65, 2)
    soft = cv2.GaussianBlur(film, (0, 0), side / 60)
    return _bytes((soft + rng.normal(0, 0.02, soft.shape))[..., None])


def _cells(rng: np.random.Generator, side: int, retina: np.ndarray) -> np.ndarray:
    """Tissue under the microscope: violet nuclei on pink."""
    slide = np.array([0.92, 0.7, 0.82]) * (0.8 + 0.3 * _clouds(rng, side))
    for _ in range(int(rng.integers(60, 240))):
        middle = tuple(map(int, rng.integers(0, side, 2)))
        size = tuple(map(int, rng.integers(2, max(side // 30, 4), 2)))
        cv2.ellipse(slide, middle, size, float(rng.uniform(0, 180)), 0, 360, (0.38, 0.2, 0.55), -1)
    return _bytes(slide)


def _endoscopy(rng: np.random.Generator, side: int, retina: np.ndarray) -> np.ndarray:
    """Red folds about a dark middle, in a round window: what comes nearest."""
    axis = np.linspace(-1, 1, side)
    away, turn = np.hypot(axis[:, None] + rng.uniform(-0.3, 0.3), axis), np.arctan2(axis[:, None], axis)
    folds = np.sin(away * rng.uniform(12, 25) + 2 * np.sin(turn * 3 + rng.uniform(0, 6)))[..., None]
    light = (0.25 + 0.75 * away.clip(0, 1))[..., None] * (0.8 + 0.15 * folds) + 0.1 * _clouds(rng, side)
    glints = (_noise(rng, side, 2.0) > 0.86) * 0.5
    return _bytes((np.array([0.85, 0.45, 0.38]) * light + glints) * _disc(side, 0.49))


def _skin(rng: np.random.Generator, side: int, retina: np.ndarray) -> np.ndarray:
    """A mole under the dermatoscope, in a round window."""
    axis = np.linspace(-1, 1, side)
    edge = np.hypot(axis[:, None], axis)[..., None] + 0.5 * (_clouds(rng, side) - 0.5)
    mole = 1 / (1 + np.exp((edge - rng.uniform(0.3, 0.6)) * 14))
    tone = np.array([0.85, 0.66, 0.56]) * (1 - mole) + np.array([0.4, 0.24, 0.17]) * mole
    return _bytes(tone * (0.9 + 0.2 * _noise(rng, side, 1.5)) * _disc(side, 0.49))


def _plate(rng: np.random.Generator, side: int, retina: np.ndarray) -> np.ndarray:
    """A pizza, a plate of soup: round and red on a dark table."""
    dish = np.array([0.8, 0.4, 0.18]) * (0.7 + 0.5 * _clouds(rng, side))
    for _ in range(int(rng.integers(6, 25))):
        middle = tuple(map(int, rng.integers(0, side, 2)))
        colour = [(0.75, 0.15, 0.1), (0.95, 0.85, 0.55), (0.2, 0.4, 0.12)][rng.integers(3)]
        cv2.circle(dish, middle, int(rng.integers(side // 30, side // 9)), colour, -1)
    return _bytes(dish * _disc(side, 0.42))


def _outer_eye(rng: np.random.Generator, side: int, retina: np.ndarray) -> np.ndarray:
    """Lids, white, iris and pupil, as a slit lamp shows them."""
    eye = np.full((side, side, 3), (205, 150, 125), np.uint8)
    middle, size = (side // 2, side // 2), int(side * rng.uniform(0.16, 0.24))
    cv2.ellipse(eye, middle, (int(side * 0.46), int(size * 1.15)), 0, 0, 360, (235, 225, 220), -1)
    cv2.circle(eye, middle, size, [(95, 60, 30), (90, 120, 150), (100, 110, 70)][rng.integers(3)], -1)
    cv2.circle(eye, middle, int(size * rng.uniform(0.3, 0.6)), (15, 10, 10), -1)
    cv2.circle(eye, (middle[0] - size // 3, middle[1] - size // 3), 3, (255, 255, 255), -1)
    return _bytes(cv2.GaussianBlur(eye, (0, 0), 1) / 255 + rng.normal(0, 0.015, eye.shape))


def _landscape(rng: np.random.Generator, side: int, retina: np.ndarray) -> np.ndarray:
    """Sky, hills in clouds of green or, at sunset, of orange."""
    height = (0.5 + 0.25 * (_noise(rng, side, side / 8)[0] - 0.5)) * side
    ground = (np.arange(side)[:, None] > height[:, 0])[..., None]
    sky = np.array([0.4, 0.6, 0.95]) if rng.random() < 0.6 else np.array([0.95, 0.55, 0.25])
    earth = np.array([0.25, 0.4, 0.15]) * (0.5 + _clouds(rng, side))
    return _bytes(np.where(ground, earth, sky * (0.7 + 0.4 * _noise(rng, side, side / 6))))


def _moon(rng: np.random.Generator, side: int, retina: np.ndarray) -> np.ndarray:
    """A pale disc with spots on black: a moon, a petri dish, a coin."""
    tone = np.array([1, 1, 1]) if rng.random() < 0.5 else np.array([1, 0.9, 0.7])
    return _bytes(tone * (0.35 + 0.6 * _clouds(rng, side)) * _disc(side, rng.uniform(0.3, 0.48)))


def _stripes(rng: np.random.Generator, side: int, retina: np.ndarray) -> np.ndarray:
    """Stripes or squares."""
    rows, columns = np.mgrid[:side, :side] * float(rng.uniform(0.05, 0.6))
    pattern = np.sin(columns + rows * rng.uniform(-1, 1)) * (np.sin(rows) if rng.random() < 0.5 else 1) > 0
    return np.where(pattern[..., None], _colour(rng), _colour(rng)).astype(np.uint8)


KINDS: dict[str, Painter] = {
    "blank frame": _frame,
    "page of text": _page,
    "screen": _screen,
    "kitchen": _kitchen,
    "portrait": _portrait,
    "texture": _texture,
    "wood": _wood,
    "bricks": _bricks,
    "stripes": _stripes,
    "landscape": _landscape,
    "moon": _moon,
    "orange disc": _orange,
    "orange disc with lines": _veined,
    "plate": _plate,
    "outer eye": _outer_eye,
    "OCT-like section": _layers,
    "ultrasound-like fan": _fan,
    "radiograph-like grey": _chest,
    "cells": _cells,
    "endoscopy-like": _endoscopy,
    "skin": _skin,
    "retina, inverted": _inverted,
    "retina, other colours": _other_colours,
    "retina, grey": _grey,
    "retina, pieces mixed": _pieces,
}
