import dataclasses
from pathlib import Path

import cv2
import numpy as np
import pytest

from visionclip.data import folders, images

TASKS = """\
drop: {dup_conflict: 1}
test: {split: test}
tasks:
  dr_grade:
    column: grade
    ordinal: true
    classes:
      - {name: none, values: [0], conditions: [{dr_grade: 0}]}
      - {name: mild or worse, values: [1, 2], conditions: [{dr_grade: 1}, {dr_grade: 2}]}
  edema:
    column: risk
    classes:
      - {name: no edema, values: ["no"], conditions: [{dme: 0}]}
      - {name: edema, values: [yes], conditions: [{dme: 1, dr_grade: 2}]}
"""
LABELS = """\
file,split,grade,risk,dup_conflict
images/a.png,test,0,no,0
images/b.png,test,1,yes,0
images/c.png,test,2.0,,0
images/d.png,test,7,no,0
images/e.png,test,1,yes,1
images/f.png,train,0,no,0
images/g.png,train,1,yes,0
"""


def picture(path: Path, seed: int = 0, shape: tuple[int, int] = (30, 40)) -> np.ndarray:
    """Write random pixels, bright enough to be field of view everywhere, and return them as RGB."""
    pixels = np.random.default_rng(seed).integers(60, 255, (*shape, 3), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    encoded = cv2.imencode(path.suffix, cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))[1]
    path.write_bytes(encoded.tobytes())
    return pixels


@pytest.fixture
def folder(tmp_path) -> Path:
    """A dataset of five test and two train images."""
    place = tmp_path / "clinic"
    for seed, letter in enumerate("abcdefg"):
        picture(place / "images" / f"{letter}.png", seed)
    (place / "labels.csv").write_text(LABELS, "utf-8")
    (place / "tasks.yaml").write_text(TASKS, "utf-8")
    return place


def rewrite(path: Path, old: str, new: str) -> None:
    text = path.read_text("utf-8")
    assert old in text
    path.write_text(text.replace(old, new), "utf-8")


def refused(folder: Path, kind=ValueError, load=folders.load) -> str:
    """The one line with which the folder is refused."""
    with pytest.raises(kind) as refusal:
        load(folder, 16)
    line = str(refusal.value)
    assert "\n" not in line
    return line


def test_reported_rows_are_read_as_laid_out(folder):
    dataset = folders.load(folder, 16)
    assert (dataset.name, dataset.split, len(dataset)) == ("clinic", "test", 4)
    assert dataset.images.keys == [f"images/{letter}.png" for letter in "abcd"]
    assert dataset.images.pixels.shape == (4, 16, 16, 3)
    assert dataset.images.pixels.dtype == np.uint8
    assert dataset.images.conditions == [{}] * 4, "nothing is known of them that would train"
    assert dataset.images.sources == ["clinic"] * 4
    grade, edema = dataset.tasks
    assert (grade.name, grade.ordinal, edema.name, edema.ordinal) == ("dr_grade", True, "edema", False)
    assert [one.name for one in grade.classes] == ["none", "mild or worse"]
    assert grade.classes[1].facts == [{"dr_grade": 1}, {"dr_grade": 2}]
    assert edema.classes[1].facts == [{"dme": 1, "dr_grade": 2}]


def test_the_pixels_that_files_have_are_read_from_their_heads(folder):
    picture(folder / "images/large.png", shape=(70, 50))
    assert folders.native_sizes(folder, ["images/a.png", "images/large"]) == [30, 50]
    with pytest.raises(FileNotFoundError):
        folders.native_sizes(folder, ["images/none.png"])


def test_labels_of_no_class_are_minus_one_and_counted(folder):
    dataset = folders.load(folder, 16)
    grade, edema = dataset.tasks
    assert grade.targets.tolist() == [0, 1, 1, -1]
    assert edema.targets.tolist() == [0, 1, -1, 0]
    assert dataset.skipped == {
        "not in split 'test'": 2,
        "dup_conflict is 1": 1,
        "dr_grade: label that no class lists": 1,
        "edema: label that no class lists": 1,
    }


