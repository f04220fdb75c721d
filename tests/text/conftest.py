import numpy as np
import pytest

from visionclip import conditions
from visionclip.text import captions, grammar


@pytest.fixture(scope="session")
def eyes():
    return conditions.balanced(400, np.random.default_rng(0), unreadable=0.3)


@pytest.fixture(scope="session")
def made(eyes):
    """Captions of ``eyes``, and which belong to which."""
    return captions.table(eyes, grammar.LANGUAGES, 4, np.random.default_rng(1))
