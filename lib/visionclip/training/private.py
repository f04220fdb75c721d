"""Training the generator with differential privacy: whoever sees it can hardly tell whether any one image took part.

DP-SGD (Abadi et al., CCS 2016) by opacus: the gradient of every image is cut to one length, and noise is added to their
sum. How much noise a guarantee takes is worked out by its accountant of Rényi divergences (Mironov et al. 2019) for
batches that each image joins by lot. The patch basis, which would give its images away, is that of public ones.
"""

import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from visionclip import keys
from visionclip.data.labelled import LabelledImages
from visionclip.models import generator
from visionclip.models.generator import VisionCLIPDDPMPipeline
from visionclip.training import denoising, loop
from visionclip.training.checkpoints import History
from visionclip.training.loop import Update

ACCOUNTANT = "rdp"
LEAST_BATCH = 24  # images expected: of fewer, an update without any is too likely to be left out of the account


@dataclass(frozen=True, kw_only=True)
class Settings(denoising.Settings):
    """``batch_size`` is the expected one, as images join by lot; ``clip`` what their gradients are cut to."""

    epsilon: float = 8.0
    precision: str = "fp32"  # per-image gradients are summed, and cut, as they are

    def __post_init__(self):
        super().__post_init__()
        if self.epsilon <= 0:
            raise ValueError(f"epsilon: {self.epsilon} given; a guarantee needs more than 0")
        if self.batch_size < LEAST_BATCH:
            raise ValueError(f"batch_size: {self.batch_size} given; private training needs {LEAST_BATCH} or more")


def delta(count: int) -> float:
    """The probability, of N images, with which the guarantee may fail: 1 / (10 N), below that of giving one away."""
    return 0.1 / count


def noise_multiplier(count: int, settings: Settings) -> float:
    """Deviation of the noise by the length that gradients are cut to, for ``settings.epsilon`` at ``delta``.

    Raises:
        ModuleNotFoundError: opacus isn't installed; requirements.lock has it.
    """
    from opacus.accountants.utils import get_noise_multiplier  # with what it imports it takes seconds

    return get_noise_multiplier(
        target_epsilon=settings.epsilon,
        target_delta=delta(count),
        sample_rate=min(settings.batch_size / count, 1.0),
        steps=settings.updates,
        accountant=ACCOUNTANT,
    )


def train(
    images: LabelledImages, public: LabelledImages, settings: Settings, folder: Path
) -> tuple[VisionCLIPDDPMPipeline, History]:
    """Train a generator of images without layouts as ``denoising.train`` does, with differential privacy for each of
    them (of one group, each for itself); ``public`` images of the same size, which need none, give its basis.

    A stopped run goes on where it was. The noise follows from the seed, as all that is drawn does, so that whoever
    publishes such a generator must keep its seed to themselves.

    Raises:
        ModuleNotFoundError: opacus isn't installed.
        ValueError: as ``denoising.train``.
    """
    from opacus import GradSampleModule
    from opacus.optimizers import DPOptimizer

    denoising.check(images, settings)
    network = denoising.untrained(public, settings)
    schedule, vectors = generator.noise_schedule(settings.prediction), images.vectors
    rate, multiplier = settings.batch_size / len(images), noise_multiplier(len(images), settings)
    key = settings.key(images.key, keys.weights(network), multiplier, keys.code(__file__))
    gradients: list[DPOptimizer] = []

    def private(update: Update) -> DPOptimizer:
        """opacus' clipping and noise; once the loop has copied the network for its average, as hooks can't be."""
        if not gradients:
            GradSampleModule(network, loss_reduction="mean")
            plain = torch.optim.SGD(network.parameters(), lr=0.0)  # never steps: the loop's own optimiser does
            gradients.append(
                DPOptimizer(
                    plain,
                    noise_multiplier=multiplier,
                    max_grad_norm=settings.clip,
                    expected_batch_size=settings.batch_size,
                )
            )
        gradients[0].generator = update.torch_rng("noise of the gradient")
        return gradients[0]

    def step(update: Update) -> dict[str, torch.Tensor]:
        rows = np.flatnonzero(update.rng("images that join by lot").random(len(images)) < rate)
        rows = rows if len(rows) else np.array([0])  # none joined, which is rarer than delta: see LEAST_BATCH
        pixels, labels = (torch.from_numpy(array[rows]).to(update.device) for array in (images.pixels, vectors))
        latents, source = network.encode(pixels), update.torch_rng("noise of private training")
        noise = torch.randn(latents.shape, generator=source, device=update.device)
        times = torch.randint(len(schedule.betas), (len(rows),), generator=source, device=update.device)
        keep = denoising.kept(torch.rand(len(rows), generator=source, device=update.device), settings.drop)
        optimizer = private(update)
        optimizer.zero_grad(set_to_none=True)
        batch = latents, noise, times, labels, None, keep, None
        loss = denoising.denoising_loss(update.network, schedule, *batch, settings.highest_weight)
        with warnings.catch_warnings():  # torch's, that the first layers have no gradient to hand on: none is wanted
            warnings.filterwarnings("ignore", "Full backward hook is firing")
            loss.backward()
        optimizer.pre_step()
        return {"loss": loss.detach()}

    log = loop.train(
        network, step, settings, "private diffusion model", key, folder / "checkpoint.safetensors", channels_last=False
    )
    return VisionCLIPDDPMPipeline(network, generator.solver(settings.prediction)), log
