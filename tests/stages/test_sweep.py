"""Which points there are, and how each is trained."""

from visionclip import study
from visionclip.stages.sweep import PLANNED, Plan, Point, Sweep

PLAN = Plan(50, 10, 2)


def test_there_is_a_point_for_each_size_and_seed():
    points = Sweep([100, 400], [0, 3], PLAN).by_name
    assert list(points) == ["n100-s0", "n100-s3", "n400-s0", "n400-s3"]
    assert points["n400-s3"] == Point("n400-s3", 400, 3, PLAN)
    assert all(name == point.name for name, point in points.items())


def test_the_plan_is_made_of_the_parameters_of_the_stage():
    defaults = {name: one.default for name, one in study.declared("05-dataset-size").items()}
    sweep = Sweep.of(defaults)
    assert (sweep.sizes, sweep.seeds) == (defaults["sizes"], defaults["seeds"])
    assert {name: getattr(sweep.plan, name) for name in PLANNED} == {name: defaults[name] for name in PLANNED}
