"""Where a trained model is (the folder of the stage that trained it, or any that it was saved to), and which it is."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from visionclip import keys, runs

if TYPE_CHECKING:
    from visionclip.models.visionclip import VisionCLIP


@dataclass(frozen=True)
class Saved:
    """The ``folder`` of a saved model; ``numbers`` of the stage 03 that made it, empty of a model from elsewhere."""

    folder: Path
    numbers: Mapping = field(default_factory=dict)

    @property
    def languages(self) -> list[str]:
        """Those of the captions that trained it, none where they aren't noted."""
        return self.numbers.get("languages", [])

    @property
    def shares(self) -> dict[str, float]:
        """The share (0 to 1) of each source in its training set, empty where it isn't noted."""
        return self.numbers.get("shares", {})

    @property
    def inputs(self) -> list[Path]:
        """The finished stage, if there is one."""
        return [self.folder.parent] if self.numbers else []


def find(folder: str | Path) -> Saved:
    """The model in the folder of a finished stage 03, or of any saved model, such as published weights.

    Raises:
        FileNotFoundError: it is neither; the message names the notebook to run first.
    """
    place = runs.resolve(folder)
    if (place / "model.safetensors").is_file():
        return Saved(place)
    runs.require(place, "03-pretrain")
    return Saved(place / "model", runs.read_json(place / "numbers.json"))


def key(network: "VisionCLIP") -> str:
    """The digest of a language–image model as it answers: its weights, and how it is read."""
    config = network.config
    read = [config.scales, config.plain_colours, config.logit_bias, config.projection_size, config.pyramid_size]
    return keys.digest([keys.weights(network), read])
