"""From conditions to factors: every number that decides how one phantom looks, with its range and its clinical source.

All effects of a condition pass through these factors: fixing one (``cup_to_disc=0.7``) changes that and nothing else.
Lengths are in disc diameters (1 disc diameter, DD, is about 1.8 mm), the unit of clinical grading.
"""

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from visionclip.conditions import Conditions

COLOURS = ("orange", "pink", "dim", "neutral", "red", "dull")
DEGREES = 7.03  # of visual angle in a disc diameter


@dataclass(frozen=True)
class Make:
    """What a make of camera is known by: field of view in degrees, outlines with their shares, usual colours."""

    degrees: tuple[float, float]
    outlines: dict[str, float]
    colour: str


# Fields and outlines as the public sets show them: Topcon NW6 45 degrees (MESSIDOR), Zeiss Visucam 45 and Canon CR-2 45
# (REFUGE), Kowa VX-10 50, cut above and below (IDRiD); hand-held cameras reach 30 to 45.
MAKES: dict[str, Make] = {
    "topcon": Make((43, 47), {"circle": 0.5, "notched": 0.3, "cut": 0.2}, "red"),
    "zeiss": Make((30, 47), {"circle": 0.6, "notched": 0.3, "cropped": 0.1}, "pink"),
    "canon": Make((42, 47), {"circle": 0.4, "notched": 0.3, "cut": 0.3}, "neutral"),
    "kowa": Make((46, 53), {"cut": 0.8, "circle": 0.2}, "orange"),
    "handheld": Make((30, 46), {"circle": 0.6, "cropped": 0.25, "cut": 0.15}, "dull"),
}


@dataclass(frozen=True)
class Factor:
    """A factor is a number in ``low .. high`` or, where ``choices`` are given, one of them."""

    meaning: str
    low: float = 0.0
    high: float = 1.0
    choices: tuple[str, ...] = ()


