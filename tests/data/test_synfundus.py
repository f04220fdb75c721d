"""SynFundus-1M in its layouts and with its faults, and the way from the command to pairs."""

import json
from collections import Counter

import cv2
import numpy as np
import pytest

from visionclip import conditions, keys, runs, streams
from visionclip.data import pairs, shards, streaming, synfundus
from visionclip.evaluation import scoring
from visionclip.report import cards
from visionclip.text import captions

# fmt: off
ANNOTATION = [
    "file_md5", "file_name", "eyes_side", "is_abnormal", "is_amd", "is_aon", "is_crp", "is_dm", "is_dme", "dr_grade",
    "is_em", "is_gc", "is_md", "is_mh", "is_htr", "has_lesion", "is_pm", "is_rvo", "is_tessellated", "is_treated",
    "is_fundus", "is_macular_readable", "is_optic_disc_readable", "is_retinal_region_readable",
    "retinal_region_quality_score", "diagnosticAdvice",
]
GENERATION = [
    "dr_grade", "eye_side", "is_amd", "is_aon", "is_crp", "is_dm", "is_dme", "is_em", "is_gc", "is_htr", "is_pm",
    "is_rvo", "is_fundus", "is_optic_disc_readable", "is_retinal_region_readable",
]
# fmt: on
HEALTHY = {"is_fundus": 1, "is_macular_readable": 1, "is_optic_disc_readable": 1, "is_retinal_region_readable": 1}
# As owners' rows are: text and flags that agree, that contradict each other, and words beyond the vocabulary.
EYES = [
    {"file_name": 0, "is_gc": 1, "diagnosticAdvice": "疑似青光眼。"},
    {"file_name": 1, "is_crp": 1, "diagnosticAdvice": "疑似脉络膜视网膜病变，疑似黄斑区域病变。"},
    {"file_name": 2, "is_htr": 0, "diagnosticAdvice": "疑似高血压性视网膜病变（中度）。"},
    {"file_name": 3, "dr_grade": 2, "is_dme": 1, "diagnosticAdvice": "疑似糖尿病视网膜病变（中度），可见出血斑。"},
    {"file_name": 4, "dr_grade": 1, "diagnosticAdvice": "疑似糖尿病视网膜病变（重度）。"},
    {"file_name": 5, "is_abnormal": 1},
    {"file_name": 6, "is_tessellated": 1, "is_pm": 1, "eyes_side": "right", "diagnosticAdvice": "疑似病理性近视。"},
    {"file_name": 7, "is_amd": 1, "is_macular_readable": 0, "diagnosticAdvice": "疑似黄斑区域病变。"},
]


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch):
    """The digest of the code, which parses the library for every card, is tested elsewhere."""
    monkeypatch.setattr(keys, "code", lambda *programs: "code")


def picture(number: int) -> np.ndarray:
    rng = np.random.default_rng(number)
    image = np.zeros((40, 48, 3), np.uint8)
    cv2.circle(image, (24, 20), 17, tuple(map(int, rng.integers(60, 250, 3))), -1)
    return image


def folder(path, rows, columns=ANNOTATION, name="SynFundus-1M_annotation_v1.csv", delimiter=",", part="Part0", **other):
    """A folder as unpacked: a table of ``rows`` (cells that aren't named are 0) and an image for each."""
    (path / part).mkdir(parents=True, exist_ok=True)
    lines = [columns]
    for number, row in enumerate(rows):
        cells = {**dict.fromkeys(columns, 0), "diagnosticAdvice": "", "eyes_side": "left", **HEALTHY, **row}
        lines.append([str(cells[column]) for column in columns])
        cv2.imwrite(str(path / part / f"{row.get('file_name', row.get('idx', number))}.png"), picture(number))
    text = "\n".join(delimiter.join(line) for line in lines)
    (path / name).write_text(text, other.get("encoding", "utf-8"))
    return path


