"""A tower of one's own, from a folder: to be locked, so that only the rest learns (LiT, Zhai et al., CVPR 2022), or to
start from. A saved VisionCLIP has both towers; transformers' ResNetModel is one of images, its BertModel (RoBERTa-wwm
is one) of texts. Weights are safetensors, and nothing is downloaded.

What torch is needed for imports it where it is needed: parameters are checked without.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from visionclip import keys, runs

if TYPE_CHECKING:
    from visionclip.models.visionclip import VisionCLIP, VisionCLIPConfig

HELD = {"visionclip": ("image", "text"), "resnet": ("image",), "bert": ("text",)}  # towers by what config.json says
WORDS = ("tokenizer.json", "vocab.txt")
GIVE = "give the folder of a saved VisionCLIP, or of transformers' ResNetModel or BertModel"


def place(tower: str) -> Path:
    """The folder of the model that ``tower`` names: itself, or ``model`` of a finished stage 03."""
    folder = runs.resolve(tower)
    return folder / "model" if (folder / "model" / "config.json").is_file() else folder


def taken(tower: str, lock: str = "none") -> tuple[str, ...]:
    """Which towers ("image", "text") come from the folder ``tower``: the one to ``lock``, else all that it holds; none
    without a folder. Only names and ``config.json`` are read.

    Raises:
        ValueError: a tower is to be locked and none is given, or the folder can't be used; one line that says why.
    """
    if not tower:
        if lock != "none":
            raise ValueError(f"lock is {lock!r}; give tower, the folder that the locked tower comes from, or lock none")
        return ()
    folder = place(tower)
    if not folder.is_dir():
        raise _refusal(tower, f"no such folder; {GIVE}")
    if not (folder / "config.json").is_file():
        raise _refusal(tower, f"no config.json there; {GIVE}")
    config = runs.read_json(folder / "config.json")
    held = HELD.get(config.get("model_type"), ())
    if not held:
        raise _refusal(tower, f"its config.json has model_type {config.get('model_type')!r}; {GIVE}")
    if lock != "none" and lock not in held:
        raise _refusal(tower, f"it has no {lock} tower, which lock names; lock {held[0]}, or give another folder")
    if not list(folder.glob("*.safetensors")):
        raise _refusal(tower, "no safetensors there; write them with save_pretrained of transformers")
    chosen = held if lock == "none" else (lock,)
    if "image" in chosen and (config.get("num_channels", 3) != 3 or config.get("downsample_in_first_stage")):
        raise _refusal(tower, "its ResNet must take 3 channels and not shrink in its first stage; give another")
    if "text" in chosen and not any((folder / name).is_file() for name in WORDS):
        raise _refusal(tower, f"no tokenizer there ({' or '.join(WORDS)}); add the one its text tower was trained with")
    return chosen


def tokenizer(tower: str, lock: str = "none") -> Any:
    """The tokenizer of the text tower that comes from the folder, which cuts texts at what that tower takes; None where
    it brings none. Raises as ``taken``."""
    if "text" not in taken(tower, lock):
        return None
    from transformers import AutoTokenizer

    from visionclip.models import visionclip  # noqa: F401 (it registers the tokenizer of its folders)

    own = AutoTokenizer.from_pretrained(place(tower), local_files_only=True)
    own.init_kwargs.pop("auto_map", None)  # it names code of that folder
    config = runs.read_json(place(tower) / "config.json")
    longest = config.get("text_config", config).get("max_position_embeddings", 512)
    own.model_max_length = min(own.model_max_length, longest)
    return own


def model(config: "VisionCLIPConfig", tower: str, lock: str = "none") -> "VisionCLIP":
    """A VisionCLIP, its weights random but for the towers that come from the folder; their sizes replace those
    in ``config``. Dropout is left out, as in ``visionclip.sized``: a run could not go on where it stopped.

    Raises:
        ValueError: as ``taken``, or the folder's weights aren't those of its config, or it has fewer tokens than the
            tokenizer.
    """
    from visionclip.models.visionclip import VisionCLIP

    chosen = {kind: _read(tower, kind) for kind in taken(tower, lock)}
    if "image" in chosen:
        config.vision_config = chosen["image"].config
    if "text" in chosen:
        own = chosen["text"].config
        if own.vocab_size < config.text_config.vocab_size:
            given = f"its text tower has {own.vocab_size} tokens, its tokenizer {config.text_config.vocab_size}"
            raise _refusal(tower, f"{given}; give the tokenizer it was trained with")
        own.hidden_dropout_prob = own.attention_probs_dropout_prob = 0.0
        config.text_config = own
    network = VisionCLIP(config)
    for kind, read in chosen.items():
        network.towers[kind].load_state_dict(read.state_dict())
    return network


def digest(tower: str, lock: str = "none") -> str:
    """Of the files that are read of the folder, for keys; of nothing without one."""
    files = sorted(place(tower).iterdir()) if taken(tower, lock) else []
    read = [path for path in files if path.suffix in (".safetensors", ".json", ".txt")]
    return keys.digest([lock, {path.name: keys.file(path) for path in read}])


def _read(tower: str, kind: str) -> Any:
    """The tower of one kind, in float32."""
    import torch
    from transformers import BertModel, ResNetModel
    from transformers.utils import logging

    from visionclip.models import visionclip

    folder = place(tower)
    if runs.read_json(folder / "config.json")["model_type"] == "visionclip":
        return visionclip.load(folder)[0].towers[kind]
    how = {"local_files_only": True, "use_safetensors": True, "dtype": torch.float32, "output_loading_info": True}
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()  # what a masked language model or a classifier has more is not news
    try:
        read, report = (
            ResNetModel.from_pretrained(folder, **how)
            if kind == "image"
            else BertModel.from_pretrained(folder, add_pooling_layer=False, **how)
        )
    finally:
        logging.set_verbosity(verbosity)
    if missing := sorted(report["missing_keys"]):
        raise _refusal(tower, f"its weights lack {missing[0]} and {len(missing) - 1} more that its config has; {GIVE}")
    return read


def _refusal(tower: str, why: str) -> ValueError:
    return ValueError(f"tower is {tower!r}; {why}")