FACTORS: dict[str, Factor] = {
    "camera": Factor("make of the camera: its field, outline, usual colours and faults", choices=tuple(MAKES)),
    "colour": Factor("colour rendering", choices=COLOURS),
    "strangeness": Factor("how far colours and contrasts of every layer are beyond an eye's"),
    "exposure": Factor("overall brightness, 1 as usual", 0.2, 2.0),
    "pigment": Factor("0 blond to 1 dark fundus"),
    "age": Factor(
        "years; the young retina shines, the old one has drusen, a yellow lens and a visible choroid", 5, 100
    ),
    "field_radius": Factor("radius of the photographed field, DD; 45 degrees are about 3.2", 1.8, 5.0),
    "field_shape": Factor("outline of the field", choices=("circle", "cut", "cropped", "notched")),
    "gaze": Factor("0 macula-centred to 1 disc-centred", -0.6, 1.6),
    "rotation": Factor("head tilt, degrees", -30, 30),
    "blur": Factor("defocus, standard deviation in DD", 0, 0.5),
    "noise": Factor("sensor noise, standard deviation of [0, 1]", 0, 0.2),
    "haze": Factor("scattered light"),
    "vignette": Factor("loss of light towards the rim"),
    "unevenness": Factor("one-sided illumination"),
    "tint": Factor("how far the colours are from the usual ones of the rendering"),
    "saturation": Factor("colour saturation, 1 as the sensor has it", 0, 2),
    "local_contrast": Factor("enhancement of contrast to surroundings of half a DD", 0, 2),
    "sharpening": Factor("enhancement of edges: share of what a pixel is above its surroundings", 0, 3),
    "sharpening_radius": Factor("width of these surroundings, DD", 0, 0.1),
    "aberration": Factor("lateral chromatic aberration: share by which red is larger than blue", 0, 0.02),
    "jpeg_quality": Factor("quality of the lossy file; 100 leaves it out", 20, 100),
    "flare": Factor("crescent of stray light at the rim"),
    "dust": Factor("specks on the lens", 0, 20),
    "ghosts": Factor("count of lens ghosts: pale discs and points near the middle of the field", 0, 8),
    "shadow": Factor("depth of a blurred dark patch: an opacity before the retina, a small pupil"),
    "glow": Factor("strength of a pale veil over one side of the field"),
    "lashes": Factor("count of eyelashes in front of the lens", 0, 40),
    "lens_opacity": Factor("cataract: haze, yellowing, blur, loss of contrast"),
    "fault": Factor("why the photograph as a whole is unusable", choices=("none", "dark", "flash", "blur", "lid")),
    "macula_fault": Factor("why the macula can't be read", choices=("none", "dark", "flash", "cut")),
    "disc_fault": Factor("why the disc can't be read", choices=("none", "dark", "flash", "cut")),
    "retina_fault": Factor("why most of the retina can't be read", choices=("none", "dark", "flash", "blur")),
    "cup_to_disc": Factor("vertical cup-to-disc ratio", 0.05, 0.98),
    "cup_depth": Factor("0 a flat saucer that slopes into the rim to 1 a deep cup with a sharp edge"),
    "rim_loss": Factor("0 an even rim to 1 a tall cup that reaches the edge of the disc below or above"),
    "rim_notch": Factor("depth of a local loss of neuroretinal rim"),
    "disc_glare": Factor("overexposure of the disc, in which rim and cup are hard to tell"),
    "nerve_fibre_defect": Factor("depth of a wedge-shaped nerve-fibre defect"),
    "disc_haemorrhage": Factor("1: a splinter haemorrhage on the disc margin"),
    "disc_tilt": Factor("narrowing of the disc by oblique insertion"),
    "disc_pallor": Factor("loss of the rim's pink"),
    "disc_swelling": Factor("blurred, raised disc margin"),
    "disc_drusen": Factor("buried nodules on the disc", 0, 20),
    "crescent": Factor("width of peripapillary atrophy, DD", 0, 2.5),
    "tessellation": Factor("visibility of the choroidal vessels"),
    "sheen": Factor("nerve-fibre and internal-limiting-membrane reflex"),
    "foveal_reflex": Factor("brightness of the foveal reflex"),
    "hard_drusen": Factor("few small drusen of normal ageing (not a lesion)", 0, 12),
    "light_reflex": Factor("brightness of the reflex along the middle of a vessel"),
    "narrowing": Factor("generalised arterial narrowing"),
    "nicking": Factor("arteriovenous nicking"),
    "vein_dilation": Factor("vein calibre relative to normal", 0.7, 2.0),
    "tortuosity": Factor("vessel tortuosity relative to normal", 0.3, 5.0),
    "beading": Factor("venous beading"),
    "microaneurysms": Factor("count", 0, 200),
    "haemorrhages": Factor("count of dot and blot haemorrhages", 0, 400),
    "flames": Factor("count of flame haemorrhages", 0, 200),
    "exudates": Factor("count of hard-exudate clusters outside the macula", 0, 20),
    "macular_exudates": Factor("count of hard-exudate clusters within 1 DD of the fovea", 0, 10),
    "macular_star": Factor("1: exudates in a star round the fovea"),
    "macular_swelling": Factor("retinal thickening at the macula"),
    "cotton_wool": Factor("count of cotton-wool spots", 0, 30),
    "irma": Factor("count of intraretinal microvascular abnormalities", 0, 10),
    "neovessels": Factor("count of new-vessel fans", 0, 6),
    "preretinal": Factor("count of preretinal haemorrhages", 0, 3),
    "fibrosis": Factor("count of fibrovascular bands", 0, 4),
    "laser": Factor("count of laser scars", 0, 400),
    "drusen": Factor("count of soft drusen", 0, 300),
    "drusen_size": Factor("median diameter of soft drusen, micrometres", 40, 400),
    "macular_pigment": Factor("count of pigment clumps at the macula", 0, 30),
    "geographic_atrophy": Factor("radius of geographic atrophy, DD", 0, 2),
    "subretinal_blood": Factor("radius of subretinal haemorrhage, DD", 0, 3),
    "subretinal_fluid": Factor("radius of subretinal fluid, DD", 0, 3),
    "disciform_scar": Factor("radius of a subretinal fibrous scar, DD", 0, 2),
    "scars": Factor("count of chorioretinal scars", 0, 12),
    "active_lesions": Factor("count of active chorioretinal infiltrates", 0, 12),
    "bone_spicules": Factor("count of peripheral pigment spicules", 0, 150),
    "diffuse_atrophy": Factor("strength of diffuse myopic atrophy"),
    "patchy_atrophy": Factor("count of patches of myopic atrophy", 0, 8),
    "lacquer_cracks": Factor("count", 0, 8),
    "staphyloma": Factor("depth of a posterior staphyloma"),
    "membrane": Factor("density of an epiretinal membrane"),
    "vein_occlusion": Factor("territory of an occluded vein", choices=("none", "branch", "central")),
    "amd_stage": Factor("Beckman class", choices=("none", "early", "intermediate", "late dry", "late wet")),
    "optic_nerve": Factor("form of the anomaly", choices=("none", "pallor", "swelling", "tilt", "drusen")),
    "chorioretinal": Factor("form of the pathology", choices=("none", "scars", "active", "pigmentary")),
    "myopic_atrophy": Factor(
        "extent of myopic maculopathy", choices=("none", "peripapillary", "diffuse", "patchy", "macular")
    ),
    "hypertension": Factor("Keith-Wagener-Barker grade", choices=("none", "1", "2", "3", "4")),
}

