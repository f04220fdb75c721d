"""The points of the dataset-size study, for the graph that runs them and the notebook that gathers them.

A module of its own, as the graph must not wait for torch.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields


@dataclass(frozen=True)
class Plan:
    """How every point is trained: until ``patience`` checks, one after each ``check_every`` updates, have brought
    nothing better, or for ``updates`` at most, at ``size`` pixels (0: the coarsest of stage 03)."""

    updates: int
    check_every: int
    patience: int
    text_warmup: int = 0
    size: int = 0


@dataclass(frozen=True)
class Point:
    """One training on so many ``images`` of the synthetic set."""

    name: str
    images: int
    seed: int
    plan: Plan


@dataclass(frozen=True)
class Sweep:
    """Which points there are: ``sizes`` × ``seeds``."""

    sizes: Sequence[int]
    seeds: Sequence[int]
    plan: Plan

    @classmethod
    def of(cls, parameters: Mapping) -> "Sweep":
        """That of the parameters of stage 05."""
        return cls(parameters["sizes"], parameters["seeds"], Plan(**{name: parameters[name] for name in PLANNED}))

    @property
    def by_name(self) -> dict[str, Point]:
        """All points."""
        names = {f"n{size}-s{seed}": (size, seed) for size in self.sizes for seed in self.seeds}
        return {name: Point(name, *values, self.plan) for name, values in names.items()}


PLANNED = tuple(one.name for one in fields(Plan))
