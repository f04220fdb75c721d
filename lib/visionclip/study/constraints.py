"""What limits can't say of parameters: one value against another, of a stage or of two, and folders that must exist.

A rule is a function whose arguments are parameters, by name; it returns the fault in words, which name the parameter
and the remedy, or nothing. The library refuses most of these values itself, but only once it gets to them, which can be
hours later. Nothing here waits for torch.
"""

import importlib
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from visionclip import runs

# Parameters that hold the folder of an earlier stage, and those that name the file of another one's parameters.
FOLDERS = {"synthesis": "01-synthesis", "captions_folder": "02-captions", "checkpoint": "03-pretrain"}
FILES = {"pretrained": "03-pretrain"}
# Lists of what is run, each entry once.
DISTINCT = (
    *("sizes", "fine_sizes", "scales", "seeds", "languages", "arms", "compared_steps"),
    *("methods", "shares", "tasks", "others", "towers", "strengths"),
)
EXTERNAL, MARKS = "data/external", "data/marks"  # may be missing, then there are no photographs
WIDTH = 8  # groups of channels that the diffusion model normalises
PRIVATE = 24  # images of which an update of private training expects as many or more
HEAD = 64  # width of an attention head of the text tower
STRIDE = 4  # pixels of an image for each of its finding maps
REFERENCE = "everything"
# The names of ``ARMS`` of each stage's module, which waits for torch.
ARMS = {
    "06-transfer": (
        *(REFERENCE, "no camera", "no look-alikes", "one anatomy", "plausible alone", "beyond plausible alone"),
        *("no minor lesions", "no healthy twins"),
        *("no augmentation", "no condition loss", "no finding maps", "captions alone"),
        *("a quarter generated", "half generated", "three quarters generated", "generated alone"),
        *("generated alone, 1 step", "generated alone, 2 steps", "generated alone, 8 steps"),
        *("a quarter generated, judged", "half generated, judged"),
        *("three quarters generated, judged", "generated alone, judged"),
        *("one-hot loss", "no text warm-up", "Chinese in one wording", "plain RGB", "as published"),
    ),
    "08-diversity": (
        *(REFERENCE, "English only", "no findings", "one wording"),
        *("one camera", "one anatomy", "one disease an eye", "no vein occlusion"),
    ),
}
SAVED = "the folder of one, or of a finished 03-pretrain"
NONE, ALL = "none", "all"  # alone in a list of names, which can't be empty
# Of 09, as ``ARMS``; the answer needs the first two.
METHODS = ("from scratch", "zero-shot", "linear probe", "Tip-Adapter", "CLIP-Adapter", "full fine-tuning", "LoRA")
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")  # tokens of every BERT vocabulary

Rule = Callable[..., str]
RULES: list[tuple[str, dict[str, tuple[str, str]], Rule]] = []  # the stage, where each argument stands, and the rule


def rule(*stages: str, **elsewhere: str) -> Callable[[Rule], Rule]:
    """Register a rule of these stages; ``elsewhere`` are arguments of another: ``drawn="01-synthesis.images"``."""

    def add(check: Rule) -> Rule:
        for stage in stages:
            names = inspect.signature(check).parameters
            places = {name: elsewhere.get(name, f"{stage}.{name}").split(".") for name in names}
            RULES.append((stage, {name: (owner, key) for name, (owner, key) in places.items()}, check))
        return check

    return add


def faults(parameters: Mapping[str, SimpleNamespace]) -> Iterator[tuple[str, str]]:
    """The stage and the fault of every constraint that the parameters of stages, by name, break.

    A rule that reads a stage or a parameter that isn't there is left out.
    """
    for stage, values in parameters.items():
        for fault in (_repeated(vars(values)), _out(vars(values))):
            if fault:
                yield stage, fault
    for stage, places, check in RULES:
        owners = {name: (parameters.get(owner), key) for name, (owner, key) in places.items()}
        known = stage in parameters and all(hasattr(owner, key) for owner, key in owners.values())
        if known and (fault := check(**{name: getattr(owner, key) for name, (owner, key) in owners.items()})):
            yield stage, fault