# Forms of one condition: chosen at random, or fixed in an eye that has the condition.
FORMS: dict[str, tuple[str, ...]] = {
    "vein_occlusion": ("rvo",),
    "amd_stage": ("amd",),
    "optic_nerve": ("aon",),
    "chorioretinal": ("crp",),
    "myopic_atrophy": ("dm", "pm"),
    "hypertension": ("htr",),
}

COUNTED = (
    "microaneurysms",
    "haemorrhages",
    "flames",
    "exudates",
    "macular_exudates",
    "cotton_wool",
    "narrowing",
    "crescent",
)


class Dice:
    """One independent random stream for each name, so that what one thing draws never shifts another."""

    def __init__(self, rng: np.random.Generator):
        self.seed = int(rng.integers(2**63))

    def __call__(self, name: str) -> np.random.Generator:
        """The stream of this name, from its start."""
        return np.random.Generator(np.random.PCG64([self.seed, zlib.crc32(name.encode())]))


def check(fixed: Mapping[str, object]) -> dict[str, object]:
    """Return ``fixed`` as it is, once every name and value is allowed.

    Raises:
        ValueError: an unknown factor, or a value outside its range or choices.
    """
    for name, value in fixed.items():
        if name not in FACTORS:
            raise ValueError(f"render: unknown factor {name!r}; allowed are {', '.join(FACTORS)}")
        factor = FACTORS[name]
        if factor.choices:
            if value not in factor.choices:
                raise ValueError(f"render: {name} is {value!r}; allowed are {', '.join(factor.choices)}")
        elif not isinstance(value, int | float | np.number) or not factor.low <= value <= factor.high:
            raise ValueError(f"render: {name} is {value!r}; allowed are numbers from {factor.low} to {factor.high}")
    return dict(fixed)


@dataclass(frozen=True)
class Ranges:
    """How often and how strongly factors vary that no disease decides: what a search over the drawing may change.

    Shares of photographs (0 to 1) with ``ghosts``, ``dust`` and ``glow`` (half as many more of a hand-held camera),
    ``shadow``, ``tint``, ``local_contrast`` and ``sharpening``; share of eyes that are ``strange``; share of young
    healthy eyes with mild ``tessellation`` (up to a quarter more of old ones); the lowest ``saturation``, the strongest
    ``noise`` and the spread of ``exposure`` (log).

    Raises:
        ValueError: a number outside its limits.
    """

    strange: float = 0.2
    ghosts: float = 0.3
    dust: float = 0.25
    shadow: float = 0.2
    glow: float = 0.15
    tint: float = 0.4
    local_contrast: float = 0.35
    sharpening: float = 0.5
    tessellation: float = 0.3
    saturation: float = 0.5
    noise: float = 0.015
    exposure: float = 0.28

    def __post_init__(self) -> None:
        limits = {"saturation": (0, 1.2), "noise": (0.002, FACTORS["noise"].high)}
        for name, value in vars(self).items():
            low, high = limits.get(name, (0, 1))
            if not low <= value <= high:
                raise ValueError(f"ranges: {name} is {value!r}; allowed are numbers from {low} to {high}")


USUAL = Ranges()


def draw(eye: Conditions, dice: Dice, fixed: Mapping[str, Any], ranges: Ranges = USUAL) -> dict[str, Any]:
    """Every factor for an eye with these complete conditions; ``fixed`` ones keep their given value.

    Raises:
        ValueError: the form of a condition is fixed that the eye doesn't have.
    """
    forms = {name: fixed[name] for name in FORMS if fixed.get(name, "none") != "none"}
    for name, form in forms.items():
        if not any(eye[condition] for condition in FORMS[name]):
            raise ValueError(f"render: {name} is {form!r} in an eye without it; add {' or '.join(FORMS[name])}: 1")
    # Age and camera lead other factors: fixed, they lead them too.
    drawn = healthy(dice, eye, fixed.get("age"), ranges) | photograph(dice, fixed.get("camera"), ranges) | forms
    for condition, change in DISEASES.items():
        if eye[condition]:
            before = {name: drawn[name] for name in COUNTED}
            change(drawn, eye, dice(condition))
            drawn |= {name: max(count, drawn[name]) for name, count in before.items()}
    faults(drawn, eye, dice("faults"))
    return {name: _within(factor, drawn[name]) for name, factor in FACTORS.items()} | dict(fixed)


