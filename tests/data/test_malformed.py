"""Real folders are untidy: each oddity is refused in one line that names the file, or read as documented."""

import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from visionclip import runs
from visionclip.data import folders, images

PLAN = """\
tasks:
  glaucoma:
    column: label
    classes:
      - {name: no, values: [0], conditions: [{gc: 0}]}
      - {name: yes, values: [1], conditions: [{gc: 1}]}
"""


def photograph(seed: int = 0) -> np.ndarray:
    """A smooth bright disc on black, RGB, so that lossy files stay close to it."""
    rows, columns = np.mgrid[-1:1:48j, -1:1:48j]
    inside = np.hypot(rows, columns) < 0.95
    colour = np.random.default_rng(seed).uniform(90, 220, 3)
    return (inside[..., None] * colour * (1 - 0.3 * columns[..., None])).clip(0, 255).astype(np.uint8)


@pytest.fixture
def folder(tmp_path) -> Path:
    place = tmp_path / "clinic"
    place.mkdir()
    for name, seed in (("a.png", 0), ("b.png", 1)):
        Image.fromarray(photograph(seed)).save(place / name)
    (place / "labels.csv").write_text("file,label\na.png,0\nb.png,1\n", "utf-8")
    (place / "tasks.yaml").write_text(PLAN, "utf-8")
    return place


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def as_jpeg(path: Path, share: float = 1.0) -> None:
    """A JPEG (with a thumbnail of its own, as cameras write) under the name of a PNG, cut to ``share`` of its bytes."""
    picture = Image.fromarray(photograph())
    picture.save(path, "JPEG", quality=98)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])


def huge(path: Path) -> None:
    Image.fromarray(np.zeros((20000, 20000), np.uint8)).convert("1").save(path)


def tell(path: Path, text: str, encoding: str = "utf-8") -> None:
    (path.parent / "labels.csv").write_bytes(text.encode(encoding))


def rename_task(path: Path) -> None:
    plan = path.parent / "tasks.yaml"
    lines = plan.read_text("utf-8").splitlines()
    place = lines.index("tasks:") + 1
    lines[place] = "  x/../../escaped:"
    plan.write_text("\n".join(lines), "utf-8")


REFUSED = {
    "zero bytes": (lambda path: path.write_bytes(b""), "a.png: empty"),
    "text for an image": (lambda path: path.write_text("<html>404</html>"), "a.png: not a readable image"),
    "truncated PNG": (cut, "a.png: cut short"),
    "truncated JPEG": (lambda path: as_jpeg(path, 0.6), "a.png: cut short"),
    "20,000 pixels a side": (huge, "a.png: larger than 89 megapixels"),
    "folder for an image": (lambda path: (path.unlink(), path.mkdir()), "a.png: no such image"),
    "symlink loop": (lambda path: (path.unlink(), path.symlink_to(path)), "a.png: no such image"),
    "label without image": (lambda path: path.unlink(), "a.png: no such image"),
    "another type": (lambda path: path.rename(path.with_suffix(".bmp")), "the folder has a.bmp"),
    "missing column": (lambda path: tell(path, "file\na.png\nb.png\n"), "no column 'label'"),
    "no file column": (lambda path: tell(path, "image,label\na.png,0\n"), "no column `file`"),
    "wrong delimiter": (lambda path: tell(path, "file|label\na.png|0\n"), "no column `file`"),
    "mixed delimiters": (lambda path: tell(path, "file,label\na.png;0\n"), "line 2 has 1 cells"),
    "duplicate key": (lambda path: tell(path, "file,label\na.png,0\na.png,1\n"), "'a.png' is listed twice"),
    "column twice": (lambda path: tell(path, "file,label,label\na.png,0,1\n"), "column 'label' is listed twice"),
    "empty table": (lambda path: tell(path, ""), "labels.csv: empty"),
    "header alone": (lambda path: tell(path, "file,label\n"), "a header and no row"),
    "open quote": (lambda path: tell(path, 'file,label\n"a.png,0\n'), "check its quotes"),
    "another encoding": (lambda path: tell(path, "file,label\na.png,否\n", "gbk"), "not UTF-8"),
    "path out of the folder": (lambda path: tell(path, "file,label\n../a.png,0\n"), "outside the folder"),
    "absolute path": (lambda path: tell(path, "file,label\n/etc/a.png,0\n"), "outside the folder"),
    "no name": (lambda path: tell(path, "file,label\n,0\n"), "names no file"),
    "task that is a path": (rename_task, "leave out slashes and a leading point"),
}

