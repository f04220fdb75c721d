"""Published trees are read as their owners pack them; the trees here hold noise, no photograph and no drawn eye."""

import json
from pathlib import Path

import cv2
import numpy as np
import pandas
import pytest
import xlwt

from visionclip.data import archives, folders


def picture(path: Path, seed: int = 0) -> None:
    pixels = np.random.default_rng(seed).integers(60, 255, (24, 32, 3), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(cv2.imencode(path.suffix.lower(), pixels)[1].tobytes())


def old_book(path: Path, header: list[str], rows: list[list]) -> None:
    """An Excel 97 file, as MESSIDOR's label books are."""
    book = xlwt.Workbook()
    sheet = book.add_sheet("labels")
    for number, cells in enumerate([header, *rows]):
        for column, cell in enumerate(cells):
            sheet.write(number, column, cell)
    path.parent.mkdir(parents=True, exist_ok=True)
    book.save(str(path))


def book(path: Path, header: list[str], rows: list[list]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pandas.DataFrame(rows, columns=header).to_excel(path, index=False)


def rows_of(folder: Path) -> dict[str, dict[str, str]]:
    """The rows of a recognised tree by file."""
    rows, _ = archives.load(folder, archives.recognise(folder))
    assert all((folder / row["file"]).is_file() for row in rows)
    return {row["file"]: row for row in rows}


HEADER = ["Image name", "Ophthalmologic department", "Retinopathy grade", "Risk of macular edema "]


@pytest.fixture
def messidor(tmp_path) -> Path:
    folder = tmp_path / "MESSIDOR"
    labels = {
        "Base11/20051020_63045_0100_PP.tif": 3,
        "Base11/20051020_43808_0100_PP.tif": 0,
        "Base33/20051202_54744_0400_PP.tif": 1,
        "Base33/20051202_55582_0400_PP.tif": 1,
    }
    for number, file in enumerate(labels):
        picture(folder / file, number)
    for base in ("11", "33"):
        rows = [[Path(file).name, "Brest", grade, 2] for file, grade in labels.items() if f"Base{base}" in file]
        old_book(folder / f"Base{base}" / f"Annotation_Base{base}.xls", HEADER, rows)
    return folder


def test_messidor_has_its_errata_and_its_twins(messidor):
    rows = rows_of(messidor)
    assert rows["Base11/20051020_63045_0100_PP.tif"]["messidor_grade"] == "0"
    assert rows["Base11/20051020_43808_0100_PP.tif"]["dme_risk"] == "2"
    assert [row["duplicate"] for row in rows.values()] == ["0", "0", "0", "1"]


def test_an_updated_label_book_replaces_the_old_one_and_errata_change_nothing_twice(messidor):
    rows = [["20051020_63045_0100_PP.tif", "Brest", 0, 0], ["20051020_43808_0100_PP.tif", "Brest", 2, 0]]
    old_book(messidor / "Annotation_Base11_update20161024.xls", HEADER, rows)
    read = rows_of(messidor)
    assert read["Base11/20051020_63045_0100_PP.tif"]["messidor_grade"] == "0"
    assert read["Base11/20051020_43808_0100_PP.tif"]["messidor_grade"] == "2"


def test_messidor_is_scored_without_its_twins(messidor):
    read = folders.load(messidor, 16)
    assert len(read) == 3
    assert read.skipped["duplicate is 1"] == 1
    assert any("published are 0: 546" in remark for remark in read.remarks)


def test_there_are_thirteen_twins():
    assert len(archives.MESSIDOR_TWINS) == 13


def test_what_lacks_its_other_half_is_counted(messidor):
    picture(messidor / "Base12/20051021_00001_0100_PP.tif")
    (messidor / "Base11/20051020_43808_0100_PP.tif").unlink()
    _, remarks = archives.load(messidor, "messidor")
    assert "1 labels without an image" in remarks
    assert "1 images without a label" in remarks


def test_one_name_twice_is_refused(messidor):
    picture(messidor / "copy/20051020_43808_0100_pp.TIF")
    with pytest.raises(ValueError, match="the same name as"):
        archives.load(messidor, "messidor")


@pytest.mark.parametrize("content", [b"", b"no spreadsheet"])
def test_a_broken_label_book_is_named(messidor, content):
    (messidor / "Base11/Annotation_Base11.xls").write_bytes(content)
    with pytest.raises(ValueError, match=r"Annotation_Base11\.xls: not readable as a table") as refused:
        archives.load(messidor, "messidor")
    assert "\n" not in str(refused.value)


def test_a_label_book_without_its_column_is_named(messidor):
    old_book(messidor / "Base11/Annotation_Base11.xls", HEADER[:3], [["a.tif", "Brest", 1]])
    with pytest.raises(ValueError, match=r"Annotation_Base11\.xls: no column like 'risk of macular"):
        archives.load(messidor, "messidor")


def test_messidor2_matches_capitals_and_pairs_eyes(tmp_path):
    folder = tmp_path / "messidor2"
    for number, name in enumerate(["IM001.JPG", "IM002.JPG", "20060411_1_0200_PP.png", "IM003.JPG"]):
        picture(folder / "IMAGES" / name, number)
    (folder / "messidor_data.csv").write_text(
        "image_id,adjudicated_dr_grade,adjudicated_dme,adjudicated_gradable\n"
        "IM001.jpg,0,0,1\nIM002.jpg,2.0,1,1\n20060411_1_0200_PP.png,4,0,1\nIM003.jpg,,,0\n"
    )
    (folder / "messidor-2.csv").write_text("Left;Right\nIM001.JPG;IM002.JPG\n20060411_1_0200_PP.png;IM003.JPG\n")
    rows = rows_of(folder)
    assert rows["IMAGES/IM002.JPG"]["dr_grade"] == "2"
    assert rows["IMAGES/IM001.JPG"]["group"] == rows["IMAGES/IM002.JPG"]["group"]
    assert rows["IMAGES/IM001.JPG"]["group"] != rows["IMAGES/20060411_1_0200_PP.png"]["group"]
    assert len(folders.load(folder, 16)) == 3


@pytest.mark.parametrize(
    "written", ["{}", "{}.jpg", "{}.jpeg", "images/{}.JPG", "images\\{}.jpg", "./{}.jpg", " {}.jpg "]
)
def test_names_in_published_labels_may_lack_their_extension_or_differ_in_it(tmp_path, written):
    folder = tmp_path / "m2"
    for number in range(2):
        picture(folder / "images" / f"IM00{number}.JPG", number)
    lines = [f"{written.format(f'im00{number}')},{number}" for number in range(2)]
    (folder / "train.csv").write_text("\n".join(["id_code,diagnosis", *lines]))
    (folder / "messidor-2.csv").write_text("IM000.jpg;IM001.jpg\n")
    rows = rows_of(folder)
    assert {file: row["dr_grade"] for file, row in rows.items()} == {"images/IM000.JPG": "0", "images/IM001.JPG": "1"}


def test_the_mirror_of_messidor2_has_grades_alone(tmp_path):
    folder = tmp_path / "m2"
    for grade in range(2):
        picture(folder / "images" / f"im{grade}.png", grade)
    (folder / "train.csv").write_text("id_code,diagnosis\nim0.png,0\nim1.png,1\n")
    (folder / "messidor-2.csv").write_text("im0.png;im1.png\n")
    assert [row["dr_grade"] for row in rows_of(folder).values()] == ["0", "1"]


@pytest.fixture
def fives(tmp_path) -> Path:
    folder = tmp_path / "FIVES"
    for split in ("train", "test"):
        for number, letter in enumerate("ADGN"):
            picture(folder / split / "Original" / f"{number + 1}_{letter}.png", number)
            picture(folder / split / "Groud truth" / f"{number + 1}_{letter}.png", number)
        (folder / split / "Original" / "Thumbs.db").write_bytes(b"x")
    return folder


def test_fives_tells_eyes_of_one_name_apart(fives):
    rows = rows_of(fives)
    assert len(rows) == 8
    assert rows["train/Original/1_A.png"]["label"] == rows["test/Original/1_A.png"]["label"] == "A"
    read = folders.load(fives, 16)
    assert len(read) == 8
    assert sorted(read.tasks[0].targets) == sorted([0, 1, 2, 3] * 2)


def test_a_protocol_says_which_rows_are_reported(fives):
    assert folders.protocol_rows(fives, "flair") is None
    assert folders.protocol_rows(fives, "own") == {"split": "test"}
    whole, own = (folders.load(fives, 16, folders.protocol_rows(fives, protocol)) for protocol in ("flair", "own"))
    assert (len(whole), whole.split) == (8, "all")
    assert (len(own), own.split) == (4, "test")
    (fives / "labels.csv").write_text("file,label\n1_A.png,A\n")
    assert folders.protocol_rows(fives, "own") is None  # a table of one's own comes before what the tree looks like
    with pytest.raises(ValueError, match="choose flair or own"):
        folders.protocol_rows(fives, "mine")


def refuge(folder: Path) -> Path:
    for name in ("Glaucoma/g0001.jpg", "Non-Glaucoma/n0001.jpg", "Non-Glaucoma/n0002.jpg", "AMD/A0001.jpg"):
        picture(folder / "Training400" / name)
    for number in range(1, 4):
        picture(folder / "REFUGE-Validation400" / f"V000{number}.jpg")
        picture(folder / "Test400" / f"T000{number}.jpg")
    rows = [[f"V000{number}.jpg", 800.5, 700.5, int(number == 1)] for number in range(1, 4)]
    header = ["ImgName", "Fovea_X", "Fovea_Y", "Glaucoma Label"]
    book(folder / "REFUGE-Validation400-GT/Fovea_locations.xlsx", header, rows)
    return folder


def test_refuge_leaves_out_a_split_whose_labels_are_not_there(tmp_path):
    folder = refuge(tmp_path / "REFUGE")
    rows, remarks = archives.load(folder, archives.recognise(folder))
    labels = sorted((row["split"], row["glaucoma"]) for row in rows)
    assert labels == [("train", "0"), ("train", "0"), ("train", "1"), ("val", "0"), ("val", "0"), ("val", "1")]
    assert "3 images of test, whose labels are not there" in remarks
    assert folders.load(folder, 16).split == "train"


def test_refuge_reads_the_labels_of_its_test_split(tmp_path):
    folder = refuge(tmp_path / "REFUGE")
    rows = [[f"T000{number}.jpg", int(number == 3), 1.0, 1.0] for number in range(1, 4)]
    header = ["ImgName", "Label(Glaucoma=1)", "Fovea_X", "Fovea_Y"]
    book(folder / "REFUGE-Test-GT/Glaucoma_label_and_Fovea_location.xlsx", header, rows)
    read = folders.load(folder, 16, {"split": "test"})
    assert read.tasks[0].targets.tolist() == [0, 0, 1]


def test_a_copy_of_refuge_with_indices_is_never_all_negative(tmp_path):
    folder = tmp_path / "copy"
    for split, labelled in (("train", True), ("val", True), ("test", False)):
        entries = {}
        for number in range(3):
            picture(folder / split / "Images" / f"{split[0]}{number}.jpg", number)
            entries[str(number)] = {"ImgName": f"{split[0]}{number}.jpg"} | ({"Label": number % 2} if labelled else {})
        (folder / split / "index.json").write_text(json.dumps(entries))
    rows, remarks = archives.load(folder, "refuge")
    assert [row["glaucoma"] for row in rows if row["split"] == "train"] == ["0", "1", "0"]
    assert not [row for row in rows if row["split"] == "test"]
    assert "3 images of test, whose labels are not there" in remarks


def test_idrid_tells_the_splits_apart(tmp_path):
    folder = tmp_path / "B. Disease Grading"
    for split, word in (("a. Training Set", "Training"), ("b. Testing Set", "Testing")):
        lines = ["Image name,Retinopathy grade,Risk of macular edema ,,"]
        for number in range(1, 6):
            picture(folder / "1. Original Images" / split / f"IDRiD_00{number}.jpg", number)
            lines.append(f"IDRiD_00{number},{number - 1},{number % 3},,")
        place = folder / "2. Groundtruths"
        place.mkdir(exist_ok=True)
        (place / f"{split[:2]} IDRiD_Disease Grading_{word} Labels.csv").write_text("\n".join(lines))
    read = folders.load(folder, 16)
    assert (read.split, len(read)) == ("test", 5)
    assert read.tasks[0].targets.tolist() == [0, 1, 2, 3, 4]
    assert all("Testing" in key for key in read.images.keys)


def test_palm_reads_classes_from_names_and_from_its_book(tmp_path):
    folder = tmp_path / "PALM"
    for name in ("H0001", "N0001", "P0001"):
        picture(folder / "PALM-Training400" / f"{name}.jpg")
    for number in (1, 2):
        picture(folder / "PALM-Validation400" / f"V000{number}.jpg")
    header = ["imgName", "Label", "Fovea_X", "Fovea_Y"]
    rows = [["V0001.jpg", 1, 1.0, 1.0], ["V0002.jpg", 0, 1.0, 1.0]]
    book(folder / "PM_Label_and_Fovea_Location.xlsx", header, rows)
    read = rows_of(folder)
    assert read["PALM-Training400/P0001.jpg"]["pm"] == "1"
    assert read["PALM-Training400/H0001.jpg"]["pm"] == "0"
    assert folders.load(folder, 16).tasks[0].targets.tolist() == [1, 0]


def test_odir_labels_each_eye_by_its_own_keywords(tmp_path):
    folder = tmp_path / "ODIR-5K"
    for name in ("0_left", "0_right", "1_left", "1_right"):
        picture(folder / "ODIR-5K_Training_Dataset" / f"{name}.jpg")
    header = ["ID", "Left-Fundus", "Right-Fundus", "Left-Diagnostic Keywords", "Right-Diagnostic Keywords", "N", "C"]
    rows = [
        [0, "0_left.jpg", "0_right.jpg", "cataract", "normal fundus", 0, 1],
        [1, "1_left.jpg", "1_right.jpg", "suspected glaucoma，pathological myopia", "anterior segment image", 0, 0],
    ]
    book(folder / "ODIR-5K_Training_Annotations(Updated)_V2.xlsx", header, rows)
    read = rows_of(folder)
    left, right = (read[f"ODIR-5K_Training_Dataset/0_{side}.jpg"] for side in ("left", "right"))
    assert (left["cataract"], right["cataract"]) == ("1", "0")
    assert left["group"] == right["group"]
    other = read["ODIR-5K_Training_Dataset/1_left.jpg"]
    assert (other["pm"], other["gc"]) == ("1", "")
    assert read["ODIR-5K_Training_Dataset/1_right.jpg"]["unusable"] == "1"


def test_a_published_tree_is_found_and_described(fives, monkeypatch, capsys):
    monkeypatch.setenv("VISIONCLIP_EXTERNAL", str(fives.parent))
    assert folders.find(fives.parent) == [fives]
    assert "fives" not in [one.folder for one in folders.missing(fives.parent)]
    folders.main([])
    printed = capsys.readouterr().out
    assert "found    FIVES: 8 images, tasks disease" in printed
    assert "missing  MESSIDOR: 1200 images of" in printed


def test_links_are_not_followed_and_other_folders_are_nothing(fives):
    (fives / "train" / "loop").symlink_to(fives)
    assert len(rows_of(fives)) == 8
    empty = fives.parent / "notes"
    empty.mkdir()
    assert archives.recognise(empty) is None


def test_images_alone_are_refused_with_the_reason(tmp_path):
    folder = tmp_path / "REFUGE"
    picture(folder / "REFUGE-Validation400" / "V0001.jpg")
    with pytest.raises(ValueError, match="1 images of val, whose labels are not there"):
        archives.load(folder, "refuge")