def _within(factor: Factor, value: Any) -> Any:
    """The value, or the limit that several diseases together would exceed."""
    return value if factor.choices else type(value)(min(max(value, factor.low), factor.high))


def bell(rng: np.random.Generator, mean: float, spread: float, low: float, high: float) -> float:
    """A normal draw kept within ``low .. high``."""
    return float(min(max(rng.normal(mean, spread), low), high))


def sometimes(rng: np.random.Generator, chance: float, low: float, high: float) -> float:
    """A uniform draw from ``low .. high``, or 0 but for this chance; what follows in the stream is the same in both."""
    level, luck = rng.uniform(low, high), rng.random()
    return float(level if luck < chance else 0)


def form(drawn: dict, name: str, rng: np.random.Generator, shares: Mapping[str, float]) -> str:
    """Choose the form of a condition by its share, unless it is fixed already."""
    chosen = str(rng.choice(list(shares), p=list(shares.values())))
    if drawn[name] == "none":
        drawn[name] = chosen
    return drawn[name]


def photograph(dice: Dice, camera: str | None, ranges: Ranges) -> dict[str, Any]:
    """The camera's share: make, field, focus, light and losses.

    Half of the photographs have their make's usual colours; hand-held ones are less even, less sharp and show more
    stray light.
    """
    rng = dice("photograph")
    macula_centred = rng.random() < 0.72
    chosen = str(rng.choice(list(MAKES)))
    camera = camera or chosen
    make, loose = MAKES[camera], camera == "handheld"
    often = 1.5 if loose else 1.0
    return {
        "camera": camera,
        "colour": make.colour if rng.random() < 0.5 else str(rng.choice(COLOURS)),
        "exposure": float(np.exp(bell(rng, 0.1, ranges.exposure, -0.6, 0.65))),
        "field_radius": float(rng.uniform(*make.degrees) / 2 / DEGREES * np.exp(bell(rng, 0, 0.07, -0.2, 0.2))),
        "field_shape": str(rng.choice(list(make.outlines), p=list(make.outlines.values()))),
        "gaze": float(rng.uniform(-0.05, 0.4) if macula_centred else rng.uniform(0.4, 1.05)),
        "rotation": bell(rng, 0, 6, -18, 18),
        "blur": float(
            rng.choice(
                [0, rng.uniform(0, 0.02), rng.uniform(0.02, 0.06)], p=[0.2, 0.4, 0.4] if loose else [0.45, 0.4, 0.15]
            )
        ),
        "noise": float(np.exp(rng.uniform(np.log(0.002), np.log(ranges.noise)))),
        "haze": float(rng.beta(1, 3 if loose else 5)),
        "vignette": float(rng.beta(2.2, 2)),
        "unevenness": float(rng.beta(2.5 if loose else 1.5, 2.2)),
        "aberration": float(rng.uniform(0, 0.008 if loose else 0.003)),
        "jpeg_quality": int(rng.choice([100, int(rng.integers(65, 98))])),
        "flare": sometimes(rng, 0.35 if loose else 0.15, 0.2, 1),
        "dust": int(16 ** sometimes(rng, often * ranges.dust, 0.001, 1) - 1e-9),
        "lashes": int(sometimes(rng, 0.05, 1, 5)),
        "fault": "none",
        "macula_fault": "none",
        "disc_fault": "none",
        "retina_fault": "none",
        "ghosts": int(sometimes(rng, often * ranges.ghosts, 1, 6)),
        "shadow": sometimes(rng, ranges.shadow, 0.15, 0.65),
        "glow": sometimes(rng, often * ranges.glow, 0.1, 0.8),
        "strangeness": sometimes(rng, ranges.strange, 0.2, 1),
        "tint": sometimes(rng, ranges.tint, 0.2, 1),
        "saturation": float(rng.uniform(ranges.saturation, 1.2)),
        "local_contrast": sometimes(rng, ranges.local_contrast, 0.05, 0.5),
        "sharpening": sometimes(rng, ranges.sharpening, 0.2, 1.4),
        "sharpening_radius": float(np.exp(rng.uniform(np.log(0.008), np.log(0.03)))),
    }


