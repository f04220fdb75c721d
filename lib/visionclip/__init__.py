"""VisionCLIP: a language-image model of the retina, trained without one patient's photograph."""

__version__ = "0.1.0"