def test_pixels_are_the_prepared_photographs_in_the_order_of_the_rows(folder):
    dataset = folders.load(folder, 16)
    for key, pixels in zip(dataset.images.keys, dataset.images.pixels, strict=True):
        np.testing.assert_array_equal(pixels, images.prepare(images.read(folder / key), 16))
    assert len(np.unique(dataset.images.pixels.reshape(4, -1), axis=0)) == 4


def test_another_split_is_read_on_demand(folder):
    train = folders.load(folder, 16, rows={"split": "train"})
    assert (train.split, train.images.keys) == ("train", ["images/f.png", "images/g.png"])
    assert folders.load(folder, 16, rows={}).split == "all"
    assert folders.load(folder, 16, rows={"dup_conflict": 0}).split == "dup_conflict 0"


def test_without_test_all_rows_are_reported(folder):
    rewrite(folder / "tasks.yaml", "test: {split: test}\n", "")
    dataset = folders.load(folder, 16)
    assert (dataset.split, len(dataset)) == ("all", 6)


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_separator_and_byte_order_mark_make_no_difference(folder, separator, encoding):
    expected = folders.load(folder, 16)
    (folder / "labels.csv").write_text(LABELS.replace(",", separator).replace("\n", "\r\n") + "\r\n", encoding)
    dataset = folders.load(folder, 16)
    assert dataset.images.keys == expected.images.keys
    assert dataset.skipped == expected.skipped


def test_quoted_cells_and_spaces_in_headers_are_read(folder):
    rewrite(folder / "labels.csv", "file,split,grade,", '"file", split ,grade ,')
    rewrite(folder / "labels.csv", "images/a.png", '"images/a, left.png"')
    (folder / "images/a.png").rename(folder / "images/a, left.png")
    assert folders.load(folder, 16).images.keys[0] == "images/a, left.png"


def test_names_outside_ascii_are_read(folder):
    (folder / "images/a.png").rename(folder / "images/眼底 é.png")
    rewrite(folder / "labels.csv", "images/a.png", "images/眼底 é.png")
    assert folders.load(folder, 16).images.keys[0] == "images/眼底 é.png"


def test_a_task_whose_class_has_no_image_in_the_split_is_not_scored(folder):
    dataset = folders.load(folder, 16, rows={"split": "train", "grade": "0"})
    assert dataset.tasks == []
    assert dataset.unscored == {
        "dr_grade": "class 'mild or worse' has no image in split 'train, grade 0'",
        "edema": "class 'edema' has no image in split 'train, grade 0'",
    }


def test_a_class_without_any_image_is_told_apart(folder):
    rewrite(folder / "labels.csv", "yes", "no")
    dataset = folders.load(folder, 16)
    assert [task.name for task in dataset.tasks] == ["dr_grade"]
    assert dataset.unscored == {"edema": "class 'edema' has no image in labels.csv"}


def test_datasets_are_found_directly_below_a_folder(folder):
    (folder.parent / "seeds").mkdir()
    (folder.parent / "seeds/labels.csv").write_text("file\n", "utf-8")
    (folder.parent / "notes").mkdir()
    (folder.parent / "labels.txt").write_text("", "utf-8")
    assert [path.name for path in folders.find(folder.parent)] == ["clinic", "seeds"]


