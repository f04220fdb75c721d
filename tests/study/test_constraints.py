"""Values that only others rule out are refused before anything starts, and what is called valid can be built."""

import random
import shutil

import pytest
import yaml

from visionclip import runs, study
from visionclip.study import constraints
from visionclip.study.__main__ import main
from visionclip.study.graph import STAGES, Graph

TRIALS = 60
# The file, what is written there, and what the one line says.
REFUSED = [
    (
        "01-synthesis",
        {"generator_size": 50},
        "generator_size is 50; patch 2 and 2 widths in channels need a multiple of 4 from 8",
    ),
    (
        "01-synthesis",
        {"patch": 3},
        "generator_size is 32; patch 3 and 2 widths in channels need a multiple of 6 from 12: such as 30",
    ),
    (
        "01-synthesis",
        {"patch": 16},
        "generator_size is 32; patch 16 and 2 widths in channels need a multiple of 32 from 64",
    ),
    ("01-synthesis", {"size": 50}, "size is 50; give a multiple of 4, such as 52"),
    ("01-synthesis", {"channels": [16, 32, 64, 64, 64, 64]}, "fewer channels"),
    ("01-synthesis", {"channels": [16, 30]}, "channels has 30; give a multiple of 8, such as 32"),
    ("01-synthesis", {"batch_size": 97}, "batch_size is 97; there are 96 originals; lower it"),
    ("01-synthesis", {"seeds": "nowhere"}, "seeds is 'nowhere'; no labels.csv there"),
    (
        "01-synthesis",
        {"referee_model": "weights/generator"},
        "referee_model is 'weights/generator'; no referee.json there; give a saved referee, or leave it empty",
    ),
    ("01-synthesis", {"out": ""}, "out is '', which holds the study itself"),
    ("01-synthesis", {"out": "runs/.."}, "out is 'runs/..', which holds the study itself"),
    ("01-synthesis", {"out": "pyproject.toml"}, "out is 'pyproject.toml', which is a file"),
    ("02-captions", {"out": "runs/smoke/01-synthesis"}, "out is 'runs/smoke/01-synthesis', as synthesis is"),
    ("02-captions", {"languages": ["zh", "zh"]}, "languages has 'zh' twice"),
    ("02-captions", {"vocabulary": "mine/vocab.txt"}, "vocabulary is 'mine/vocab.txt'; no such file"),
    ("02-captions", {"vocabulary": "./vocabulary"}, "vocabulary is './vocabulary'; no such file"),
    ("02-captions", {"vocabulary": "README.md"}, "vocabulary is 'README.md'; it lacks [CLS], [MASK]"),
    ("03-pretrain", {"text_width": 100}, "text_width is 100; give a multiple of 64, such as 128"),
    ("03-pretrain", {"images": 129}, "images is 129; 01-synthesis makes 128 images"),
    ("03-pretrain", {"images": 20}, "batch_size is 32; there are 20 images"),
    ("03-pretrain", {"batch_size": 256}, "batch_size is 256; there are 128 images of 01-synthesis"),
    ("03-pretrain", {"chunk": 1}, "chunk is 1; of a batch of 32, chunk 1 leaves one image of 24 pixels alone"),
    (
        "03-pretrain",
        {"chunk": 31, "sizes": [64, 32]},
        "chunk is 31; of a batch of 32, chunk 31 leaves one image of 32 pixels alone",
    ),
    ("03-pretrain", {"chunk": 31}, "chunk is 31; of a batch of 32"),
    ("03-pretrain", {"lock": "text"}, "lock is 'text'; give tower, the folder that the locked tower comes from"),
    ("03-pretrain", {"tower": "nowhere"}, "tower is 'nowhere'; no such folder; give the folder of a saved VisionCLIP"),
    ("03-pretrain", {"tower": "params"}, "tower is 'params'; no config.json there"),
    ("03-pretrain", {"lock": "both"}, "lock is 'both'; allowed: str one of none, image, text"),
    ("03-pretrain", {"updates": [30]}, "updates has 1 for the 2 of sizes; give as many"),
    ("03-pretrain", {"sizes": [24, 32, 64]}, "updates has 2 for the 3 of sizes; give as many"),
    ("03-pretrain", {"sizes": [32, 32]}, "sizes has 32 twice"),
    ("03-pretrain", {"scales": [1.0, 1.0]}, "scales has 1.0 twice"),
    ("04-zero-shot", {"languages": ["en", "en"]}, "languages has 'en' twice"),
    ("04-zero-shot", {"external": "nowhere"}, "external is 'nowhere'; no such folder"),
    ("05-dataset-size", {"sizes": [32, 129]}, "sizes has 129, but 01-synthesis makes 128 images"),
    ("05-dataset-size", {"sizes": [32, 32]}, "sizes has 32 twice"),
    ("05-dataset-size", {"seeds": [1, 1]}, "seeds has 1 twice"),
    ("05-dataset-size", {"updates": 5, "check_every": 6}, "check_every is 6; updates is 5; lower check_every"),
    ("05-dataset-size", {"size": 64}, "size is 64; 01-synthesis draws 32 pixels; lower it"),
    ("06-transfer", {"sizes": [32, 50]}, "sizes has 50; give a multiple of 4, such as 52"),
    ("07-explanation", {"sizes": [64, 64]}, "sizes has 64 twice"),
    ("07-explanation", {"external": "nowhere"}, "external is 'nowhere'; no such folder"),
    ("07-explanation", {"marks": "nowhere"}, "marks is 'nowhere'; no such folder"),
    ("06-transfer", {"arms": ["everything", "no words"]}, "arms has 'no words'; choose from everything, no camera"),
    ("06-transfer", {"arms": ["captions alone"]}, "add 'everything'"),
    ("06-transfer", {"seeds": [1, 1]}, "seeds has 1 twice"),
    (
        "11-privacy",
        {"generator": "nowhere"},
        "generator is 'nowhere'; no unet/config.json there; give a saved pipeline",
    ),
    (
        "05-dataset-size",
        {"pretrained": "runs/smoke/03-pretrain"},
        "pretrained is 'runs/smoke/03-pretrain'; no parameter file of 03-pretrain; give params/NAME/03-pretrain.yaml",
    ),
    ("08-diversity", {"pretrained": "params/smoke/02-captions.yaml"}, "no parameter file of 03-pretrain"),
    ("06-transfer", {"features": "weights/referee"}, "features is 'weights/referee'; no saved model there; give the"),
    ("08-diversity", {"arms": ["everything", "one word"]}, "arms has 'one word'; choose from everything, English only"),
    ("08-diversity", {"size": 50}, "size is 50; give a multiple of 4, such as 52"),
    ("08-diversity", {"arms": ["one wording"]}, "add 'everything'"),
    ("08-diversity", {"arms": ["everything", "everything"]}, "arms has 'everything' twice"),
    ("09-fine-tuning", {"shares": [0.1, 1]}, "shares is [0.1, 1.0]; give 0, where zero-shot stands"),
    ("09-fine-tuning", {"shares": [0]}, "and one above it at least"),
    ("09-fine-tuning", {"shares": [0, 1, 1]}, "shares has 1.0 twice"),
    ("09-fine-tuning", {"methods": ["zero-shot"]}, "add 'from scratch', which the answer needs"),
    ("09-fine-tuning", {"methods": ["all", "LoRA"]}, "methods has 'all'; choose from from scratch, zero-shot"),
    ("09-fine-tuning", {"towers": ["none", "drawn"]}, "give kinds of eyes, or none alone"),
    (
        "09-fine-tuning",
        {"towers": ["generated"], "generator": "nowhere"},
        "generator is 'nowhere'; no unet/config.json",
    ),
    ("09-fine-tuning", {"others": ["nowhere"]}, "others has 'nowhere'; no saved model there"),
    ("09-fine-tuning", {"external": "nowhere"}, "external is 'nowhere'; no such folder"),
    ("10-robustness", {"strengths": [1, 1]}, "strengths has 1 twice"),
    ("12-your-photograph", {"photographs": "nowhere"}, "photographs is 'nowhere'; no such file or folder"),
    ("12-your-photograph", {"model": "docs"}, "model is 'docs'; no model.safetensors there; give a saved model"),
    ("10-robustness", {"external": "nowhere"}, "external is 'nowhere'; no such folder"),
    ("11-privacy", {"size": 36}, "size is 36; patch 4 and 2 widths in channels need a multiple of 8, such as 40"),
    ("11-privacy", {"channels": [16, 30]}, "channels has 30; give a multiple of 8, such as 32"),
    ("11-privacy", {"few": 25}, "few is 25; members is 24; lower few to that"),
    ("11-privacy", {"shadows": 3}, "shadows is 3; give an even number"),
    ("11-privacy", {"generator_shadows": 1}, "generator_shadows is 1; give an even number"),
    ("11-privacy", {"epsilon": 8.0, "members": 20}, "epsilon is 8.0; private training needs 24 members"),
    ("11-privacy", {"photographs": "eyes/idrid"}, "photographs is 'eyes/idrid'; give the name of a folder directly"),
    ("11-privacy", {"external": "nowhere"}, "external is 'nowhere'; no such folder"),
]
# Two files that do not fit each other; the first is named.
APART = [
    (
        {"09-fine-tuning": {}, "04-zero-shot": {"languages": ["zh"]}, "07-explanation": {"languages": ["zh"]}}
        | {"02-captions": {"languages": ["zh"]}},
        "languages has 'en'; the captions of 02-captions are in zh",
    ),
    (
        {"04-zero-shot": {}, "02-captions": {"languages": ["zh"]}},
        "languages has 'en'; the captions of 02-captions are in zh",
    ),
    (
        {"07-explanation": {}, "04-zero-shot": {"languages": ["zh"]}, "02-captions": {"languages": ["zh"]}},
        "languages has 'en'; the captions of 02-captions are in zh",
    ),
    ({"05-dataset-size": {}, "01-synthesis": {"images": 100, "generated_share": 0.5}}, "sizes has 128"),
    ({"08-diversity": {"phantoms": 40}, "03-pretrain": {"batch_size": 64}}, "a batch of 03-pretrain has 64"),
    (
        {"08-diversity": {}, "03-pretrain": {"chunk": 31, "sizes": [64, 128]}},
        "size is 32; of a batch of 32, chunk 31 leaves one image of 32 pixels alone",
    ),
]


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """A copy of the notebooks with the preset of the defaults, and another one like it."""
    root = runs.ROOT
    monkeypatch.setattr(runs, "ROOT", tmp_path)
    shutil.copytree(root / "notebooks", tmp_path / "notebooks")
    for preset in ("smoke", "mine"):
        shutil.copytree(root / "params/smoke", tmp_path / "params" / preset)
    for name in ("README.md", "pyproject.toml"):
        shutil.copy(root / name, tmp_path)
    (tmp_path / "weights/visionclip").mkdir(parents=True)
    (tmp_path / "weights/visionclip/model.safetensors").touch()
    shutil.copytree(root / "weights/generator/unet", tmp_path / "weights/generator/unet")
    return tmp_path / "params/mine"


