"""Drawing sets with a diffusion pipeline: the image at a place follows from the seed and that place alone."""

from collections.abc import Sequence

import numpy as np
import torch

from visionclip import keys, streams
from visionclip.models.generator import VisionCLIPDDPMPipeline
from visionclip.progress import progress

VOLATILE = ("_name_or_path", "_diffusers_version")  # of a configuration: what changes nothing that is drawn


def sample(
    pipeline: VisionCLIPDDPMPipeline,
    vectors: np.ndarray,
    layouts: np.ndarray | None = None,
    steps: int | None = None,
    guidance: float | None = None,
    seed: int = 0,
    places: Sequence[int] | np.ndarray | None = None,
    attempt: int = 0,
    batch: int = 16,
    bf16: bool = False,
) -> np.ndarray:
    """One image for each condition vector (N×K, NaN where unknown) and layout (N×L×S×S): uint8 N×S×S×3.

    The noise of an image follows from ``seed``, its place in the set (``places``, N, by default 0 to N - 1) and the
    ``attempt``, so that a set can be drawn in pieces and in any batch size. ``steps`` and ``guidance`` are the
    pipeline's own by default.

    Raises:
        ValueError: as the pipeline does.
    """
    places = range(len(vectors)) if places is None else places
    pipeline.unet.train(False)
    pipeline.set_progress_bar_config(disable=True)
    images = []
    for start in progress(range(0, len(vectors), batch), "sampling"):
        rows = slice(start, start + batch)
        noise = [streams.torch_rng(seed, "initial noise", place, attempt) for place in places[rows]]
        with torch.autocast(pipeline.device.type, torch.bfloat16, enabled=bf16):
            marks = None if layouts is None else layouts[rows]
            given = vectors[rows], marks, steps, guidance, noise
            images.append(pipeline(*given, output_type="np", return_dict=False)[0])
    return np.concatenate(images)


def key(pipeline: VisionCLIPDDPMPipeline | None) -> str:
    """The digest of a generator as it draws: weights, scheduler, steps and guidance; of nothing where there is none."""
    if pipeline is None:
        return keys.digest(None)
    parts = [dict(one.config) for one in (pipeline.unet, pipeline.scheduler)]
    settled = [{name: value for name, value in part.items() if name not in VOLATILE} for part in parts]
    return keys.digest([keys.weights(pipeline.unet), settled, pipeline.config["steps"], pipeline.config["guidance"]])