def test_a_dataset_folder_given_for_its_parent_is_refused(folder):
    with pytest.raises(ValueError, match="itself a dataset"):
        folders.find(folder)
    assert folders.find(folder / "nowhere") == []


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("", "empty"),
        (" \n\n", "empty"),
        ("file,split,grade,risk,dup_conflict\n", "no row"),
        ("path,grade\nimages/a.png,0\n", "no column `file`"),
        ("file,grade,grade\nimages/a.png,0,0\n", "column 'grade' is listed twice"),
        ("file,split,risk,dup_conflict\nimages/a.png,test,no,0\n", "no column 'grade'"),
        ("file,grade,risk,dup_conflict\nimages/a.png,0,no,0\n", "no column 'split'"),
        ("file,split,grade,risk\nimages/a.png,test,0,no\n", "no column 'dup_conflict'"),
        (LABELS + "images/h.png,test,0\n", "line 9 has 3 cells, the header 5"),
        (LABELS + ",test,0,no,0\n", "line 9 names no file"),
        (LABELS + "images/a.png,test,0,no,0\n", "images/a.png' is listed twice"),
        (LABELS + "./images//a.png,test,0,no,0\n", "images/a.png' is listed twice"),
        (LABELS + '"images/h.png,test,0,no,0\n', "is no CSV"),
        (LABELS.replace("test", "hidden"), "no row is left of split 'test'"),
    ],
)
def test_malformed_labels_are_refused_in_one_line_that_names_the_file(folder, content, complaint):
    (folder / "labels.csv").write_text(content, "utf-8")
    line = refused(folder)
    assert "labels.csv" in line
    assert complaint in line


@pytest.mark.parametrize(
    "file", ["../secret.png", "images/../../secret.png", "/etc/secret.png", "..\\secret.png", "C:\\secret.png"]
)
def test_a_file_outside_the_folder_is_refused_even_in_another_split(folder, file):
    picture(folder.parent / "secret.png")
    rewrite(folder / "labels.csv", "images/f.png", file)
    line = refused(folder)
    assert "labels.csv: line 7" in line
    assert "outside the folder" in line


def test_labels_in_another_encoding_are_refused(folder):
    (folder / "labels.csv").write_text(LABELS.replace("images/a", "images/é"), "latin-1")
    assert "labels.csv: not UTF-8" in refused(folder)


def test_labels_that_are_not_there_are_named(folder):
    (folder / "labels.csv").unlink()
    assert "labels.csv: no such file" in refused(folder, FileNotFoundError)


def test_without_tasks_it_is_said_how_to_write_them(folder):
    (folder / "tasks.yaml").unlink()
    line = refused(folder)
    assert "tasks.yaml: no such file; write" in line
    assert "conditions: [{dr_grade: 0}]" in line


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("column: grade", "column: stage", "no column 'stage'"),
        ("{dr_grade: 2}]", "{retinopathy: 2}]", "unknown condition 'retinopathy'"),
        ("{dr_grade: 2}]", "{dr_grade: 9}]", "dr_grade is 9"),
        ("{dr_grade: 2}]", "{dr_grade: yes}]", "dr_grade is 'yes'"),
        ("values: [1, 2]", "values: [0, 1]", "value '0' is listed twice"),
        ("values: [1, 2]", "values: [1, 1.0]", "value '1' is listed twice"),
        ("values: [1, 2]", "values: 1", "values must be a list"),
        ("values: [1, 2]", "values: ['', 1]", "values must be a list of labels, none empty"),
        ("values: [1, 2], ", "", "values is missing"),
        ("name: mild or worse", "name: none", "class 'none' is listed twice"),
        ("name: mild or worse", "name: [a]", "name must be text"),
        ("[{dr_grade: 1}, {dr_grade: 2}]", "{dr_grade: 1}", "conditions must be a list"),
        ("      - {name: none, values: [0], conditions: [{dr_grade: 0}]}\n", "", "two or more"),
        ("ordinal: true", "ordinal: maybe", "ordinal is 'maybe'"),
        ("ordinal: true", "order: true", "unknown key 'order'"),
        ("test:", "tset:", "unknown key 'tset'"),
        ("test: {split: test}", "test: test", "test must be a mapping"),
        ("test: {split: test}", "test: {split: [a, b]}", "one value each"),
        ("test: {split: test}", "test: {split: other}", "no row is left of split 'other'; correct test or drop"),
        ("  edema:", "  dr_grade:", "'dr_grade' is there twice"),
        ("column: grade", "column: [grade", "is no YAML"),
        (TASKS, "", "must be a mapping"),
        (TASKS, "tasks: {}", "tasks is missing or empty"),
    ],
)
def test_malformed_tasks_are_refused_in_one_line_that_names_the_file(folder, old, new, complaint):
    rewrite(folder / "tasks.yaml", old, new)
    line = refused(folder)
    assert "tasks.yaml" in line
    assert complaint in line


