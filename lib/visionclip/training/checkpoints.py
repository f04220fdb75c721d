"""Resumable training in safetensors: weights, optimizer state and what has been logged, written atomically.

A checkpoint carries the fingerprint of the data and settings that made it. A run with the same fingerprint goes on
where it stopped, a finished one returns at once, and any other starts over.
"""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import safe_open, save_file

from visionclip import runs


def batch_indices(count: int, batch_size: int, seed: int, step: int) -> np.ndarray:
    """The images of one step: permutations of all ``count``, one after another, cut into batches."""
    wanted = np.arange(step * batch_size, (step + 1) * batch_size)
    epochs = {epoch: np.random.default_rng([seed, epoch]).permutation(count) for epoch in set(wanted // count)}
    return np.array([epochs[place // count][place % count] for place in wanted])


def save(path: Path, modules: Mapping[str, torch.nn.Module], optimizer, fingerprint: str, history: list) -> None:
    """Write the state of ``modules`` and ``optimizer`` after ``len(history)`` steps; history entries are JSON-able."""
    tensors = {f"{name}/{key}": value for name, module in modules.items() for key, value in module.state_dict().items()}
    for index, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer/{index}/{key}": torch.as_tensor(value) for key, value in state.items()}
    tensors = {key: value.detach().cpu().contiguous().clone() for key, value in tensors.items()}
    with runs.atomic(path) as temporary:
        save_file(tensors, temporary, metadata={"fingerprint": fingerprint, "history": json.dumps(history)})


def restore(path: Path, modules: Mapping[str, torch.nn.Module], optimizer, fingerprint: str) -> list:
    """Load the state written by ``save`` and return its history; empty, with nothing changed, if none is usable."""
    if not path.is_file():
        return []
    with safe_open(path, framework="pt") as file:
        told = file.metadata()
        if told["fingerprint"] != fingerprint:
            return []
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (no mapping)
    for name, module in modules.items():
        prefix = f"{name}/"
        module.load_state_dict(
            {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
        )
    state: dict[int, dict] = {}
    for key, value in tensors.items():
        if key.startswith("optimizer/"):
            _, index, name = key.split("/")
            state.setdefault(int(index), {})[name] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    return json.loads(told["history"])
