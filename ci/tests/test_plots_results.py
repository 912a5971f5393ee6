"""Pictures of results draw the numbers of their records, and no others."""

from __future__ import annotations

import numpy as np
import pytest
from sample_records import made_up

from dlrm_lib.plots import results, training

METRICS = made_up()


def runs(precision: str) -> list[dict]:
    return [run for run in METRICS["stability"]["runs"] if run["precision"] == precision]


def lines(ax) -> list[list[list[float]]]:
    return [np.array(line.get_xydata()).tolist() for line in ax.lines]


def texts(ax) -> list[str]:
    return [text.get_text() for text in ax.texts]


def band(collection) -> tuple[np.ndarray, np.ndarray]:
    """Lowest and highest y at each x of an area."""
    points = collection.get_paths()[0].vertices
    places = np.unique(points[:, 0])
    heights = [points[points[:, 0] == x, 1] for x in places]
    return np.array([h.min() for h in heights]), np.array([h.max() for h in heights])


def test_curves_are_means_over_seeds_and_bands_their_ranges():
    figure = results.learning_curves(METRICS["stability"])
    auc, loss = figure.axes
    for at, precision in enumerate(("fp32", "bf16", "fp16")):
        values = np.array([[point["validation_auc"] for point in run["curve"]] for run in runs(precision)])
        assert np.array(lines(auc)[at])[:, 0].tolist() == [300, 600, 900, 1200]
        assert np.array(lines(auc)[at])[:, 1] == pytest.approx(values.mean(0))
        low, high = band(auc.collections[at])
        assert (low, high) == (pytest.approx(values.min(0)), pytest.approx(values.max(0)))
    assert np.array(lines(loss))[:, :, 1] == pytest.approx(0.45)
    named = [text.get_text() for text in auc.get_legend().get_texts()]
    assert named == [f"{p}, mean of 16 seeds" for p in ("fp32", "bf16", "fp16")]


def test_seeds_stand_at_their_difference_from_the_mean_of_fp32():
    ours, theirs = {"fp32": [0.7, 0.7004, 0.7002], "fp16": [0.7003, 0.7001]}, {"fp32": [0.8, 0.8]}
    first, second = results.seeds({"ours": ours, "theirs": theirs}, bound=0.001).axes
    dots = [line for line in first.lines if line.get_marker() == "o"]
    assert sorted(dots[0].get_xdata()) == pytest.approx([-0.2, 0.0, 0.2])
    assert sorted(dots[1].get_xdata()) == pytest.approx([-0.1, 0.1])
    assert texts(first) == ["0.70020 ± 0.00020", "0.70020 ± 0.00014"]
    assert texts(second) == ["0.80000 ± 0.00000"]
    assert first.get_xlim() == second.get_xlim()


def test_a_seed_beyond_the_bound_is_not_cut_off():
    (ax,) = results.seeds({"ours": {"fp32": [0.70, 0.71]}}, bound=0.001).axes
    assert ax.get_xlim()[0] < -5 < 5 < ax.get_xlim()[1]


@pytest.mark.parametrize(("equivalent", "verdict"), [(True, "equivalent"), (False, "not shown to be equivalent")])
def test_equivalence_is_an_interval_between_bounds(equivalent, verdict):
    found = {"difference": 2e-4, "low": -1e-4, "high": 5e-4, "bound": 1e-3, "p": 0.0123, "equivalent": equivalent}
    (ax,) = results.equivalence({"bf16": found}).axes
    (interval,) = [c.get_segments()[0][:, 0] for c in ax.collections]
    assert interval == pytest.approx([-0.1, 0.5])
    edges = [line.get_xdata()[0] for line in ax.lines if line.get_linestyle() == "--"]
    assert edges == pytest.approx([-1, 1])
    assert texts(ax) == [f"{verdict}, p = 0.01"]


def test_times_are_medians_and_runs_that_never_arrived_are_named():
    some = METRICS["time_to_auc"]["runs"]
    never = {"name": "plain", "precision": "fp32", "seconds": None, "steps": None, "reached": 0}
    (ax,) = results.time_to_auc([*some, never], 0.79).axes
    assert [bar.get_width() for bar in ax.patches] == [6.1, 8.9, 0]
    assert texts(ax) == ["6.1 s", "8.9 s", "did not reach it"]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["laptop, fp32", "laptop, bf16", "plain"]


