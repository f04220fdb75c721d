import itertools
import os
import shutil

import cv2
import numpy as np
import pytest

from visionclip import keys, runs
from visionclip.data import images, prepared


@pytest.fixture
def kept(tmp_path, monkeypatch):
    """Where prepared photographs are kept."""
    monkeypatch.setattr(prepared, "KEPT", str(tmp_path / "kept"))
    monkeypatch.setattr(prepared, "FEW", 3)
    return tmp_path / "kept"


@pytest.fixture
def photographs(tmp_path):
    """A folder of three pictures, and their names."""
    folder = tmp_path / "set"
    folder.mkdir()
    names = ["a.png", "b.png", "c.png"]
    for number, name in enumerate(names):
        paint(folder / name, 60 + 50 * number)
    return folder, names


def paint(path, level):
    picture = np.zeros((40, 50, 3), np.uint8)
    cv2.circle(picture, (25, 20), 18, (level, level, 2 * level // 3), -1)
    cv2.imwrite(str(path), picture)


def undecoded(path):
    pytest.fail(f"decoded {path.name}")


def test_what_is_prepared_is_that_of_each_file(kept, photographs):
    folder, names = photographs
    pixels, surrounds = prepared.load(folder, names, 16)
    expected = [images.prepare_counted(images.read(folder / name), 16) for name in names]
    assert np.array_equal(pixels, [one for one, _ in expected])
    assert surrounds == [kind for _, kind in expected] == ["black"] * 3


def test_it_is_read_back_without_decoding(kept, photographs, monkeypatch):
    before = prepared.load(*photographs, 16)
    monkeypatch.setattr(images, "read", undecoded)
    pixels, surrounds = prepared.load(*photographs, 16)
    assert np.array_equal(pixels, before[0])
    assert surrounds == before[1]


@pytest.mark.parametrize("change", ["pixels", "time", "size", "code", "order", "folder"])
def test_whatever_made_it_makes_it_anew(kept, photographs, monkeypatch, change):
    folder, names = photographs
    before, _ = prepared.load(folder, names, 16)
    size = 16
    if change == "pixels":
        paint(folder / "a.png", 250)
    elif change == "time":
        os.utime(folder / "a.png", (1, 1))
    elif change == "size":
        size = 24
    elif change == "code":
        monkeypatch.setattr(keys, "code", lambda *programs: "another")
    elif change == "order":
        names = names[::-1]
    else:
        folder = shutil.copytree(folder, folder.parent / "elsewhere" / "set", copy_function=shutil.copy2)
    pixels, _ = prepared.load(folder, names, size)
    assert len(list(kept.glob("*.npz"))) == 2
    expected = [images.prepare(images.read(folder / name), size) for name in names]
    assert np.array_equal(pixels, expected)
    assert np.array_equal(pixels, before) == (change in ("time", "code", "folder"))


def test_a_handful_is_not_kept(kept, photographs):
    folder, names = photographs
    prepared.load(folder, names[:2], 16)
    assert not kept.exists()


def test_the_longest_unused_goes_first(kept, photographs, monkeypatch):
    folder, names = photographs
    monkeypatch.setattr(prepared, "BYTES", 16 << 10)  # three of the following four, of 4.3 kB each
    orders = [list(order) for order in itertools.permutations(names)][:4]
    paths = []
    for order, used in zip(orders, (3, 1, 2), strict=False):
        prepared.load(folder, order, 20)
        paths += set(kept.glob("*.npz")) - set(paths)
        os.utime(paths[-1], (used, used))
    prepared.load(folder, orders[0], 20)
    prepared.load(folder, orders[3], 20)
    left = set(kept.glob("*.npz"))
    assert len(left) == 3
    assert set(paths) - left == {paths[1]}


def test_a_set_of_a_quarter_of_all_room_is_not_kept(kept, photographs, monkeypatch):
    monkeypatch.setattr(prepared, "BYTES", 4 << 10)
    prepared.load(*photographs, 32)
    assert not list(kept.glob("*.npz"))


def test_nothing_is_kept_while_another_process_keeps(kept, photographs):
    with runs.lock(kept / ".lock"):
        pixels, _ = prepared.load(*photographs, 16)
    assert len(pixels) == 3
    assert not list(kept.glob("*.npz"))


def test_an_unreadable_file_is_named_and_nothing_is_kept(kept, photographs):
    folder, names = photographs
    (folder / "b.png").write_bytes(b"no picture")
    with pytest.raises(ValueError, match=r"b\.png: not a readable image"):
        prepared.load(folder, names, 16)
    assert not list(kept.glob("*.npz"))
