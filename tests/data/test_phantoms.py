import json

import cv2
import numpy as np
import pytest
import webdataset

from visionclip import conditions, phantom, runs, streams
from visionclip.data import images, phantoms, shards

EYES = [conditions.complete(eye) for eye in ({}, {"dr_grade": 3, "dme": 1}, {"pm": 1, "eye_side": 1}, {"dm": 1})]
STREAMS = [(7, "test", number) for number in range(4)]


def test_an_eye_follows_from_its_stream_however_many_processes_draw():
    eyes = phantoms.balanced_eyes(6, 0, "training", 0.1)
    each = [(0, "training", index) for index in range(6)]
    alone = phantoms.draw(eyes, each, 32, workers=1, masks="layout")
    together = phantoms.draw(eyes[:3], each[:3], 32, workers=2, masks="layout")
    assert np.array_equal(alone.pixels[:3], together.pixels)
    assert np.array_equal(alone.masks[:3], together.masks)
    assert alone.vectors.shape == (6, len(conditions.VECTOR_NAMES))
    assert alone.conditions == eyes
    assert alone.keys[5] == "training-0000005"
    rendered = phantom.render(eyes[2], streams.rng(0, "training", 2), 32)
    assert np.array_equal(alone.pixels[2], images.prepare(rendered.image, 32))
    assert alone.mask_names == phantom.MASKS


def test_layouts_lie_where_the_prepared_image_shows_what_they_say():
    eyes, each = [conditions.complete({})] * 6, [(0, "layouts", index) for index in range(6)]
    drawn = phantoms.draw(eyes, each, 96, workers=1, masks="layout")
    assert drawn.masks.dtype == np.uint8
    assert set(np.unique(drawn.masks)) == {0, 1}
    green = drawn.pixels[..., 1].astype(float)
    for picture, own in zip(green, drawn.masks.astype(bool), strict=True):
        field, disc, vein = (own[phantom.MASKS.index(name)] for name in ("field", "disc", "vein"))
        assert picture[field].mean() > 4 * picture[~field].mean()
        assert picture[disc & ~vein].mean() > 1.2 * picture[field & ~disc].mean()
        around = cv2.dilate(vein.astype(np.uint8), np.ones((9, 9))).astype(bool) & field & ~disc & ~vein
        assert picture[vein & ~disc].mean() < picture[around].mean()


def test_purposes_and_seeds_share_no_eye():
    eyes = [conditions.complete({})] * 3
    settings = [(0, "training"), (0, "generation"), (1, "training")]
    drawn = [phantoms.draw(eyes, [(*one, index) for index in range(3)], 32, workers=1).pixels for one in settings]
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert not any(np.array_equal(a, b) for a in drawn[one] for b in drawn[other])
    assert phantoms.balanced_eyes(9, 0, "training", 0) != phantoms.balanced_eyes(9, 0, "validation", 0)


def test_without_masks_there_are_none_and_fixed_factors_are_shared():
    plain = phantoms.draw(EYES[:1], STREAMS[:1], 48, workers=1)
    assert plain.masks is None
    assert plain.mask_names == ()
    dark = phantoms.draw(EYES[:1], STREAMS[:1], 48, workers=1, fixed={"exposure": 0.3})
    assert dark.pixels.mean() < 0.7 * plain.pixels.mean()


@pytest.fixture(scope="module")
def findings():
    return phantoms.draw(EYES, STREAMS, 96, workers=1, masks="findings")


def test_finding_maps_lie_where_the_picture_changed(findings):
    twins = [{**eye, **dict.fromkeys(conditions.DISEASES, 0)} for eye in EYES]
    healthy = phantoms.draw(twins, STREAMS, 96, workers=1, masks="findings")
    assert findings.pixels.shape == (4, 96, 96, 3)
    assert findings.masks.shape == (4, len(phantoms.FINDINGS), 24, 24)
    names = list(findings.mask_names)
    blood = findings.masks[1, names.index("haemorrhage")]
    changed = np.abs(findings.pixels[1].astype(int) - healthy.pixels[1]).sum(2).reshape(24, 4, 24, 4).mean((1, 3))
    assert changed[blood > 80].mean() > 2 * changed[blood == 0].mean()
    assert not healthy.masks[1, : names.index("disc")].any()
    assert np.array_equal(findings.masks[1, names.index("disc")], healthy.masks[1, names.index("disc")])