def many(count):
    return [{**EYES[number % len(EYES)], "file_name": number} for number in range(count)]


def run(source, out, images=6, validation=2, size=32, **given):
    """The command; the records by the files' names, and numbers.json."""
    words = {"folder": source, "out": out, "images": images, "validation": validation, "size": size, **given}
    synfundus.main([word for name, value in words.items() for word in (f"--{name}", str(value))])
    assert runs.require(out, "01-synthesis")["stage"] == "01-synthesis"
    return records(out), runs.read_json(out / "numbers.json")


def records(out):
    found = {}
    for name in ("synthetic", "validation"):
        for shard in streaming.paths(out / name):
            for _, _, _, record in streaming._samples(shard):
                assert record["file"] not in found, "an image is in both sets"
                found[record["file"]] = record
    return found


def refused(capsys, source, out, **given):
    with pytest.raises(SystemExit) as stop:
        run(source, out, **given)
    assert stop.value.code == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    return line


def test_the_annotation_becomes_conditions_and_what_it_leaves_open_stays_unknown(tmp_path):
    found, numbers = run(folder(tmp_path / "set", EYES), tmp_path / "out")
    eye = found["6.png"]["conditions"]
    assert eye == {
        **dict.fromkeys((key for key in conditions.DISEASES if key != "cataract"), 0),
        **dict.fromkeys(conditions.READABILITY, 1),
        "eye_side": 1,
        "tessellated": 1,
        "pm": 1,
    }
    assert found["7.png"]["conditions"]["macula_readable"] == 0
    assert conditions.is_normal(found["5.png"]["conditions"]), "is_abnormal says nothing"
    assert numbers["sources"] == {"SynFundus-1M": 6}
    assert numbers["validation"] == 2
    assert set(streaming.load(tmp_path / "out/synthetic").sources) == {"SynFundus-1M"}


def test_a_sentence_that_is_understood_and_contradicts_nothing_is_the_caption(tmp_path):
    found, numbers = run(folder(tmp_path / "set", EYES), tmp_path / "out")
    assert {name: record["caption"]["facts"] for name, record in found.items() if record["caption"]["facts"]} == {
        "0.png": {"gc": 1},
        "3.png": {"dr_grade": 2, "haemorrhage": 1},
        "6.png": {"pm": 1},
    }
    assert found["3.png"]["conditions"]["haemorrhage"] == 1, "what the sentence states is known of its image"
    assert found["1.png"]["caption"]["text"] == EYES[1]["diagnosticAdvice"], "others are kept, and not used"
    assert numbers["sentences"] == {"there": 7, "understood": 4, "captions": 3, "contradict a flag": 1}
    assert numbers["agreement"]["htr"] == {"text alone": 1}
    assert numbers["agreement"]["dr_grade"] == {"both": 1, "another grade": 1}
    assert numbers["agreement"]["dme"] == {"flag alone": 1}
    assert numbers["phrases"] == {"疑似黄斑区域病变": 2, "疑似高血压性视网膜病变(中度)": 1}
    assert (tmp_path / "out/phrases.txt").read_text("utf-8").splitlines()[0] == "2\t疑似黄斑区域病变"


@pytest.mark.parametrize(
    ("delimiter", "encoding", "part"),
    [(",", "utf-8-sig", "Fundus"), ("\t", "utf-8", "."), ("\t", "utf-8-sig", "a/Part0")],
)
def test_delimiters_byte_order_marks_and_folders_are_found_out(tmp_path, delimiter, encoding, part):
    source = folder(tmp_path / "set", EYES, delimiter=delimiter, encoding=encoding, part=part)
    found, numbers = run(source, tmp_path / "out")
    assert len(found) == 8
    assert found["0.png"]["caption"] == {"text": "疑似青光眼。", "facts": {"gc": 1}}
    assert not any(numbers["faults"].values())


