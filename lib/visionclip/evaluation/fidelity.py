"""Do generated retinas show what they were asked to show? Measured before they train anything.

A *referee*, a small multi-label network trained on phantoms only, names the diseases and the side of generated
images and of held-out phantoms: the second is the ceiling of the first. The kernel distance between the
referee's features of both sets says whether they look alike, next to its floor (phantoms against phantoms).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from sklearn.metrics import roc_auc_score
from torch import nn
from torch.nn import functional
from transformers import ResNetConfig, ResNetModel

from visionclip.conditions import DISEASES, VECTOR_NAMES, vector
from visionclip.progress import progress

# What the referee judges: every disease, each grade of retinopathy, and the side.
JUDGED: tuple[str, ...] = tuple(name for name in VECTOR_NAMES if name.split(">=")[0] in (*DISEASES, "eye_side"))
COLUMNS = [VECTOR_NAMES.index(name) for name in JUDGED]
SIDE = JUDGED.index("eye_side>=1")
FEWEST = 5  # eyes with and without a condition below which no rate is quoted


@dataclass
class Referee:
    """A slim ResNet with one sigmoid output for each of ``JUDGED``."""

    tower: ResNetModel
    head: nn.Linear

    def features(self, images: torch.Tensor) -> torch.Tensor:
        """uint8 or float [0, 255] NxSxSx3 to NxD."""
        pixels = images.permute(0, 3, 1, 2).float() / 127.5 - 1
        return self.tower(pixels.contiguous(memory_format=torch.channels_last)).pooler_output.flatten(1)

    @torch.inference_mode()
    def judge(self, images: np.ndarray, batch: int = 64) -> tuple[np.ndarray, np.ndarray]:
        """Features NxD and logits NxJ (float32) of uint8 images NxSxSx3."""
        device = self.head.weight.device
        self.tower.train(False)
        found = [
            self.features(torch.from_numpy(images[start : start + batch]).to(device))
            for start in range(0, len(images), batch)
        ]
        features = torch.cat(found)
        return features.cpu().numpy(), self.head(features).cpu().numpy()


def train_referee(
    images: np.ndarray,
    conditions: Sequence[Mapping[str, int]],
    updates: int = 400,
    batch: int = 32,
    learning_rate: float = 2e-3,
    widths: tuple[int, ...] = (32, 64, 128, 256),
    seed: int = 0,
) -> Referee:
    """Train a referee on phantoms, uint8 NxSxSx3: a minute on one core with the defaults.

    Mirroring an image changes its side and nothing else, so that half of the images are mirrored, side included. Rare
    conditions weigh as much as common ones, which makes a logit of 0 the natural threshold.
    """
    torch.manual_seed(seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    config = ResNetConfig(
        embedding_size=widths[0], hidden_sizes=list(widths), depths=[1] * len(widths), layer_type="basic"
    )
    referee = Referee(
        ResNetModel(config).to(device, memory_format=torch.channels_last),
        nn.Linear(widths[-1], len(JUDGED)).to(device),
    )
    targets = np.stack([vector(eye) for eye in conditions])[:, COLUMNS]
    share = targets.mean(0).clip(1 / len(targets), 1)
    weights = torch.from_numpy(((1 - share) / share).clip(0.1, 20).astype(np.float32)).to(device)
    parameters = [*referee.tower.parameters(), *referee.head.parameters()]
    optimiser = torch.optim.AdamW(parameters, learning_rate, weight_decay=0.01)
    plan = torch.optim.lr_scheduler.OneCycleLR(optimiser, learning_rate, total_steps=updates + 1)
    rng = np.random.default_rng(seed)
    referee.tower.train()
    for _ in progress(range(updates), "referee"):
        rows = rng.integers(len(images), size=batch)
        mirrored = rng.random(batch) < 0.5
        wanted = targets[rows].copy()
        wanted[mirrored, SIDE] = 1 - wanted[mirrored, SIDE]
        shown = np.where(mirrored[:, None, None, None], images[rows][:, :, ::-1], images[rows])
        logits = referee.head(referee.features(torch.from_numpy(shown).to(device)))
        loss = functional.binary_cross_entropy_with_logits(
            logits, torch.from_numpy(wanted).to(device), pos_weight=weights
        )
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()
        plan.step()
    return referee


def label_fidelity(
    referee: Referee, images: np.ndarray, conditions: Sequence[Mapping[str, int]]
) -> dict[str, dict[str, float | int | None]]:
    """For each of ``JUDGED`` the referee's AUC, recall and specificity (0..1, logit above 0) and the positives' number.

    Rates are None where fewer than five images have the condition, or lack it.
    """
    _, logits = referee.judge(images)
    targets = np.stack([vector(eye) for eye in conditions])[:, COLUMNS].astype(bool)
    result = {}
    for name, target, logit in zip(JUDGED, targets.T, logits.T, strict=True):
        row: dict[str, float | int | None] = {"auc": None, "recall": None, "specificity": None}
        if min(target.sum(), (~target).sum()) >= FEWEST:
            row = {
                "auc": float(roc_auc_score(target, logit)),
                "recall": float((logit[target] > 0).mean()),
                "specificity": float((logit[~target] <= 0).mean()),
            }
        result[name] = {**row, "positives": int(target.sum())}
    return result


def mean_auc(fidelity: Mapping[str, Mapping[str, float | int | None]]) -> float | None:
    """The mean AUC over the conditions that have one."""
    values = [row["auc"] for row in fidelity.values() if row["auc"] is not None]
    return float(np.mean(values)) if values else None


def kernel_distance(
    one: np.ndarray, other: np.ndarray, rng: np.random.Generator, subsets: int = 50, size: int = 200
) -> dict[str, float]:
    """Kernel distance of two feature sets NxD and MxD: the mean and standard deviation over random subsets.

    The unbiased squared maximum mean discrepancy with the kernel (x.y / D + 1)^3 (KID, Binkowski et al. 2018), on the
    referee's features scaled to unit mean square; about 0, also slightly below, for sets of one distribution.

    Raises:
        ValueError: a set has fewer than two images.
    """
    size = min(size, len(one), len(other))
    if size < 2:
        raise ValueError(f"kernel distance: {len(one)} and {len(other)} images; give at least two of each")
    scale = np.sqrt(np.mean(np.square(one), dtype=np.float64)) or 1.0
    distances = []
    for _ in range(subsets):
        x = one[rng.choice(len(one), size, replace=False)].astype(np.float64) / scale
        y = other[rng.choice(len(other), size, replace=False)].astype(np.float64) / scale
        xx, yy, xy = ((a @ b.T / a.shape[1] + 1) ** 3 for a, b in ((x, x), (y, y), (x, y)))
        within = (xx.sum() - np.trace(xx) + yy.sum() - np.trace(yy)) / (size * (size - 1))
        distances.append(within - 2 * xy.mean())
    return {"mean": float(np.mean(distances)), "standard_deviation": float(np.std(distances))}


def layout_contrast(images: np.ndarray, layouts: np.ndarray, names: Sequence[str]) -> dict[str, float | None]:
    """For each layout channel, how much its pixels differ in green from their surroundings: -255..255, below 0 darker.

    ``images`` are uint8 NxSxSx3, ``layouts`` uint8 NxCxSxS. The surroundings are a ring of a twelfth of the side
    around the channel's pixels, inside the field of view. The mean is over images; compare generated retinas with the
    phantoms of the same layouts. None where fewer than five images have the channel.
    """
    reach = max(images.shape[1] // 12, 1)
    green = torch.from_numpy(images[..., 1]).float()
    masks = torch.from_numpy(layouts).float()
    wide = functional.max_pool2d(masks, 2 * reach + 1, stride=1, padding=reach)
    field = masks[:, list(names).index("field")]
    result: dict[str, float | None] = {}
    for index, name in enumerate(names):
        inside, ring = masks[:, index], (wide[:, index] - masks[:, index]) * field
        present = (inside.sum((1, 2)) > 0) & (ring.sum((1, 2)) > 0)
        if present.sum() < FEWEST:
            result[name] = None
            continue
        level = [(green * part).sum((1, 2))[present] / part.sum((1, 2))[present] for part in (inside, ring)]
        result[name] = float((level[0] - level[1]).mean())
    return result
