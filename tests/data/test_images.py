import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from visionclip.data import field_of_view, images


@pytest.fixture
def photograph():
    """A grey disc with a bright spot to its right on a wide black frame."""
    picture = np.zeros((200, 400, 3), np.uint8)
    cv2.circle(picture, (220, 100), 80, (90, 60, 30), -1)
    cv2.circle(picture, (260, 100), 8, (250, 240, 200), -1)
    return picture


def test_prepare_crops_to_the_field_and_keeps_it_round(photograph):
    prepared = images.prepare(photograph, 64)
    field = field_of_view.visible(prepared)
    assert prepared.shape == (64, 64, 3)
    assert abs(int(field.any(0).sum()) - int(field.any(1).sum())) <= 2
    assert field.mean() == pytest.approx(np.pi / 4, abs=0.05)
    bright = np.unravel_index(prepared[..., 0].argmax(), (64, 64))
    assert bright[1] > 40, "the spot stays on the right"


def test_prepare_pads_a_cut_field_and_never_stretches_it(photograph):
    cut = images.prepare(photograph[60:140], 64)
    rows = np.flatnonzero(field_of_view.visible(cut).any(1))
    assert rows[0] > 10
    assert rows[-1] < 54


def test_prepare_survives_a_black_image():
    assert not images.prepare(np.zeros((30, 50, 3), np.uint8), 16).any()


def test_shrinking_is_antialiased():
    stripes = np.full((512, 512, 3), 100, np.uint8)
    stripes[:, ::2] = 200
    assert images.prepare(stripes, 64).std() < 5


@pytest.mark.parametrize("kind", ["grey", "alpha", "16 bit"])
def test_read_converts_what_is_no_rgb(tmp_path, kind):
    picture = np.full((20, 30, 3), 120, np.uint8)
    written = {
        "grey": picture[..., 0],
        "alpha": np.dstack([picture, picture[..., 0]]),
        "16 bit": picture.astype(np.uint16) * 256,
    }[kind]
    cv2.imwrite(str(tmp_path / "eye.png"), written)
    read = images.read(tmp_path / "eye.png")
    assert read.dtype == np.uint8
    assert read.shape == (20, 30, 3)
    assert abs(int(read[0, 0, 0]) - 120) <= 1


PICTURE = np.arange(8 * 6 * 3, dtype=np.uint8).reshape(8, 6, 3)
KINDS = {
    "an image of PIL": Image.fromarray(PICTURE),
    "channels first": PICTURE.transpose(2, 0, 1),
    "a tensor": torch.from_numpy(PICTURE).permute(2, 0, 1),
    "opaque": np.dstack([PICTURE, np.full((8, 6), 255, np.uint8)]),
    "16 bits": PICTURE.astype(np.uint16) * 257,
    "12 bits": PICTURE.astype(np.int32) * 16,
    "12 bits, opaque": np.dstack([PICTURE.astype(np.uint16) * 16, np.full((8, 6), 65535, np.uint16)]),
    "fractions": PICTURE / 255,
    "a tensor with a gradient": (torch.from_numpy(PICTURE) / 255).requires_grad_(),
    "half precision": (torch.from_numpy(PICTURE) / 256 + 1 / 512).half(),
}


@pytest.mark.parametrize("given", KINDS.values(), ids=KINDS)
def test_a_picture_of_any_kind_becomes_rgb(given):
    assert np.array_equal(images.to_rgb(given), PICTURE)


@pytest.mark.parametrize("name", ["eye.png", "eye.tif"])
@pytest.mark.parametrize("factor", [257, 16])
def test_a_file_of_wide_colours_is_read_as_one_of_wide_greys(tmp_path, name, factor):
    """16 bits, and 12 in 16, of which PIL keeps the upper 8."""
    cv2.imwrite(str(tmp_path / name), PICTURE[..., ::-1].astype(np.uint16) * factor)
    assert np.array_equal(images.read(tmp_path / name), PICTURE)


def test_grey_becomes_rgb_and_what_is_fully_transparent_black():
    assert np.array_equal(images.to_rgb(PICTURE[..., 0]), PICTURE[..., :1].repeat(3, 2))
    assert np.array_equal(images.to_rgb(PICTURE[..., 0] > 30)[7, 5], [255] * 3)
    seen = np.arange(48).reshape(8, 6, 1) % 2 == 0
    for given in (
        np.dstack([PICTURE, seen * np.uint8(200)]),
        Image.fromarray(np.dstack([PICTURE, seen * np.uint8(200)])),
    ):
        assert np.array_equal(images.to_rgb(given), PICTURE * seen)


