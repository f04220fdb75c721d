"""The field of view of a fundus photograph, whatever surrounds it: black, paper, noise, a frame, burnt-in text.

The retina is one convex piece, a circle that the sensor may cut. So what differs from the surround's colour, which the
corners show, is opened (text and tabs at the rim are thin), its largest piece kept and the convex hull of that taken.
Measured in docs/decisions.md.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import combinations

import cv2
import numpy as np

BLACK = 12  # of 255: what cameras leave around the field of view; JPEG ringing stays below
SIDE = 320  # pixels of the copy on which the field is looked for: its edge is found to 0.3 % of the larger side
EDGE = 1.5  # pixels of the copy that a surround which isn't black is mixed into
ROUNDS = 3  # a photograph in a frame on a page
SURROUNDS = {
    "marked": "something beside the field of view (text, a tab, a frame), painted black",
    "coloured": "a surround that isn't black, painted black",
}


@dataclass(frozen=True)
class Field:
    """Where the retina is: rows and columns of its window, and its outline.

    ``outline`` are the corners (x, y) of a convex polygon, int32 P×1×2 in pixels of the photograph, None where nothing
    surrounds the retina. ``surround`` is "black", "none" or one of ``SURROUNDS``. ``bays`` are where a colour reaches
    into the outline, as where somebody cut out the retina by its brightness: uint8 h×w over the whole photograph.
    """

    rows: slice
    columns: slice
    outline: np.ndarray | None = None
    surround: str = "none"
    bays: np.ndarray | None = None


def visible(image: np.ndarray, level: float = BLACK) -> np.ndarray:
    """Bool H×W: what of uint8 H×W×3 is brighter than black, after a light blur so that noise in a rim is no field."""
    return _highest(cv2.GaussianBlur(image, (5, 5), 0)) > level


def _highest(pixels: np.ndarray) -> np.ndarray:
    """The largest of three channels, H×W: several times as fast as numpy over the last axis."""
    first, second, third = cv2.split(pixels)
    return cv2.max(cv2.max(first, second), third)


def find(image: np.ndarray) -> Field:
    """The field of view of a photograph, uint8 H×W×3."""
    shape = image.shape[:2]
    scale = min(1.0, SIDE / max(shape))
    copy = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA) if scale < 1 else image
    whole = copy.shape[:2]
    offset, kept, surround, bays = np.zeros(2, np.float32), None, "none", np.zeros(whole, np.uint8)
    for _ in range(ROUNDS):
        outline, kind, own = _outline(copy)
        if outline is None:
            break
        outline = outline + offset
        if kept is not None:
            outline = _common(whole, _grown(kept, -3), outline)
            if outline is None or cv2.contourArea(outline) > 0.93 * cv2.contourArea(kept):
                break  # nothing new
        kept, surround = outline, "coloured" if surround == "coloured" else kind
        if kind != "coloured":
            break
        x, y = offset.astype(int)
        bays[y : y + len(copy), x : x + copy.shape[1]] |= own
        copy, offset = _inside(copy, kept - offset, offset)
    if kept is None:
        return Field(slice(0, shape[0]), slice(0, shape[1]))
    return replace(_in_pixels(kept, scale, surround, shape), bays=bays if bays.any() else None)


def _inside(image: np.ndarray, outline: np.ndarray, offset: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What lies well inside of an outline, black around it, and its place in the whole."""
    shrunk = _grown(outline, -3)
    start = shrunk.reshape(-1, 2).min(0).astype(int).clip(0)
    end = shrunk.reshape(-1, 2).max(0).astype(int) + 1
    return _blackened(image, shrunk)[start[1] : end[1], start[0] : end[0]], (offset + start).astype(np.float32)


def cut(image: np.ndarray, field: Field) -> np.ndarray:
    """The window of H×W or H×W×3, padded to a square with black and never stretched, black outside of the outline."""
    inside = image[field.rows, field.columns]
    if field.outline is not None:
        outline = field.outline - (field.columns.start, field.rows.start)
        edge = EDGE / SIDE * max(image.shape[:2]) if field.surround == "coloured" else 0
        inside = _mended(inside, outline, edge) if edge and image.ndim == 3 else _blackened(inside, outline)
    if field.bays is not None:
        bays = cv2.resize(field.bays, image.shape[1::-1], interpolation=cv2.INTER_NEAREST)[field.rows, field.columns]
        inside = inside * (1 - bays if image.ndim == 2 else (1 - bays)[..., None])
    height, width = inside.shape[:2]
    side = max(height, width)
    top, left = (side - height) // 2, (side - width) // 2
    return cv2.copyMakeBorder(inside, top, side - height - top, left, side - width - left, cv2.BORDER_CONSTANT, value=0)