def change(folder, **files) -> None:
    for name, changed in files.items():
        path = folder / f"{name}.yaml"
        path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), **changed}))


def refused(capsys, folder) -> str:
    with pytest.raises(SystemExit) as caught:
        main(["check", str(folder)])
    assert caught.value.code == 2
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    return line


@pytest.mark.parametrize(("name", "changed", "words"), REFUSED)
def test_a_value_that_others_rule_out_is_refused_by_the_check_of_a_preset(mine, capsys, name, changed, words):
    main(["check", str(mine)])
    change(mine, **{name: changed})
    line = refused(capsys, mine)
    assert line.startswith(f"params/mine/{name}.yaml: ")
    assert words in line


def test_a_tower_is_looked_into_before_anything_starts_and_is_not_written_over(mine, capsys):
    folder = runs.ROOT / "runs/mine/03-pretrain/model"
    folder.mkdir(parents=True)
    for name, text in (("config.json", '{"model_type": "bert"}'), ("model.safetensors", ""), ("vocab.txt", "[PAD]")):
        (folder / name).write_text(text)
    given = {"tower": "runs/mine/03-pretrain", "lock": "text"}
    change(mine, **{"03-pretrain": given})
    main(["check", str(mine)])
    change(mine, **{"03-pretrain": {"lock": "image"}})
    assert "tower is 'runs/mine/03-pretrain'; it has no image tower, which lock names; lock text" in refused(
        capsys, mine
    )
    change(mine, **{"03-pretrain": {"lock": "text", "out": "runs/mine/03-pretrain"}})
    line = refused(capsys, mine)
    assert "tower is 'runs/mine/03-pretrain'; out is 'runs/mine/03-pretrain', which would be written over it" in line


