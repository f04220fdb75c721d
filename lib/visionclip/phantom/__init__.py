"""Phantoms: fundus photographs drawn from clinical parameters, with a pixel-exact mask of everything drawn.

One road leads from words to pixels: ``factors`` turns conditions into numbers (counts, sizes, camera), ``anatomy``
draws the healthy eye, ``vessels`` grows its vessels, ``lesions`` draws what disease changes, ``camera`` what the
photograph adds; ``eye`` holds the paper and the brushes, and ``render`` calls them in turn. ``sets`` draws many eyes
at once.
"""

from visionclip.phantom.factors import FACTORS, USUAL, Ranges
from visionclip.phantom.render import ANATOMY, LESIONS, MASKS, Phantom, render
from visionclip.phantom.sets import render_each

__all__ = [
    "ANATOMY",
    "FACTORS",
    "LESIONS",
    "MASKS",
    "USUAL",
    "Phantom",
    "Ranges",
    "render",
    "render_each",
]
