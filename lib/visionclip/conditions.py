"""The one vocabulary: what an eye in this study can show.

The schema is SynFundus-1M's (arXiv 2312.00377): a diabetic-retinopathy grade, ten further diseases,
four readability flags and the eye side; the phantoms add cataract haze and tessellation. Renderer,
generator, captions, prompts and dataset loaders all speak it, and nothing else defines a disease.

*Conditions* are a mapping of keys below to small integers. A complete mapping names every key of ``VOCABULARY``; a
partial one states only what it names (``{"dme": 0}``: no macular edema, whatever else the eye may have).

*Findings* are what can be seen and outlined in an image: lesions and anatomy. What is known of them (there or not, how
much, where) are conditions too, those of ``OBSERVED``, and always partial: what isn't stated is unknown.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

Conditions = Mapping[str, int]


@dataclass(frozen=True)
class Condition:
    """One thing an eye can show; its values are the integers 0 .. ``highest``.

    ``chinese`` and ``english`` are synonyms, the commonest first. ``grades`` name the values 1 .. highest
    as (Chinese, English) pairs where there is more than one.
    """

    key: str
    kind: str  # "disease", "readability", "side" or "finding"
    chinese: tuple[str, ...]
    english: tuple[str, ...]
    grades: tuple[tuple[str, str], ...] = ()
    default: int = 0

    @property
    def highest(self) -> int:
        """The largest value: the number of grades, 1 where there are none."""
        return len(self.grades) or 1


# DR grades: the International Clinical Diabetic Retinopathy scale (Wilkinson et al., Ophthalmology 2003).
VOCABULARY: dict[str, Condition] = {
    condition.key: condition
    for condition in (
        Condition(
            "dr_grade",
            "disease",
            ("糖尿病视网膜病变", "糖尿病性视网膜病变"),
            ("diabetic retinopathy", "retinopathy of diabetes"),
            grades=(("轻度", "mild"), ("中度", "moderate"), ("重度", "severe"), ("增殖期", "proliferative")),
        ),
        Condition("amd", "disease", ("年龄相关性黄斑变性", "老年性黄斑变性"), ("age-related macular degeneration",)),
        Condition("aon", "disease", ("视神经异常", "视盘异常"), ("anomaly of the optic nerve", "abnormal optic disc")),
        Condition("crp", "disease", ("脉络膜视网膜病变",), ("chorioretinal pathology", "chorioretinopathy")),
        Condition("dm", "disease", ("退行性近视", "变性近视"), ("degenerative myopia", "myopic degeneration")),
        Condition(
            "dme",
            "disease",
            ("糖尿病黄斑水肿", "糖尿病性黄斑水肿"),
            ("diabetic macular edema", "diabetic macular oedema"),
        ),
        Condition("em", "disease", ("黄斑前膜", "黄斑视网膜前膜"), ("epiretinal membrane", "epimacular membrane")),
        Condition("gc", "disease", ("青光眼",), ("glaucoma", "glaucomatous optic neuropathy")),
        Condition("htr", "disease", ("高血压性视网膜病变",), ("hypertensive retinopathy",)),
        Condition("pm", "disease", ("病理性近视",), ("pathologic myopia", "pathological myopia")),
        Condition("rvo", "disease", ("视网膜静脉阻塞",), ("retinal vein occlusion",)),
        Condition("cataract", "disease", ("白内障", "晶状体混浊"), ("cataract", "lens opacity")),
        Condition(
            "tessellated", "disease", ("豹纹状眼底", "豹纹状改变"), ("tessellated fundus", "fundus tessellation")
        ),
        Condition("fundus_readable", "readability", ("眼底图像",), ("fundus image",), default=1),
        Condition("macula_readable", "readability", ("黄斑区",), ("macula",), default=1),
        Condition("disc_readable", "readability", ("视盘",), ("optic disc",), default=1),
        Condition("retina_readable", "readability", ("视网膜区域",), ("retinal region",), default=1),
        Condition("eye_side", "side", ("左眼", "右眼"), ("left eye", "right eye")),  # 0 left, 1 right
    )
}
DISEASES: tuple[str, ...] = tuple(key for key, condition in VOCABULARY.items() if condition.kind == "disease")
READABILITY: tuple[str, ...] = tuple(key for key, condition in VOCABULARY.items() if condition.kind == "readability")


@dataclass(frozen=True)
class Finding:
    """What can be seen and outlined in an image.

    ``chinese`` and ``english`` are synonyms, the commonest first; lesions are in the plural. ``masks`` are those of a
    phantom that show it, any of them. ``lesion`` tells lesions from anatomy; ``counted`` ones come in numbers, so that
    how many and where is worth saying.
    """

    key: str
    chinese: tuple[str, ...]
    english: tuple[str, ...]
    masks: tuple[str, ...]
    lesion: bool = True
    counted: bool = False


# Lesions of retinopathy: ICDR (Wilkinson et al., Ophthalmology 2003), as defined and graded in ETDRS reports 10 and 12
# (Ophthalmology 1991); drusen and atrophy: Beckman classification (Ferris et al., Ophthalmology 2013).
FINDINGS: dict[str, Finding] = {
    finding.key: finding
    for finding in (
        Finding(
            "microaneurysms",
            ("微动脉瘤", "视网膜微动脉瘤", "微血管瘤"),
            ("microaneurysms", "retinal microaneurysms", "capillary microaneurysms"),
            ("microaneurysms",),
            counted=True,
        ),
        Finding(
            "haemorrhage",
            ("出血", "视网膜出血", "出血灶", "出血斑"),
            ("haemorrhages", "hemorrhages", "retinal haemorrhages", "retinal hemorrhages"),
            ("haemorrhage",),
            counted=True,
        ),
        Finding(
            "exudate",
            ("硬性渗出", "硬性渗出物", "脂质渗出"),
            ("hard exudates", "lipid exudates", "hard retinal exudates"),
            ("exudate",),
            counted=True,
        ),
        Finding(
            "cotton_wool",
            ("棉绒斑", "棉絮斑", "软性渗出"),
            ("cotton wool spots", "soft exudates", "cotton wool patches"),
            ("cotton_wool",),
            counted=True,
        ),
        Finding(
            "drusen",
            ("玻璃膜疣", "视网膜玻璃膜疣", "玻璃疣"),
            ("drusen", "retinal drusen", "drusen deposits"),
            ("drusen",),
            counted=True,
        ),
        Finding(
            "atrophy",
            ("萎缩灶", "脉络膜视网膜萎缩", "萎缩斑"),
            ("areas of atrophy", "atrophic patches", "areas of chorioretinal atrophy"),
            ("atrophy",),
        ),
        Finding(
            "scar",
            ("瘢痕", "脉络膜视网膜瘢痕", "瘢痕灶"),
            ("scars", "chorioretinal scars", "retinal scars"),
            ("scar",),
        ),
        Finding(
            "neovessel",
            ("新生血管", "视网膜新生血管", "新生血管丛"),
            ("new vessels", "areas of neovascularisation", "areas of neovascularization"),
            ("neovessel",),
        ),
        Finding(
            "membrane",
            ("视网膜前膜", "视网膜表面膜", "玻璃纸样膜"),
            ("preretinal membranes", "retinal surface membranes", "cellophane membranes"),
            ("membrane",),
        ),
        Finding(
            "swelling",
            ("水肿", "水肿区", "水肿隆起"),
            ("areas of swelling", "areas of edema", "areas of oedema"),
            ("swelling",),
        ),
        Finding("disc", ("视盘", "视乳头", "视神经乳头"), ("optic disc", "optic nerve head"), ("disc",), lesion=False),
        Finding("cup", ("视杯", "视盘凹陷"), ("optic cup", "cup of the optic disc"), ("cup",), lesion=False),
        Finding("fovea", ("中心凹", "黄斑中心凹"), ("fovea", "centre of the macula"), ("fovea",), lesion=False),
        Finding("artery", ("视网膜动脉", "动脉"), ("retinal arteries", "arterioles"), ("artery",), lesion=False),
        Finding("vein", ("视网膜静脉", "静脉"), ("retinal veins", "venules"), ("vein",), lesion=False),
        Finding(
            "vessels",
            ("视网膜血管", "血管"),
            ("retinal vessels", "retinal blood vessels"),
            ("artery", "vein"),
            lesion=False,
        ),
    )
}
COUNTED: tuple[str, ...] = tuple(key for key, finding in FINDINGS.items() if finding.counted)
# The findings by which a disease is defined or graded, where it is by findings that can be outlined. Those that several
# diseases share (the haemorrhages of an occluded vein, say) define none.
DEFINING: dict[str, tuple[str, ...]] = {
    # ICDR (Wilkinson et al., Ophthalmology 2003), after ETDRS reports 10 and 12 (Ophthalmology 1991)
    "dr_grade": ("microaneurysms", "haemorrhage", "exudate", "cotton_wool", "neovessel"),
    "dme": ("exudate", "swelling"),  # the same scale, and ETDRS report 1 (Archives of Ophthalmology 1985)
    "amd": ("drusen", "atrophy"),  # Beckman classification (Ferris et al., Ophthalmology 2013)
    "dm": ("atrophy",),  # META-PM (Ohno-Matsui et al., American Journal of Ophthalmology 2015)
    "pm": ("atrophy",),
    "em": ("membrane",),  # Gass, Stereoscopic Atlas of Macular Diseases 1987
    "crp": ("scar",),
    "gc": ("cup",),  # the cup-to-disc ratio (Foster et al., British Journal of Ophthalmology 2002)
}

# What can be stated of a finding beside its presence, as a suffix of its key, and the names of the values 1 and more.
DETAILS: dict[str, tuple[tuple[str, str], ...]] = {
    "amount": (("少量", "few"), ("大量", "many")),  # 0 none
    "macula": (),  # 1: some of it at the macula, 0: none there
    "quadrants": (  # of the image, about the middle between disc and fovea, that have some of it
        ("一个象限", "one quadrant"),
        ("两个象限", "two quadrants"),
        ("三个象限", "three quadrants"),
        ("四个象限", "four quadrants"),
    ),
}
# The finding and the detail ("" for its presence) of each fact about a finding.
ABOUT: dict[str, tuple[str, str]] = {
    f"{key}_{detail}" if detail else key: (key, detail)
    for key, finding in FINDINGS.items()
    for detail in ("", *DETAILS)
    if finding.lesion and (finding.counted or not detail)
}
OBSERVED: dict[str, Condition] = {
    key: Condition(key, "finding", FINDINGS[of].chinese, FINDINGS[of].english, DETAILS.get(detail, ()))
    for key, (of, detail) in ABOUT.items()
}
FACTS: dict[str, Condition] = VOCABULARY | OBSERVED

# What a balanced set is balanced over: one main condition an eye, "normal" as often as three of the others.
PRESENTATIONS: tuple[dict[str, int], ...] = (
    *({},) * 3,
    *({"dr_grade": grade} for grade in (1, 2, 3, 4)),
    *({key: 1} for key in DISEASES if key not in ("dr_grade", "dme")),
    *({"dme": 1},) * 2,
)


def check(conditions: Mapping[str, object], where: str, known: Mapping[str, Condition] = FACTS) -> dict[str, int]:
    """Return ``conditions`` as plain integers; ``where`` (file, row or task) opens the message.

    Raises:
        ValueError: a key is not among those ``known``, a value is not one of its integers, or what is stated of a
            finding contradicts itself.
    """
    checked = {}
    for key, value in conditions.items():
        if key not in known:
            raise ValueError(f"{where}: unknown condition {key!r}; allowed are {', '.join(known)}")
        highest = known[key].highest
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if not isinstance(value, int | np.integer) or not 0 <= value <= highest:
            raise ValueError(f"{where}: {key} is {value!r}; allowed are the integers 0 to {highest}")
        checked[key] = int(value)
    for finding in COUNTED:
        absent, present = _evidence(finding, checked)
        if absent and present:
            both = f"{absent[0]} is {checked[absent[0]]} and {present[0]} is {checked[present[0]]}"
            raise ValueError(f"{where}: {both}, which can't both be; correct one or leave it out")
    return checked


def _evidence(finding: str, stated: Conditions) -> tuple[list[str], list[str]]:
    """The keys of facts by which a finding is absent, and those by which it is present."""
    amount, macula, quadrants = (f"{finding}_{detail}" for detail in DETAILS)
    absent = [key for key in (finding, amount, quadrants) if stated.get(key) == 0]
    return absent, [key for key in (finding, amount, macula, quadrants) if stated.get(key)]


def implied(stated: Conditions) -> dict[str, int]:
    """What is stated (and is no contradiction, see ``check``), with all that follows from it about findings.

    What is absent is none, at the macula too, and in no quadrant; what is few or many, or in some place, is present.
    """
    known = dict(stated)
    for finding in COUNTED:
        absent, present = _evidence(finding, stated)
        if absent:
            known.update(dict.fromkeys((finding, *(f"{finding}_{detail}" for detail in DETAILS)), 0))
        elif present:
            known[finding] = 1
    return known


def reduced(stated: Conditions) -> dict[str, int]:
    """The fewest of the facts from which all of them follow: of any two that mean the same the same one.

    ``implied(reduced(facts)) == implied(facts)``; what is absent is said once (``exudate`` at 0).
    """
    known = implied(stated)
    for finding in COUNTED:
        details = [f"{finding}_{detail}" for detail in DETAILS]
        if known.get(finding) == 0:
            known = {key: value for key, value in known.items() if key not in details}
        elif any(known.get(key) for key in details):
            del known[finding]
    return known


def complete(conditions: Conditions) -> dict[str, int]:
    """Every key of the vocabulary, those not named at their default (healthy, readable, left)."""
    return {key: int(conditions.get(key, condition.default)) for key, condition in VOCABULARY.items()}


def is_normal(conditions: Conditions) -> bool:
    """True where no disease is present: SynFundus-1M has no such column and its ``is_abnormal`` is unreliable."""
    return not any(conditions.get(key, 0) for key in DISEASES)


def holds(facts: Conditions, conditions: Conditions) -> bool:
    """True where every stated fact is known to be true of the eye with these conditions."""
    return implied(facts).items() <= implied(conditions).items()


VECTOR_NAMES: tuple[str, ...] = tuple(
    f"{key}>={value}" for key in VOCABULARY for value in range(1, VOCABULARY[key].highest + 1)
)


def vector(conditions: Conditions) -> np.ndarray:
    """The multi-label vector of ``len(VECTOR_NAMES)`` float32 in {0, 1}; a grade g sets its first g entries."""
    eye = complete(conditions)
    return np.array(
        [eye[key] >= value for key in VOCABULARY for value in range(1, VOCABULARY[key].highest + 1)], np.float32
    )


def presentation(conditions: Conditions) -> str:
    """The main condition as one word for tables and figures: ``normal``, ``dr_grade 3``, ``amd`` ...

    The first disease of ``PRESENTATIONS`` order decides; macular edema before its retinopathy.
    """
    if conditions.get("dme"):
        return "dme"
    for key in DISEASES[1:]:
        if conditions.get(key):
            return key
    grade = conditions.get("dr_grade", 0)
    return f"dr_grade {grade}" if grade else "normal"


# As people read them: tasks and presentations that are no key of ``FACTS`` or ``FINDINGS``, and keys whose commonest
# English synonym would mislead or be long in a table.
PLAIN: dict[str, str] = {
    "aon": "optic nerve anomaly",
    "dr_grade": "retinopathy grade",
    "eye_side": "right eye",
    "normal": "no disease",
    "referable_dr": "referable retinopathy",
}


def plain(name: str) -> str:
    """A condition, finding or task, or a value of it (``dr_grade>=2``, ``dr_grade 2``, ``gc>=1``, ``cotton_wool``), as
    people read it; what is none of these comes back with spaces for underscores."""
    key, mark, value = next(((*name.partition(mark),) for mark in (">=", " ") if mark in name), (name, "", ""))
    known = VOCABULARY.get(key)
    if known and known.grades and value.isdigit() and 1 <= int(value) <= known.highest:
        worse = " or worse" if mark == ">=" and int(value) < known.highest else ""
        return f"{known.grades[int(value) - 1][1]} retinopathy{worse}"
    if value and not (known and value == "1"):
        return name.replace("_", " ")
    named = FINDINGS.get(key) or known
    return PLAIN.get(key) or (named.english[0] if named else key.replace("_", " "))


def balanced(count: int, rng: np.random.Generator, unreadable: float = 0.1) -> list[dict[str, int]]:
    """``count`` complete conditions, balanced over ``PRESENTATIONS``, in random order.

    What accompanies the main condition is drawn: macular edema comes with retinopathy of grade 1 to 4 (mostly
    2 to 4), a quarter of retinopathies of grade 2 or more get macular edema, myopic eyes are often tessellated, and
    one eye in eight gets a second, independent disease. ``unreadable`` is the share (0 to 1) of eyes with a
    readability fault.
    """
    eyes = []
    for index in rng.permutation(count):
        eye = complete(PRESENTATIONS[index % len(PRESENTATIONS)])
        eye["eye_side"] = int(rng.integers(2))
        if eye["dme"] and not eye["dr_grade"]:
            eye["dr_grade"] = int(rng.choice([1, 2, 3, 4], p=[0.1, 0.4, 0.3, 0.2]))
        elif eye["dr_grade"] >= 2:
            eye["dme"] = int(rng.random() < 0.25)
        if eye["pm"] or eye["dm"]:
            eye["tessellated"] = int(rng.random() < 0.6)
        if not is_normal(eye) and rng.random() < 0.125:
            eye[str(rng.choice(["gc", "htr", "cataract", "tessellated", "em", "amd"]))] = 1
        if rng.random() < unreadable:
            eye[str(rng.choice(READABILITY))] = 0
        eyes.append(eye)
    return eyes