def test_a_set_of_marks_in_the_place_of_the_folder_that_holds_it_is_refused(mine, capsys, tmp_path):
    for name in ("images", "masks"):
        (tmp_path / "clinic" / name).mkdir(parents=True)
    change(mine, **{"07-explanation": {"marks": str(tmp_path)}})
    main(["check", str(mine)])
    change(mine, **{"07-explanation": {"marks": str(tmp_path / "clinic")}})
    assert "it has images and masks, as a set; give the folder that holds it" in refused(capsys, mine)


@pytest.mark.parametrize(("files", "words"), APART)
def test_files_that_do_not_fit_each_other_are_refused(mine, capsys, files, words):
    change(mine, **files)
    line = refused(capsys, mine)
    assert line.startswith(f"params/mine/{next(iter(files))}.yaml: ")
    assert words in line


@pytest.mark.parametrize(("name", "changed", "words"), [REFUSED[0], REFUSED[3], REFUSED[17], REFUSED[28], REFUSED[34]])
def test_no_graph_is_made_of_a_preset_that_would_fail(mine, name, changed, words):
    Graph({"preset": "mine"})
    change(mine, **{name: changed})
    with pytest.raises(ValueError, match=rf"^params/mine/{name}\.yaml: ") as caught:
        Graph({"preset": "mine"})
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("name", "changed", "words"), [case for case in REFUSED if "01-synthesis makes" not in case[2]]
)
def test_a_notebook_refuses_them_in_the_cell_that_checks_its_parameters(mine, name, changed, words):
    """Its own, and those that don't fit the stages whose cards it finds."""
    for stage in ("01-synthesis", "03-pretrain"):
        defaults = {key: one.default for key, one in study.declared(stage).items()}
        runs.write_json(runs.ROOT / f"runs/smoke/{stage}/card.json", {"parameters": defaults})
    defaults = {key: one.default for key, one in study.declared(name).items()}
    study.parameters(dict(defaults), name)
    with pytest.raises(ValueError, match=rf"^parameters of {name}: ") as caught:
        study.parameters(defaults | changed, name)
    assert words in str(caught.value)