def test_with_finding_maps_images_are_prepared_as_photographs_are(findings):
    rendered = phantom.render(EYES[1], streams.rng(*STREAMS[1]), 96)
    assert np.array_equal(findings.pixels[1], images.prepare(rendered.image, 96))


def test_finding_maps_follow_the_crop_of_their_picture():
    """A field that leaves a margin is cropped, and the map of the disc with it: the disc is the brightest part."""
    fixed = {"field_radius": 3.2, "gaze": 1.0, "flare": 0}
    drawn = phantoms.draw(EYES[:1], [(0, "test", 3)], 192, "phantoms", 1, fixed, "findings")
    disc = drawn.masks[0, drawn.mask_names.index("disc")] > 200
    red_green = drawn.pixels[0, ..., 1].reshape(48, 4, 48, 4).mean((1, 3))
    inside = red_green > 20
    assert red_green[disc].mean() > 1.2 * red_green[inside & ~disc].mean()
    beyond = np.roll(disc, disc.sum(0).max(), axis=0) & ~disc
    assert red_green[disc].mean() > 1.2 * red_green[beyond].mean()


def test_masks_of_no_kind_and_a_size_that_does_not_fit_are_refused_before_anything_is_drawn():
    with pytest.raises(ValueError, match="'maps' are not known; choose layout or findings"):
        phantoms.draw(EYES, STREAMS, 96, masks="maps")
    with pytest.raises(ValueError, match="multiple of 4"):
        phantoms.draw(EYES, STREAMS, 98, masks="findings")


def test_a_twin_is_the_same_eye_without_its_disease():
    eyes, each = phantoms.with_healthy_twins(60, 0.35, 0, "training")
    assert len(eyes) == len(each) == 60
    twins = [place for place, one in enumerate(each) if one in each[:place]]
    assert len(twins) == 15
    for place in twins:
        diseased = eyes[each.index(each[place])]
        assert conditions.is_normal(eyes[place])
        assert not conditions.is_normal(diseased)
        assert all(eyes[place][key] == diseased[key] for key in conditions.VOCABULARY if key not in conditions.DISEASES)
    alone, _ = phantoms.with_healthy_twins(60, 0.0, 0, "training")
    assert len(alone) == 60


def masks_by_hand(**painted):
    """Masks of an eye of 100 pixels with a disc of 10 pixels at row 50, column 20, its fovea 40 to the right, and what
    is painted: the rows and columns of single pixels by mask."""
    masks = {name: np.zeros((100, 100), bool) for name in (*phantom.ANATOMY, *phantom.LESIONS)}
    masks["field"][:] = True
    masks["disc"][45:55, 15:25] = True
    masks["fovea"][49:51, 59:61] = True
    for name, places in painted.items():
        masks[name][:] = False
        for row, column in places:
            masks[name][row, column] = True
    return masks


