"""The points of the dataset-size study, for the graph that runs them and the notebook that gathers them.

A module of its own, as the graph must not wait for torch.
"""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Point:
    """One training: ``updates`` optimiser steps on ``images`` of the synthetic set."""

    name: str
    images: int
    seed: int
    updates: int


@dataclass(frozen=True)
class Sweep:
    """Which points there are: ``sizes`` × ``seeds`` for each of ``schedules``.

    Under "updates" every point takes ``updates`` optimiser steps; under "epochs" it sees each of its images as often as
    the largest point does, so that a small set takes few steps.
    """

    sizes: Sequence[int]
    seeds: Sequence[int]
    schedules: Sequence[str]
    updates: int

    def steps(self, size: int, schedule: str) -> int:
        """Optimiser steps of a point."""
        return self.updates if schedule == "updates" else max(1, round(self.updates * size / max(self.sizes)))

    def points(self, schedule: str) -> list[Point]:
        """A point for each size and seed. The largest size is the same under both schedules, and has one name."""
        points = []
        for size in self.sizes:
            steps = self.steps(size, schedule)
            ending = "" if steps == self.updates else "-epochs"
            points += [Point(f"n{size}-s{seed}{ending}", size, seed, steps) for seed in self.seeds]
        return points

    @property
    def by_name(self) -> dict[str, Point]:
        """All points, each once."""
        return {point.name: point for schedule in self.schedules for point in self.points(schedule)}
