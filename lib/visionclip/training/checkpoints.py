"""Training state in one safetensors file, written atomically: weights, optimiser state, and what has been logged.

A checkpoint carries the key of the data, settings and code that made it. A run with the same key goes on where it
stopped, a finished one returns at once, and any other starts over.
"""

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import safe_open, save_file

from visionclip import runs

History = list[dict[str, float]]


def save(
    path: Path, key: str, modules: Mapping[str, torch.nn.Module], optimizer: torch.optim.Optimizer | None, log: History
) -> None:
    """Write the state of ``modules`` after ``len(log)`` updates; a finished run needs no ``optimizer`` any more."""
    tensors = {
        f"{name}/{part}": value for name, module in modules.items() for part, value in module.state_dict().items()
    }
    for index, state in optimizer.state_dict()["state"].items() if optimizer else ():
        tensors |= {f"optimizer/{index}/{part}": torch.as_tensor(value) for part, value in state.items()}
    names = list(log[0]) if log else []
    tensors["log"] = torch.tensor([[entry[name] for name in names] for entry in log], dtype=torch.float64)
    tensors = {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
    about = {"key": key, "logged": json.dumps(names), "finished": json.dumps(optimizer is None)}
    with runs.atomic(path) as temporary:
        save_file(tensors, temporary, about)
    for left in path.parent.glob(f".{path.name}.*.partial"):  # by a run that was killed while it wrote
        left.unlink(missing_ok=True)


def restore(
    path: Path, key: str, modules: Mapping[str, torch.nn.Module], optimizer: torch.optim.Optimizer
) -> tuple[History, bool]:
    """Load the state written under ``key`` and return its log, and whether the run was finished; an empty log, with
    nothing changed, where there is none. Of a finished run only the modules that it has are loaded.

    Raises:
        ValueError: the file is damaged; the message names it.
    """
    if not path.is_file():
        return [], False
    try:
        with safe_open(path, framework="pt") as file:
            about = file.metadata() or {}
            if about.get("key") != key:
                return [], False
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
    except SafetensorError as error:
        raise ValueError(f"{runs.relative(path)}: damaged ({error}); delete it, and training starts over") from None
    finished = json.loads(about["finished"])
    for name, module in modules.items():
        own = {part.removeprefix(f"{name}/"): value for part, value in tensors.items() if part.startswith(f"{name}/")}
        if own or not finished:
            module.load_state_dict(own)
    state: dict[int, dict[str, torch.Tensor]] = {}
    for name, value in tensors.items():
        if name.startswith("optimizer/"):
            _, index, part = name.split("/")
            state.setdefault(int(index), {})[part] = value
    if not finished:
        optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
        for weight, parts in optimizer.state.items():
            for part, value in parts.items():
                if value.shape == weight.shape:  # in the weight's memory format, which a fused optimiser relies on
                    parts[part] = torch.empty_like(weight).copy_(value)
    return [dict(zip(json.loads(about["logged"]), row, strict=True)) for row in tensors["log"].tolist()], finished