def test_throughput_is_drawn_by_batch_size_in_each_precision():
    models = METRICS["throughput"]["models"]
    grid = results.throughput(models).axes
    for ax, points in zip(grid, models.values(), strict=True):
        drawn = [pair for line in lines(ax) for pair in line]
        assert drawn == [[p["batch_size"], p["samples_per_second"]["median"]] for p in points]
        assert set(texts(ax)) == {p["precision"] for p in points}
        ends = [p["samples_per_second"] for p in points if p["precision"] == "fp32"]
        low, high = band(ax.collections[0])
        assert (low.tolist(), high.tolist()) == ([s["low"] for s in ends], [s["high"] for s in ends])


def test_latencies_are_those_of_one_precision_with_their_batch_sizes():
    models = METRICS["inference"]["models"]
    ax = results.latency(models).axes[0]
    points = [p for p in models["laptop"] if p["precision"] == "fp32"]
    p50, p99 = lines(ax)
    assert p50 == [[p["p50_ms"], p["samples_per_second"]] for p in points]
    assert p99 == [[p["p99_ms"], p["samples_per_second"]] for p in points]
    assert texts(ax) == [f"{p['batch_size']:,}" for p in points[::2]]


def test_cost_shows_speed_and_memory_of_each_thing_that_grows():
    growth = METRICS["cost"]
    grid = results.cost(growth).axes
    for at, points in enumerate(growth.values()):
        assert lines(grid[at]) == [[[p["value"], p["samples_per_second"]["median"]] for p in points]]
        whole, tables = lines(grid[at + 3])
        assert whole == [[p["value"], p["memory_bytes"] / 2**30] for p in points]
        assert tables == [[p["value"], p["table_bytes"] / 2**30] for p in points]
        assert grid[at].get_ylim()[0] == grid[at + 3].get_ylim()[0] == 0


def test_speeds_of_contestants_are_medians_of_ratios_and_ours_stand_out():
    contestants = {"ours": {"times_plain": [1.0, 3.0, 2.0]}, "plain": {"times_plain": [1.0]}, "other": {}}
    names = {"plain": "plain PyTorch", "ours": "dlrm_lib", "absent": "not measured"}
    ax, _ = results.step_speed({"one": contestants, "two": contestants}, names).axes
    assert [bar.get_width() for bar in ax.patches] == [1.0, 2.0]
    assert texts(ax) == ["1.00", "2.00"]
    assert ax.patches[0].get_facecolor() != ax.patches[1].get_facecolor()


def test_preprocessing_shows_the_named_programs_in_their_order():
    seconds = {"a": [3.0, 1.0, 2.0], "b": [5.0], "unnamed": [9.0]}
    (ax,) = results.preprocessing(seconds, {"b": "other", "a": "dlrm_lib"}, 4_000_000).axes
    assert [bar.get_width() for bar in ax.patches] == [5.0, 2.0]
    assert texts(ax) == ["5.0 s", "2.0 s"]
    assert ax.get_title(loc="left").startswith("4 million rows")


@pytest.mark.parametrize(("value", "text"), [(7, "7"), (1000, "1k"), (20_000, "20k"), (1.5e6, "1.5M")])
def test_counts_are_written_as_people_write_them(value, text):
    assert results._short(value) == text


def test_days_are_means_over_seeds_with_their_range_and_seconds_those_of_encoding_and_training():
    found = METRICS["day_by_day"]
    auc, seconds = training.day_by_day(found).axes
    names = ["trained further", "trained anew", "left as it was"]
    assert sorted(texts(auc)) == sorted(names)
    for at, name in enumerate(names):
        of = np.array([day["models"][name]["auc"] for day in found["days"]])
        assert np.array(lines(auc)[at])[:, 0].tolist() == [2, 3, 4]
        assert np.array(lines(auc)[at])[:, 1] == pytest.approx(of.mean(1))
        low, high = band(auc.collections[at])
        assert (low, high) == (pytest.approx(of.min(1)), pytest.approx(of.max(1)))
    # A model that is left alone takes none; the first training is not that of a night.
    assert sorted(texts(seconds)) == sorted(names[:2])
    assert lines(seconds) == [[[3, 4.0], [4, 8.0]]] * 2
