"""Documented paths that no preset takes: the notebooks on folders of one's own."""

import cv2
import numpy as np
import pytest

from visionclip import conditions, phantom, runs, streams
from visionclip.data import folders, pairs, shards
from visionclip.models import sampling, visionclip
from visionclip.stages import referee, synthesis
from visionclip.study.notebooks import execute
from visionclip.text import captions
from visionclip.text.tokenizer import train_tokenizer
from visionclip.training import contrastive, denoising


@pytest.fixture
def seeds(tmp_path):
    """A folder of 40 labelled pictures: ``images/`` and ``labels.csv``."""
    folder = tmp_path / "seeds"
    (folder / "images").mkdir(parents=True)
    lines = ["file,dr_grade,gc"]
    for index, eye in enumerate(conditions.balanced(40, streams.rng(0, "seeds of a test"))):
        drawn = phantom.render(eye, streams.rng(0, "seeds of a test", index), 64)
        cv2.imwrite(str(folder / f"images/{index}.png"), drawn.image[..., ::-1])
        lines.append(f"images/{index}.png,{eye['dr_grade']},{eye['gc']}")
    (folder / "labels.csv").write_text("\n".join(lines))
    return folder


def test_what_a_folder_leaves_open_no_caption_says_and_no_pair_denies(seeds, tmp_path):
    """Stages 01 to 03 on grades alone, without their notebooks."""
    table = [line.rpartition(",")[0] for line in (seeds / "labels.csv").read_text().splitlines()]
    (seeds / "labels.csv").write_text("\n".join(table))
    original = folders.labelled(seeds, 32)
    plan = synthesis.limited(synthesis.draw(20, synthesis.GENERATING, 0, 32, 0.1).without_masks(), original)
    pipeline, _ = denoising.train(original, denoising.Settings(updates=1, channels=(16, 32)), tmp_path / "ddpm")
    pixels = sampling.sample(pipeline, plan.vectors, steps=2)
    made = synthesis.generated_set(pixels, plan, original)
    judge = referee.train(original, 2, 0, tmp_path / "referee")
    judged = referee.judge(judge, pixels, plan.conditions)
    assert {name for name, row in judged.items() if row["positives"]} == {f"dr_grade>={grade}" for grade in range(1, 5)}
    synthesis.write_sets(tmp_path / "01", [made, original], original.take(range(4)), 0)
    loaded = shards.load(tmp_path / "01/synthetic")
    assert {key for eye in loaded.conditions for key in eye} == {"dr_grade"}
    written, texts_of = captions.table(loaded.conditions, ("zh", "en"), 4, streams.rng(0, "captions of a test"))
    assert {key for one in written for key in one.facts} == {"dr_grade"}
    captions.write(tmp_path / "02/synthetic", written, texts_of, loaded.keys)
    training = pairs.load(tmp_path / "01", tmp_path / "02", "synthetic")
    words = train_tokenizer([one.text for one in written], tmp_path / "words")
    network = visionclip.VisionCLIP(visionclip.sized(8, 1, 64, 16, len(words)))
    settings = contrastive.Settings(updates=2, text_warmup=2, batch_size=8, learning_rate=1e-3)
    assert all(np.isfinite(entry["loss"]) for entry in contrastive.train(network, words, training, settings, None))


def run(tmp_path, **parameters):
    notebook = runs.ROOT / "notebooks/01-synthesis.ipynb"
    execute(notebook, tmp_path / "executed.ipynb", {"out": str(tmp_path / "out"), **parameters})


@pytest.mark.slow
def test_photographs_of_ones_own_replace_the_phantoms(seeds, tmp_path):
    run(tmp_path, seeds=str(seeds), images=48, generated_share=0.25, updates=4, referee_updates=4)
    assert runs.read_json(tmp_path / "out/numbers.json")["sources"] == {"ddpm": 12, "seed folder": 36}


@pytest.mark.slow
def test_too_few_photographs_are_refused_before_anything_is_trained(seeds, tmp_path):
    with pytest.raises(RuntimeError, match="need 96 photographs and there are 40; lower images"):
        run(tmp_path, seeds=str(seeds), images=128, generated_share=0.25)
    assert not (tmp_path / "out/ddpm").exists()
