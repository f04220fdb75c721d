"""Fine-tuning: a classifier of a task's classes learns from labelled photographs, or from their embeddings."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

from visionclip import keys
from visionclip.data.augment import augment
from visionclip.data.images import to_tensor
from visionclip.models.classifiers import Classifier
from visionclip.training import loop
from visionclip.training.checkpoints import History
from visionclip.training.loop import Update

LEAST = 8  # images of a batch, of however few photographs


@dataclass(frozen=True, kw_only=True)
class Settings(loop.Settings):
    """How a classifier learns; a batch is no larger than the photographs are many, or than ``LEAST``."""

    batch_size: int = 32
    weight_decay: float = 0.05
    warmup: float = 0.1
    augmentation: float = 1.0  # strength, 0 to 1, of photographs
    precision: str = "auto"

    def of(self, count: int) -> "Settings":
        """The settings for ``count`` photographs."""
        return replace(self, batch_size=min(self.batch_size, max(count, LEAST)))


def train(
    classifier: Classifier, inputs: np.ndarray, targets: np.ndarray, settings: Settings, checkpoint: Path | None
) -> History:
    """Train ``classifier`` in place on prepared photographs uint8 N×S×S×3, or on embeddings float N×P, and return what
    each update logged.

    ``targets`` are int N, 0 to K - 1; each class has the same weight in the loss, however few its images are. With a
    ``checkpoint`` (a file) a stopped run goes on.

    Raises:
        ValueError: there is no image of a class below the highest target.
    """
    counts = np.bincount(targets)
    if not counts.all():
        raise ValueError(f"fine-tuning: no image of class {int(np.argmin(counts))}; give one of each at least")
    settings = loop.on_this_machine(settings.of(len(targets)))
    weights = torch.from_numpy((len(targets) / len(counts) / counts)[targets]).float()
    truth = torch.from_numpy(targets)
    key = settings.key(keys.weights(classifier), keys.arrays(inputs, targets), keys.code(__file__))

    def step(update: Update) -> dict[str, torch.Tensor]:
        rows = update.rows(len(targets))
        own = update.share(np.arange(len(rows)))
        batch = prepared(inputs[rows], update, settings.augmentation)[own]
        logits = classifier.head(update.network(batch))
        losses = functional.cross_entropy(logits, truth[rows[own]].to(update.device), reduction="none")
        return {"loss": (losses * weights[rows[own]].to(update.device)).mean()}

    groups = [{"params": list(classifier.learning())}]
    return loop.train(classifier, step, settings, "fine-tuning", key, checkpoint, groups)


def prepared(inputs: np.ndarray, update: Update, strength: float) -> torch.Tensor:
    """A batch as the encoder takes it: photographs augmented, embeddings as they are."""
    if inputs.dtype != np.uint8:
        return torch.from_numpy(inputs).to(update.device)
    pixels = to_tensor(inputs).to(update.device)
    return augment(pixels, strength, update.torch_rng("augmentation of fine-tuning"))[0]


@torch.no_grad()
def predict(classifier: Classifier, inputs: np.ndarray, batch_size: int = 32) -> np.ndarray:
    """Logits float64 N×K of prepared photographs uint8 N×S×S×3, or of embeddings float N×P."""
    classifier.train(False)
    device = next(classifier.parameters()).device
    found = []
    for start in range(0, len(inputs), batch_size):
        part = inputs[start : start + batch_size]
        batch = to_tensor(part) if part.dtype == np.uint8 else torch.from_numpy(part)
        found.append(classifier.head(classifier(batch.to(device))).double().cpu())
    return torch.cat(found).numpy()