@pytest.mark.parametrize("row_number", ["none", "idx", "index of a data frame"])
def test_generation_conditions_have_images_by_row_or_by_number(tmp_path, row_number):
    rows = [{"idx": 7 - number, "dr_grade": number % 5, "eye_side": number % 2} for number in range(8)]
    columns = {"none": GENERATION, "idx": [*GENERATION, "idx"], "index of a data frame": ["", *GENERATION]}[row_number]
    source = folder(tmp_path / "set", [{"": 0, **row} for row in rows], columns, synfundus.GENERATION)
    found, _ = run(source, tmp_path / "out")
    for number, row in enumerate(rows):
        record = found[f"{row['idx'] if row_number == 'idx' else number}.png"]
        assert (record["conditions"]["dr_grade"], record["conditions"]["eye_side"]) == (number % 5, number % 2)
        assert record["conditions"].keys().isdisjoint({"cataract", "tessellated", "macula_readable"})
        assert record["caption"] == {"text": "", "facts": {}}
    assert streaming.load(tmp_path / "out/synthetic").sentences == []


@pytest.mark.parametrize("name", ["12", "12.png", "12.0", "Part0/12.png", "Part0\\12.png", "12.PNG"])
def test_every_way_to_write_a_file_s_name(tmp_path, name):
    source = folder(tmp_path, [{"file_name": 12}])
    table, _ = synfundus.find_table(source)
    cells = ["0", name, *[""] * 24]
    assert synfundus.Pictures(source).find(synfundus._name(table, cells, 0)) == str(source / "Part0/12.png")


def test_a_part_is_found_by_the_image_s_number(tmp_path):
    pictures = {}
    for number, part in ((0, 0), (49_999, 0), (50_000, 1), (999_999, 19), (1_000_017, 19)):
        (tmp_path / f"Part{part}").mkdir(exist_ok=True)
        pictures[number] = tmp_path / f"Part{part}" / f"{number}.png"
        pictures[number].touch()
    (tmp_path / "Part3/deeper").mkdir(parents=True)
    (tmp_path / "Part3/1.png").touch()  # in the wrong part
    found = synfundus.Pictures(tmp_path)
    assert {number: found.find(str(number)) for number in pictures} == {n: str(path) for n, path in pictures.items()}
    assert found.find("1") == str(tmp_path / "Part3/1.png")
    assert found.find("../set.csv") is None
    assert found.find("77") is None


@pytest.mark.parametrize(
    ("key", "cell", "value"),
    [
        *(("gc", cell, 1) for cell in ("1", "1.0", " 1 ", "01")),
        *(("gc", cell, None) for cell in ("", " ", "nan", "NaN", "None", "null")),
        *(("gc", cell, -1) for cell in ("2", "-1", "yes", "left", "0.5")),
        *(("eye_side", cell, 0) for cell in ("left", "Left", "L", "OS", "0", "0.0", "左")),
        *(("eye_side", cell, 1) for cell in ("right", "R", "od", "1.0", "右眼")),
        ("dr_grade", "4.0", 4),
        ("dr_grade", "5", -1),
    ],
)
def test_every_way_to_write_a_value(key, cell, value):
    assert synfundus._value(key, cell) == value


