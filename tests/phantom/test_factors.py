"""Factors stay within their limits, twins share what no disease leads, and ranges say how often what is innocent is."""

import numpy as np
import pytest

from visionclip.conditions import DISEASES, VOCABULARY, complete
from visionclip.phantom import FACTORS, USUAL, Ranges
from visionclip.phantom.factors import Dice, draw


def factors(conditions, seed, ranges=USUAL, **fixed):
    return draw(complete(conditions), Dice(np.random.default_rng(seed)), fixed, ranges)


def test_several_diseases_together_stay_within_the_limits():
    rng = np.random.default_rng(0)
    for seed in range(600):
        ill = rng.choice(DISEASES, 3, replace=False)
        drawn = factors({key: VOCABULARY[key].highest for key in ill}, seed)
        for name, factor in FACTORS.items():
            assert factor.choices or factor.low <= drawn[name] <= factor.high, name


@pytest.mark.parametrize("disease", ["amd", "cataract"])
def test_a_twin_of_an_old_eye_shares_what_age_does_not_lead(disease):
    """The sick are older, and age leads the sheen and more: nothing that is drawn after those may shift."""
    for seed in range(60):
        healthy, ill = factors({}, seed), factors({disease: 1}, seed)
        for name in ("tortuosity", "vein_dilation", "light_reflex", "cup_to_disc", "crescent", "colour", "ghosts"):
            assert healthy[name] == ill[name], name
        for name in ("dust", "shadow", "strangeness", "tint", "sharpening", "field_radius", "gaze"):
            assert healthy[name] == ill[name], name


@pytest.mark.parametrize("name", ["ghosts", "dust", "shadow", "glow", "tint", "local_contrast", "sharpening"])
def test_a_share_of_the_photographs_has_it_and_the_others_do_not_change(name):
    never, always = (Ranges(**{name: share}) for share in (0, 1))
    for seed in range(30):
        without, having = (factors({}, seed, ranges) for ranges in (never, always))
        assert not without[name]
        assert having[name]
        assert {key: value for key, value in without.items() if key != name} == {
            key: value for key, value in having.items() if key != name
        }
    usual = [bool(factors({}, seed)[name]) for seed in range(400)]
    assert np.mean(usual) == pytest.approx(getattr(USUAL, name), abs=0.12)  # hand-held cameras have more


@pytest.mark.parametrize(("name", "value"), [("strange", 1.2), ("noise", 0), ("saturation", 3), ("exposure", -1)])
def test_a_range_outside_its_limits_is_refused_by_name(name, value):
    with pytest.raises(ValueError, match=f"ranges: {name} is {value}; allowed are numbers from"):
        Ranges(**{name: value})


def test_a_large_cup_stays_large_where_the_disc_is_swollen():
    """Glaucoma with a hypertensive retinopathy of grade 4, which otherwise fills the cup."""
    ratios = [factors({"gc": 1, "htr": 1}, seed, hypertension="4")["cup_to_disc"] for seed in range(20)]
    assert min(ratios) >= 0.6
    assert max(factors({"htr": 1}, seed, hypertension="4")["cup_to_disc"] for seed in range(20)) <= 0.2