def test_a_missing_image_is_found_before_any_is_decoded(folder, monkeypatch):
    monkeypatch.setattr(images, "read", lambda path: pytest.fail("decoded"))
    (folder / "images/d.png").unlink()
    assert "images/d.png: no such image" in refused(folder, FileNotFoundError)


def test_a_missing_image_of_another_split_does_not_matter(folder):
    (folder / "images/f.png").unlink()
    assert len(folders.load(folder, 16)) == 4


@pytest.mark.parametrize(
    ("named", "stored"),
    [
        ("images/d", "images/d.png"),
        ("images/d", "images/d.PNG"),
        ("images/d.4", "images/d.4.png"),
        ("images/d.png", "images/D.PNG"),
        ("IMAGES/d.png", "images/d.png"),
        ("images/d.jpg", "images/d.jpeg"),
        ("images/d.JPEG", "images/d.jpg"),
        ("images/d.tif", "images/d.tiff"),
        ("images\\d.png", "images/d.png"),
        (".\\images\\d", "images/d.png"),
        ("./images/d.png", "images/d.png"),
        ("  images/d.png  ", "images/d.png"),
        ("images/é", "images/e\u0301.png"),
    ],
)
def test_a_name_that_can_mean_one_image_only_is_read(folder, named, stored):
    expected = folders.load(folder, 16).images.pixels
    (folder / "images/d.png").rename(folder / stored)
    rewrite(folder / "labels.csv", "images/d.png", named)
    np.testing.assert_array_equal(folders.load(folder, 16).images.pixels, expected)


def test_names_without_extension_cost_one_listing(folder, monkeypatch):
    listed = []
    listing = folders.listing.files
    monkeypatch.setattr(folders.listing, "files", lambda *given, **named: listed.append(1) or listing(*given, **named))
    folders.load(folder, 16)
    assert not listed
    rewrite(folder / "labels.csv", ".png", "")
    assert len(folders.load(folder, 16)) == 4
    assert len(listed) == 1


@pytest.mark.parametrize(
    ("named", "others", "line"),
    [
        ("images/d", ["images/d.jpg"], "labels.csv: images/d can mean images/d.jpg or images/d.png; write the whole"),
        (
            "images/d.jpg",
            ["images/d.jpeg", "images/D.JPG"],
            "labels.csv: images/d.jpg can mean images/D.JPG or images/d.jp",
        ),
        ("images/c", [], "labels.csv: file 'images/c.png' is listed twice"),
    ],
)
def test_a_name_that_can_mean_several_is_refused(folder, named, others, line):
    for other in others:
        picture(folder / other)
    rewrite(folder / "labels.csv", "images/d.png", named)
    assert line in refused(folder)


@pytest.mark.parametrize(
    ("named", "stored", "remedy"),
    [
        ("17", "0017.png", "the folder has 0017.png: write that if it is meant, as spreadsheets drop zeros"),
        ("17.0", "0017.png", "the folder has 0017.png: write that if it is meant, as spreadsheets drop zeros"),
        ("images/7_left", "images/07_left.png", "the folder has images/07_left.png: write that"),
        ("d.png", "images/d.png", "the folder has images/d.png: write that if it is meant"),
        ("images/d.jpg", "images/d.png", "the folder has images/d.png: write that if it is meant"),
        ("images/d.jpg", "images/d.txt", "add the image or leave its row out"),
        ("images/d", "images/dd.png", "add the image or leave its row out"),
        ("images/d", "images/d", ""),
    ],
)
def test_what_comes_nearest_to_a_missing_image_is_named_and_not_taken(folder, named, stored, remedy):
    (folder / "images/d.png").rename(folder / stored)
    rewrite(folder / "labels.csv", "images/d.png", named)
    if remedy:
        line = refused(folder, FileNotFoundError)
        assert "no such image, though labels.csv lists it; " in line
        assert line.endswith(remedy) or remedy in line
    else:
        assert len(folders.load(folder, 16)) == 4