def earlier(values: SimpleNamespace) -> dict[str, SimpleNamespace]:
    """The parameters of the finished stages whose folders these parameters name, from their cards."""
    folders = {stage: runs.resolve(getattr(values, name)) for name, stage in FOLDERS.items() if hasattr(values, name)}
    cards = {stage: folder / "card.json" for stage, folder in folders.items()}
    made = {stage: runs.read_json(card).get("parameters", {}) for stage, card in cards.items() if card.is_file()}
    return {stage: SimpleNamespace(**parameters) for stage, parameters in made.items()}


def needed(values: SimpleNamespace) -> list[str]:
    """The stages of which these parameters name the folder or the file."""
    return [stage for name, stage in (FOLDERS | FILES).items() if hasattr(values, name)]


def settings(values: SimpleNamespace) -> dict[str, Path]:
    """The stages of which these parameters take the parameters, each with its file."""
    return {stage: runs.resolve(getattr(values, name)) for name, stage in FILES.items() if hasattr(values, name)}


def _repeated(values: Mapping[str, Any]) -> str:
    """What is run twice counts twice in a mean."""
    for name in DISTINCT:
        given = values.get(name)  # the seeds of 01-synthesis are a folder
        if isinstance(given, list) and (again := [one for one in given if given.count(one) > 1]):
            return f"{name} has {again[0]!r} twice; give each once"
    return ""


def _out(values: Mapping[str, Any]) -> str:
    """A stage takes its folder for its own: the card in it goes, and all files in it are its outputs."""
    if "out" not in values:
        return ""
    out = runs.resolve(values["out"]).resolve()
    if runs.ROOT.resolve().is_relative_to(out):
        return f"out is {values['out']!r}, which holds the study itself; give a folder such as runs/mine/NN-name"
    if out.exists() and not out.is_dir():
        return f"out is {values['out']!r}, which is a file; give a folder"
    same = [name for name in FOLDERS if name in values and runs.resolve(values[name]).resolve() == out]
    return f"out is {values['out']!r}, as {same[0]} is; give a folder of its own" if same else ""


@rule("01-synthesis")
def _grid(generator_size: int, patch: int, channels: Sequence[int]) -> str:
    step = patch * 2 ** (len(channels) - 1)
    if generator_size % step == 0 and generator_size >= 2 * step:
        return ""
    fitting = max(round(generator_size / step), 2) * step
    halved = f"patch {patch} and {len(channels)} widths in channels need a multiple of {step} from {2 * step}"
    return f"generator_size is {generator_size}; {halved}: such as {fitting}, or another patch or fewer channels"


@rule("01-synthesis")
def _generator(generator: str, generator_size: int, seeds: str) -> str:
    config = runs.resolve(generator) / "unet" / "config.json"
    if not generator:
        return ""
    if not config.is_file():
        return f"generator is {generator!r}; no unet/config.json there; give a saved pipeline, or leave it empty"
    made = runs.read_json(config)
    if made.get("size") != generator_size:
        return f"generator_size is {generator_size}; {generator} draws {made.get('size')} pixels; give that"
    if made.get("layout") and seeds:
        return f"seeds is {seeds!r}; {generator} was trained on phantoms; leave one of the two empty"
    return ""


@rule("01-synthesis")
def _referee(referee_model: str, generator_size: int, seeds: str) -> str:
    if not referee_model:
        return ""
    folder = runs.resolve(referee_model)
    if not (folder / "referee.json").is_file():
        return f"referee_model is {referee_model!r}; no referee.json there; give a saved referee, or leave it empty"
    judged = runs.read_json(folder / "processor_config.json")["image_processor"]["size"]
    if judged != generator_size:
        return f"generator_size is {generator_size}; {referee_model} judges {judged} pixels; give that, or another"
    if seeds:
        return f"seeds is {seeds!r}; {referee_model} was trained on phantoms; leave one of the two empty"
    return ""


@rule("01-synthesis", "11-privacy")
def _widths(channels: Sequence[int]) -> str:
    wrong = [width for width in channels if width % WIDTH]
    return f"channels has {wrong[0]}; give {_multiple(wrong[0], WIDTH)}" if wrong else ""


@rule("01-synthesis")
def _seeds(seeds: str) -> str:
    if not seeds:
        return ""
    if _photographs(seeds):
        return _fault_of_seeds(seeds)
    lacks = "no labels.csv there" if not (runs.resolve(seeds) / "labels.csv").is_file() else "its labels.csv has no row"
    return f"seeds is {seeds!r}; {lacks}; give a folder with labels.csv, or leave it empty for phantoms"


