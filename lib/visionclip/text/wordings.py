"""What the captions' grammar is made of: phrases of each language, and what defines each condition and finding."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Wordings:
    """How one language says things; in each tuple the commonest comes first."""

    present: tuple[str, ...]
    absent: tuple[str, ...]
    only: tuple[str, ...]  # these diseases and no other
    rest: tuple[str, ...]  # nothing but what was said
    normal: tuple[str, ...]
    faulty: tuple[str, ...]  # a region can't be read
    faulty_image: tuple[str, ...]
    readable: tuple[str, ...]
    readable_image: tuple[str, ...]
    graded: tuple[str, ...]
    opening: tuple[str, ...]
    side: tuple[str, ...]
    side_alone: tuple[str, ...]
    seen: tuple[str, ...]  # findings, whose names are in the plural
    unseen: tuple[str, ...]
    few: tuple[str, ...]  # the name of a finding with its amount
    many: tuple[str, ...]
    macula: tuple[str, ...]  # findings at the macula
    no_macula: tuple[str, ...]
    quadrants: tuple[str, ...]
    shown: tuple[str, ...]  # anatomy, to ask where it is
    enumeration: str  # between the names of a list
    both: tuple[str, ...]  # before the last name of a list of diseases that are present
    neither: tuple[str, ...]  # and of a list of those absent
    comma: str  # between clauses
    turn: str  # between clauses where some assert and some deny: not "no glaucoma, cataract present"
    stop: str


# fmt: off
WORDINGS = {
    "zh": Wordings(
        present=("疑似{}", "可见{}", "考虑{}", "提示{}", "考虑为{}", "符合{}表现", "可见{}征象", "{}可能性大"),
        absent=(
            "未见{}", "无{}", "未见明显{}", "未发现{}", "未见{}征象", "无{}表现", "不考虑{}", "未提示{}", "没有{}",
        ),
        only=("仅见{}", "仅可见{}", "仅考虑{}", "仅提示{}"),
        rest=("余未见异常", "其余未见异常", "余未见明显异常", "未见其他异常", "余无异常", "其余正常"),
        normal=(
            "未见明显异常", "眼底未见明显异常", "未见异常", "眼底正常", "眼底未见异常", "无明显异常", "未发现明显异常",
            "未见明显病变", "眼底大致正常",
        ),
        faulty=("{}不可读", "{}不清", "{}显示不清", "{}无法评估", "{}难以辨认"),
        faulty_image=("图像质量差", "{}不可读", "图像质量不佳", "{}不清", "成像质量差"),
        readable=("{}可读", "{}清晰", "{}显示清楚", "{}可评估"),
        readable_image=("图像质量良好", "{}可读", "图像质量好", "{}清晰"),
        graded=("{name}（{grade}）", "{grade}{name}"),
        opening=("{}", "{}", "眼底照片：{}", "眼底检查：{}", "印象：{}"),
        side=("{side}{text}", "{side}：{text}", "{side}，{text}", "{text}（{side}）"),
        side_alone=("{}", "{}眼底", "{}眼底照片", "{}眼底图像", "眼别：{}", "此为{}"),
        seen=("可见{}", "见{}", "眼底可见{}", "可见到{}", "眼底见{}", "有{}", "存在{}"),
        unseen=("未见{}", "无{}", "未见明显{}", "未见到{}", "眼底未见{}", "未发现{}", "没有{}"),
        few=("少量{}", "散在{}", "少许{}"),
        many=("大量{}", "多发{}", "较多{}"),
        macula=("黄斑区可见{}", "黄斑区见{}", "黄斑部可见{}", "黄斑区有{}", "{}累及黄斑区"),
        no_macula=("黄斑区未见{}", "黄斑区无{}", "黄斑区未见明显{}", "黄斑部未见{}", "黄斑区未发现{}"),
        quadrants=(
            "{quadrants}可见{name}", "{quadrants}见{name}", "{name}见于{quadrants}", "{name}累及{quadrants}",
            "{name}分布于{quadrants}",
        ),
        shown=("{}", "可见{}", "{}区域", "{}所在", "{}的位置"),
        enumeration="、",
        both=("、", "及", "伴", "合并"),
        neither=("及", "、", "或"),
        comma="，",
        turn="，",
        stop="。",
    ),
    "en": Wordings(
        present=(
            "suspected {}", "signs of {}", "{} present", "{} visible", "evidence of {}", "probable {}",
            "findings consistent with {}", "features of {}", "{} seen",
        ),
        absent=(
            "no {}", "no signs of {}", "no evidence of {}", "without {}", "no visible {}", "{} not seen", "{} absent",
            "negative for {}", "free of {}",
        ),
        only=("only {}", "{} only", "{} alone", "isolated {}"),
        rest=(
            "otherwise normal", "no other abnormality", "no other finding", "otherwise unremarkable",
            "nothing else abnormal",
        ),
        normal=(
            "no abnormality", "normal fundus", "no visible abnormality", "no pathology seen", "healthy fundus",
            "unremarkable fundus", "no abnormal finding", "fundus within normal limits",
        ),
        faulty=("{} not readable", "{} unreadable", "{} cannot be assessed", "{} not gradable", "{} unclear"),
        faulty_image=("poor image quality", "{} not readable", "unreadable {}", "low image quality"),
        readable=("{} readable", "{} clear", "{} can be assessed", "{} gradable"),
        readable_image=("good image quality", "{} readable", "clear {}", "image quality is good"),
        graded=("{grade} {name}", "{name} ({grade})"),
        opening=("{}", "{}", "fundus photograph: {}", "impression: {}", "findings: {}"),
        side=("{side}: {text}", "{text}, {side}", "{side}, {text}", "{text} ({side})"),
        side_alone=(
            "{}", "fundus photograph of the {}", "{} fundus photograph", "image of the {}", "this is a {}",
        ),
        seen=(
            "{} are seen", "{} seen", "{} are visible", "there are {}", "{} are present", "{} can be seen", "{} noted",
        ),
        unseen=(
            "no {}", "no {} are seen", "there are no {}", "no visible {}", "{} are absent", "without {}", "{} not seen",
        ),
        few=("few {}", "scattered {}", "a few {}", "sparse {}"),
        many=("many {}", "numerous {}", "abundant {}", "a large number of {}"),
        macula=(
            "{} at the macula", "{} in the macula", "{} are seen at the macula", "the macula shows {}",
            "{} involving the macula",
        ),
        no_macula=(
            "no {} at the macula", "no {} in the macula", "no {} are seen at the macula", "the macula shows no {}",
            "macula free of {}",
        ),
        quadrants=(
            "{name} in {quadrants}", "{name} are seen in {quadrants}", "{quadrants} with {name}",
            "{name} involving {quadrants}", "{name} present in {quadrants}",
        ),
        shown=("{}", "the {}", "visible {}", "region of the {}", "position of the {}"),
        enumeration=", ",
        both=(" and ", " with ", " plus "),
        neither=(" or ",),
        comma=", ",
        turn="; ",
        stop=".",
    ),
}
# fmt: on

# What defines each condition, in Chinese and English, for sentences that describe instead of naming: a graded one has a
# phrase for its absence and one for each grade. Phrases stay true of eyes with other diseases.
DEFINITIONS: dict[str, tuple[tuple[str, str], ...]] = {
    "dr_grade": (  # ICDR (Wilkinson et al., Ophthalmology 2003)
        ("糖尿病性微动脉瘤或出血", "diabetic microaneurysms or haemorrhages"),
        ("散在少量微动脉瘤", "few scattered microaneurysms"),
        ("微动脉瘤伴点片状出血或硬性渗出", "microaneurysms with blot haemorrhages or hard exudates"),
        (
            "四象限多发出血或静脉串珠或视网膜内微血管异常",
            "haemorrhages in four quadrants or venous beading or intraretinal microvascular abnormalities",
        ),
        ("视网膜新生血管或视网膜前出血", "retinal neovascularisation or preretinal haemorrhage"),
    ),
    # Beckman classification (Ferris et al., Ophthalmology 2013)
    "amd": (("黄斑区软性玻璃膜疣或年龄相关性萎缩出血", "soft drusen or age-related atrophy or blood at the macula"),),
    # Frisén scale (1982) for oedema; Lee et al. (AJO 2018) for drusen
    "aon": (("视盘苍白或水肿或倾斜等异常", "disc anomaly with pallor or oedema or drusen or tilt"),),
    # SUN working group (Jabs et al., AJO 2005)
    "crp": (("脉络膜视网膜瘢痕或浸润或色素沉着", "chorioretinal scars or infiltrates or pigment clumping"),),
    # META-PM (Ohno-Matsui et al., AJO 2015), for both kinds of myopia
    "dm": (("长眼轴所致近视弧伴脉络膜变薄", "long-eye crescent with thinned choroid"),),
    # ETDRS report 1 (Archives of Ophthalmology 1985)
    "dme": (
        (
            "中心凹一个视盘直径内糖尿病性渗出或增厚",
            "diabetic exudates or thickening within one disc diameter of the fovea",
        ),
    ),
    # Gass, Stereoscopic Atlas of Macular Diseases (1997)
    "em": (("黄斑区玻璃纸样反光伴皱褶", "cellophane sheen with retinal folds at the macula"),),
    # European Glaucoma Society, Terminology and Guidelines (2020)
    "gc": (("视杯扩大伴盘沿变窄", "enlarged optic cup with thinned neuroretinal rim"),),
    # Keith, Wagener and Barker (1939)
    "htr": (("动脉变细伴动静脉交叉压迫", "narrowed arterioles with arteriovenous nicking"),),
    "pm": (("近视性弥漫或斑片状萎缩", "myopic diffuse or patchy atrophy"),),
    # Royal College of Ophthalmologists, Retinal Vein Occlusion Guideline (2022)
    "rvo": (("静脉迂曲扩张伴火焰状出血", "dilated tortuous veins with flame haemorrhages"),),
    # Lens Opacities Classification System III (Chylack et al., 1993)
    "cataract": (("混浊晶状体遮蔽眼底", "clouded lens veiling the fundus"),),
    # Yan et al. (PLoS One 2015)
    "tessellated": (("脉络膜大血管透见", "large choroidal vessels showing through"),),
}

# What each finding looks like, in Chinese and English (lesions in the plural), from the sources of its kind. Short, so
# that three of them fit into a sentence.
FINDING_DEFINITIONS: dict[str, tuple[str, str]] = {
    # ETDRS report 10 (Ophthalmology 1991) and ICDR (Wilkinson et al., Ophthalmology 2003)
    "microaneurysms": ("小于125微米的圆形红点", "round red dots under 125 micrometres"),
    "haemorrhage": ("视网膜内外的暗红色积血", "dark red patches of extravasated blood"),
    "exudate": ("边界清晰的黄白色脂质沉积", "waxy yellow deposits with sharp margins"),
    "cotton_wool": ("绒毛样灰白色神经纤维层梗死", "fluffy white infarcts of nerve fibres"),
    "neovessel": ("细小卷曲的异常血管网", "fine looping tufts of abnormal vessels"),
    # ETDRS report 1 (Archives of Ophthalmology 1985)
    "swelling": ("灰白色增厚隆起的组织", "greyish elevations of thickened tissue"),
    # Beckman classification (Ferris et al., Ophthalmology 2013)
    "drusen": ("色素上皮下的黄白色圆形沉积", "pale yellow mounds beneath the pigment epithelium"),
    "atrophy": ("脉络膜外露的色素上皮缺失区", "pale areas of lost pigment epithelium"),
    # SUN working group (Jabs et al., AJO 2005)
    "scar": ("穿凿样白色病灶伴色素堆积", "punched out white patches with clumped pigment"),
    # Gass, Stereoscopic Atlas of Macular Diseases (1997)
    "membrane": ("视网膜表面反光的半透明薄层", "translucent glistening films on the retina"),
    # Anatomy, as fundus photographs show it
    "disc": ("视网膜血管汇聚处的橙红色圆盘", "orange circle where the retinal vessels converge"),
    "cup": ("视神经起始处中央的苍白凹陷", "pale central excavation of the nerve head"),
    "fovea": ("黄斑中央的暗红色小凹", "dark red pit in the middle of the macula"),
    "artery": ("较细而鲜红的血管", "thinner bright red vessels"),
    "vein": ("较粗而暗红的血管", "thicker dark red vessels"),
    "vessels": ("自视盘向四周分支的红色管道", "branching channels of blood from the optic disc"),
}