READ = {
    "grey": (lambda path: Image.fromarray(photograph()[..., 1]).save(path), True),
    "16 bits": (lambda path: cv2.imwrite(str(path), photograph()[..., ::-1].astype(np.uint16) * 257), False),
    "alpha": (lambda path: Image.fromarray(photograph()).convert("RGBA").save(path), False),
    "palette": (lambda path: Image.fromarray(photograph()).quantize(255).save(path), False),
    "CMYK": (lambda path: Image.fromarray(photograph()).convert("CMYK").save(path, "JPEG", quality=98), False),
    "JPEG under a PNG's name": (as_jpeg, False),
    "TIFF": (lambda path: Image.fromarray(photograph()).save(path, "TIFF"), False),
    "image without label": (lambda path: Image.fromarray(photograph(5)).save(path.with_name("c.png")), False),
    "blank lines and spaces": (lambda path: tell(path, "\n file , label \n\n a.png , 0 \nb.png,1\n\n"), False),
    "semicolons and a byte-order mark": (lambda path: tell(path, "\ufefffile;label\na.png;0\nb.png;1\n"), False),
    "numbers with a point": (lambda path: tell(path, "file,label\na.png,0.0\nb.png,1.0\n"), False),
}


@pytest.mark.parametrize(("spoil", "complaint"), REFUSED.values(), ids=REFUSED)
def test_it_is_refused_in_one_line_that_names_file_and_remedy(folder, spoil, complaint):
    spoil(folder / "a.png")
    with pytest.raises((ValueError, FileNotFoundError)) as refused:
        folders.load(folder, 32)
    assert complaint in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(("change", "grey"), READ.values(), ids=READ)
def test_it_is_read_as_the_plain_photograph(folder, change, grey):
    change(folder / "a.png")
    read = folders.load(folder, 32)
    expected = photograph()
    expected = expected[..., 1:2].repeat(3, axis=2) if grey else expected
    difference = read.images.pixels[0].astype(int) - images.prepare(expected, 32)
    assert read.images.keys == ["a.png", "b.png"]
    assert np.abs(difference).mean() < 8, "JPEG may move the edge by a pixel of 48"
    assert read.tasks[0].targets.tolist() == [0, 1]


@pytest.mark.parametrize("name", ["left eye 1.png", "左眼.png", "å (2)'.png"])
def test_names_with_spaces_and_of_other_scripts_are_read(folder, name):
    (folder / "a.png").rename(folder / name)
    tell(folder / "a.png", f"file,label\n{name},0\nb.png,1\n")
    assert folders.load(folder, 32).images.keys == [name, "b.png"]


def test_a_label_of_no_class_is_counted_and_not_scored(folder):
    Image.fromarray(photograph(2)).save(folder / "c.png")
    tell(folder / "a.png", "file,label\na.png,0\nb.png,1\nc.png,maybe\n")
    read = folders.load(folder, 32)
    assert read.tasks[0].targets.tolist() == [0, 1, -1]
    assert read.skipped == {"glaucoma: label that no class lists": 1}


def test_the_command_says_it_in_one_line_and_fails(folder):
    (folder / "labels.csv").write_text("image,label\na.png,0\n")
    command = [sys.executable, "-m", "visionclip.data.folders", str(folder.parent)]
    done = subprocess.run(command, cwd=runs.ROOT, env=os.environ, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "labels.csv: no column `file`" in done.stderr
