"""The one training loop. A learner brings a network and a step; everything else is here, once.

That is: processes and devices (accelerate), precision, learning rate, gradient clipping, averaged weights, progress,
the guard against numbers that are not finite, atomic checkpoints by updates and by minutes, and exact resumption. All
that a step draws follows from the seed and the update's number, so that a run stopped anywhere ends as one that was
not, bit for bit on the same machine, and n processes end as one.
"""

import math
import time
from collections.abc import Callable, Iterable, Mapping
from copy import deepcopy
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from accelerate import Accelerator
from torch import nn
from torch.optim.lr_scheduler import LRScheduler
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from transformers import get_constant_schedule_with_warmup, get_cosine_schedule_with_warmup

from visionclip import keys, streams
from visionclip.models.precision import bf16_is_fast
from visionclip.progress import progress
from visionclip.training import checkpoints
from visionclip.training.checkpoints import History

SCHEDULES = ("cosine", "constant")
PRECISIONS = ("fp32", "bf16", "auto")
KEPT = ("checkpoint_every", "checkpoint_minutes")  # when a run is saved changes nothing of what it learns


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What every learner is set by; its own settings extend these.

    ``learning_rate`` is the peak, reached after the share ``warmup`` of the updates; then it falls along half a cosine
    to zero or stays ("constant"). ``ema`` is the highest decay of the averaged weights, which are the result; 0 takes
    the last weights. ``precision`` is that of the networks' forward passes; "auto" asks the machine.
    """

    updates: int
    batch_size: int  # over all processes
    learning_rate: float
    weight_decay: float = 0.0
    betas: tuple[float, float] = (0.9, 0.999)
    warmup: float = 0.05
    schedule: str = "cosine"
    clip: float = 1.0  # largest norm of the gradient
    ema: float = 0.0
    precision: str = "fp32"
    seed: int = 0
    checkpoint_every: int = 500  # updates
    checkpoint_minutes: float = 5.0

    def __post_init__(self):
        for name, allowed in (("schedule", SCHEDULES), ("precision", PRECISIONS)):
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name}: {getattr(self, name)!r} is not known; choose from {', '.join(allowed)}")

    def key(self, *inputs: object) -> str:
        """Of these settings and of what else decides the result: digests of data, start and code."""
        values = {one.name: getattr(self, one.name) for one in fields(self) if one.name not in KEPT}
        return keys.digest([values, *inputs])


@dataclass(frozen=True)
class Update:
    """One optimiser step as a learner sees it: its ``number`` from 0, and this process among ``world``.

    ``network`` is the one to call, in the loop's precision. What is drawn comes from ``rng`` and ``torch_rng``, the
    same in every process, or with ``rank`` among the indices.
    """

    number: int
    network: nn.Module
    settings: Settings
    device: torch.device
    rank: int
    world: int

    def rng(self, purpose: str, *index: int) -> np.random.Generator:
        """NumPy's generator for a purpose in this update, the same in every process."""
        return streams.rng(self.settings.seed, purpose, self.number, *index)

    def torch_rng(self, purpose: str, *index: int) -> torch.Generator:
        """torch's generator for a purpose in this update, on the device, the same in every process."""
        return streams.torch_rng(self.settings.seed, purpose, self.number, *index, device=self.device)

    def rows(self, count: int) -> np.ndarray:
        """The examples of this update, of all processes: permutations of ``count``, one after another, cut up."""
        first = self.number * self.settings.batch_size
        wanted = np.arange(first, first + self.settings.batch_size)
        return np.array([_order(count, self.settings.seed, place // count)[place % count] for place in wanted.tolist()])

    def share(self, rows: np.ndarray) -> np.ndarray:
        """This process's part of the rows (N, the same in every process): N / ``world`` of them."""
        return np.split(rows, self.world)[self.rank]


@lru_cache(maxsize=4)
def _order(count: int, seed: int, epoch: int) -> np.ndarray:
    return streams.rng(seed, "order of an epoch", epoch).permutation(count)


@dataclass(frozen=True)
class Watch:
    """Early stopping: after each ``every`` updates ``score`` (finite, higher is better) is asked of the network that
    would be the result, in inference mode. After ``patience`` times without a better one the run is over. The best is
    the result. ``key`` says what is scored."""

    score: Callable[[nn.Module], float]
    every: int
    patience: int
    key: str = ""

    def scores(self, log: History) -> list[float]:
        """What was scored until now, in order."""
        return [entry["watched"] for entry in log[self.every - 1 :: self.every]]

    def is_over(self, log: History) -> bool:
        """True where the last ``patience`` scores were no better than one before them."""
        scores = self.scores(log)
        return len(scores) - 1 - _first_best(scores) >= self.patience

    def best_update(self, log: History) -> int:
        """The number of updates after which the best score was reached, 0 where nothing was scored."""
        return (_first_best(self.scores(log)) + 1) * self.every


def _first_best(scores: list[float]) -> int:
    return scores.index(max(scores)) if scores else -1


Given = TypeVar("Given", bound=Settings)
Step = Callable[[Update], Mapping[str, torch.Tensor]]
Groups = Iterable[Mapping[str, object]]


def on_this_machine(settings: Given) -> Given:
    """The settings with "auto" decided, so that a checkpoint knows what made it."""
    if settings.precision != "auto":
        return settings
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return replace(settings, precision="bf16" if bf16_is_fast(device) else "fp32")


class InPrecision(nn.Module):
    """A network whose forward pass runs under autocast, and nothing else: losses stay in fp32."""

    def __init__(self, network: nn.Module, bf16: bool):
        super().__init__()
        self.network, self.bf16 = network, bf16

    def forward(self, *given, **named):
        """The network's own, in this precision."""
        device = next(self.network.parameters()).device.type
        with torch.autocast(device, torch.bfloat16, enabled=self.bf16):
            return self.network(*given, **named)


def train(
    network: nn.Module,
    step: Step,
    settings: Settings,
    label: str,
    key: str = "",
    checkpoint: Path | None = None,
    groups: Groups | None = None,
    channels_last: bool = True,
    watch: Watch | None = None,
) -> History:
    """Train ``network`` in place, ending in inference mode, and return what each update logged.

    ``step`` returns the values to log as scalars, "loss" among them. A loss with a gradient is propagated here; a step
    that has propagated it itself, as gradient caching does, returns it detached. ``groups`` are the optimiser's
    parameter groups (each with its peak ``lr``), by default all weights at the settings' rate. With ``checkpoint`` (a
    file) a run of the same ``key`` goes on where it was. With ``watch`` it may end early, and each update also logs
    "watched", the last score until then.

    Raises:
        FloatingPointError: a loss or gradient is not finite; no such state is ever saved.
        ValueError: the batch can't be shared by the processes, or the checkpoint is damaged.
    """
    accelerator = Accelerator(mixed_precision="no")  # precision is autocast around the network alone
    rank, world, device = accelerator.process_index, accelerator.num_processes, accelerator.device
    if settings.batch_size % world:
        raise ValueError(f"batch_size: {settings.batch_size} can't be shared by {world} processes; use a multiple")
    if device.type == "cuda" and world > 1:
        network = nn.SyncBatchNorm.convert_sync_batchnorm(network)
    memory = torch.channels_last if channels_last else torch.preserve_format
    network.to(device, memory_format=memory).train()  # type: ignore[call-overload] # torch leaves it out of its types
    optimizer = torch.optim.AdamW(
        list(groups) if groups else network.parameters(),  # type: ignore[arg-type]
        settings.learning_rate,
        settings.betas,
        weight_decay=settings.weight_decay,
        fused=True,  # of 140 M weights the others take a second an update on a CPU
    )
    average = AveragedModel(network, multi_avg_fn=_rising_ema(settings.ema), use_buffers=True) if settings.ema else None
    modules = {"network": network, **({"average": average} if average else {})}
    learnt = average.module if average else network
    if watch:
        modules["best"] = best = deepcopy(learnt)
    log, finished = checkpoints.restore(checkpoint, key, modules, optimizer) if checkpoint else ([], False)
    accelerator.wait_for_everyone()  # or the first to finish could replace what another is still reading
    schedule = _schedule(optimizer, settings, len(log))
    weights = [value for group in optimizer.param_groups for value in group["params"]]
    called, saved = InPrecision(network, settings.precision == "bf16"), time.monotonic()
    for number in progress(range(len(log), 0 if finished else settings.updates), label):
        if watch and watch.is_over(log):
            break
        values = dict(step(Update(number, called, settings, device, rank, world)))
        if values["loss"].requires_grad:
            values["loss"].backward()
        if world > 1:
            _average_gradients(accelerator, weights)
        norm = nn.utils.clip_grad_norm_(weights, settings.clip)
        entry = {name: float(value.detach()) for name, value in values.items()}
        _require_finite({**entry, "gradient": float(norm)}, number, label)
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
        if average:
            average.update_parameters(network)
        log.append(entry)
        if watch:
            entry["watched"] = log[-2]["watched"] if len(log) > 1 else float("nan")
            if len(log) % watch.every == 0:
                entry["watched"] = _scored(watch, learnt)
                if watch.best_update(log) == len(log):
                    best.load_state_dict(learnt.state_dict())
        due = len(log) % settings.checkpoint_every == 0 or time.monotonic() - saved > 60 * settings.checkpoint_minutes
        if checkpoint and due and len(log) < settings.updates and accelerator.is_main_process:
            checkpoints.save(checkpoint, key, modules, optimizer, log)
            saved = time.monotonic()
    if not finished:
        scored = watch and watch.scores(log)
        network.load_state_dict((best if scored else learnt).state_dict())
        if checkpoint and accelerator.is_main_process:
            checkpoints.save(checkpoint, key, {"network": network}, None, log)
        accelerator.wait_for_everyone()
    network.train(False)
    return log


def _scored(watch: Watch, network: nn.Module) -> float:
    """The score of a network, which goes on training."""
    network.train(False)
    with torch.no_grad():
        value = float(watch.score(network))
    network.train()
    return value


def _schedule(optimizer: torch.optim.Optimizer, settings: Settings, done: int) -> LRScheduler:
    """The learning rate as if ``done`` updates had been taken; the first update already has a part of the peak."""
    for group in optimizer.param_groups:
        group.setdefault("initial_lr", group["lr"])
    rising = max(round(settings.warmup * settings.updates), 1)
    if settings.schedule == "constant":
        return get_constant_schedule_with_warmup(optimizer, rising, last_epoch=done)
    return get_cosine_schedule_with_warmup(optimizer, rising, settings.updates + 1, last_epoch=done)


def _rising_ema(highest: float) -> Callable:
    """An average whose decay rises to ``highest``, so that the first weights are soon forgotten; of whole numbers, such
    as the batches that a statistic has seen, the last one, as a mean of them would lose its fraction."""

    def follow(averaged, current, count: torch.Tensor) -> None:
        if not averaged[0].is_floating_point():
            torch._foreach_copy_(averaged, current)
            return
        decay = min(highest, (1 + int(count)) / (10 + int(count)))
        get_ema_multi_avg_fn(decay)(averaged, current, count)

    return follow


def _average_gradients(accelerator: Accelerator, weights: list[nn.Parameter]) -> None:
    """The mean gradient of all processes, in each. By hand, as gradient caching propagates several times an update."""
    for value in weights:
        if value.grad is not None:
            value.grad.copy_(accelerator.reduce(value.grad, "mean"))  # in its memory format, as the fused step needs


def _require_finite(values: Mapping[str, float], number: int, label: str) -> None:
    for name, value in values.items():
        if not math.isfinite(value):
            raise FloatingPointError(f"{label}: {name} is {value} at update {number}; lower learning_rate")
