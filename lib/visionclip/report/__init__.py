"""Reports of runs: pages of notebooks, cards of models and data, and the figures that notebooks draw."""