def test_a_notebook_is_held_to_what_the_earlier_stage_made(mine):
    defaults = {key: one.default for key, one in study.declared("05-dataset-size").items()}
    study.parameters(dict(defaults), "05-dataset-size")
    runs.write_json(runs.ROOT / "runs/smoke/01-synthesis/card.json", {"parameters": {"images": 100}})
    with pytest.raises(ValueError, match="parameters of 05-dataset-size: sizes has 128, but 01-synthesis makes 100"):
        study.parameters(dict(defaults), "05-dataset-size")


def test_photographs_are_counted_where_they_replace_the_phantoms(mine, capsys):
    table = runs.ROOT / "eyes/labels.csv"
    table.parent.mkdir()
    table.write_text("file,dr_grade\n" + "".join(f"{number}.png,0\n" for number in range(40)))
    change(
        mine, **{"01-synthesis": {"seeds": "eyes", "images": 48}, "03-pretrain": {}, "05-dataset-size": {"sizes": [48]}}
    )
    main(["check", str(mine)])
    change(mine, **{"01-synthesis": {"images": 64}})
    assert "need 48 photographs and there are 40; lower images, raise generated_share" in refused(capsys, mine)
    change(mine, **{"01-synthesis": {"images": 48, "batch_size": 41}})
    assert "batch_size is 41; there are 40 originals" in refused(capsys, mine)
    table.write_text("file,dr_grade\n")
    assert "seeds is 'eyes'; its labels.csv has no row" in refused(capsys, mine)
    table.write_text("file,grade\n" + "".join(f"{number}.png,0\n" for number in range(48)))
    assert "seeds is 'eyes'; eyes/labels.csv: 0.png: unknown condition 'grade'" in refused(capsys, mine)


