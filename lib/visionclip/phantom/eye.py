"""The sheet of paper: an eye's coordinates, its growing image and masks, and the few ways to put paint on it.

Positions are in disc diameters (DD) in the frame of a left eye: the disc centre is the origin, x runs towards the fovea
(temporal), y downwards. A right eye is the mirror image. While it is drawn, the image is three float32 planes 3×S×S
(R, G, B) with 1 for white: quicker than S×S×3.
"""

from collections.abc import Callable
from functools import cache

import cv2
import numpy as np

from visionclip.conditions import Conditions
from visionclip.phantom.factors import Dice

SHIFT = 4  # OpenCV's fixed-point bits: positions to a sixteenth of a pixel
CANVAS = 448  # shapes are drawn on a canvas about this large (never under twice the image) and reduced by area


@cache
def pixel_grid(size: int) -> tuple[np.ndarray, np.ndarray]:
    """x and y of every pixel centre from the middle of a size×size image, in pixels; float32."""
    axis = np.arange(size, dtype=np.float32) - (size - 1) / 2
    return np.meshgrid(axis, axis)


class Eye:
    """One eye while it is drawn: ``factors``, geometry, ``image``, ``masks`` and ``parameters``."""

    def __init__(self, conditions: Conditions, factors: dict, dice: Dice, size: int):
        self.factors, self.dice, self.size = factors, dice, size
        self.fine = max(2, round(CANVAS / size))
        rng = dice("geometry")
        self.mirror = -1.0 if conditions["eye_side"] else 1.0
        self.fovea = np.array([rng.normal(2.45, 0.12), rng.normal(0.3, 0.12)], np.float32)
        self.reach = rng.uniform(0.94, 1.03) * size / 2  # radius of the field, pixels
        self.scale = self.reach / factors["field_radius"]  # pixels per DD
        tilt = np.deg2rad(factors["rotation"])
        self.turn = np.array([[np.cos(tilt), -np.sin(tilt)], [np.sin(tilt), np.cos(tilt)]], np.float32)
        self.gaze = self._gaze(rng).astype(np.float32)
        columns, rows = pixel_grid(size)
        self.radius = np.minimum(cv2.magnitude(columns, rows) / self.reach, 1.05)  # 1 at the rim of the field
        x, y = columns / self.scale, rows / self.scale
        self.x = self.mirror * (self.turn[0, 0] * x + self.turn[1, 0] * y) + self.gaze[0]
        self.y = self.turn[0, 1] * x + self.turn[1, 1] * y + self.gaze[1]
        self.angle = cv2.phase(self.x, self.y)  # about the disc, 0 to 2π, 0 towards the fovea
        self.image = np.zeros((3, size, size), np.float32)
        self.vessels: dict[str, np.ndarray] = {}  # coverage of veins and arteries
        self.masks: dict[str, np.ndarray] = {}
        self.parameters: dict[str, object] = {}

    def _gaze(self, rng: np.random.Generator) -> np.ndarray:
        """The middle of the field: on the line from fovea to disc, both in view unless a fault cuts one off."""
        distance, reach = float(np.hypot(*self.fovea)), self.factors["field_radius"]
        share = np.clip(self.factors["gaze"], 1 - 0.93 * reach / distance, 0.88 * reach / distance)
        if self.factors["disc_fault"] == "cut":
            share = 1 - (reach + 0.9) / distance
        if self.factors["macula_fault"] == "cut":
            share = (reach + 0.55) / distance
        return (1 - share) * self.fovea + rng.normal(0, 0.12, 2)

    def pixels(self, points: np.ndarray) -> np.ndarray:
        """Positions ...×2 in DD → pixel coordinates (x, y) of the image."""
        offset = (np.asarray(points, np.float32) - self.gaze) * (self.mirror, 1.0)
        return offset @ self.turn.T * self.scale + (self.size - 1) / 2

    def distance(self, centre: np.ndarray | tuple[float, float]) -> np.ndarray:
        """Distance in DD of every pixel from ``centre``."""
        return cv2.magnitude(self.x - np.float32(centre[0]), self.y - np.float32(centre[1]))

    def noise(self, rng: np.random.Generator, cells: int) -> np.ndarray:
        """Smooth noise, float32 S×S of about unit variance, with ``cells`` humps across the image."""
        coarse = rng.standard_normal((cells, cells), np.float32)
        method = cv2.INTER_CUBIC if cells < 20 else cv2.INTER_LINEAR
        return cv2.resize(coarse, (self.size, self.size), interpolation=method)

    # Shapes ---------------------------------------------------------------------------------------------------

    def canvas(self) -> np.ndarray:
        """An empty canvas, uint8, ``fine`` times as large as the image on each side."""
        return np.zeros((self.size * self.fine, self.size * self.fine), np.uint8)

    def fixed_point(self, points: np.ndarray) -> np.ndarray:
        """DD → OpenCV's fixed-point coordinates on a canvas."""
        return np.round((self.pixels(points) + 0.5) * self.fine * (1 << SHIFT) - (1 << (SHIFT - 1))).astype(np.int32)

    def fill(self, canvas: np.ndarray, outlines: np.ndarray, strength: np.ndarray | float = 1.0) -> None:
        """Fill each of N closed outlines, N×K×2 in DD, at its strength (0 to 1)."""
        levels = np.broadcast_to(np.round(np.asarray(strength) * 255), len(outlines)).tolist()
        for outline, level in zip(self.fixed_point(outlines), levels, strict=True):
            cv2.fillPoly(canvas, [outline], level, cv2.LINE_AA, SHIFT)

    def stroke(self, canvas: np.ndarray, lines: np.ndarray, width: float, strength: float = 1.0) -> None:
        """Draw N open lines, N×K×2 in DD, ``width`` DD wide.

        Lines thinner than a canvas pixel are drawn fainter.
        """
        thickness = width * self.scale * self.fine
        level = round(strength * min(1.0, thickness) * 255)
        cv2.polylines(canvas, list(self.fixed_point(lines)), False, level, max(1, round(thickness)), cv2.LINE_AA, SHIFT)

    def coverage(self, canvas: np.ndarray, soften: float = 0.0) -> np.ndarray:
        """The canvas as float32 size×size in [0, 1], blurred by ``soften`` DD."""
        small = cv2.resize(canvas, (self.size, self.size), interpolation=cv2.INTER_AREA).astype(np.float32) / 255
        sigma = soften * self.scale
        return cv2.GaussianBlur(small, (0, 0), sigma) if sigma > 0.3 else small

    def region(
        self, centre: np.ndarray, radii: tuple[float, float], rng: np.random.Generator, rough: float, edge: float
    ) -> np.ndarray:
        """Soft irregular ellipse, float32 in [0, 1]: ``rough`` (0 to 0.5) distorts it, ``edge`` DD is its softness."""
        offset = np.asarray(centre, np.float32)
        shape = cv2.magnitude((self.x - offset[0]) / float(radii[0]), (self.y - offset[1]) / float(radii[1]))
        if rough:
            cells = int(np.clip(3 * self.factors["field_radius"] / max(radii), 6, 30))
            shape = shape + rough * 0.5 * self.noise(rng, cells) + rough * 0.12 * self.noise(rng, 3 * cells)
        return np.clip((1 - shape) * float(max(radii) / max(edge, 1 / self.scale)) + 0.5, 0, 1)

    # Paint ----------------------------------------------------------------------------------------------------

    def mark(self, name: str | None, alpha: np.ndarray | np.floating, threshold: float = 0.06) -> None:
        """Add to mask ``name`` the pixels with ``alpha`` above ``threshold``."""
        if name is not None:
            hit = np.asarray(alpha > threshold)
            self.masks[name] = self.masks[name] | hit if name in self.masks else hit

    def cover(self, name: str | None, alpha: np.ndarray, colour: tuple[float, float, float]) -> None:
        """Blend ``colour`` over the image: opaque things that reflect, as exudates do."""
        for plane, level in zip(self.image, colour, strict=True):
            plane += alpha * (float(level) - plane)
        self.mark(name, alpha)

    def absorb(self, name: str | None, alpha: np.ndarray | np.floating, share: tuple[float, float, float]) -> None:
        """Take ``share`` (R, G, B) of the light away where ``alpha`` is 1, as blood does; below 0 it brightens."""
        for plane, taken in zip(self.image, share, strict=True):
            plane *= 1 - alpha * float(taken)
        self.mark(name, alpha * max(map(abs, share)), 0.05)

    def layer(self, painter: Callable[["Eye"], None]) -> None:
        """Let ``painter`` draw; in a strange eye what it changes comes out stronger or fainter in each channel.

        Colours and contrasts beyond what is plausible leave shape and context to learn from (domain randomisation:
        Billot et al., Med Image Anal 2023). A painter's strangeness depends on its name, so that twins share it.
        """
        if not self.factors["strangeness"]:
            return painter(self)
        before, rng = self.image.copy(), self.dice(f"strangeness of {painter.__name__}")
        painter(self)
        gain = np.exp(self.factors["strangeness"] * (rng.normal(0, 0.35) + rng.normal(0, 0.3, 3)))
        self.image = before + gain.astype(np.float32)[:, None, None] * (self.image - before)

    # Places ---------------------------------------------------------------------------------------------------

    def scatter(self, count: int, rng: np.random.Generator, weight=None, rim: float = 0.9) -> np.ndarray:
        """``count`` positions N×2 in DD inside the field and off the disc; ``weight`` maps N×2 positions to N ≥ 0."""
        candidates = max(64, 6 * count)
        radius = rim * self.factors["field_radius"] * np.sqrt(rng.random(candidates))
        angle = rng.uniform(0, 2 * np.pi, candidates)
        points = self.gaze + np.stack((radius * np.cos(angle), radius * np.sin(angle)), axis=1)
        chance = (np.hypot(*points.T) > 0.65).astype(float)
        if weight is not None:
            chance *= weight(points)
        chance += 1e-12
        return points[rng.choice(candidates, count, replace=False, p=chance / chance.sum())].astype(np.float32)


