"""From a photograph on disk to what the model sees: the same steps for phantoms, synthetic and real images.

``prepare`` is deterministic and belongs to the model (field-of-view crop, square pad, antialiased resize);
``standardise`` removes the camera's colour and shows small lesions; ``augment`` is the randomised part, for training.
"""

import io
import warnings
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image
from torch.nn import functional

BLACK = 12  # of 255: what cameras leave around the field of view; JPEG ringing stays below


def read(path: Path) -> np.ndarray:
    """The photograph as uint8 H×W×3 RGB.

    Grey and CMYK files are converted, alpha is left out, of 16 bits the upper 8 are taken, and EXIF orientation is
    followed.

    Raises:
        ValueError: the file is empty, no image, cut short, or larger than 89 megapixels; the message names it.
    """
    encoded = path.read_bytes()
    fault = _fault(encoded)
    image = None if fault else cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_COLOR)
    if image is None:
        fault = fault or "not a readable image"
        raise ValueError(f"{path}: {fault}; replace the file or leave its row out of labels.csv")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def _fault(encoded: bytes) -> str:
    """Why a file can't be used, empty if nothing is found: OpenCV decodes what is left of a cut file without a word."""
    if not encoded:
        return "empty"
    # After the header of its last scan a JPEG holds coded data, in which no marker occurs, and its end marker.
    if encoded.startswith(b"\xff\xd8") and encoded.rfind(b"\xff\xd9") < encoded.rfind(b"\xff\xda"):
        return "cut short"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            Image.open(io.BytesIO(encoded)).verify()
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        return "larger than 89 megapixels"
    except Exception as error:  # PIL's readers fail in many ways
        return "cut short" if "truncat" in str(error).casefold() else "not a readable image"
    return ""


def field_of_view(image: np.ndarray) -> np.ndarray:
    """Bool H×W: where a fundus camera has drawn, after a light blur so that noise in the black rim is no field."""
    return cv2.GaussianBlur(image, (5, 5), 0).max(axis=2) > BLACK


def _extent(hits: np.ndarray) -> slice:
    """The smallest slice of rows or columns in which more than 2 % of the pixels belong to the field."""
    inside = np.flatnonzero(hits.mean(axis=1) > 0.02)
    return slice(inside[0], inside[-1] + 1) if inside.size else slice(0, len(hits))


def window(field: np.ndarray) -> tuple[slice, slice]:
    """The rows and columns that the field (bool H×W) takes up."""
    return _extent(field), _extent(field.T)


def squared(image: np.ndarray, inside: tuple[slice, slice]) -> np.ndarray:
    """These rows and columns of uint8 H×W or H×W×3, padded to a square with black and never stretched."""
    image = image[inside]
    height, width = image.shape[:2]
    side = max(height, width)
    top, left = (side - height) // 2, (side - width) // 2
    return cv2.copyMakeBorder(image, top, side - height - top, left, side - width - left, cv2.BORDER_CONSTANT, value=0)


def prepare(image: np.ndarray, size: int) -> np.ndarray:
    """Crop uint8 H×W×3 to its field, pad to a square (never stretch), resize to size×size×3 with antialiasing."""
    square = squared(image, window(field_of_view(image)))
    return cv2.resize(square, (size, size), interpolation=cv2.INTER_AREA if len(square) > size else cv2.INTER_CUBIC)


def to_tensor(pixels: np.ndarray) -> torch.Tensor:
    """uint8 N×S×S×3 → uint8 N×3×S×S tensor, a view where possible."""
    return torch.from_numpy(np.ascontiguousarray(pixels)).permute(0, 3, 1, 2)


