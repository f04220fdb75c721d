from visionclip.study import bench


def test_a_rate_counts_items_and_leaves_the_warm_up_out(monkeypatch):
    ticks = iter([0.0, 4.0, 10.0, 12.0])
    monkeypatch.setattr(bench.time, "perf_counter", lambda: next(ticks))
    calls = []
    assert bench.rate(lambda: calls.append(1), 10, repetitions=2) == 5
    assert len(calls) == 3


def test_every_kind_of_work_runs_at_its_smallest():
    assert bench.rendering(32) > 0
    assert min(bench.preparation(32).values()) > 0
    assert bench.tower_training(32, 8, bf16=True) > 0
    assert bench.reader_teaching(32, 8) > 0
    assert bench.intervals(50) > 0