@rule("01-synthesis")
def _enough(images: int, generated_share: float, seeds: str) -> str:
    needed, there = images - round(images * generated_share), _photographs(seeds)
    if not seeds or needed <= there:
        return ""
    need = f"with generated_share {generated_share} they need {needed} photographs and there are {there}"
    remedy = "lower images, raise generated_share, or add photographs to the seeds"
    return f"images is {images}; {need}; {remedy}"


@rule("01-synthesis")
def _batch_of_originals(batch_size: int, originals: int, seeds: str) -> str:
    return _batch(batch_size, _photographs(seeds) or originals, "originals")


@rule("02-captions")
def _vocabulary(vocabulary: str) -> str:
    path = runs.resolve(vocabulary)
    remedy = "give the path of a vocab.txt or a name on the hub, or leave it empty to make one of the captions"
    if not path.is_file():
        is_path = path.suffix == ".txt" or vocabulary.startswith(("/", "~", "."))
        return f"vocabulary is {vocabulary!r}; no such file; {remedy}" if is_path and not path.is_dir() else ""
    missing = set(SPECIAL) - set(path.read_text("utf-8", errors="replace").split("\n"))
    return f"vocabulary is {vocabulary!r}; it lacks {', '.join(sorted(missing))}; {remedy}" if missing else ""


@rule("03-pretrain")
def _text_width(text_width: int) -> str:
    return f"text_width is {text_width}; give {_multiple(text_width, HEAD)}" if text_width % HEAD else ""


@rule("03-pretrain")
def _batch_of_part(batch_size: int, images: int) -> str:
    return _batch(batch_size, images, "images") if images else ""


@rule("03-pretrain")
def _tower(lock: str, tower: str, out: str) -> str:
    if not tower and lock == "none":
        return ""
    towers = importlib.import_module("visionclip.models.towers")  # as of seeds below
    try:
        towers.taken(tower, lock)
    except ValueError as error:
        return str(error)
    inside = runs.resolve(tower).resolve().is_relative_to(runs.resolve(out).resolve())
    return f"tower is {tower!r}; out is {out!r}, which would be written over it; give another out" if inside else ""


@rule("03-pretrain", drawn="01-synthesis.images")
def _part(images: int, drawn: int) -> str:
    return f"images is {images}; 01-synthesis makes {drawn} images; lower it, or 0 takes all" if images > drawn else ""


@rule("03-pretrain", drawn="01-synthesis.images")
def _batch_of_all(batch_size: int, images: int, drawn: int) -> str:
    return "" if images else _batch(batch_size, drawn, "images of 01-synthesis")


@rule("03-pretrain")
def _chunk(chunk: int, batch_size: int, sizes: Sequence[int]) -> str:
    return _lone_image(chunk, batch_size, min(sizes), f"chunk is {chunk}", "chunk")


@rule("08-diversity", chunk="03-pretrain.chunk", batch_size="03-pretrain.batch_size")
def _chunk_of_arms(size: int, chunk: int, batch_size: int) -> str:
    return _lone_image(chunk, batch_size, size, f"size is {size}", "size, or the chunk of 03-pretrain")


@rule("04-zero-shot", "07-explanation", "09-fine-tuning", "10-robustness", captions="02-captions.languages")
def _languages(languages: Sequence[str], captions: Sequence[str]) -> str:
    unseen = [language for language in languages if language not in captions]
    there = f"the captions of 02-captions are in {', '.join(captions)}"
    return f"languages has {unseen[0]!r}; {there}; leave it out, or add it there" if unseen else ""


@rule("05-dataset-size", drawn="01-synthesis.images")
def _largest(sizes: Sequence[int], drawn: int) -> str:
    return f"sizes has {max(sizes)}, but 01-synthesis makes {drawn} images; lower it" if max(sizes) > drawn else ""


@rule("05-dataset-size")
def _checks(check_every: int, updates: int) -> str:
    never = f"check_every is {check_every}; updates is {updates}; lower check_every to that, or nothing is checked"
    return never if check_every > updates else ""