def blobs(
    centres: np.ndarray,
    radii: np.ndarray | float,
    rng: np.random.Generator,
    rough: float = 0.2,
    stretch: np.ndarray | float = 1.0,
    direction: np.ndarray | float = 0.0,
    corners: int = 16,
) -> np.ndarray:
    """Outlines N×corners×2 of irregular ellipses, longer by ``stretch`` along ``direction`` (radians)."""
    count = len(centres)
    radii, stretch, direction = (np.broadcast_to(v, count)[:, None] for v in (radii, stretch, direction))
    angle = np.linspace(0, 2 * np.pi, corners, endpoint=False)
    ripple = np.ones((count, corners))
    for harmonic in (2, 3, 4):
        phase = rng.uniform(0, 2 * np.pi, (count, 1))
        ripple += rough * rng.normal(0, 0.6, (count, 1)) * np.cos(harmonic * angle + phase)
    ripple = radii * ripple.clip(0.3, 2)
    along, across = ripple * np.cos(angle) * stretch, ripple * np.sin(angle)
    cos, sin = np.cos(direction), np.sin(direction)
    shape = np.stack((along * cos - across * sin, along * sin + across * cos), axis=2)
    return centres[:, None] + shape


def fibre_direction(points: np.ndarray, fovea: np.ndarray) -> np.ndarray:
    """Direction (radians) of nerve-fibre bundles at N×2 positions: radial from the disc, arching round the fovea."""
    x, y = points[..., 0], points[..., 1]
    bend = np.clip(x / fovea[0], 0, 1.6)
    return np.arctan2(y, x) * (1 - bend * np.exp(-(((np.abs(y) - 1.2) / 2.5) ** 2)))