def _mended(image: np.ndarray, outline: np.ndarray, edge: float) -> np.ndarray:
    """The picture, black outside of the outline; its outer ``edge`` pixels, which the surround is mixed with, take the
    mean of what lies inside of them."""
    whole, sound = _filled(image.shape, outline), _filled(image.shape, _grown(outline, -edge))
    width = 2 * round(2 * edge) + 1
    near = cv2.blur(image * sound[..., None].astype(np.float32), (width, width))
    weight = cv2.blur(sound.astype(np.float32), (width, width))
    ring = (whole > sound) & (weight > 0)
    mended = image * sound[..., None]
    mended[ring] = near[ring] / weight[ring][:, None]
    return mended


def _outline(image: np.ndarray) -> tuple[np.ndarray | None, str, np.ndarray]:
    """The retina's convex outline, float P×1×2, the kind of what surrounds it, and its bays (uint8 H×W); None where
    nothing does."""
    none = np.zeros(image.shape[:2], np.uint8)
    for colour, noise in _surrounds(image):
        dark = colour.max() <= BLACK
        blur = min(noise / 8, SIDE / 96)
        distance = _distance(image, 0 if dark else colour, blur)
        left = noise / (1 + 2 * blur)  # of the noise, once it is smoothed
        # a bright surround reaches further into the pixels of the edge
        level = BLACK + colour.max() / 2 if dark else BLACK / 2 + colour.max() / 16 + 2 * left
        other = distance > level
        hull = _largest(other)
        if hull is None:
            continue
        outline = _rounded(hull, distance)
        outside = _filled(image.shape[:2], _grown(outline, 2)) == 0
        strange = other[outside].mean() if outside.any() else 1
        if dark:
            return outline, "marked" if strange * outside.mean() > 2e-4 else "black", none
        even = outside.any() and np.median(distance[outside]) < 2 + 1.2 * left
        flat = strange < 0.05 and outside.mean() > 0.1
        if even and outside.mean() > 0.01 and strange < 0.15 and (flat or _sharp(distance, outline)):
            return outline, "coloured", _bays(distance < 2 + 2 * left, outside)
    return None, "none", none


def _bays(alike: np.ndarray, outside: np.ndarray) -> np.ndarray:
    """uint8 H×W: what inside is of the surround's very colour and reaches it, and the pixels mixed with that."""
    _, pieces = cv2.connectedComponents((alike | outside).astype(np.uint8))
    reached = np.isin(pieces, np.unique(pieces[outside])) & ~outside & alike
    return cv2.dilate(reached.astype(np.uint8), np.ones((3, 3), np.uint8))


