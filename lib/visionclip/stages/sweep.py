"""The points of the dataset-size study, for the graph that runs them and the notebook that gathers them.

A module of its own, as the graph must not wait for torch.
"""

from collections.abc import Sequence
from dataclasses import dataclass


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

    def names(self, schedule: str) -> dict[tuple[int, int], str]:
        """The folder of each size and seed. The largest size is the same under both schedules and run once."""
        return {
            (size, seed): f"n{size}-s{seed}" + ("-epochs" if self.steps(size, schedule) != self.updates else "")
            for size in self.sizes
            for seed in self.seeds
        }

    @property
    def folders(self) -> list[str]:
        """All folders, each once."""
        return list(dict.fromkeys(name for schedule in self.schedules for name in self.names(schedule).values()))