def test_the_orientation_that_a_camera_notes_is_followed(tmp_path):
    picture, noted = Image.fromarray(PICTURE), Image.Exif()
    noted[0x0112] = 6  # to be turned clockwise
    picture.save(tmp_path / "eye.png", exif=noted)
    turned = np.rot90(PICTURE, -1)
    assert np.array_equal(images.read(tmp_path / "eye.png"), turned)
    assert np.array_equal(images.to_rgb(Image.open(tmp_path / "eye.png")), turned)


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        (np.zeros((8, 6, 2), np.uint8), r"shape \(8, 6, 2\); give"),
        (np.zeros((2, 8, 6, 3), np.uint8), "give H×W"),
        (np.zeros((0, 6), np.uint8), "give H×W"),
        (np.full((8, 6), -1), "from -1 to -1; give 8 or 16 bits"),
        (np.full((8, 6), 1.5), "fractions from 0 to 1"),
        (np.full((8, 6), np.nan), "fractions from 0 to 1"),
        (np.full((8, 6), 1 << 16), "give 8 or 16 bits"),
        (np.full((8, 6), None), "array of object; give numbers"),
    ],
)
def test_what_is_no_picture_is_refused_in_one_line(given, complaint):
    with pytest.raises(ValueError, match=complaint) as refusal:
        images.to_rgb(given)
    assert "\n" not in str(refusal.value)


def test_a_jpeg_may_be_followed_by_what_a_camera_wrote_but_not_cut(tmp_path):
    path = tmp_path / "eye.jpg"
    Image.fromarray(PICTURE.repeat(9, 0).repeat(9, 1)).save(path, quality=95)
    whole = path.read_bytes()
    path.write_bytes(whole + b"\xff\xda made by a camera")
    assert images.read(path).shape == (72, 54, 3)
    path.write_bytes(whole[:-2])
    with pytest.raises(ValueError, match="cut short"):
        images.read(path)


def test_read_names_a_file_whose_pixels_are_in_no_range(tmp_path):
    Image.fromarray(np.full((8, 6), 200, np.float32)).save(tmp_path / "eye.tif")
    with pytest.raises(ValueError, match=r"eye\.tif: image: float32 from 200 to 200.*; replace the file") as refusal:
        images.read(tmp_path / "eye.tif")
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("content", [b"", b"no image"])
def test_read_names_an_unreadable_file(tmp_path, content):
    (tmp_path / "眼.png").write_bytes(content)
    with pytest.raises(ValueError, match=r"眼\.png: (empty|not a readable image)"):
        images.read(tmp_path / "眼.png")


def test_prepared_images_at_another_size(photograph):
    prepared = np.stack([images.prepare(photograph, 64), 255 - images.prepare(photograph, 64)])
    assert images.resized(prepared, 64) is prepared
    smaller, larger = images.resized(prepared, 32), images.resized(prepared, 128)
    assert (smaller.shape, smaller.dtype, larger.shape) == ((2, 32, 32, 3), np.uint8, (2, 128, 128, 3))
    averaged = prepared.reshape(2, 32, 2, 32, 2, 3).mean((2, 4))
    assert np.abs(smaller - averaged).max() <= 1, "shrunk by averaging, so that nothing small is skipped"
    assert np.abs(images.resized(larger, 64).astype(int) - prepared).mean() < 3


def test_plain_colours_are_those_of_the_picture():
    picture = np.zeros((1, 2, 2, 3), np.uint8)
    picture[0, 0, 0], picture[0, 1, 1] = (255, 0, 51), (0, 255, 0)
    seen = images.standardise(images.to_tensor(picture), plain=True)
    assert seen[0, :, 0, 0].tolist() == pytest.approx([1, -1, -0.6])
    assert seen[0, :, 1, 1].tolist() == pytest.approx([-1, 1, -1])


def test_standardise_forgets_the_camera_s_gain(photograph):
    prepared = images.to_tensor(images.prepare(photograph, 64)[None]).float()
    gain = torch.tensor([0.7, 1.0, 1.2])[None, :, None, None]
    a, b = images.standardise(prepared), images.standardise(prepared * gain)
    assert (a - b).abs().mean() < 0.05
    assert a[:, :, 0, 0].abs().max() == 0, "outside the field nothing is seen"


def test_the_third_channel_shows_small_things_and_no_shading():
    """A slow gradient vanishes in the local contrast, a small dark spot stays."""
    shaded = np.repeat(np.linspace(60, 200, 90, dtype=np.uint8)[None, :, None], 90, axis=0).repeat(3, axis=2)
    spotted = shaded.copy()
    spotted[44:47, 44:47] = 30
    plain, spot = images.standardise(images.to_tensor(np.stack([shaded, spotted])))
    assert plain[2, 20:70, 20:70].abs().max() < 0.2 * plain[1].abs().max()
    assert spot[2, 45, 45] < -2


def test_blue_is_not_looked_at(photograph):
    prepared = images.to_tensor(images.prepare(photograph, 64)[None]).float()
    without = prepared.clone()
    without[:, 2] = 0
    assert torch.equal(images.standardise(prepared), images.standardise(without))