def _surrounds(image: np.ndarray) -> Iterator[tuple[np.ndarray, float]]:
    """What the surround may look like, float H×W×3 or 3 numbers, and its noise: first as it shades from corner to
    corner, then as each corner, those first which most others resemble, then black if much of the rim is."""
    side = max(min(image.shape[:2]) // 24, 1)
    ends = (slice(0, side), slice(-side, None))
    patches = [image[rows, columns].reshape(-1, 3) for rows in ends for columns in ends]
    colours = np.array([np.median(patch, axis=0) for patch in patches], np.float32)
    noises = [1.5 * float(np.median(abs(patch - own), 0).max()) for patch, own in zip(patches, colours, strict=True)]
    gaps = np.abs(colours[:, None] - colours).max(2)
    if gaps.max() > BLACK:
        down, right = (np.linspace(0, 1, length, dtype=np.float32) for length in image.shape[:2])
        edges = [colours[end] + right[:, None] * (colours[end + 1] - colours[end]) for end in (0, 2)]
        yield edges[0] + down[:, None, None] * (edges[1] - edges[0]), max(noises)
    alike = (gaps <= BLACK).sum(1)
    tried: list[int] = []
    for place in sorted(range(4), key=lambda place: (-alike[place], colours[place].max())):
        if all(gaps[place, other] > BLACK for other in tried):
            tried.append(place)
            yield colours[place], noises[place]
    rim = np.concatenate([image[0], image[-1], image[:, 0], image[:, -1]]).max(1)
    if colours.max(1).min() > BLACK and (rim <= BLACK).mean() > 0.3:  # black, but for what lies in the corners
        yield np.zeros(3, np.float32), 0.0


def _distance(image: np.ndarray, colour: np.ndarray | float, blur: float) -> np.ndarray:
    """float32 H×W: how far each pixel is from a surround, in the channel that differs most, noise smoothed away."""
    smooth = cv2.GaussianBlur(image, (0, 0), blur) if blur > 0.3 else image
    return _highest(np.abs(smooth - np.float32(colour)))


def _largest(mask: np.ndarray) -> np.ndarray | None:
    """The convex hull P×1×2 of the largest piece of bool H×W, thin things aside; None if it is below a tenth of all."""
    size = max(mask.shape) // 40
    brush = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size | 1, size | 1))
    # black beyond the picture, so that a thin frame is thin
    opened = cv2.morphologyEx(
        mask.astype(np.uint8), cv2.MORPH_OPEN, brush, borderType=cv2.BORDER_CONSTANT, borderValue=0
    )
    _, pieces, statistics, _ = cv2.connectedComponentsWithStats(opened)
    areas = statistics[1:, cv2.CC_STAT_AREA]
    if not len(areas) or areas.max() < 0.1 * mask.size:
        return None
    return _hull((pieces == 1 + areas.argmax()).astype(np.uint8))


def _hull(mask: np.ndarray) -> np.ndarray:
    """The convex hull float32 P×1×2 of uint8 H×W, which isn't all 0."""
    outlines, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    return cv2.convexHull(np.concatenate(outlines)).astype(np.float32)


def _rounded(hull: np.ndarray, distance: np.ndarray) -> np.ndarray:
    """The hull less what sticks out of its circle; the whole circle where the rest of it is retina as dark as the
    surround. The hull itself where it is no circle that the picture or the sensor cuts."""
    circle = _circle(hull, distance.shape)
    if circle is None:
        return hull
    inside, whole = (_filled(distance.shape, outline) > 0 for outline in (hull, circle))
    missing, outside = whole & ~inside, ~(whole | inside)
    level = np.median(distance[outside]) if outside.any() else 0
    if missing.mean() > 0.01 and np.median(distance[missing]) > 1.5 * level + 1:
        return circle
    common = _common(distance.shape, hull, circle)
    return hull if common is None or cv2.contourArea(common) < 0.8 * cv2.contourArea(hull) else common


def _circle(hull: np.ndarray, shape: tuple[int, ...]) -> np.ndarray | None:
    """The circle, as a polygon, on which most of the hull's points within the picture lie to 1 % of its radius."""
    traced = np.zeros(shape, np.uint8)
    cv2.polylines(traced, [hull.astype(np.int32)], True, 1)
    traced[:2] = traced[-2:] = traced[:, :2] = traced[:, -2:] = 0
    points = np.argwhere(traced)[:, ::-1].astype(np.float64)
    if len(points) < 24:
        return None
    order = np.argsort(np.arctan2(*(points - hull.reshape(-1, 2).mean(0)).T))
    spread = points[order[np.linspace(0, len(points) - 1, 128).astype(int)]]
    circles = _through(spread[8::9][list(combinations(range(14), 3))])
    best = circles[_on(spread, circles[:, None]).sum(1).argmax()]
    for _ in range(3):
        best = _fitted(points[_on(points, best)])
    if _on(points, best).mean() < 0.5:
        return None
    x, y, radius = best
    turn = np.linspace(0, 2 * np.pi, 180, endpoint=False)
    return np.stack([x + radius * 1.005 * np.cos(turn), y + radius * 1.005 * np.sin(turn)], 1)[:, None].astype(
        np.float32
    )


def _on(points: np.ndarray, circle: np.ndarray) -> np.ndarray:
    """Bool ...×P: which points P×2 lie on circles ...×3 (centre and radius)."""
    x, y, radius = np.moveaxis(circle, -1, 0)
    return np.abs(np.hypot(points[:, 0] - x, points[:, 1] - y) - radius) < 0.01 * radius