def test_missing_and_broken_images_are_counted_and_listed_and_others_take_their_place(tmp_path):
    source = folder(tmp_path / "set", many(20))
    (source / "Part0/3.png").unlink()
    (source / "Part0/4.png").write_bytes(b"")
    (source / "Part0/5.png").write_bytes(b"no image")
    whole = (source / "Part0/6.png").read_bytes()
    (source / "Part0/6.png").write_bytes(whole[: len(whole) // 2])
    found, numbers = run(source, tmp_path / "out", images=12, validation=4)
    assert len(found) == 16
    assert {"3.png", "4.png", "5.png", "6.png"}.isdisjoint(found)
    assert numbers["faults"]["missing"] == 1
    listed = Counter(line.split("\t")[0] for line in (tmp_path / "out/faults.txt").read_text("utf-8").splitlines())
    assert listed == {kind: number for kind, number in numbers["faults"].items() if number}
    assert listed["unreadable"] == 3
    assert "missing\t3\n" in (tmp_path / "out/faults.txt").read_text("utf-8")


def test_sets_are_as_large_as_what_can_be_read(tmp_path, capsys):
    found, numbers = run(folder(tmp_path / "set", many(20)), tmp_path / "out", images=100, validation=5)
    assert (len(found), numbers["sources"], numbers["validation"]) == (20, {"SynFundus-1M": 15}, 5)
    assert "synthetic: 15 images in place of 100, as no more can be read" in capsys.readouterr().out


def test_rows_that_are_no_rows_and_cells_that_are_no_values_are_counted(tmp_path, capsys):
    source = folder(tmp_path / "set", many(12))
    table = source / "SynFundus-1M_annotation_v1.csv"
    lines = table.read_text("utf-8").splitlines()
    lines[3] += ",more"  # image 2
    lines[4] = lines[4].replace("0,3,left,0,0", "0,3,left,0,7")  # is_amd of image 3
    lines[6] = f"0,5{24 * ','}"
    lines[7] = lines[5]  # image 4 once more, in the place of 6
    table.write_text("\n\n".join(lines) + "\n", "utf-8")  # blank lines are no rows
    found, numbers = run(source, tmp_path / "out", images=7)
    assert numbers["faults"] == {"malformed row": 1, "nothing known": 1, "listed again": 1}
    assert numbers["no_values"] == {"amd": 1}
    assert "amd" not in found["3.png"]["conditions"]
    assert {"2.png", "5.png", "6.png"}.isdisjoint(found)
    assert "amd: 1 cells are no value of it, taken as unknown" in capsys.readouterr().out


def test_an_inverted_column_of_macular_edema_is_remarked(tmp_path, capsys):
    run(folder(tmp_path / "set", [{**row, "is_dme": 1} for row in many(12)]), tmp_path / "out")
    assert "its values look inverted; look at some, and correct or leave out the column" in capsys.readouterr().out


def test_of_both_tables_the_annotation_is_read(tmp_path, capsys):
    source = folder(tmp_path / "set", EYES)
    folder(source, [{"dr_grade": 4}] * 8, GENERATION, synfundus.GENERATION)
    found, numbers = run(source, tmp_path / "out")
    assert found["0.png"]["conditions"]["dr_grade"] == 0
    assert numbers["table"] == "SynFundus-1M_annotation_v1.csv"
    assert "SynFundus-1M_annotation_v1.csv is read, not SynFundus-1M_gen_cond.csv" in capsys.readouterr().out


def test_the_choice_is_of_the_seed_and_a_set_is_written_again_to_the_byte(tmp_path):
    source = folder(tmp_path / "set", many(60))
    made = {}
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        found, _ = run(source, tmp_path / name, images=10, validation=5, seed=seed)
        assert len(found) == 15
        made[name] = [(tmp_path / name / part / "00000.tar").read_bytes() for part in ("synthetic", "validation")]
    assert made["a"] == made["b"] != made["c"]


def test_what_is_no_set_is_refused_in_one_line(tmp_path, capsys):
    line = refused(capsys, tmp_path / "nowhere", tmp_path / "out")
    assert line.endswith("gen_cond.csv; give the folder that holds one of them and the images")
    source = folder(tmp_path / "set", EYES)
    for png in source.glob("Part0/*"):
        png.unlink()
    line = refused(capsys, source, tmp_path / "out")
    assert "0 of 8 rows can be used (missing 8); give the folder that holds both the table and its images" in line
    for number in range(8):
        (source / f"Part0/{number}.png").write_bytes(b"no image")
    line = refused(capsys, source, tmp_path / "out")
    assert "not one image of the validation set can be read (8 were tried); unpack the images again" in line
    table = source / "SynFundus-1M_annotation_v1.csv"
    text = table.read_text("utf-8")
    for content, message in (
        ("a,b\n1,2\n", "no column dr_grade or is_… in its header"),
        (text.replace("file_name", "name"), "no column file_name or idx, which says whose labels a row has; add one"),
        (text.replace("is_aon", "is_amd"), "column 'is_amd' is listed twice; leave one"),
        ("", "no column dr_grade"),
        (text.splitlines()[0], r"0 of 0 rows can be used (no row)"),
    ):
        table.write_text(content, "utf-8")
        assert message in refused(capsys, source, tmp_path / "out")
    table.write_bytes(text.encode("gbk"))
    assert "not UTF-8; save it with that encoding" in refused(capsys, source, tmp_path / "out")
    table.write_text(text, "utf-8")
    (source / "SynFundus-1M_annotation_v2.csv").write_text(text, "utf-8")
    assert "SynFundus-1M_annotation_v2.csv lies beside it; leave one" in refused(capsys, source, tmp_path / "out")
    with pytest.raises(SystemExit):
        run(source, tmp_path / "out", size=8)


def test_a_refused_folder_leaves_the_finished_stage_that_was_there(tmp_path, capsys):
    source = folder(tmp_path / "set", EYES)
    found, _ = run(source, tmp_path / "out")
    for png in source.glob("Part0/*"):
        png.unlink()
    refused(capsys, source, tmp_path / "out")
    assert runs.require(tmp_path / "out", "01-synthesis")
    assert records(tmp_path / "out") == found


def test_from_the_command_to_pairs(tmp_path):
    """Every image with a sentence has it first, and no caption is untrue of its image."""
    out, written = tmp_path / "01-synthesis", tmp_path / "02-captions"
    run(folder(tmp_path / "set", many(80)), out, images=60, validation=20)
    for name in ("synthetic", "validation"):
        eyes = shards.load(out / name)
        rng = streams.rng(0, f"captions of {name}")
        table, texts_of = captions.table(eyes.conditions, ("zh", "en"), 4, rng, sentences=eyes.sentences)
        captions.write(written / name, table, texts_of, eyes.keys)
        truth = captions.truth(eyes.conditions, table)
        assert all(truth[image, own].all() for image, own in enumerate(texts_of))
        assert all(len(own) == 4 for own in texts_of)
        assert not any("cataract" in one.facts for one in table)
    loaded = pairs.load(out, written, "synthetic")
    said = [text for text, _ in loaded.images.sentences]
    assert set(said) == {"", "疑似青光眼。", "疑似病理性近视。", "疑似糖尿病视网膜病变（中度），可见出血斑。"}
    for own, text, eye in zip(loaded.texts_of, said, loaded.images.conditions, strict=True):
        first = loaded.captions[own[0]]
        assert conditions.holds(first.facts, eye)
        assert not text or (first.text, first.language) == (text, "zh")
    few = loaded.subset(10, 0).images
    assert [text for text, _ in few.sentences] == [said[loaded.images.keys.index(key)] for key in few.keys]
    tasks = {task.name for task in scoring.phantom_tasks(shards.load(out / "validation")).tasks}
    assert {"dr_grade", "gc", "pm"} <= tasks
    assert "cataract" not in tasks


def test_the_cards_say_that_photographs_are_upstream(tmp_path):
    run(folder(tmp_path / "set", EYES), tmp_path / "run/01-synthesis")
    facts = cards.facts(tmp_path / "run", "mine")
    assert facts["sources"] == "SynFundus-1M 6"
    assert facts["patients"].startswith("Photographs are upstream (SynFundus-1M)")
    assert facts["fidelity"] == "(not run) on generated images, (not run) on held-out phantoms"
    (datasheet,) = [card for card in cards.fill(tmp_path / "run", "mine") if card.name == "datasheet"]
    answers = json.dumps([items for _, items in datasheet.sections], ensure_ascii=False)
    assert "DDPM of (not run) updates" not in answers