def healthy(dice: Dice, eye: Conditions, age: float | None, ranges: Ranges) -> dict[str, Any]:
    """A healthy eye and its innocent look-alikes, which depend on age.

    Macular degeneration and cataract are diseases of those over 55 and 50. The young retina has a sheen and a foveal
    reflex, the old one a yellow lens, a visible choroid and hard drusen.

    Cup-to-disc ratio: mean 0.35-0.45 in healthy eyes, up to 0.7 in large discs, with an even rim (Jonas, Surv
    Ophthalmol 1999; 0.7 is about the 97.5th percentile, Foster, Br J Ophthalmol 2002). A beta crescent occurs in a
    fifth of healthy eyes; a few hard drusen under 63 micrometres are normal ageing (Beckman).
    """
    rng, glare = dice("healthy"), dice("disc glare")
    drawn = {name: "none" if factor.choices else 0 for name, factor in FACTORS.items()}
    youngest = 55 if eye["amd"] else 50 if eye["cataract"] else 18
    chosen = youngest + (92 - youngest) * float(rng.beta(2, 2))
    age = chosen if age is None else float(age)
    young, old = (float(np.clip(share, 0, 1)) for share in ((55 - age) / 30, (age - 45) / 30))
    return drawn | {
        "age": age,
        "pigment": float(rng.beta(1.6, 1.6)),
        "cup_to_disc": float(rng.uniform(0.5, 0.7) if rng.random() < 0.13 else bell(rng, 0.36, 0.09, 0.1, 0.49)),
        "cup_depth": float(dice("cup depth").beta(1.2, 1.5)),
        "disc_glare": float(glare.choice((0.25, 1), p=(0.6, 0.4)) * glare.beta(2, 1.5)),
        "disc_tilt": float(rng.beta(1, 4) * 0.6),
        "crescent": float(rng.uniform(0.05, 0.3) if rng.random() < 0.3 else 0),
        "tessellation": sometimes(rng, ranges.tessellation + 0.25 * old, 0.2, 0.58)
        or float(dice("faint tessellation").uniform(0, 0.2)),
        "sheen": sometimes(rng, 0.1 + 0.6 * young, 0.5, 1) or 0.5 * float(dice("faint sheen").beta(1, 2)),
        "foveal_reflex": sometimes(rng, 0.2 + 0.5 * young, 0.2, 1),
        "hard_drusen": int(sometimes(rng, 0.06 + 0.25 * old, 1, 7)),
        "drusen_size": float(rng.uniform(63, 125)),
        "lens_opacity": float(rng.uniform(0, 0.06 + 0.1 * old)),
        "light_reflex": float(rng.uniform(0, 0.6)),
        "vein_dilation": float(rng.normal(1, 0.07)),
        "tortuosity": float(np.exp(bell(rng, 0, 0.3, -0.9, 0.7))),
    }


def diabetic_retinopathy(drawn: dict, eye: Conditions, rng: np.random.Generator) -> None:
    """International scale (ICDR, Wilkinson 2003): 1 microaneurysms only; 2 more than that; 3 the 4-2-1 rule (over 20
    haemorrhages in each quadrant, or beading in two, or IRMA in one); 4 new vessels or preretinal haemorrhage."""
    grade = eye["dr_grade"]
    if grade == 1:
        drawn["microaneurysms"] = int(rng.integers(2, 12))
        return
    drawn["microaneurysms"] = int(np.exp(rng.uniform(np.log(12), np.log(180))))
    drawn["haemorrhages"] = (
        int(np.exp(rng.uniform(0, np.log(30)))) if grade == 2 else int(np.exp(rng.uniform(np.log(8), np.log(50))))
    )
    drawn["exudates"] = int(rng.integers(1, 5)) if rng.random() < 0.5 else 0
    drawn["cotton_wool"] = int(rng.integers(1, 4 + grade)) if rng.random() < 0.25 + 0.08 * grade else 0
    drawn["flames"] = int(rng.integers(1, 3 * grade)) if rng.random() < 0.3 else 0
    if grade == 3:
        signs = rng.random(3) < (0.45, 0.4, 0.4)
        if not signs.any():
            signs[rng.integers(3)] = True
        drawn["haemorrhages"] = int(rng.integers(96, 140)) if signs[0] else drawn["haemorrhages"]
        drawn["beading"] = float(rng.uniform(0.5, 1)) if signs[1] else 0
        drawn["irma"] = int(rng.integers(2, 6)) if signs[2] else 0
        drawn["vein_dilation"] *= rng.uniform(1, 1.25)
    if grade == 4:
        signs = rng.random(4) < (0.65, 0.45, 0.35, 0.35)
        if not signs[:2].any():
            signs[rng.integers(2)] = True
        drawn["neovessels"] = int(rng.integers(1, 4)) if signs[0] else 0
        drawn["preretinal"] = int(rng.integers(1, 3)) if signs[1] else 0
        drawn["fibrosis"] = int(rng.integers(1, 4)) if signs[2] else 0
        drawn["laser"] = int(rng.integers(30, 160)) if signs[3] else 0
        drawn["haze"] = max(drawn["haze"], float(rng.uniform(0, 0.4)))


