"""The ground of a healthy eye: the choroid that is seen through thin pigment."""

import cv2
import numpy as np

from visionclip import streams
from visionclip.phantom import anatomy, render

PLAIN = {"field_radius": 3.3, "field_shape": "circle", "gaze": 0.5, "pigment": 0.7, "strangeness": 0}
CLEAR = {"blur": 0, "noise": 0, "jpeg_quality": 100, "haze": 0}


def stripes(seed, size=384):
    """What tessellation adds to red, its slow part left out, and the eye."""
    bare, eye = (
        render({}, streams.rng(7, "choroid", seed), size, tessellation=strength, **PLAIN, **CLEAR)
        for strength in (0, 0.5)
    )
    added = eye.image[..., 0].astype(np.float32) - bare.image[..., 0]
    return cv2.GaussianBlur(added - cv2.GaussianBlur(added, (0, 0), 8), (0, 0), 1), eye


def polar(eye):
    """Angle of every pixel at the disc (radians) and distance from it, disc diameters."""
    rows, columns = np.indices(eye.masks["field"].shape) + 0.5
    x, y = eye.parameters["disc_centre"]
    return np.arctan2(rows - y, columns - x), np.hypot(columns - x, rows - y) / eye.parameters["disc_diameter_pixels"]


def test_choroidal_vessels_are_stripes_that_fan_out_from_the_posterior_pole():
    """1 if every edge runs away from the disc, 0 if they run in all directions."""
    for seed in range(4):
        added, eye = stripes(seed)
        across, down = cv2.Sobel(added, cv2.CV_32F, 1, 0), cv2.Sobel(added, cv2.CV_32F, 0, 1)
        angle, distance = polar(eye)
        inner = (cv2.erode(eye.masks["field"].astype(np.uint8), np.ones((15, 15))) > 0) & (distance > 0.8)
        steep = (across**2 + down**2) * inner
        assert (-steep * np.cos(2 * (np.arctan2(down, across) - angle))).sum() / steep.sum() > 0.5


def test_stripes_fill_the_whole_eye_as_wide_as_the_spaces_between():
    for seed, width in enumerate((0.05, 0.065, 0.085)):
        groups = anatomy.choroid_courses(streams.rng(7, "courses", seed), np.zeros(2), width, 5.0)
        canvas = np.zeros((1000, 1000), np.uint8)  # 0.01 DD a pixel
        for lines, shares in groups:
            for line, share in zip(lines, shares, strict=True):
                thick = round(100 * width * share)
                cv2.polylines(canvas, [np.round(100 * line + 500).astype(np.int32)], False, 1, thick)
        rows, columns = np.indices(canvas.shape) - 500
        angle, distance = np.arctan2(rows, columns), np.hypot(rows, columns) / 100
        for low, high in ((0.6, 1.2), (1.2, 2.4), (2.4, 3.6), (3.6, 4.8)):
            for quarter in range(4):
                part = (distance > low) & (distance < high) & ((angle // (np.pi / 2)) % 4 == quarter)
                assert 0.25 < canvas[part].mean() < 0.75


def test_stripes_run_to_the_oblique_meridians_and_divide_at_acute_angles():
    groups = anatomy.choroid_courses(streams.rng(7, "courses", 0), np.zeros(2), 0.065, 7.0)
    lines = np.concatenate([lines[:, -1] for lines, _ in groups])
    start = np.concatenate([lines[:, 2] for lines, _ in groups[:2]])
    towards, before = (np.cos(4 * np.arctan2(ends[:, 1], ends[:, 0])).mean() for ends in (lines, start))
    assert towards < before - 0.15  # -1 on the oblique meridians, 1 on the horizontal and the vertical
    for line, _ in groups[1:]:
        out = line[:, 2] - line[:, 0]
        turn = np.abs((np.arctan2(*out.T[::-1]) - np.arctan2(*line[:, 0].T[::-1]) + np.pi) % (2 * np.pi) - np.pi)
        assert np.median(turn) < np.pi / 4


def test_the_same_stream_gives_the_same_stripes_at_any_size():
    small, large = (stripes(1, size)[0] for size in (384, 768))
    shrunk = cv2.resize(large, (384, 384), interpolation=cv2.INTER_AREA)
    assert np.corrcoef(small.ravel(), shrunk.ravel())[0, 1] > 0.7
