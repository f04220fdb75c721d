"""Which points there are, and how many steps each takes."""

from visionclip.stages.sweep import Point, Sweep

SWEEP = Sweep([100, 400, 1600], [0, 1], ["updates"], 50)
BOTH = Sweep([100, 400, 1600], [0, 1], ["updates", "epochs"], 50)


def test_at_the_same_epochs_small_sets_take_fewer_steps_and_the_largest_is_run_once():
    assert [BOTH.steps(size, "updates") for size in BOTH.sizes] == [50, 50, 50]
    assert [BOTH.steps(size, "epochs") for size in BOTH.sizes] == [3, 12, 50]
    assert Sweep([1, 1000], [0], ["epochs"], 5).steps(1, "epochs") == 1
    largest = Point("n1600-s0", 1600, 0, 50)
    assert largest in BOTH.points("epochs")
    assert largest in BOTH.points("updates")
    assert len(BOTH.by_name) == 10
    assert list(SWEEP.by_name) == [f"n{size}-s{seed}" for size in SWEEP.sizes for seed in SWEEP.seeds]


def test_a_name_stands_for_one_training():
    for name, point in BOTH.by_name.items():
        assert point.name == name
    trainings = {(point.images, point.seed, point.updates) for point in BOTH.by_name.values()}
    assert len(trainings) == len(BOTH.by_name)
