"""The table of published datasets is what the loaders need, and a broken one is refused by name."""

import pytest

from visionclip.data import archives, folders, published
from visionclip.data.published import PUBLISHED, TABLE


@pytest.mark.parametrize("one", PUBLISHED, ids=lambda one: one.folder)
def test_published_tasks_can_be_loaded_from_the_labels_described(one, tmp_path):
    for column in one.plan.columns:
        assert column in one.labels
    (tmp_path / one.folder).mkdir()
    with pytest.raises(FileNotFoundError, match=r"labels\.csv"):
        folders.load(tmp_path / one.folder, 16)


def test_every_published_set_has_a_format_of_its_tree():
    assert [one.folder for one in PUBLISHED] == list(archives.FORMATS)


def test_published_accuracies_stand_with_the_majority():
    stated = {one.folder: (one.accuracy, one.majority) for one in PUBLISHED if one.accuracy}
    assert stated == {"messidor": (0.431, 0.455), "fives": (0.739, 0.25), "refuge": (0.925, 0.9)}
    assert all(one.get and one.terms and one.owner and one.images for one in PUBLISHED)


def test_shared_tasks_are_the_same_in_every_set():
    plans = {one.folder: {task.name: task for task in one.plan.tasks} for one in PUBLISHED}
    assert plans["idrid"]["dr_grade"] == plans["messidor2"]["dr_grade"]
    assert plans["idrid"]["macular_edema"] == plans["messidor"]["macular_edema"]
    assert plans["fives"]["disease"].classes[0].facts == [{}]


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("  name: FIVES\n", "", "fives: name is missing"),
        ("  images: 800", "  images: many", "fives: images is 'many'"),
        ("  majority: 0.25", "  majority: 25", "fives: majority is '25'"),
        ("  terms: CC BY 4.0\n", "  terms: [CC, BY]\n", "terms is \\['CC', 'BY'\\]"),
        ("  own: test\n", "  owns: test\n", "fives: unknown key 'owns'"),
        ("values: [N]", "values: [A]", "fives: disease: value 'A' is listed twice"),
        ("conditions: [{amd: 1}]", "conditions: [{amd: 7}]", "amd is 7"),
        ("name: FIVES", "name: FIVES: five", "line .* is no YAML"),
    ],
)
def test_a_broken_table_is_refused_in_one_line_that_names_the_set(tmp_path, old, new, complaint):
    text = TABLE.read_text("utf-8")
    assert old in text
    (tmp_path / "published.yaml").write_text(text.replace(old, new, 1), "utf-8")
    with pytest.raises(ValueError, match=rf"published\.yaml: .*{complaint}") as refusal:
        published.load(tmp_path / "published.yaml")
    assert "\n" not in str(refusal.value)
