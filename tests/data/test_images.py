import cv2
import numpy as np
import pytest
import torch

from visionclip.data import images


@pytest.fixture
def photograph():
    """A grey disc with a bright spot to its right on a wide black frame."""
    picture = np.zeros((200, 400, 3), np.uint8)
    cv2.circle(picture, (220, 100), 80, (90, 60, 30), -1)
    cv2.circle(picture, (260, 100), 8, (250, 240, 200), -1)
    return picture


def test_prepare_crops_to_the_field_and_keeps_it_round(photograph):
    prepared = images.prepare(photograph, 64)
    field = images.field_of_view(prepared)
    assert prepared.shape == (64, 64, 3)
    assert abs(int(field.any(0).sum()) - int(field.any(1).sum())) <= 2
    assert field.mean() == pytest.approx(np.pi / 4, abs=0.05)
    bright = np.unravel_index(prepared[..., 0].argmax(), (64, 64))
    assert bright[1] > 40, "the spot stays on the right"


def test_prepare_pads_a_cut_field_and_never_stretches_it(photograph):
    cut = images.prepare(photograph[60:140], 64)
    rows = np.flatnonzero(images.field_of_view(cut).any(1))
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


@pytest.mark.parametrize("content", [b"", b"no image"])
def test_read_names_an_unreadable_file(tmp_path, content):
    (tmp_path / "眼.png").write_bytes(content)
    with pytest.raises(ValueError, match=r"眼\.png: (empty|not a readable image)"):
        images.read(tmp_path / "眼.png")


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