@rule("05-dataset-size", drawn="01-synthesis.size")
def _pixels_of_points(size: int, drawn: int) -> str:
    return f"size is {size}; 01-synthesis draws {drawn} pixels; lower it" if size > drawn else ""


@rule("01-synthesis", "08-diversity")
def _maps_of_set(size: int) -> str:
    return f"size is {size}; give {_multiple(size, STRIDE)}" if size % STRIDE else ""


@rule("06-transfer")
def _finding_maps(sizes: Sequence[int]) -> str:
    wrong = [size for size in sizes if size % STRIDE]
    return f"sizes has {wrong[0]}; give {_multiple(wrong[0], STRIDE)}" if wrong else ""


@rule("03-pretrain")
def _updates(sizes: Sequence[int], updates: Sequence[int]) -> str:
    counts = f"{len(updates)} for the {len(sizes)} of sizes"
    return f"updates has {counts}; give as many, updates for each size" if len(sizes) != len(updates) else ""


@rule("05-dataset-size", "08-diversity")
def _pretrained(pretrained: str) -> str:
    stage, path = FILES["pretrained"], runs.resolve(pretrained)
    there = path.name == f"{stage}.yaml" and path.is_file()
    return "" if there else f"pretrained is {pretrained!r}; no parameter file of {stage}; give params/NAME/{stage}.yaml"


@rule("11-privacy")
def _unseen(generator: str) -> str:
    there = (runs.resolve(generator) / "unet" / "config.json").is_file()
    return "" if there else f"generator is {generator!r}; no unet/config.json there; give a saved pipeline"


@rule("06-transfer")
def _features(features: str) -> str:
    return "" if _saved(features) else f"features is {features!r}; no saved model there; give {SAVED}"


@rule("06-transfer")
def _arms_of_transfer(arms: Sequence[str]) -> str:
    return _arms(arms, ARMS["06-transfer"])


@rule("08-diversity")
def _arms_of_diversity(arms: Sequence[str]) -> str:
    return _arms(arms, ARMS["08-diversity"])


def _arms(arms: Sequence[str], known: Sequence[str]) -> str:
    unknown = [name for name in arms if name not in known]
    if unknown:
        return f"arms has {unknown[0]!r}; choose from {', '.join(known)}"
    return "" if REFERENCE in arms else f"arms is {list(arms)}; add {REFERENCE!r}, which the others are compared with"


@rule("08-diversity", batch_size="03-pretrain.batch_size")
def _batch_of_arms(phantoms: int, batch_size: int) -> str:
    larger = f"phantoms is {phantoms}; a batch of 03-pretrain has {batch_size}; draw as many, or lower batch_size there"
    return larger if batch_size > phantoms else ""


@rule("11-privacy")
def _grid_of_private(size: int, patch: int, channels: Sequence[int]) -> str:
    step = patch * 2 ** (len(channels) - 1)
    if size % step == 0:
        return ""
    return f"size is {size}; patch {patch} and {len(channels)} widths in channels need {_multiple(size, step)}"


@rule("11-privacy")
def _few(few: int, members: int) -> str:
    return f"few is {few}; members is {members}; lower few to that, as they are some of them" if few > members else ""


@rule("11-privacy")
def _shadows(shadows: int, generator_shadows: int) -> str:
    for name, count in (("shadows", shadows), ("generator_shadows", generator_shadows)):
        if count % 2:
            return (
                f"{name} is {count}; give an even number: they come in twos, on a half of the images and on the other"
            )
    return ""


@rule("11-privacy")
def _epsilon(epsilon: float, members: int) -> str:
    few = f"epsilon is {epsilon}; private training needs {PRIVATE} members, and members is {members}; set it to 0"
    return few if epsilon and members < PRIVATE else ""


@rule("12-your-photograph")
def _your_photographs(photographs: str) -> str:
    there = not photographs or runs.resolve(photographs).exists()
    return "" if there else f"photographs is {photographs!r}; no such file or folder; give one, or leave it empty"


@rule("12-your-photograph")
def _saved_model(model: str) -> str:
    folder = runs.resolve(model)
    if any((place / "model.safetensors").is_file() for place in (folder, folder / "model")):
        return ""
    return f"model is {model!r}; no model.safetensors there; give a saved model, as weights/visionclip or a finished 03"


