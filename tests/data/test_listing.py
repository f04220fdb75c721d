import os
import subprocess
import sys

import pytest

from visionclip.data import listing


@pytest.fixture
def sets(tmp_path):
    """Two dataset folders."""
    for name in ("clinic/images/a.png", "clinic/images/b.png", "clinic/labels.csv", "other/c.png"):
        (tmp_path / "sets" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "sets" / name).write_text(name)
    return tmp_path / "sets"


CHANGES = {
    "replaced": lambda sets: (sets / "clinic/images/a.png").write_text("larger than it was before"),
    "replaced by as many bytes": lambda sets: os.utime(sets / "clinic/images/a.png", (1, 1)),
    "renamed": lambda sets: (sets / "clinic/images/a.png").rename(sets / "clinic/images/A.png"),
    "moved to another set": lambda sets: (sets / "other/c.png").rename(sets / "clinic/c.png"),
    "deleted": lambda sets: (sets / "clinic/images/a.png").unlink(),
    "added": lambda sets: (sets / "other/d.png").write_text(""),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_changed_photograph_changes_the_fingerprint(sets, change):
    before = listing.fingerprint(sets)
    assert listing.fingerprint(sets) == before
    change(sets)
    assert listing.fingerprint(sets) != before


def test_what_the_system_leaves_behind_changes_nothing(sets):
    before = listing.fingerprint(sets)
    for name in ("clinic/.DS_Store", "clinic/images/Thumbs.db", "__MACOSX/clinic", ".cache/a"):
        (sets / name).parent.mkdir(exist_ok=True)
        (sets / name).write_text(name)
    assert listing.fingerprint(sets) == before


def test_a_folder_that_is_not_there_has_a_fingerprint_too(tmp_path):
    (tmp_path / "empty").mkdir()
    assert listing.fingerprint(tmp_path / "none") == listing.fingerprint(tmp_path / "empty")


def test_a_linked_set_is_followed_and_links_that_lead_back_or_nowhere_end(sets, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "photograph.png").write_text("1")
    (sets / "linked").symlink_to(tmp_path / "elsewhere")
    (sets / "clinic" / "loop").symlink_to(sets)
    (sets / "clinic" / "nowhere.png").symlink_to(sets / "nothing")
    before = listing.fingerprint(sets)
    (tmp_path / "elsewhere" / "photograph.png").write_text("22")
    assert listing.fingerprint(sets) != before
    assert [path.as_posix() for path in listing.files(sets)] == [
        *("clinic/labels.csv", "clinic/nowhere.png", "clinic/images/a.png", "clinic/images/b.png", "other/c.png"),
    ]


def test_it_needs_none_of_the_libraries_that_take_long_to_import():
    program = "import sys, visionclip.data.listing; print({'torch', 'pandas', 'cv2'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
