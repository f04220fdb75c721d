"""Documented paths that no preset takes: the notebooks on folders of one's own."""

import cv2
import pytest

from visionclip import conditions, phantom, runs, streams
from visionclip.study.notebooks import execute


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


def run(tmp_path, **parameters):
    notebook = runs.ROOT / "notebooks/01-synthesis.ipynb"
    execute(notebook, tmp_path / "executed.ipynb", {"out": str(tmp_path / "out"), **parameters})


@pytest.mark.slow
def test_photographs_of_ones_own_replace_the_phantoms(seeds, tmp_path):
    run(tmp_path, seeds=str(seeds), images=48, generated_share=0.25, updates=4, classifier_updates=4)
    assert runs.read_json(tmp_path / "out/numbers.json")["sources"] == {"ddpm": 12, "seed folder": 36}


@pytest.mark.slow
def test_too_few_photographs_are_refused_before_anything_is_trained(seeds, tmp_path):
    with pytest.raises(RuntimeError, match="need 96 originals and there are 40; lower images"):
        run(tmp_path, seeds=str(seeds), images=128, generated_share=0.25)
    assert not (tmp_path / "out/ddpm").exists()
