"""VisionCLIP: a ResNet-50 tower, a RoBERTa tower, two projections and a clamped temperature.

"RoBERTa-wwm-ext-base-chinese" has BERT's architecture, so the text tower is a ``BertModel``; its feature is [CLS] of
the last layer times a bias-free projection, as in Chinese-CLIP. A saved folder holds weights, tokenizer, preprocessing
and this code: it runs in ``pipeline("zero-shot-image-classification", model=folder)`` once this module is imported, and
with ``trust_remote_code=True`` where the package is not installed. Its tokenizer warns of words that no training
caption has. Its pipeline takes the pictures that its processor takes, of 16 bits too.
"""

import math
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.nn import functional
from transformers import (
    AutoConfig,
    AutoImageProcessor,
    AutoModel,
    AutoModelForZeroShotImageClassification,
    AutoProcessor,
    AutoTokenizer,
    BertConfig,
    BertModel,
    PreTrainedConfig,
    PreTrainedModel,
    ResNetConfig,
    ResNetModel,
    ZeroShotImageClassificationPipeline,
)
from transformers.image_processing_utils import BaseImageProcessor, BatchFeature
from transformers.models.resnet.modeling_resnet import ResNetBottleNeckLayer
from transformers.pipelines import PIPELINE_REGISTRY
from transformers.processing_utils import ProcessorMixin
from transformers.utils import ModelOutput
from transformers.utils.logging import disable_progress_bar

from visionclip.data.images import PREPROCESSING, prepare, read, standardise, to_rgb, to_tensor
from visionclip.text.familiarity import VisionCLIPTokenizer

LOGIT_SCALE = math.log(1 / 0.07)
LARGEST_LOGIT_SCALE = math.log(100)
EMPTY = -3.0  # what the logits of a map start at: most cells show nothing
PEAK_CELLS = 9  # whose mean is the peak of a cell's feature
REMOTE = "modeling_visionclip"  # this module's name in a saved folder, beside what it imports of this library


class VisionCLIPConfig(PreTrainedConfig):
    """Sizes of the two towers, of the space they share and of the feature pyramid; ``logit_bias`` for the sigmoid
    objective. Without a pyramid (0) an image is the mean of its deepest features, as in CLIP, and has no maps.

    ``scales`` are the shares of an image's side at which it is read once trained, its features being averaged: lesions
    have no one size in all cameras, and what is large is seen better at fewer pixels. Maps are those of the largest.
    ``plain_colours``: images are seen in red, green and blue (see ``images.standardise``).
    """

    model_type = "visionclip"
    sub_configs = {"vision_config": ResNetConfig, "text_config": BertConfig}  # noqa: RUF012 (transformers' protocol)

    def __init__(
        self,
        vision_config=None,
        text_config=None,
        projection_size: int = 1024,
        logit_bias: bool = False,
        pyramid_size: int = 0,
        scales: Sequence[float] = (1.0,),
        plain_colours: bool = False,
        **kwargs,
    ):
        def of(kind, given):
            return given if isinstance(given, kind) else kind(**(given or {}))

        self.vision_config = of(ResNetConfig, vision_config)
        self.text_config = of(BertConfig, text_config)
        self.projection_size = projection_size
        self.logit_bias = logit_bias
        self.pyramid_size = pyramid_size
        self.scales = list(scales)
        self.plain_colours = plain_colours
        super().__init__(**kwargs)


