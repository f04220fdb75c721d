"""Rules for all tests: no downloads, and notebooks compared by what they print."""

import os

# Set before any library reads them: a test that needs the network is wrong.
os.environ.update(HF_HUB_OFFLINE="1", TRANSFORMERS_OFFLINE="1")

# Figures and tables are drawn for people; what must hold is printed as rounded text.
DRAWN = ("text/html", "image/png", "image/jpeg", "image/svg+xml", "application/javascript", "stderr")


def pytest_configure(config):
    if config.option.nbval:  # committed outputs must not depend on the photographs of one machine
        for name in ("VISIONCLIP_EXTERNAL", "VISIONCLIP_MARKS"):
            os.environ.pop(name, None)


def pytest_collectstart(collector):
    if collector.path.suffix == ".ipynb" and hasattr(collector, "skip_compare"):
        collector.skip_compare += DRAWN