def macular_edema(drawn: dict, eye: Conditions, rng: np.random.Generator) -> None:
    """Hard exudates within 1 disc diameter of the fovea (the criterion of MESSIDOR and IDRiD, after ETDRS)."""
    drawn["macular_exudates"] = int(rng.integers(1, 6))
    drawn["exudates"] = int(rng.integers(0, 5))
    drawn["macular_swelling"] = float(rng.uniform(0.2, 1))
    drawn["foveal_reflex"] = 0


def macular_degeneration(drawn: dict, eye: Conditions, rng: np.random.Generator) -> None:
    """Beckman classification (Ferris 2013): early = medium drusen (63 to 125 micrometres) alone; intermediate = large
    drusen (over 125 micrometres) or pigment changes; late = geographic atrophy (dry) or neovascular disease with
    blood, fluid and finally a disciform scar (wet)."""
    shares = {"early": 0.15, "intermediate": 0.35, "late dry": 0.22, "late wet": 0.28}
    stage = form(drawn, "amd_stage", rng, shares)
    drawn["foveal_reflex"] = 0
    if stage == "early":
        drawn["drusen"] = int(rng.integers(12, 50))
        return
    drawn["drusen_size"] = float(rng.uniform(125, 240))
    drawn["drusen"] = int(rng.integers(25, 140)) if stage == "intermediate" else int(rng.integers(0, 50))
    drawn["macular_pigment"] = int(rng.integers(2, 15)) if rng.random() < 0.5 else 0
    if stage == "late dry":
        drawn["geographic_atrophy"] = float(rng.uniform(0.3, 1.2))
    if stage == "late wet":
        signs = rng.random(3) < (0.7, 0.6, 0.4)
        if not signs.any():
            signs[rng.integers(3)] = True
        drawn["subretinal_blood"] = float(rng.uniform(0.4, 1.6)) if signs[0] else 0
        drawn["subretinal_fluid"] = float(rng.uniform(0.6, 1.5)) if signs[1] else 0
        drawn["disciform_scar"] = float(rng.uniform(0.35, 0.9)) if signs[2] else 0
        drawn["macular_exudates"] = int(rng.integers(1, 4)) if rng.random() < 0.4 else 0


def optic_nerve(drawn: dict, eye: Conditions, rng: np.random.Generator) -> None:
    """Atrophy (pallor), oedema (Frisén scale: blurred margin, obscured vessels), tilted disc or disc drusen."""
    kind = form(drawn, "optic_nerve", rng, {"pallor": 0.35, "swelling": 0.35, "tilt": 0.15, "drusen": 0.15})
    if kind == "pallor":
        drawn["disc_pallor"] = float(rng.uniform(0.7, 1))
        drawn["narrowing"] = float(rng.uniform(0, 0.5))
    elif kind == "swelling":
        drawn["disc_swelling"] = float(rng.uniform(0.45, 1))
        drawn["flames"] = int(rng.integers(0, 6))
        drawn["cup_to_disc"] = float(rng.uniform(0.1, 0.2))
        drawn["tortuosity"] *= 1.4
    elif kind == "tilt":
        drawn["disc_tilt"] = float(rng.uniform(0.7, 1))
        drawn["crescent"] = float(rng.uniform(0.15, 0.5))
    else:
        drawn["disc_drusen"] = int(rng.integers(5, 18))
        drawn["cup_to_disc"] = float(rng.uniform(0.1, 0.2))