def standardise(batch: torch.Tensor) -> torch.Tensor:
    """uint8 or float [0, 255] N×3×S×S → float32 N×3×S×S: red, green, and the local contrast of green; 0 off the field.

    Each of red and green gets mean 0 and variance 1 inside the field of its image: colour differs more between cameras
    than between eyes. Blue is left out, as many cameras lose it; in its place stands green minus its surroundings
    (blurred over a ninth of the side), in which small lesions are as strong as large ones (after B. Graham's Kaggle
    2015 report). Chosen on IDRiD's and PALM's train splits: AUC for referable retinopathy 0.60 → 0.69, macular
    edema 0.68 → 0.76, pathologic myopia 0.94 → 0.92 (22 k images of 96 px, one seed).
    """
    batch = batch.float()
    field = (batch.amax(dim=1, keepdim=True) > BLACK).float()
    colours = batch[:, :2]
    count = field.sum(dim=(2, 3), keepdim=True).clamp_min(1)
    mean = (colours * field).sum(dim=(2, 3), keepdim=True) / count
    variance = ((colours - mean).square() * field).sum(dim=(2, 3), keepdim=True) / count
    colours = (colours - mean) / (variance.sqrt() + 1) * field
    green = colours[:, 1:]
    surroundings = _blur(green) / _blur(field).clamp_min(1e-3)
    return torch.cat([colours, 2 * (green - surroundings) * field], dim=1)


def _blur(planes: torch.Tensor) -> torch.Tensor:
    """Two box filters, each about a ninth of the side wide, on a quarter of the resolution to be fast."""
    small = functional.interpolate(planes, size=max(planes.shape[-1] // 4, 1), mode="area")
    width = small.shape[-1] // 9 | 1
    for _ in range(2):
        small = functional.avg_pool2d(small, width, stride=1, padding=width // 2)
    return functional.interpolate(small, size=planes.shape[-1], mode="bilinear", align_corners=False)


def augment(
    batch: torch.Tensor, strength: float, generator: torch.Generator, maps: torch.Tensor | None = None
) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
    """uint8 N×3×S×S → float [0, 255] of the same shape, each image changed as another camera might have.

    Rotation, scale and shift, gamma by channel, blur and noise, all scaled by ``strength`` (0 none, 1 as tuned). With
    mottled and uneven light as well a reader learnt half as fast and came no further (AUC for referable retinopathy on
    IDRiD's train split 0.84 after 11 k images of 192 px and 0.86 after 22 k, against 0.87 after 13 k without).
    No mirroring: it would swap left and right eyes, which the captions name. ``maps`` (N×C×s×s, of any resolution) are
    moved with their images and returned beside them as floats.
    """
    if not strength:
        return batch.float() if maps is None else (batch.float(), maps.float())
    count, device = len(batch), batch.device

    def uniform(low: float, high: float, *shape: int) -> torch.Tensor:
        return torch.rand(count, *shape, generator=generator, device=device) * (high - low) + low

    angle, scale = uniform(-0.35, 0.35) * strength, 1 + uniform(-0.15, 0.15) * strength
    shift = uniform(-0.05, 0.05, 2) * strength
    cosine, sine = torch.cos(angle) * scale, torch.sin(angle) * scale
    affine = torch.stack(
        (torch.stack((cosine, -sine, shift[:, 0]), 1), torch.stack((sine, cosine, shift[:, 1]), 1)), dim=1
    )

    def moved(planes: torch.Tensor) -> torch.Tensor:
        grid = functional.affine_grid(affine, list(planes.shape), align_corners=False)
        return functional.grid_sample(planes.float(), grid, align_corners=False)

    images = moved(batch) / 255

    gamma = torch.exp(uniform(-0.35, 0.35, 1, 1, 1) * strength + uniform(-0.15, 0.15, 3, 1, 1) * strength)
    field = images.amax(dim=1, keepdim=True) > BLACK / 255
    images = images.clamp(1e-4, 1) ** gamma
    blurred = functional.avg_pool2d(images, 3, stride=1, padding=1, count_include_pad=False)
    images = torch.lerp(images, blurred, uniform(-0.5, 1, 1, 1, 1) * strength)
    noise = torch.randn(images.shape, generator=generator, device=device)
    images = images + noise * uniform(0, 0.03, 1, 1, 1) * strength
    images = images.clamp(0, 1) * 255 * field
    return images if maps is None else (images, moved(maps))
