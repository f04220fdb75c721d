import cv2
import numpy as np
import pytest

from visionclip.data import images, marks

HEIGHT, WIDTH, SIZE = 200, 320, 64


def photograph(spot=(200, 80)):
    """A grey disc left of the middle of a black frame, with a bright spot."""
    picture = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    cv2.circle(picture, (150, 100), 80, (40, 60, 90), -1)
    cv2.circle(picture, spot, 12, (200, 240, 250), -1)
    return picture


def mark(spot=(200, 80), radius=12):
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    cv2.circle(mask, spot, radius, 255, -1)
    return mask


def write(path, picture):
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), picture)


@pytest.fixture
def folder(tmp_path):
    """Two photographs: of one exudate is marked and a disc isn't there, of the other nothing but exudate is known."""
    own = tmp_path / "eyes"
    write(own / "images/train_1.png", photograph())
    write(own / "images/test_2.jpg", photograph((120, 130)))
    write(own / "masks/exudate/train_1.png", mark())
    write(own / "masks/exudate/test_2.png", mark((120, 130)))
    write(own / "masks/disc/train_1.png", np.zeros((HEIGHT, WIDTH), np.uint8))
    return own


def test_a_mask_lies_where_its_photograph_shows_it(folder):
    loaded = marks.load(folder, SIZE)
    assert loaded.masks["exudate"].shape == (2, SIZE, SIZE)
    for pixels, mask in zip(loaded.pixels, loaded.masks["exudate"], strict=True):
        bright = pixels[..., 1] > 150  # the picture is written blue first, so that green stays green
        assert mask.sum() == pytest.approx(np.pi * 12**2 * (SIZE / 161) ** 2, rel=0.1)
        assert (bright & mask).sum() / (bright | mask).sum() > 0.85


def test_photographs_are_prepared_as_all_are(folder):
    loaded = marks.load(folder, SIZE)
    expected = images.prepare(images.read(folder / "images/train_1.png"), SIZE)
    np.testing.assert_array_equal(loaded.pixels[loaded.keys.index("train_1")], expected)


def test_an_empty_mask_is_known_and_a_missing_one_is_not(folder):
    loaded = marks.load(folder, SIZE)
    assert (loaded.name, loaded.keys, loaded.splits) == ("eyes", ["test_2", "train_1"], ["test", "train"])
    assert {finding: known.tolist() for finding, known in loaded.known.items()} == {
        "exudate": [True, True],
        "disc": [False, True],
    }
    assert not loaded.masks["disc"].any()


def test_names_without_a_split_are_of_all(folder):
    write(folder / "images/testing.png", photograph())
    assert marks.load(folder, SIZE).splits == ["test", "all", "train"]
    chosen_by = folder.rename(folder.with_name("drive"))
    assert marks.load(chosen_by, SIZE).splits == ["test", "development", "train"]


def test_taking_photographs_takes_their_masks(folder):
    loaded = marks.load(folder, SIZE)
    one = loaded.take([1])
    assert (len(one), one.keys, one.splits) == (1, ["train_1"], ["train"])
    assert one.known["disc"].tolist() == [True]
    np.testing.assert_array_equal(one.masks["exudate"], loaded.masks["exudate"][1:])
    np.testing.assert_array_equal(one.pixels, loaded.pixels[1:])


def test_a_lesion_smaller_than_a_pixel_keeps_one(folder):
    mask = mark(radius=12)
    mask[100, 100] = mask[130, 150] = 255
    write(folder / "masks/exudate/train_1.png", mask)
    loaded = marks.load(folder, SIZE)
    shown = loaded.masks["exudate"][1].astype(np.uint8)
    pieces, _, statistics, _ = cv2.connectedComponentsWithStats(shown)
    assert sorted(statistics[1:, cv2.CC_STAT_AREA])[:2] == [1, 1]
    assert pieces == 4


def test_a_lesion_smaller_than_a_pixel_keeps_the_one_that_it_covers_most():
    mask = np.zeros((80, 80), np.uint8)
    mask[2:7, 8:14] = 255  # 2 of its columns lie in the first cell of 10 pixels, 4 in the second
    assert np.argwhere(marks._resized(mask, 8)).tolist() == [[0, 1]]


def test_masks_of_a_small_photograph_grow_with_it(folder):
    mask = marks.load(folder, 320).masks["exudate"][1]
    assert mask.sum() == pytest.approx(np.pi * 12**2 * (320 / 161) ** 2, rel=0.1)