def chorioretinal(drawn: dict, eye: Conditions, rng: np.random.Generator) -> None:
    """Punched-out scars with pigmented rims (toxoplasmosis, multifocal choroiditis), active yellow-white infiltrates,
    or the bone spicules of retinitis pigmentosa with narrow arteries and a waxy disc."""
    kind = form(drawn, "chorioretinal", rng, {"scars": 0.6, "active": 0.2, "pigmentary": 0.2})
    if kind == "scars":
        drawn["scars"] = int(rng.integers(1, 6))
        drawn["active_lesions"] = int(rng.random() < 0.2)
    elif kind == "active":
        drawn["active_lesions"] = int(rng.integers(1, 8))
        drawn["scars"] = int(rng.integers(0, 2))
        drawn["haze"] = max(drawn["haze"], float(rng.uniform(0, 0.5)))
    else:
        drawn["bone_spicules"] = int(rng.integers(25, 110))
        drawn["narrowing"] = float(rng.uniform(0.5, 1))
        drawn["disc_pallor"] = float(rng.uniform(0.2, 0.6))


def degenerative_myopia(drawn: dict, eye: Conditions, rng: np.random.Generator) -> None:
    """META-PM (Ohno-Matsui 2015): category 2 diffuse atrophy, which begins round the disc, 3 patchy and 4 macular
    atrophy, with lacquer cracks and staphyloma; crescent, tilted disc and tessellation go with the long eye."""
    shares = {"peripapillary": 0.35, "diffuse": 0.35, "patchy": 0.2, "macular": 0.1}
    extent = form(drawn, "myopic_atrophy", rng, shares)
    drawn["crescent"] = float(rng.uniform(0.4, 1.5))
    drawn["disc_tilt"] = float(rng.uniform(0.2, 1))
    drawn["tessellation"] = float(rng.uniform(0.45, 1))
    drawn["diffuse_atrophy"] = float(rng.uniform(0.4, 1)) if extent == "diffuse" or rng.random() < 0.35 else 0
    drawn["patchy_atrophy"] = int(rng.integers(1, 6)) if extent in ("patchy", "macular") else 0
    drawn["geographic_atrophy"] = float(rng.uniform(0.3, 0.9)) if extent == "macular" else drawn["geographic_atrophy"]
    drawn["lacquer_cracks"] = int(rng.integers(1, 5)) if rng.random() < 0.35 else 0
    drawn["staphyloma"] = float(rng.uniform(0.4, 1)) if rng.random() < 0.45 else 0
    drawn["macular_pigment"] = int(rng.integers(2, 14)) if rng.random() < 0.35 else drawn["macular_pigment"]
    drawn["foveal_reflex"] = 0
    drawn["pigment"] *= 0.7
    drawn["field_radius"] = float(rng.uniform(2.6, 4.3))


def epiretinal_membrane(drawn: dict, eye: Conditions, rng: np.random.Generator) -> None:
    """Gass: cellophane maculopathy (grade 0), wrinkling with vessel distortion (1), opaque pucker (2)."""
    drawn["membrane"] = float(rng.uniform(0.3, 1))
    drawn["tortuosity"] *= float(rng.uniform(1, 1.5))
    drawn["foveal_reflex"] = 0


def glaucoma(drawn: dict, eye: Conditions, rng: np.random.Generator) -> None:
    """Large deep cup, taller than wide: the rim is lost below, then above (ISNT rule broken), evenly or in a notch, and
    pales; wedge-shaped nerve-fibre defect, peripapillary atrophy, disc haemorrhage (EGS guidelines).

    Ratios from 0.6 to 0.7 occur in healthy eyes too: there the shape of the rim alone tells.
    """
    drawn["cup_to_disc"] = float(rng.uniform(0.6, 0.95))
    drawn["cup_depth"] = float(rng.uniform(0.35, 1))
    drawn["rim_loss"] = float(rng.uniform(0.5, 1))
    drawn["rim_notch"] = float(rng.uniform(0.4, 1)) if rng.random() < 0.5 else 0
    drawn["disc_pallor"] = float(rng.uniform(0, 0.45))
    drawn["nerve_fibre_defect"] = float(rng.uniform(0.4, 1)) if rng.random() < 0.6 else 0
    drawn["disc_haemorrhage"] = int(rng.random() < 0.15)
    drawn["crescent"] = float(rng.uniform(0.1, 0.4)) if rng.random() < 0.5 else 0
    drawn["sheen"] *= 0.5


