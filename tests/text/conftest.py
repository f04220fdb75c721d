import numpy as np
import pytest

from visionclip import conditions
from visionclip.text import captions, grammar


@pytest.fixture(scope="session")
def eyes():
    return conditions.balanced(400, np.random.default_rng(0), unreadable=0.3)


@pytest.fixture(scope="session")
def observed(eyes):
    """Those eyes with all facts about findings, as whoever knows where every lesion lies would state them."""
    rng, known = np.random.default_rng(3), []
    for eye in eyes:
        facts = dict(eye)
        for key, (finding, detail) in conditions.ABOUT.items():
            lowest = 0 if detail == "macula" else 1
            drawn = int(rng.integers(lowest, conditions.OBSERVED[key].highest + 1))
            facts[key] = facts[finding] * drawn if detail else int(rng.random() < 0.3)
        known.append(conditions.check(facts, "observed"))
    return known


@pytest.fixture(scope="session")
def made(eyes):
    """Captions of ``eyes``, and which belong to which."""
    return captions.table(eyes, grammar.LANGUAGES, 4, np.random.default_rng(1))
