"""Age-related macular degeneration: drusen, pigment, atrophy, fluid, blood and scars."""

import cv2
import numpy as np

from visionclip.phantom.anatomy import bare_choroid
from visionclip.phantom.eye import Eye
from visionclip.phantom.lesions.shapes import DISC_DIAMETER, draw_spots, off_centre, patches


def drusen(eye: Eye) -> None:
    """Soft drusen: pale yellow mounds of 63 to over 125 micrometres (0.035-0.07 DD and more), often confluent, round
    the fovea (Beckman classification, Ferris 2013), faint, among more and smaller hard ones."""
    count, rng = int(eye.factors["drusen"]), eye.dice("drusen")
    spread = rng.uniform(0.35, 0.95)
    centres = eye.fovea + rng.normal(0, spread, (count, 2))
    median = eye.factors["drusen_size"] / 2 / DISC_DIAMETER
    radii = np.exp(rng.normal(np.log(median), 0.4, count)).clip(0.6 * median, 2.2 * median)
    small = int(count * rng.uniform(0, 2.5))
    dots = eye.fovea + rng.normal(0, 1.3 * spread, (small, 2))
    canvas = eye.canvas()
    draw_spots(eye, canvas, dots, rng.uniform(0.008, 0.018, small), rng.uniform(0.2, 0.8, small), rng, 0.15)
    draw_spots(eye, canvas, centres, radii, rng.uniform(0.25, 1, count), rng, 0.2, rng.uniform(1, 1.4, count))
    soft = eye.coverage(canvas, median * rng.uniform(0.35, 0.9))  # no sharp margin
    eye.cover("drusen", soft * rng.uniform(0.12, 0.7), (0.95, 0.76, 0.42))


def macular_pigment(eye: Eye) -> None:
    """Clumps of displaced pigment epithelium at the macula (Beckman: pigmentary abnormality; Fuchs spot in myopia)."""
    count, rng = int(eye.factors["macular_pigment"]), eye.dice("macular pigment")
    centres = eye.fovea + rng.normal(0, 0.4, (count, 2))
    canvas = eye.canvas()
    radii = np.exp(rng.normal(np.log(0.035), 0.5, count)).clip(0.012, 0.09)
    strength, stretch = rng.uniform(0.3, 1, count), rng.uniform(1, 2, count)
    draw_spots(eye, canvas, centres, radii, strength, rng, 0.3, stretch, rng.uniform(0, np.pi, count))
    alpha = eye.coverage(canvas, 0.014) * np.clip(0.8 + 0.3 * eye.noise(rng, 110), 0.2, 1.1)
    eye.absorb("pigment", alpha, (0.55, 0.6, 0.55))


def geographic_atrophy(eye: Eye) -> None:
    """Bordered loss of pigment epithelium, 175 micrometres and more, choroidal vessels seen (AREDS): sharp or fraying,
    often of several patches that have met."""
    radius, rng = eye.factors["geographic_atrophy"], eye.dice("geographic atrophy")
    more = int(rng.integers(0, 4))
    spread = np.full((more + 1, 1), 0.3 + 0.5 * radius)
    spread[0] = 0.1
    radii = np.append(radius, rng.uniform(0.08, 0.35, more))[:, None] * rng.uniform(0.7, 1, (more + 1, 2))
    edge = np.exp(rng.uniform(np.log(0.05), np.log(0.3)))
    alpha = patches(eye, eye.fovea + spread * rng.normal(0, 1, radii.shape), radii, rng, edge, 1.0)
    texture = bare_choroid(eye, rng, rng.uniform(0.35, 1))
    eye.cover("atrophy", alpha * texture * rng.uniform(0.35, 0.8), (0.94, 0.72, 0.44))


def subretinal_fluid(eye: Eye) -> None:
    """Neurosensory or pigment-epithelial detachment: a dome, yellowish-grey, with a shaded lower rim (AREDS)."""
    radius, rng = eye.factors["subretinal_fluid"], eye.dice("subretinal fluid")
    alpha = eye.region(off_centre(eye, rng, 0.15), (radius, radius * rng.uniform(0.7, 1.1)), rng, 0.2, 0.15)
    shade = cv2.GaussianBlur(alpha, (0, 0), 0.15 * eye.scale)
    eye.cover("swelling", 0.4 * alpha * shade, (0.86, 0.66, 0.40))
    eye.absorb("swelling", 1.2 * alpha * np.clip(1 - shade, 0, 1), (0.2, 0.25, 0.25))


def subretinal_blood(eye: Eye) -> None:
    """Subretinal haemorrhage: dark red to grey-green, blurred edge, retinal vessels crossing above (AREDS)."""
    radius, rng = eye.factors["subretinal_blood"], eye.dice("subretinal blood")
    alpha = eye.region(off_centre(eye, rng, 0.3), (radius, radius * rng.uniform(0.55, 1)), rng, 0.45, 0.15)
    alpha = alpha * np.clip(0.85 + 0.2 * eye.noise(rng, 9), 0, 1)
    eye.absorb("haemorrhage", alpha * rng.uniform(0.7, 1), (0.5, 0.68, 0.5))


def disciform_scar(eye: Eye) -> None:
    """Subretinal fibrosis: a raised yellow-white plaque with pigment at its border (AREDS)."""
    radius, rng = eye.factors["disciform_scar"], eye.dice("disciform scar")
    centre = off_centre(eye, rng, 0.15)
    alpha = eye.region(centre, (radius, radius * rng.uniform(0.6, 1)), rng, 0.35, 0.12)
    eye.cover("fibrosis", alpha * rng.uniform(0.6, 0.9), (0.94, 0.84, 0.62))
    rim = np.clip(4 * alpha * (1 - alpha), 0, 1) * np.clip(0.3 + eye.noise(rng, 10), 0, 1)
    eye.absorb("pigment", rim, (0.5, 0.55, 0.5))