def hypertensive(drawn: dict, eye: Conditions, rng: np.random.Generator) -> None:
    """Keith-Wagener-Barker: 1 narrowing, 2 nicking, 3 haemorrhages and cotton wool, 4 disc oedema (macular star)."""
    grade = int(form(drawn, "hypertension", rng, {"1": 0.12, "2": 0.23, "3": 0.4, "4": 0.25}))
    drawn["light_reflex"] = float(rng.uniform(0.5, 1))  # copper wiring
    drawn["narrowing"] = float(rng.uniform(0.5, 1))
    drawn["nicking"] = float(rng.uniform(0.5, 1)) if grade >= 2 else 0
    if grade >= 3:
        drawn["flames"] = int(np.exp(rng.uniform(np.log(3), np.log(20))))
        drawn["cotton_wool"] = int(rng.integers(1, 9))
        drawn["macular_star"] = int(rng.random() < 0.35)
    if grade == 4:
        drawn["disc_swelling"] = float(rng.uniform(0.4, 1))
        drawn["cup_to_disc"] = drawn["cup_to_disc"] if eye["gc"] else float(rng.uniform(0.1, 0.2))


def vein_occlusion(drawn: dict, eye: Conditions, rng: np.random.Generator) -> None:
    """Branch: blood in one sector bounded by the raphe; central: all four quadrants, dilated tortuous veins, swollen
    disc (Branch/Central Vein Occlusion Study)."""
    form(drawn, "vein_occlusion", rng, {"branch": 0.6, "central": 0.4})
    drawn["vein_dilation"] = float(rng.uniform(1.2, 1.55))
    drawn["cotton_wool"] = int(rng.integers(1, 7)) if rng.random() < 0.5 else 0
    if drawn["vein_occlusion"] == "central":
        drawn["flames"] = int(rng.integers(30, 100))
        drawn["haemorrhages"] = int(rng.integers(15, 80))
        drawn["tortuosity"] *= float(rng.uniform(1.8, 3))
        drawn["disc_swelling"] = float(rng.uniform(0.2, 0.8))
    else:
        drawn["flames"] = int(np.exp(rng.uniform(np.log(18), np.log(90))))
        drawn["haemorrhages"] = int(rng.integers(10, 60))
        drawn["tortuosity"] *= float(rng.uniform(1.2, 2))
        drawn["macular_exudates"] = int(rng.integers(1, 3)) if rng.random() < 0.25 else 0


def cataract(drawn: dict, eye: Conditions, rng: np.random.Generator) -> None:
    """Lens opacity scatters and yellows the light: details, then vessels, then the disc fade (Abdul-Rahman 2008)."""
    drawn["lens_opacity"] = float(rng.uniform(0.4, 1))


def tessellated(drawn: dict, eye: Conditions, rng: np.random.Generator) -> None:
    """Choroidal vessels visible all over the posterior pole (META-PM category 1)."""
    drawn["tessellation"] = max(drawn["tessellation"], float(rng.uniform(0.6, 1)))
    drawn["crescent"] = float(rng.uniform(0.1, 0.4)) if rng.random() < 0.6 else 0


DISEASES = {
    "dr_grade": diabetic_retinopathy,
    "dme": macular_edema,
    "amd": macular_degeneration,
    "aon": optic_nerve,
    "crp": chorioretinal,
    "dm": degenerative_myopia,
    "pm": degenerative_myopia,
    "em": epiretinal_membrane,
    "gc": glaucoma,
    "htr": hypertensive,
    "rvo": vein_occlusion,
    "cataract": cataract,
    "tessellated": tessellated,
}


def faults(drawn: dict, eye: Conditions, rng: np.random.Generator) -> None:
    """What each readability flag at 0 does to the photograph."""
    if not eye["fundus_readable"]:
        drawn["fault"] = str(rng.choice(FACTORS["fault"].choices[1:]))
        if drawn["fault"] == "lid":
            drawn["lashes"] = int(rng.integers(8, 25))
    for key in ("macula", "disc", "retina"):
        if not eye[f"{key}_readable"]:
            drawn[f"{key}_fault"] = str(rng.choice(FACTORS[f"{key}_fault"].choices[1:]))
    if drawn["disc_fault"] == "cut" and drawn["macula_fault"] == "cut":
        drawn["macula_fault"] = "dark"