def _through(three: np.ndarray) -> np.ndarray:
    """Centres and radii N×3 of the circles through N×3×2 points; NaN for three on a line."""
    a, b, c = np.moveaxis(three, 1, 0)
    left, right = np.stack([b - a, c - a], 1), np.stack([b**2 - a**2, c**2 - a**2], 1).sum(2) / 2
    straight = np.abs(np.linalg.det(left)) < 1e-6
    left[straight] = np.eye(2)
    centre = np.linalg.solve(left, right[..., None])[..., 0]
    circles = np.column_stack([centre, np.linalg.norm(a - centre, axis=1)])
    circles[straight] = np.nan
    return circles


def _fitted(points: np.ndarray) -> np.ndarray:
    """Centre and radius of the circle through points P×2, by least squares (Kåsa 1976)."""
    system = np.column_stack([2 * points, np.ones(len(points))])
    (x, y, rest), *_ = np.linalg.lstsq(system, (points**2).sum(1), rcond=None)
    return np.array([x, y, np.sqrt(max(rest + x * x + y * y, 0))])


def _sharp(distance: np.ndarray, outline: np.ndarray) -> bool:
    """Whether colours jump at the outline, more than they change inside: retina that fills the picture only darkens."""
    inner, inside, outside = (_along(distance, _grown(outline, margin)) for margin in (-10, -3, 2))
    seen = ~np.isnan(outside)
    if seen.sum() < 8:
        return False
    jump, drift = np.median(np.abs(inside - outside)[seen]), np.median(np.abs(inside - inner)[seen])
    return bool(jump > max(BLACK / 2, 2 * drift))


def _along(values: np.ndarray, outline: np.ndarray) -> np.ndarray:
    """The values float H×W at 180 points along an outline; NaN off the picture."""
    corners = np.concatenate([outline, outline[:1]]).reshape(-1, 2)
    way = np.append(0, np.cumsum(np.linalg.norm(np.diff(corners, axis=0), axis=1)))
    places = np.linspace(0, way[-1], 180)
    x, y = (np.interp(places, way, axis).round().astype(int) for axis in corners.T)
    within = (x >= 0) & (y >= 0) & (x < values.shape[1]) & (y < values.shape[0])
    found = np.full(len(x), np.nan)
    found[within] = values[y[within], x[within]]
    return found


def _grown(hull: np.ndarray, margin: float) -> np.ndarray:
    """The hull with its corners moved outwards by ``margin`` pixels, float32 P×1×2."""
    away = hull - hull.reshape(-1, 2).mean(0)
    moved = hull + away * (margin / np.maximum(np.linalg.norm(away, axis=2, keepdims=True), 1))
    return moved.astype(np.float32)


def _filled(shape: tuple[int, ...], outline: np.ndarray) -> np.ndarray:
    """uint8 H×W, 1 inside of a convex outline."""
    inside = np.zeros(shape[:2], np.uint8)
    cv2.fillConvexPoly(inside, np.round(outline).astype(np.int32), 1)
    return inside


def _common(shape: tuple[int, ...], one: np.ndarray, other: np.ndarray) -> np.ndarray | None:
    """The outline of what two convex outlines share, None for nothing: OpenCV's own fails where they nearly agree."""
    shared = _filled(shape, one) & _filled(shape, other)
    return _hull(shared) if shared.any() else None


def _blackened(image: np.ndarray, outline: np.ndarray) -> np.ndarray:
    """The picture, black outside of a convex outline."""
    inside = _filled(image.shape, outline)
    return image * (inside if image.ndim == 2 else inside[..., None])


def _in_pixels(outline: np.ndarray, scale: float, surround: str, shape: tuple[int, int]) -> Field:
    """The field in pixels of the photograph, of an outline found on its copy.

    A colour reaches into the pixels of the edge, so that the outline found on it lies half a pixel of the copy further
    out than on black, where a margin keeps all of a dark edge.
    """
    outline = _grown(outline, -0.5 if surround == "coloured" else 0)
    columns, rows = (
        slice(max(round(float(one.min()) / scale), 0), min(round((float(one.max()) + 1) / scale), limit))
        for one, limit in zip(outline.reshape(-1, 2).T, shape[::-1], strict=True)
    )
    outline = (outline if surround == "coloured" else _grown(outline, 1)) + 0.5
    return Field(rows, columns, np.round(outline / scale - 0.5).astype(np.int32), surround)
