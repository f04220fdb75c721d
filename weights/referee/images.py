"""From a photograph on disk to what the model sees: the same steps for phantoms, synthetic and real images.

All is deterministic and belongs to the model: ``prepare`` crops to the field of view, blackens what surrounds it, pads
to a square and resizes; ``standardise`` removes the camera's colour and shows small lesions.
"""

import io
import re
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
from PIL import Image, ImageOps

from .field_of_view import BLACK, cut, find

if TYPE_CHECKING:  # imported where it is used: processes that draw phantoms prepare them, and start sooner without it
    import torch

PREPROCESSING = 2  # the version of what follows, which models save; raise it when their input changes


def read(path: Path) -> np.ndarray:
    """The photograph as uint8 H×W×3 RGB, its EXIF orientation followed; other kinds of pixel as ``to_rgb`` takes them.

    Raises:
        ValueError: the file is empty, no image, cut short, or larger than 89 megapixels; the message names it.
    """
    encoded = path.read_bytes()
    fault, image = _opened(encoded)
    if image is not None and (image.mode not in ("RGB", "L") or "transparency" in image.info):
        try:
            return to_rgb(image)
        except (ValueError, OSError) as error:  # PIL decodes here what it only looked at before
            fault = str(error)
    # OpenCV decodes several times as fast as PIL, which drops the lower 8 of 16 bits of a colour
    every_bit = cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH
    decoded = None if fault else cv2.imdecode(np.frombuffer(encoded, np.uint8), every_bit)
    if decoded is None:
        raise ValueError(
            f"{path}: {fault or 'not a readable image'}; replace the file or leave its row out of labels.csv"
        )
    return to_rgb(cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB))


def to_rgb(image: "Image.Image | np.ndarray | torch.Tensor") -> np.ndarray:
    """Any picture as uint8 H×W×3 RGB: the one door for what is not read from a file.

    Grey becomes RGB, what is fully transparent black, EXIF orientation is followed. Arrays may be H×W, H×W×C or C×H×W
    with 1, 3 or 4 channels; bool, 8, 12 or 16 bits (as few as hold the largest colour), or fractions from 0 to 1.

    Raises:
        ValueError: another shape or type, or values that aren't in these ranges.
    """
    if hasattr(image, "detach"):  # a tensor, of any precision and on any device
        image = image.detach().cpu()
        image = image.float() if image.is_floating_point() else image
    if isinstance(image, Image.Image):
        image = ImageOps.exif_transpose(image)
        if image.mode in ("P", "PA", "LA", "La", "RGBa") or "transparency" in image.info:
            image = image.convert("RGBA")
        elif image.mode not in ("RGB", "RGBA", "L", "1", "F") and not image.mode.startswith("I"):
            image = image.convert("RGB")
    pixels = np.asarray(image)
    if pixels.ndim == 3 and pixels.shape[2] not in (1, 3, 4) and pixels.shape[0] in (1, 3, 4):
        pixels = pixels.transpose(1, 2, 0)
    pixels = pixels[..., None] if pixels.ndim == 2 else pixels
    if pixels.ndim != 3 or pixels.shape[2] not in (1, 3, 4) or not pixels.size:
        raise ValueError(f"image: an array of shape {pixels.shape}; give H×W, H×W×C or C×H×W with 1, 3 or 4 channels")
    if pixels.dtype.kind not in "buif":
        raise ValueError(f"image: an array of {pixels.dtype}; give numbers, 8 or 16 bits or fractions from 0 to 1")
    rgb = _eight_bits(pixels[..., :3])
    if pixels.shape[2] == 4:
        rgb = rgb * (pixels[..., 3:] > 0)
    return np.ascontiguousarray(np.broadcast_to(rgb, (*rgb.shape[:2], 3)))


def _eight_bits(pixels: np.ndarray) -> np.ndarray:
    """Numbers of any kind as uint8."""
    if pixels.dtype == np.uint8:
        return pixels
    highest, lowest = float(pixels.max()), float(pixels.min())
    if pixels.dtype == bool or (np.issubdtype(pixels.dtype, np.floating) and lowest >= 0 and highest <= 1):
        return (pixels * np.float32(255) + np.float32(0.5)).astype(np.uint8)
    if np.issubdtype(pixels.dtype, np.integer) and lowest >= 0 and highest < 1 << 16:
        used = next(bits for bits in (8, 12, 16) if highest < 1 << bits)
        return (pixels >> (used - 8)).astype(np.uint8)
    raise ValueError(
        f"image: {pixels.dtype} from {lowest:g} to {highest:g}; give 8 or 16 bits or fractions from 0 to 1"
    )