def test_phantoms_of_the_set_are_as_many_as_it_takes(mine):
    """They are drawn at the set's own size; ``originals`` are those that the generator learns from."""
    change(mine, **{"01-synthesis": {"images": 200, "generated_share": 0, "originals": 64}})
    main(["check", str(mine)])


def test_a_lone_image_of_many_pixels_is_no_fault(mine):
    change(mine, **{"03-pretrain": {"chunk": 31, "sizes": [64, 128]}, "08-diversity": {"size": 64}})
    main(["check", str(mine)])


def test_a_dataset_is_not_taken_for_the_folder_of_datasets(mine, capsys):
    (runs.ROOT / "data/external").mkdir(parents=True)
    (runs.ROOT / "data/external/labels.csv").touch()
    assert "external is 'data/external'; it has labels.csv" in refused(capsys, mine)


def test_a_vocabulary_that_is_there_is_taken(mine):
    (runs.ROOT / "vocab.txt").write_text("\n".join((*constraints.SPECIAL, "eye")))
    change(mine, **{"02-captions": {"vocabulary": "vocab.txt"}})
    main(["check", str(mine)])


def test_what_is_repeated_here_is_what_the_library_has():
    from visionclip.data import folders, marks, phantoms
    from visionclip.models import generator, visionclip
    from visionclip.stages import diversity, transfer
    from visionclip.text import tokenizer
    from visionclip.training import private

    assert {"06-transfer": tuple(transfer.ARMS), "08-diversity": tuple(diversity.ARMS)} == constraints.ARMS
    assert constraints.PRIVATE == private.LEAST_BATCH
    assert constraints.REFERENCE == diversity.REFERENCE == transfer.REFERENCE
    assert constraints.EXTERNAL == folders.DEFAULT_FOLDER
    assert constraints.MARKS == marks.DEFAULT_FOLDER
    assert constraints.STRIDE == phantoms.STRIDE
    assert constraints.WIDTH == generator.NORM_GROUPS
    assert constraints.SPECIAL == tokenizer.SPECIAL
    assert visionclip.sized(8, 1, 4 * constraints.HEAD, 16, 10).text_config.num_attention_heads == 4
    assert constraints.FOLDERS.items() == {one for row in STAGES.values() for one in row.inputs.items()}
    assert constraints.FILES.items() == {one for row in STAGES.values() for one in row.settings.items()}


def test_every_rule_reads_parameters_that_there_are():
    for stage, places, _ in constraints.RULES:
        assert stage in study.notebook_names()
        for owner, key in places.values():
            assert key in study.declared(owner), f"{owner}: {key}"


