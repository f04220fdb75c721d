"""The one vocabulary: what an eye in this study can show.

The schema is SynFundus-1M's (arXiv 2312.00377): a diabetic-retinopathy grade, ten further diseases,
four readability flags and the eye side; the phantoms add cataract haze and tessellation. Renderer,
generator, captions, prompts and dataset loaders all speak it, and nothing else defines a disease.

*Conditions* are a mapping of keys below to small integers. A complete mapping names every key; a partial one
states only what it names (``{"dme": 0}``: no macular edema, whatever else the eye may have).
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
    kind: str  # "disease", "readability" or "side"
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

# What a balanced set is balanced over: one main condition an eye, "normal" as often as three of the others.
PRESENTATIONS: tuple[dict[str, int], ...] = (
    *({},) * 3,
    *({"dr_grade": grade} for grade in (1, 2, 3, 4)),
    *({key: 1} for key in DISEASES if key not in ("dr_grade", "dme")),
    *({"dme": 1},) * 2,
)


def check(conditions: Mapping[str, object], where: str) -> dict[str, int]:
    """Return ``conditions`` as plain integers; ``where`` (file, row or task) opens the message.

    Raises:
        ValueError: a key is not in the vocabulary, or a value is not one of its integers.
    """
    checked = {}
    for key, value in conditions.items():
        if key not in VOCABULARY:
            raise ValueError(f"{where}: unknown condition {key!r}; allowed are {', '.join(VOCABULARY)}")
        highest = VOCABULARY[key].highest
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if not isinstance(value, int | np.integer) or not 0 <= value <= highest:
            raise ValueError(f"{where}: {key} is {value!r}; allowed are the integers 0 to {highest}")
        checked[key] = int(value)
    return checked


def complete(conditions: Conditions) -> dict[str, int]:
    """Every key of the vocabulary, those not named at their default (healthy, readable, left)."""
    return {key: int(conditions.get(key, condition.default)) for key, condition in VOCABULARY.items()}


def is_normal(conditions: Conditions) -> bool:
    """True where no disease is present: SynFundus-1M has no such column and its ``is_abnormal`` is unreliable."""
    return not any(conditions.get(key, 0) for key in DISEASES)


def holds(facts: Conditions, conditions: Conditions) -> bool:
    """True where every stated fact is true of the eye with these complete conditions."""
    return all(conditions[key] == value for key, value in facts.items())


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
