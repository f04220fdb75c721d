import cv2
import numpy as np
import pytest

from visionclip import conditions, phantom
from visionclip.data import duplicates, images


@pytest.fixture(scope="module")
def eyes():
    """Forty eyes at 256 pixels as they leave the camera."""
    shown = conditions.balanced(40, np.random.default_rng(0), 0)
    return [phantom.render(eye, np.random.default_rng(seed), 256).image for seed, eye in enumerate(shown)]


def prepared(pictures, size=96):
    return np.stack([images.prepare(picture, size) for picture in pictures])


COPIES = {
    "the same": lambda picture: picture,
    "smaller": lambda picture: cv2.resize(picture, (180, 180), interpolation=cv2.INTER_AREA),
    "a poor JPEG": lambda picture: cv2.imdecode(cv2.imencode(".jpg", picture, (cv2.IMWRITE_JPEG_QUALITY, 60))[1], 1),
    "darker": lambda picture: (picture * 0.8).astype(np.uint8),
    "on a wider canvas": lambda picture: cv2.copyMakeBorder(picture, 0, 0, 60, 60, cv2.BORDER_CONSTANT),
}


@pytest.mark.parametrize("copy", COPIES.values(), ids=COPIES)
def test_a_copy_is_found_and_no_other_eye(eyes, copy):
    found = duplicates.pairs(prepared(eyes), prepared([copy(picture) for picture in eyes]))
    right = {(number, number) for number in range(len(eyes))}
    assert set(found) <= right
    assert len(found) >= 0.9 * len(eyes)


def test_different_eyes_are_no_duplicates_and_a_pair_is_counted_once(eyes):
    pixels = prepared(eyes)
    assert duplicates.pairs(pixels) == []
    assert duplicates.pairs(np.concatenate([pixels, pixels[3:4]])) == [(3, 40)]


def test_an_embedding_gives_candidates_that_the_hash_misses(eyes, monkeypatch):
    pixels = prepared(eyes)
    monkeypatch.setattr(duplicates, "DISTANCE", -1)  # no hash is alike
    assert duplicates.pairs(pixels, pixels) == []
    embeds = np.eye(len(eyes), dtype=np.float32)
    assert duplicates.pairs(pixels, pixels, (embeds, embeds)) == [(number, number) for number in range(len(eyes))]
    twice = np.concatenate([pixels, pixels[3:4]])
    near = np.concatenate([embeds, embeds[3:4]])
    assert duplicates.pairs(twice, None, (near, near)) == [(3, 40)]
    counted = duplicates.table({"training": pixels[:5]}, {"clinic": pixels[3:8]}, lambda some: np.ones((len(some), 1)))
    assert counted["near-duplicate pairs"].tolist() == [0, 2]


def test_the_table_counts_each_set_with_itself_and_with_what_trained(eyes):
    pixels = prepared(eyes)
    counted = duplicates.table({"training": pixels[:5]}, {"clinic": pixels[3:8], "other": pixels[20:]})
    counts = counted.set_index(["tested set", "compared with"])["near-duplicate pairs"]
    assert counts["clinic", "training"] == 2
    assert counts["clinic", "itself"] == counts["other", "training"] == counts["other", "itself"] == 0