@rule("11-privacy")
def _photograph_set(photographs: str) -> str:
    named = f"photographs is {photographs!r}; give the name of a folder directly below external, or leave it empty"
    return named if photographs != Path(photographs).name else ""


@rule(
    *("04-zero-shot", "05-dataset-size", "06-transfer", "07-explanation", "08-diversity"),
    *("09-fine-tuning", "10-robustness", "11-privacy"),
)
def _external(external: str) -> str:
    folder = runs.resolve(external)
    if external != EXTERNAL and not folder.is_dir():
        return f"external is {external!r}; no such folder; give the folder that holds the datasets, or {EXTERNAL}"
    own = [name for name in ("labels.csv", "tasks.yaml") if (folder / name).is_file()]
    return f"external is {external!r}; it has {own[0]}, as a dataset; give the folder that holds it" if own else ""


@rule("09-fine-tuning")
def _shares(shares: Sequence[float]) -> str:
    if 0 in shares and max(shares) > 0:
        return ""
    return f"shares is {list(shares)}; give 0, where zero-shot stands, and one above it at least"


@rule("09-fine-tuning")
def _methods(methods: Sequence[str]) -> str:
    if list(methods) == [ALL]:
        return ""
    unknown = [name for name in methods if name not in METHODS]
    if unknown:
        return f"methods has {unknown[0]!r}; choose from {', '.join(METHODS)}, or give all alone"
    lacking = [name for name in METHODS[:2] if name not in methods]
    return f"methods is {list(methods)}; add {lacking[0]!r}, which the answer needs" if lacking else ""


@rule("09-fine-tuning")
def _others(others: Sequence[str]) -> str:
    for name in others if list(others) != [NONE] else ():
        if not _saved(name):
            return f"others has {name!r}; no saved model there; give {SAVED}"
    return ""


@rule("09-fine-tuning")
def _towers(towers: Sequence[str], generator: str) -> str:
    if NONE in towers and len(towers) > 1:
        return f"towers is {list(towers)}; give kinds of eyes, or {NONE} alone"
    return _unseen(generator) if "generated" in towers else ""


@rule("07-explanation")
def _marks(marks: str) -> str:
    folder = runs.resolve(marks)
    if marks != MARKS and not folder.is_dir():
        return f"marks is {marks!r}; no such folder; give the folder that holds the sets, or {MARKS}"
    own = all((folder / name).is_dir() for name in ("images", "masks"))
    return f"marks is {marks!r}; it has images and masks, as a set; give the folder that holds it" if own else ""


def _fault_of_seeds(seeds: str) -> str:
    """What is wrong with the labels of a seed folder, before phantoms are drawn that it was to replace."""
    # by its name, when it is needed: it is slow to import, and a check is no part of what makes a result
    folders = importlib.import_module("visionclip.data.folders")
    try:
        folders.stated(seeds)
    except (ValueError, FileNotFoundError) as error:
        return f"seeds is {seeds!r}; {error}"
    return ""


def _saved(folder: str) -> bool:
    """Whether a model was saved there, or by the stage of that folder."""
    place = runs.resolve(folder)
    return any((model / "model.safetensors").is_file() for model in (place, place / "model"))


def _multiple(value: int, step: int) -> str:
    return f"a multiple of {step}, such as {-(-value // step) * step}"


def _batch(batch_size: int, count: int, what: str) -> str:
    """A batch larger than its set would hold an image twice."""
    return f"batch_size is {batch_size}; there are {count} {what}; lower it to that" if batch_size > count else ""


def _lone_image(chunk: int, batch_size: int, size: int, given: str, remedy: str) -> str:
    """Batch normalisation fails on one image of which ResNet-50, which shrinks sides 32 times, leaves one cell."""
    lone = size <= 32 and chunk and (chunk == 1 or batch_size % chunk == 1)
    why = f"of a batch of {batch_size}, chunk {chunk} leaves one image of {size} pixels alone, too few to normalise"
    return f"{given}; {why}; change {remedy}" if lone else ""


def _photographs(seeds: str) -> int:
    """How many photographs the labels.csv of a folder lists; 0 where there is none."""
    path = runs.resolve(seeds) / "labels.csv"
    lines = path.read_text("utf-8", errors="replace").splitlines() if seeds and path.is_file() else []
    return max(sum(map(bool, map(str.strip, lines))) - 1, 0)