def sized(
    image_width: int,
    text_layers: int,
    text_width: int,
    projection_size: int,
    vocabulary_size: int,
    logit_bias: bool = False,
    pyramid_size: int = 0,
    plain_colours: bool = False,
) -> VisionCLIPConfig:
    """ResNet-50 (3, 4, 6, 3 bottleneck blocks) and RoBERTa at the given widths.

    ``image_width`` 64, ``text_layers`` 12, ``text_width`` 768 and ``projection_size`` 1024 are the paper's pair;
    smaller widths keep the shapes and start from larger weights, so that a layer's output varies as much.
    ``text_width`` must be a multiple of 64, the width of an attention head. No dropout: synthetic captions never
    run out, and at the start its noise drowns what little tells two texts apart.
    """
    vision = ResNetConfig(
        embedding_size=image_width,
        hidden_sizes=[image_width * factor for factor in (4, 8, 16, 32)],
        depths=[3, 4, 6, 3],
        layer_type="bottleneck",
    )
    text = BertConfig(
        vocab_size=vocabulary_size,
        hidden_size=text_width,
        num_hidden_layers=text_layers,
        num_attention_heads=text_width // 64,
        intermediate_size=4 * text_width,
        max_position_embeddings=512,
        initializer_range=0.02 * math.sqrt(768 / text_width),
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    return VisionCLIPConfig(vision, text, projection_size, logit_bias, pyramid_size, plain_colours=plain_colours)


@dataclass
class VisionCLIPOutput(ModelOutput):
    """Logits are cosine similarities times the inverse temperature, plus the bias where there is one."""

    logits_per_image: torch.FloatTensor | None = None
    logits_per_text: torch.FloatTensor | None = None
    image_embeds: torch.FloatTensor | None = None
    text_embeds: torch.FloatTensor | None = None
    cells: torch.FloatTensor | None = None


class Pyramid(nn.Module):
    """A feature pyramid (Lin et al., CVPR 2017) over the stages of an image tower: features at a quarter of the
    resolution that know what the deepest ones know."""

    def __init__(self, widths: Sequence[int], size: int):
        super().__init__()
        self.lateral = nn.ModuleList(nn.Conv2d(width, size, 1) for width in widths)
        self.smooth = nn.ModuleList(
            nn.Sequential(nn.Conv2d(size, size, 3, padding=1, bias=False), nn.BatchNorm2d(size), nn.ReLU())
            for _ in widths[1:]
        )

    def forward(self, stages: Sequence[torch.Tensor]) -> torch.Tensor:
        """The features of each stage, the deepest last → N×D×S/4×S/4."""
        cells = self.lateral[-1](stages[-1])
        finer = zip(stages[-2::-1], list(self.lateral)[-2::-1], self.smooth, strict=True)
        for features, lateral, smooth in finer:
            cells = smooth(functional.interpolate(cells, size=features.shape[-2:]) + lateral(features))
        return cells


class VisionCLIP(PreTrainedModel):
    """``forward`` returns unit-length embeddings B×P and U×P and their scaled cosine similarities B×U.

    With a pyramid an image is also the means and peaks of its cells, so that one small lesion is not averaged away, and
    every cell can be asked a sentence: ``maps``.
    """

    config_class = VisionCLIPConfig
    main_input_name = "pixel_values"
    locked = "none"  # the tower that training leaves as it is, see ``lock``

    def __init__(self, config: VisionCLIPConfig):
        super().__init__(config)
        self.vision = ResNetModel(config.vision_config)
        self.text = BertModel(config.text_config, add_pooling_layer=False)
        widths, pyramid_size = config.vision_config.hidden_sizes, config.pyramid_size
        self.pyramid = Pyramid(widths, pyramid_size) if pyramid_size else None
        features = 2 * (widths[-1] + pyramid_size) if pyramid_size else widths[-1]
        self.vision_projection = nn.Linear(features, config.projection_size, bias=False)
        self.cell_projection = nn.Linear(config.projection_size, pyramid_size, bias=False) if pyramid_size else None
        self.cell_bias = nn.Parameter(torch.tensor(EMPTY)) if pyramid_size else None
        self.text_projection = nn.Linear(config.text_config.hidden_size, config.projection_size, bias=False)
        self.logit_scale = nn.Parameter(torch.tensor(LOGIT_SCALE))
        self.logit_bias = nn.Parameter(torch.zeros(())) if config.logit_bias else None
        self.post_init()
        for block in self.vision.modules():
            if isinstance(block, ResNetBottleNeckLayer):  # start as identity (Goyal et al. 2017), as CLIP's towers do
                nn.init.zeros_(block.layer[-1].normalization.weight)

    @property
    def towers(self) -> dict[str, PreTrainedModel]:
        """The towers by what they take."""
        return {"image": self.vision, "text": self.text}

    def lock(self, tower: str) -> None:
        """Leave a tower ("image", "text", "none") as it is in training, its batch statistics too: projections, and the
        pyramid over an image tower, learn from it (LiT, Zhai et al., CVPR 2022).

        Raises:
            ValueError: there is no such tower.
        """
        if tower not in ("none", *self.towers):
            raise ValueError(f"lock: {tower!r} is not known; choose from none, {', '.join(self.towers)}")
        self.locked = tower
        for name, module in self.towers.items():
            module.requires_grad_(name != tower)
        self.train(self.training)

    def train(self, mode: bool = True) -> "VisionCLIP":
        """As of every module; a locked tower stays in inference mode."""
        super().train(mode)
        if self.locked != "none":
            self.towers[self.locked].train(False)
        return self

    def get_pooled_features(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """Standardised float N×3×S×S → N×D, the image tower's features before the projection."""
        return self.get_features(pixel_values)[0]

    def get_image_features(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """Standardised float N×3×S×S → unit-length float32 N×P."""
        return self.project(self.get_pooled_features(pixel_values))

    def get_cells(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """Standardised float N×3×S×S → N×D×S/4×S/4, what ``maps`` asks.

        Raises:
            ValueError: the model has no pyramid.
        """
        return required(self._read(_scaled(pixel_values, max(self.config.scales)))[1])

    def maps(self, cells: torch.Tensor, text_embeds: torch.Tensor) -> torch.Tensor:
        """Logits float32 N×U×s×s of whether each of the cells N×D×s×s shows what each text (unit length, U×P) names."""
        queries = required(self.cell_projection)(text_embeds.float())
        return torch.einsum("ndhw,ud->nuhw", cells.float(), queries.float()) + required(self.cell_bias)

    @torch.no_grad()
    def point(self, images, sentences: Sequence[str], processor=None) -> np.ndarray:
        """Where images show what each sentence names: float32 N×U×s×s, 0 to 1, for each cell of four pixels.

        ``images`` are whatever the processor takes, or what it made of them (float tensor N×3×S×S). ``processor`` is by
        default that of the folder which the model was loaded from. Any sentence may be tried; what was trained are the
        findings' names.

        Raises:
            ValueError: the model has no pyramid, or was loaded from no folder and ``processor`` isn't given.
        """
        if processor is None:
            if not self.name_or_path:
                raise ValueError("point: this model is of no folder; give processor")
            elsewhere = not __name__.startswith("visionclip.")  # this code is that of the folder
            processor = AutoProcessor.from_pretrained(self.name_or_path, trust_remote_code=elsewhere)
        standardised = isinstance(images, torch.Tensor) and images.is_floating_point() and images.ndim == 4
        pixel_values = (
            images if standardised else processor.image_processor(images, return_tensors="pt")["pixel_values"]
        )
        tokens = processor.tokenizer(list(sentences), padding=True, truncation=True, return_tensors="pt").to(
            self.device
        )
        text_embeds = self.get_text_features(tokens["input_ids"], tokens["attention_mask"])
        return torch.sigmoid(self.maps(self.get_cells(pixel_values.to(self.device)), text_embeds)).cpu().numpy()

    def get_features(self, pixel_values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Of standardised float N×3×S×S the pooled features N×D, in inference their mean over ``scales``, and the cells
        of the largest scale, if any: ``get_pooled_features`` and ``get_cells`` at once."""
        scales = [1.0] if self.training else sorted(self.config.scales)
        pooled, cells = zip(*(self._read(_scaled(pixel_values, scale)) for scale in scales), strict=True)
        return torch.stack(pooled).mean(0), cells[-1]

    def _read(self, pixel_values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Pooled features and cells at one scale."""
        pixel_values = pixel_values.contiguous(memory_format=torch.channels_last)
        if self.pyramid is None:
            return self.vision(pixel_values).pooler_output.flatten(1), None
        stages = self.vision(pixel_values, output_hidden_states=True).hidden_states[1:]
        deepest, cells = stages[-1], self.pyramid(stages)
        peak = cells.flatten(2).topk(min(PEAK_CELLS, cells[0, 0].numel()), dim=2).values.mean(2)
        pooled = [deepest.mean((2, 3)), deepest.amax((2, 3)), cells.mean((2, 3)), peak]
        return torch.cat([one.float() for one in pooled], dim=1), cells

    def project(self, pooled: torch.Tensor) -> torch.Tensor:
        """Pooled features N×D → unit-length float32 N×P."""
        return functional.normalize(self.vision_projection(pooled).float(), dim=1)

    def get_text_features(self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None) -> torch.Tensor:
        """Token ids U×T → unit-length float32 U×P."""
        first = self.text(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state[:, 0]
        return functional.normalize(self.text_projection(first).float(), dim=1)

    @property
    def scale(self) -> torch.Tensor:
        """The inverse temperature, at most 100."""
        return self.logit_scale.clamp(max=LARGEST_LOGIT_SCALE).exp()

    def forward(self, pixel_values=None, input_ids=None, attention_mask=None, **_) -> VisionCLIPOutput:
        """Embeddings of what is given (standardised images, token ids), and their logits where both are."""
        pooled, cells = (None, None) if pixel_values is None else self.get_features(pixel_values)
        image_embeds = None if pooled is None else self.project(pooled)
        text_embeds = None if input_ids is None else self.get_text_features(input_ids, attention_mask)
        if image_embeds is None or text_embeds is None:
            return VisionCLIPOutput(None, None, image_embeds, text_embeds, cells)
        logits = self.scale * image_embeds @ text_embeds.T
        logits = logits if self.logit_bias is None else logits + self.logit_bias
        return VisionCLIPOutput(logits, logits.T, image_embeds, text_embeds, cells)


def _scaled(pixel_values: torch.Tensor, scale: float) -> torch.Tensor:
    """Standardised images at a share of their side; averaging keeps them standardised, within a few percent."""
    size = max(round(pixel_values.shape[-1] * scale), 1)
    return pixel_values if scale == 1 else functional.interpolate(pixel_values, size=(size, size), mode="area")


def required(part):
    """What only a model with a pyramid has; ValueError where it is None."""
    if part is None:
        raise ValueError("maps: this model has no feature pyramid (pyramid_size 0); train one with it")
    return part


class VisionCLIPImageProcessor(BaseImageProcessor):
    """The preprocessing the model was trained with: field-of-view crop, square pad, resize, standardisation.

    ``version`` is that of the steps; a folder saved by other steps is refused, as its model would see other pixels.
    """

    model_input_names = ["pixel_values"]  # noqa: RUF012 (transformers' protocol)

    def __init__(self, size: int = 224, version: int = PREPROCESSING, plain_colours: bool = False, **kwargs):
        super().__init__(**kwargs)
        if version != PREPROCESSING:
            raise ValueError(
                f"preprocessing: version {version} is saved, this code has {PREPROCESSING}; load the folder's own code "
                "(trust_remote_code=True) where visionclip is not imported, or use the visionclip that saved it"
            )
        self.size, self.version, self.plain_colours = size, version, plain_colours

    def preprocess(self, images, return_tensors=None, **_) -> BatchFeature:
        """One or several photographs → standardised float32 N×3×size×size.

        A photograph is whatever ``data.images.to_rgb`` takes (an image of PIL, H×W, H×W×C, C×H×W), or the path or
        address of one; several are a list, or an array or tensor N×H×W×C or N×C×H×W.

        Raises:
            ValueError: no picture, or one that ``to_rgb`` or ``read`` refuses.
        """
        prepared = [prepare(image, self.size) for image in self._photographs(images)]
        if not prepared:
            raise ValueError("images: there is none")
        return BatchFeature(
            {"pixel_values": standardise(to_tensor(np.stack(prepared)), self.plain_colours)}, tensor_type=return_tensors
        )

    def _photographs(self, images) -> Iterator[np.ndarray]:
        """uint8 H×W×3 of each."""
        if isinstance(images, list | tuple) or getattr(images, "ndim", 0) == 4:
            for image in images:
                yield from self._photographs(image)
        elif isinstance(images, str | Path):
            yield read(Path(images)) if os.path.isfile(images) else to_rgb(super().fetch_images(str(images)))
        else:
            yield to_rgb(images)

    def fetch_images(self, image_url_or_urls):
        """Nothing yet: ``preprocess`` reads paths and addresses, so that a file's pixels are those of training."""
        return image_url_or_urls


class VisionCLIPProcessor(ProcessorMixin):
    """Image processor and tokenizer as one: ``processor(images=..., text=..., return_tensors="pt", padding=True)``."""

    def __init__(self, image_processor=None, tokenizer=None, **kwargs):
        super().__init__(image_processor, tokenizer, **kwargs)


class VisionCLIPPipeline(ZeroShotImageClassificationPipeline):
    """Zero-shot classification that hands a photograph to this model's processor before 16 bits are cut to 8.

    For every other model it is transformers' own, in whose place it stands.
    """

    def preprocess(self, image, *given, **named):
        """One picture, path or address, and the labels as sentences → what the model takes."""
        if isinstance(self.image_processor, VisionCLIPImageProcessor):
            image = Image.fromarray(next(self.image_processor._photographs(image)))
        return super().preprocess(image, *given, **named)


PIPELINE_REGISTRY.supported_tasks["zero-shot-image-classification"]["impl"] = VisionCLIPPipeline


# --- Saved folders hold the code up to here ---


def save(model: VisionCLIP, tokenizer, image_size: int, folder: Path) -> None:
    """Write weights (safetensors), tokenizer, preprocessing and code as one Hugging Face folder."""
    from visionclip import runs  # which a saved folder has not

    processor = VisionCLIPProcessor(
        VisionCLIPImageProcessor(image_size, plain_colours=model.config.plain_colours), tokenizer
    )
    model.config.auto_map = _remote(
        AutoConfig=VisionCLIPConfig, AutoModel=VisionCLIP, AutoModelForZeroShotImageClassification=VisionCLIP
    )
    processor.auto_map = _remote(AutoProcessor=VisionCLIPProcessor)
    processor.image_processor.auto_map = _remote(AutoImageProcessor=VisionCLIPImageProcessor)
    if isinstance(tokenizer, VisionCLIPTokenizer):  # others are transformers' own
        tokenizer.init_kwargs["auto_map"] = {"AutoTokenizer": [None, f"{REMOTE}.{VisionCLIPTokenizer.__name__}"]}
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    tokenizer.init_kwargs.pop("auto_map", None)  # which holds in this folder alone
    code = Path(__file__).read_text("utf-8").partition("\n# --- Saved folders")[0].rstrip() + "\n"
    library = Path(__file__).parents[1]
    files = [library / "data/images.py", library / "data/field_of_view.py", library / "text/familiarity.py"]
    for name, text in [(REMOTE, code), *((path.stem, path.read_text("utf-8")) for path in files)]:
        (folder / f"{name}.py").write_text(
            re.sub(r"from visionclip\.\w+\.(\w+) import", r"from .\1 import", text), "utf-8"
        )
    runs.share(folder)


def _remote(**classes: type) -> dict[str, str]:
    """Where a saved folder has the classes that transformers is to use."""
    return {auto: f"{REMOTE}.{kind.__name__}" for auto, kind in classes.items()}


def load(folder: str | Path) -> tuple[VisionCLIP, object, VisionCLIPImageProcessor]:
    """Model (in inference mode), tokenizer and image processor of a saved folder.

    Raises:
        FileNotFoundError: the folder holds no ``model.safetensors``.
    """
    folder = Path(folder)
    if not (folder / "model.safetensors").is_file():
        raise FileNotFoundError(f"{folder}: no model.safetensors there; run notebooks/03-pretrain.ipynb first")
    model = VisionCLIP.from_pretrained(folder, local_files_only=True, use_safetensors=True)
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    tokenizer.init_kwargs.pop("auto_map", None)  # it names code of this folder, and holds in no other
    return model.train(False), tokenizer, VisionCLIPImageProcessor.from_pretrained(folder, local_files_only=True)


disable_progress_bar()  # its own bar for loading weights would be the only output of many a cell
AutoConfig.register("visionclip", VisionCLIPConfig)
AutoModel.register(VisionCLIPConfig, VisionCLIP)
AutoModelForZeroShotImageClassification.register(VisionCLIPConfig, VisionCLIP)
AutoTokenizer.register(VisionCLIPConfig, fast_tokenizer_class=VisionCLIPTokenizer)
AutoImageProcessor.register(VisionCLIPConfig, image_processor_classes={"pil": VisionCLIPImageProcessor})
AutoProcessor.register(VisionCLIPConfig, VisionCLIPProcessor)
