"""A photograph without optics in the way, so that pixels change only where paint went."""

CLEAR = {
    "blur": 0,
    "noise": 0,
    "haze": 0,
    "jpeg_quality": 100,
    "lens_opacity": 0,
    "field_shape": "circle",
    "colour": "pink",
    "exposure": 1,
    "tint": 0,
    "strangeness": 0,
    "saturation": 1,
    "local_contrast": 0,
    "sharpening": 0,
    "aberration": 0,
}