def _opened(encoded: bytes) -> tuple[str, "Image.Image | None"]:
    """Why a file can't be used, empty if nothing is found, and its opened image: OpenCV decodes what is left of a cut
    file without a word."""
    if not encoded:
        return "empty", None
    if encoded.startswith(b"\xff\xd8") and not _jpeg_ends(encoded):
        return "cut short", None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            Image.open(io.BytesIO(encoded)).verify()
            return "", Image.open(io.BytesIO(encoded))
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        return "larger than 89 megapixels", None
    except Exception as error:  # PIL's readers fail in many ways
        return "cut short" if "truncat" in str(error).casefold() else "not a readable image", None


# In the coded data of a scan, a marker is what follows FF but for stuffing, restarts and fill bytes.
MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")


def _jpeg_ends(encoded: bytes) -> bool:
    """Whether the first image of a JPEG file reaches its end marker, whatever a camera has written behind it."""
    place = 2
    while found := MARKER.search(encoded, place):
        kind, place = found[0][1], found.end()
        if kind == 0xD9:
            return True
        place += int.from_bytes(encoded[place : place + 2], "big")  # the segment's length counts its own two bytes
    return False


def prepare(image: np.ndarray, size: int) -> np.ndarray:
    """Crop uint8 H×W×3 to its field, pad to a square (never stretch), resize to size×size×3 with antialiasing."""
    return prepare_counted(image, size)[0]


def prepare_counted(image: np.ndarray, size: int) -> tuple[np.ndarray, str]:
    """What ``prepare`` makes of a photograph, and the kind of its surround (see ``field_of_view.Field``)."""
    field = find(image)
    square = cut(image, field)
    method = cv2.INTER_AREA if len(square) > size else cv2.INTER_CUBIC
    return cv2.resize(square, (size, size), interpolation=method), field.surround


def resized(pixels: np.ndarray, size: int) -> np.ndarray:
    """Prepared uint8 N×S×S×3 at another side; the same array where it is that already."""
    if pixels.shape[1] == size:
        return pixels
    method = cv2.INTER_AREA if pixels.shape[1] > size else cv2.INTER_CUBIC
    return np.stack([cv2.resize(image, (size, size), interpolation=method) for image in pixels])


def to_tensor(pixels: np.ndarray) -> "torch.Tensor":
    """uint8 N×S×S×3 → uint8 N×3×S×S tensor, a view where possible."""
    import torch

    return torch.from_numpy(np.ascontiguousarray(pixels)).permute(0, 3, 1, 2)


def standardise(batch: "torch.Tensor", plain: bool = False) -> "torch.Tensor":
    """uint8 or float [0, 255] N×3×S×S → float32 N×3×S×S: red, green, and the local contrast of green; 0 off the field.
    ``plain``: red, green and blue as they are, from -1 to 1.

    Each of red and green gets mean 0 and variance 1 inside the field of its image: colour differs more between cameras
    than between eyes. Blue is left out, as many cameras lose it; in its place stands green minus its surroundings
    (blurred over a ninth of the side), in which small lesions are as strong as large ones (after B. Graham's Kaggle
    2015 report). Chosen by measurement, see docs/decisions.md.
    """
    import torch

    batch = batch.float()
    if plain:
        return batch / 127.5 - 1
    field = (batch.amax(dim=1, keepdim=True) > BLACK).float()
    colours = batch[:, :2]
    count = field.sum(dim=(2, 3), keepdim=True).clamp_min(1)
    mean = (colours * field).sum(dim=(2, 3), keepdim=True) / count
    variance = ((colours - mean).square() * field).sum(dim=(2, 3), keepdim=True) / count
    colours = (colours - mean) / (variance.sqrt() + 1) * field
    green = colours[:, 1:]
    surroundings = _blur(green) / _blur(field).clamp_min(1e-3)
    return torch.cat([colours, 2 * (green - surroundings) * field], dim=1)


def _blur(planes: "torch.Tensor") -> "torch.Tensor":
    """Two box filters, each about a ninth of the side wide, on a quarter of the resolution to be fast."""
    from torch.nn import functional

    small = functional.interpolate(planes, size=max(planes.shape[-1] // 4, 1), mode="area")
    width = small.shape[-1] // 9 | 1
    for _ in range(2):
        small = functional.avg_pool2d(small, width, stride=1, padding=width // 2)
    return functional.interpolate(small, size=planes.shape[-1], mode="bilinear", align_corners=False)
