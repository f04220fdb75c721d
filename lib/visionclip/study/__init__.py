"""The study as software: parameters of notebooks, the graph that runs them, and outputs fit to commit.

What notebooks need stands here; the rest is in ``graph``, ``jobs`` and ``notebooks``, which no stage depends on.
"""

from visionclip.study.parameters import (
    Parameter,
    check,
    check_file,
    declared,
    notebook_names,
    parameters,
    preset,
    presets,
)

__all__ = ["Parameter", "check", "check_file", "declared", "notebook_names", "parameters", "preset", "presets"]