def drawn(rng: random.Random, notebook: str, **tiny) -> dict:
    """Parameters within their limits, those of ``tiny`` within these."""
    return {
        name: [rng.randint(*limits) for _ in range(rng.randint(1, 4))]
        if study.declared(notebook)[name].type.startswith("list")
        else rng.randint(*limits)
        for name, limits in tiny.items()
    }


def valid(notebook: str, given: dict) -> str:
    """Empty for valid parameters, else why not."""
    try:
        study.check(notebook, given, "drawn")
    except ValueError as error:
        return str(error)
    return ""


@pytest.mark.slow
def test_what_is_valid_of_stage_01_makes_a_generator_that_trains_on_one_image_and_no_other_does():
    import torch

    from visionclip.models import generator
    from visionclip.models.generator import Generator

    rng, outcomes = random.Random(0), []
    for trial in range(TRIALS):
        given = drawn(rng, "01-synthesis", generator_size=(32, 96), patch=(1, 6), channels=(8, 40))
        if trial % 3:  # chance alone hits few multiples
            given["channels"] = [width // 8 * 8 for width in given["channels"]]
            given["generator_size"] -= given["generator_size"] % (given["patch"] * 2 ** (len(given["channels"]) - 1))
            given["generator_size"] = max(given["generator_size"], 32)
        size, patch, channels = given["generator_size"], given["patch"], tuple(given["channels"])
        why = valid("01-synthesis", given)
        outcomes.append(not why)
        if why:
            one_cell = size == patch * 2 ** (len(channels) - 1)
            try:
                generator.check_size(size, patch, channels)
            except ValueError:
                continue
            assert one_cell, f"{given}: {why}"
        else:
            network = Generator(size, patch, 3, ("gc>=1",), ("disc",), channels).train()
            noisy = torch.randn(1, 3, size // patch, size // patch)
            vectors = torch.zeros(1, 1)
            layouts = torch.zeros(1, 1, size, size, dtype=torch.uint8)
            network(noisy, torch.tensor([1]), vectors, layouts, torch.ones(1, 2)).sum().backward()
    assert 10 < sum(outcomes) < TRIALS - 10


@pytest.mark.slow
def test_what_is_valid_of_stage_03_makes_towers_that_train_on_every_part_of_a_batch():
    import torch

    from visionclip.models import visionclip
    from visionclip.models.visionclip import VisionCLIP

    rng, outcomes = random.Random(0), []
    synthesis = study.check("01-synthesis", {}, "defaults")
    for trial in range(TRIALS // 2):
        tiny = {"image_width": (8, 9), "text_layers": (1, 2), "text_width": (64, 200), "projection_size": (16, 20)}
        tiny |= {"pyramid_size": (0, 9)}
        given = drawn(rng, "03-pretrain", **tiny, batch_size=(2, 9), chunk=(0, 9))
        given["sizes"] = rng.choice(([24, 32], [32, 40], [36, 48]))
        if trial % 3:
            given["text_width"] -= given["text_width"] % 64
        why = valid("03-pretrain", given)
        if not why:
            stages = {"01-synthesis": synthesis, "03-pretrain": study.check("03-pretrain", given, "drawn")}
            why = next((fault for _, fault in constraints.faults(stages)), "")
        outcomes.append(not why)
        sizes = {name: given[name] for name in tiny}
        coarsest = given["sizes"][0]
        batch = torch.randn(given["batch_size"], 3, coarsest, coarsest)
        parts = batch.split(given["chunk"] or len(batch))
        if not why:
            network = VisionCLIP(visionclip.sized(**sizes, vocabulary_size=20)).train()
            for part in parts:
                network(part, torch.ones(2, 3, dtype=torch.long)).logits_per_image.sum().backward()
        elif "chunk" in why:
            network = VisionCLIP(visionclip.sized(**sizes, vocabulary_size=20)).train()
            with pytest.raises(ValueError, match="more than 1 value"):
                network(parts[-1])
    assert 5 < sum(outcomes) < TRIALS // 2 - 5