def test_names_are_matched_without_regard_to_capitals(folder):
    (folder / "masks/exudate/train_1.png").rename(folder / "masks/exudate/Train_1.PNG")
    assert marks.load(folder, SIZE).known["exudate"].all()


@pytest.mark.parametrize("values", [(0, 255), (7, 250)])
def test_masks_may_be_a_little_off(folder, values):
    write(folder / "masks/exudate/train_1.png", np.where(mark() > 0, *values[::-1]).astype(np.uint8))
    assert 0.01 < marks.load(folder, SIZE).masks["exudate"][1].mean() < 0.03


def test_masks_of_no_finding_are_left_out_with_a_remark(folder):
    write(folder / "masks/field/train_1.png", mark())
    loaded = marks.load(folder, SIZE)
    assert list(loaded.masks) == ["exudate", "disc"]
    assert loaded.remarks == ["masks/field left out: no finding has that name"]


def test_what_surrounds_a_photograph_is_remarked(folder):
    picture = photograph()
    cv2.rectangle(picture, (280, 10), (310, 60), (255, 255, 255), -1)
    write(folder / "images/train_1.png", picture)
    assert marks.load(folder, SIZE).remarks == [
        "1 images with something beside the field of view (text, a tab, a frame), painted black"
    ]


def half(folder):
    write(folder / "masks/exudate/train_1.png", mark()[::2, ::2])


def ones(folder):
    write(folder / "masks/exudate/train_1.png", mark() // 255)


def grey(folder):
    write(folder / "masks/exudate/train_1.png", mark() // 2)


def no_image(folder):
    write(folder / "masks/exudate/train_3.png", mark())


def twice(folder):
    write(folder / "images/train_1.jpg", photograph())


def cut_photograph(folder):
    path = folder / "images/test_2.jpg"
    path.write_bytes(path.read_bytes()[:-200])


def no_mask(folder):
    (folder / "masks/exudate/train_1.png").write_bytes(b"nothing")


def no_photographs(folder):
    for path in (folder / "images").iterdir():
        path.unlink()


def renamed(folder):
    (folder / "masks/exudate").rename(folder / "masks/hard exudates")
    (folder / "masks/disc/train_1.png").unlink()


@pytest.mark.parametrize(
    ("spoil", "line"),
    [
        (half, r"masks/exudate/train_1\.png: 160×100 pixels where train_1\.png has 320×200; give both one size"),
        (ones, r"masks/exudate/train_1\.png: holds 1; write 0 where nothing is, 255 where it is marked"),
        (grey, r"masks/exudate/train_1\.png: holds 127; write 0"),
        (no_image, r"masks/exudate/train_3\.png: no image train_3 in images; name the mask as its image or delete it"),
        (twice, r"images/train_1\.png: the same name as train_1\.jpg; keep one of the two"),
        (cut_photograph, r"images/test_2\.jpg: cut short; replace the file, or delete it with its masks"),
        (no_mask, r"masks/exudate/train_1\.png: not a readable image; replace the file"),
        (no_photographs, r"eyes/images: no image; put the photographs there"),
        (renamed, r"eyes/masks: no mask of a finding; put them in .*exudate.* \(there are hard exudates\)"),
    ],
)
def test_what_is_wrong_is_one_line(folder, spoil, line):
    spoil(folder)
    with pytest.raises(ValueError, match=line) as raised:
        marks.load(folder, SIZE)
    assert "\n" not in str(raised.value)


def test_a_set_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match="away: no set of marks; put photographs in images"):
        marks.load(tmp_path / "away", SIZE)


def test_sets_are_found_below_a_folder(folder):
    (folder.parent / "something").mkdir()
    assert marks.find(folder.parent) == [folder]
    assert marks.find(folder.parent / "away") == []
    with pytest.raises(ValueError, match="eyes: is itself a set of marks; give the folder that holds it"):
        marks.find(folder)


def test_the_environment_names_the_folder_where_the_parameter_is_at_its_default(monkeypatch, tmp_path):
    monkeypatch.setenv("VISIONCLIP_MARKS", str(tmp_path))
    assert marks.marks_folder(marks.DEFAULT_FOLDER) == tmp_path
    assert marks.marks_folder("data/mine").parts[-2:] == ("data", "mine")
    monkeypatch.delenv("VISIONCLIP_MARKS")
    assert marks.marks_folder(marks.DEFAULT_FOLDER).parts[-2:] == ("data", "marks")