@pytest.mark.parametrize("content", [b"", b"not an image"])
def test_an_unreadable_image_is_named(folder, content):
    (folder / "images/d.png").write_bytes(content)
    assert f"images/d.png: {'not a readable image' if content else 'empty'}" in refused(folder)


@pytest.fixture
def seeds(tmp_path) -> Path:
    place = tmp_path / "seeds"
    for seed, letter in enumerate("ab"):
        picture(place / "images" / f"{letter}.png", seed)
    (place / "labels.csv").write_text("file;dr_grade;eye_side\nimages/a.png;3;1\nimages/b.png;0.0;0\n", "utf-8")
    return place


def test_labelled_seed_images_have_the_conditions_that_their_labels_state(seeds):
    loaded = folders.labelled(seeds, 16)
    assert loaded.pixels.shape == (2, 16, 16, 3)
    assert loaded.conditions == [{"dr_grade": 3, "eye_side": 1}, {"dr_grade": 0, "eye_side": 0}]
    assert loaded.keys == ["seed-folder-0000000", "seed-folder-0000001"]  # no point, at which a shard's key ends
    assert set(loaded.sources) == {folders.SEEDS}


def test_an_empty_cell_of_a_seed_image_is_unknown(seeds):
    rewrite(seeds / "labels.csv", "a.png;3;1", "a.png;3;")
    assert folders.labelled(seeds, 16).conditions == [{"dr_grade": 3}, {"dr_grade": 0, "eye_side": 0}]


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("dr_grade", "grade", "unknown condition 'grade'"),
        ("a.png;3;", "a.png;5;", "images/a.png: dr_grade is 5"),
        ("a.png;3;1", "a.png;;", "images/a.png states no condition"),
        ("a.png;3;", "a.png;mild;", "images/a.png: dr_grade is 'mild'"),
        ("b.png", "a.png", "'images/a.png' is listed twice"),
        ("images/a.png", "../a.png", "outside the folder"),
        ("file;dr_grade;eye_side\nimages/a.png;3;1\nimages/b.png;0.0;0\n", "file\nimages/a.png\n", "no condition"),
    ],
)
def test_seed_images_with_wrong_labels_are_refused(seeds, old, new, complaint):
    rewrite(seeds / "labels.csv", old, new)
    line = refused(seeds, load=folders.labelled)
    assert "labels.csv" in line
    assert complaint in line


def test_seed_images_that_are_not_there_are_named(seeds):
    (seeds / "images/b.png").unlink()
    assert "images/b.png" in refused(seeds, FileNotFoundError, folders.labelled)


def test_missing_lists_the_published_sets_that_are_not_there(folder):
    folder.rename(folder.parent / "REFUGE")
    absent = [one.folder for one in folders.missing(folder.parent)]
    assert absent == ["messidor", "messidor2", "fives", "idrid", "palm", "odir"]


def test_results_can_not_be_changed_by_accident(folder):
    with pytest.raises(dataclasses.FrozenInstanceError):
        folders.load(folder, 16).split = "train"


def test_images_of_one_group_are_told(folder):
    rewrite(folder / "labels.csv", "dup_conflict\n", "dup_conflict,group\n")
    text = (folder / "labels.csv").read_text("utf-8").splitlines()
    patients = ["p1", "p1", "p2", "", "p3", "p4", "p5"]
    lines = [text[0], *(f"{line},{patient}" for line, patient in zip(text[1:], patients, strict=True))]
    (folder / "labels.csv").write_text("\n".join(lines), "utf-8")
    assert folders.load(folder, 16).images.members == ["p1", "p1", "p2", "images/d.png"]


def test_a_set_is_credited_in_any_capitals_and_no_other_is_shown():
    assert "Porwal" in folders.credit("IDRiD") == folders.credit("idrid")
    assert folders.credit("clinic") == ""