def spots(count, row=4):
    """Single pixels that don't touch, in a row."""
    return [(row + 2 * (place // 20), 20 + 2 * (place % 20)) for place in range(count)]


# In the middle between disc and fovea, at row 49.5 and column 39.5, the quadrants meet.
UPPER_LEFT, UPPER_RIGHT, LOWER_LEFT, LOWER_RIGHT = (10, 10), (10, 90), (90, 10), (90, 90)


def test_an_eye_without_lesions_shows_none_anywhere():
    facts = phantoms.observed(masks_by_hand())
    assert facts == {key: 0 for key in conditions.OBSERVED}


@pytest.mark.parametrize("key", conditions.COUNTED)
@pytest.mark.parametrize("more", [0, 1])
def test_many_are_more_pieces_than_the_limit_of_their_kind(key, more):
    count = phantoms.MANY[key] + more
    (mask,) = conditions.FINDINGS[key].masks
    facts = phantoms.observed(masks_by_hand(**{mask: spots(count)}))
    assert (facts[key], facts[f"{key}_amount"]) == (1, 1 + more)
    assert all(not value for name, value in facts.items() if not name.startswith(key))


def test_pieces_are_counted_and_not_pixels():
    facts = phantoms.observed(
        masks_by_hand(exudate=[(row, column) for row in range(5, 15) for column in range(60, 80)])
    )
    assert facts["exudate_amount"] == 1


@pytest.mark.parametrize(("away", "at_the_macula"), [(0, 1), (14, 1), (16, 0), (39, 0)])
def test_the_macula_is_one_and_a_half_disc_diameters_around_the_fovea(away, at_the_macula):
    for place in ((49, 60 + away), (49 - away, 60)):
        facts = phantoms.observed(masks_by_hand(drusen=[place]))
        assert facts["drusen_macula"] == at_the_macula


@pytest.mark.parametrize(
    ("places", "quadrants"),
    [
        ([UPPER_LEFT], 1),
        ([UPPER_LEFT, (12, 30)], 1),
        ([UPPER_LEFT, UPPER_RIGHT], 2),
        ([UPPER_LEFT, LOWER_RIGHT], 2),
        ([UPPER_LEFT, UPPER_RIGHT, LOWER_LEFT], 3),
        ([UPPER_LEFT, UPPER_RIGHT, LOWER_LEFT, LOWER_RIGHT], 4),
        ([(49, 39), (50, 39), (49, 40), (50, 40)], 4),
    ],
)
def test_quadrants_meet_in_the_middle_between_disc_and_fovea(places, quadrants):
    assert phantoms.observed(masks_by_hand(haemorrhage=places))["haemorrhage_quadrants"] == quadrants


@pytest.mark.parametrize("unseen", ["disc", "fovea"])
def test_where_disc_or_fovea_is_not_seen_places_are_unknown_and_the_rest_is_not(unseen):
    facts = phantoms.observed(masks_by_hand(**{unseen: [], "exudate": spots(3)}))
    assert (facts["exudate"], facts["exudate_amount"], facts["haemorrhage_amount"]) == (1, 1, 0)
    assert not [key for key in facts if key.endswith(("_macula", "_quadrants"))]


def test_what_is_not_counted_is_there_or_not():
    facts = phantoms.observed(masks_by_hand(neovessel=[UPPER_LEFT]))
    assert facts["neovessel"] == 1
    assert not [key for key in facts if key.startswith("neovessel_")]
    assert "disc" not in facts


def test_a_drawn_eye_states_what_its_maps_show_and_never_contradicts_itself(findings):
    lesions = [key for key, finding in conditions.FINDINGS.items() if finding.lesion]
    for eye, maps, given in zip(findings.conditions, findings.masks, EYES, strict=True):
        assert given.items() <= eye.items()
        assert conditions.check(eye, "a phantom") == eye
        assert eye.keys() <= conditions.FACTS.keys()
        assert set(lesions) <= eye.keys()
        for key in lesions:
            if maps[findings.mask_names.index(key)].any():  # a lesion at the rim may be cut off with it
                assert eye[key] == 1
        assert eye.items() <= conditions.implied(eye).items()
    assert findings.conditions[1]["haemorrhage"] == 1
    assert findings.conditions[0]["exudate"] == 0


def test_other_kinds_of_masks_state_no_finding():
    plain = phantoms.draw(EYES[:1], STREAMS[:1], 32, workers=1, masks="layout")
    assert plain.conditions == EYES[:1]


def test_twins_have_the_share_of_readability_faults_that_is_wanted():
    for unreadable, least, most in ((0.0, 0, 0), (1.0, 60, 60)):
        eyes, _ = phantoms.with_healthy_twins(60, 0.35, 0, "training", unreadable)
        assert least <= sum(any(not eye[key] for key in conditions.READABILITY) for eye in eyes) <= most


def test_maps_are_of_the_findings_of_the_one_vocabulary(findings):
    assert findings.mask_names == tuple(conditions.FINDINGS)
    assert all(set(finding.masks) <= {*phantom.ANATOMY, *phantom.LESIONS} for finding in conditions.FINDINGS.values())


SETTINGS = {"count": 5, "size": 32, "seed": 3, "purpose": "training phantoms", "per_shard": 2, "workers": 1}


def test_streamed_phantoms_are_those_that_are_drawn_and_go_on_where_they_stopped(tmp_path):
    phantoms.stream(tmp_path, **SETTINGS)
    first, *_, last = sorted(tmp_path.glob("*.tar"))
    loaded = shards.load(tmp_path)
    eyes = phantoms.balanced_eyes(5, 3, "training phantoms", 0.1)
    drawn = phantoms.draw(eyes, [(3, "training phantoms", index) for index in range(5)], 32, workers=1)
    assert np.array_equal(loaded.pixels, drawn.pixels)
    assert (loaded.conditions, loaded.keys, loaded.sources) == (eyes, drawn.keys, drawn.sources)

    kept, written = first.stat().st_mtime_ns, last.read_bytes()
    last.unlink()
    phantoms.stream(tmp_path, **SETTINGS)
    assert first.stat().st_mtime_ns == kept
    assert last.read_bytes() == written


def test_a_folder_of_other_phantoms_is_refused(tmp_path, monkeypatch):
    phantoms.stream(tmp_path, **SETTINGS)
    for changed in ({"size": 64}, {"purpose": "other phantoms"}):
        with pytest.raises(ValueError, match="phantoms of other settings"):
            phantoms.stream(tmp_path, **{**SETTINGS, **changed})
    monkeypatch.setattr(phantoms.keys, "code", lambda *_: "drawn otherwise")
    with pytest.raises(ValueError, match="phantoms of other settings"):
        phantoms.stream(tmp_path, **SETTINGS)


def test_a_streamed_sample_carries_every_mask_and_the_parameters(tmp_path):
    phantoms.main(["--count", "1", "--size", "48", "--workers", "1", "--out", str(tmp_path)])
    (sample,) = webdataset.WebDataset(str(tmp_path / "00000.tar"), shardshuffle=False)
    eye = phantoms.balanced_eyes(1, 0, "training phantoms", 0.1)[0]
    drawn = phantom.render(eye, streams.rng(0, "training phantoms", 0), 48)
    stacked = cv2.imdecode(np.frombuffer(sample["masks.png"], np.uint8), cv2.IMREAD_GRAYSCALE)
    masks = dict(zip((*phantom.ANATOMY, *phantom.LESIONS), stacked.reshape(-1, 48, 48) > 0, strict=True))
    assert all(np.array_equal(masks[name], drawn.masks[name]) for name in masks)
    written = json.loads(sample["json"])["parameters"]
    assert written == {**phantoms.ABSENT, **json.loads(json.dumps(drawn.parameters))}


def test_wrong_arguments_of_the_command_are_refused(tmp_path, capsys):
    with pytest.raises(SystemExit):
        phantoms.main(["--count", "0", "--out", str(tmp_path)])
    assert "count must be at least 1" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_parameters_have_the_same_names_and_types_in_every_eye():
    """Whole numbers that may be fractional elsewhere, as 0 and 0.4, kept `datasets` from joining the shards' JSON."""
    types = set()
    for index, eye in enumerate(phantoms.balanced_eyes(120, 0, "types", 0.3)):
        parameters = phantom.render(eye, streams.rng(0, "types", index), 32).parameters
        written = json.loads(json.dumps(phantoms._typed(parameters)))
        assert written == phantoms.ABSENT | parameters, "no value is changed"
        types.add(tuple(sorted((name, type(value).__name__) for name, value in written.items())))
    (only,) = types
    whole = {name for name, kind in only if kind == "int"} - {"laser_spots"}
    assert whole == phantoms.COUNTS


def test_a_folder_of_shards_has_one_writer(tmp_path, capsys):
    arguments = ["--count", "2", "--size", "32", "--workers", "1", "--out", str(tmp_path / "eyes")]
    with runs.lock(tmp_path / ".eyes.lock"), pytest.raises(SystemExit) as caught:
        phantoms.main(arguments)
    assert caught.value.code == 2
    assert "eyes: process" in capsys.readouterr().err
    assert not (tmp_path / "eyes").exists()
    phantoms.main(arguments)
    assert (tmp_path / "eyes/00000.tar").is_file()
