"""Pictures of tuning draw what they are given, also where runs failed and trials have no AUC."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from dlrm_lib.plots import tuning


def run(losses, evaluations, *, steps, state="finished"):
    return SimpleNamespace(
        progress=[SimpleNamespace(step=step, loss=loss) for step, loss in enumerate(losses, start=1)],
        evaluations=[SimpleNamespace(step=step, log_loss=loss, auc=auc) for step, loss, auc in evaluations],
        step=len(losses) + (state == "failed"),
        steps=steps,
        state=state,
    )


def points(line):
    return np.array(line.get_xydata()).tolist()


def test_runs_of_different_lengths_share_an_axis_and_a_failed_one_ends_at_the_top():
    fine = run([0.5, 0.4], [(1, 0.45, None), (2, 0.3, 0.7)], steps=2)
    broken = run([0.6], [], steps=4, state="failed")
    figure = tuning.compared({"fine": fine, "broken": broken}, 0.5)
    left, right = figure.axes
    drawn = [points(line) for line in left.lines]
    assert drawn[:3] == [[[0.5, 0.5], [1, 0.4]], [[0.5, 0.45], [1, 0.3]], [[0.25, 0.6]]]
    assert drawn[4:6] == [[[0.25, 0.6], [0.5, 0.8]], [[0.5, 0.8]]]
    assert points(right.lines[0])[1] == [1, 0.7]
    assert np.isnan(points(right.lines[0])[0][1])
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        "fine (2 steps)",
        "broken (4 steps)",
        "the click rate alone",
    ]


def test_a_run_without_events_is_named_and_many_losses_are_averaged():
    long = run([1.0, 0.0] * 60, [], steps=120)
    left, _ = tuning.compared({"empty": run([], [], steps=3, state="failed"), "long": long}, 0.5).axes
    empty, _, averaged, *_ = (points(line) for line in left.lines)
    assert empty == []
    assert [y for _, y in averaged] == pytest.approx([0.5] * 30)


def test_the_band_is_two_deviations_to_each_side():
    (ax,) = tuning.noise_floor([0.6, 0.7, 0.8], {"other": 0.9}).axes
    left, width = ax.patches[0].get_x(), ax.patches[0].get_width()
    assert (left, left + width) == pytest.approx((0.5, 0.9))
    assert [label.get_text() for label in ax.get_yticklabels()] == ["as it is, 3 seeds", "other"]
    assert points(ax.lines[-1]) == [[0.9, 1]]


def test_the_grid_repeats_its_values_and_random_trials_do_not():
    grid, random = (np.array(ax.lines[0].get_xdata()) for ax in tuning.grid_and_random(side=3).axes)
    assert (len(grid), len(set(grid))) == (9, 3)
    assert (len(random), len(set(random))) == (9, 9)


@pytest.fixture
def table():
    return pd.DataFrame(
        {
            "lr": [0.1, 10.0, 0.01, 0.02],
            "optimizer": ["adam", "sgd", "adam", "sgd"],
            "embedding_decay": [0.0, 1.0, 2.0, 3.0],
            "AUC": [0.6, np.nan, 0.8, 0.7],
            "state": ["finished", "failed", "pruned", "finished"],
        },
        index=pd.RangeIndex(1, 5, name="trial"),
    )


def test_every_trial_is_drawn_once_in_each_panel(table):
    figure = tuning.trials(table, ["lr", "optimizer", "embedding_decay"])
    first, lr, optimizer, decay = figure.axes
    best, *marks = first.lines
    assert best.get_ydata().tolist() == [0.6, 0.6, 0.6, 0.7]  # a pruned trial is not chosen
    assert [line.get_label() for line in marks] == ["finished", "not finished", "without an AUC", "where it began"]
    for ax in (lr, optimizer, decay):
        assert sum(len(line.get_xdata()) for line in ax.lines) == len(table)
    assert [points(line)[0] for line in lr.lines if line.get_marker() != "x"] == [[0.02, 0.7], [0.01, 0.8], [0.1, 0.6]]
    assert (lr.get_xscale(), decay.get_xscale()) == ("log", "linear")


def test_a_trial_without_an_auc_lies_below_all_others(table):
    (floor,) = (line for line in tuning.trials(table, ["lr"]).axes[0].lines if line.get_marker() == "x")
    assert floor.get_ydata()[0] < 0.6


def test_pairs_are_joined_seed_by_seed():
    (ax,) = tuning.pairs([0.5, 0.6], [0.8, 0.7], 0.9).axes
    assert [points(line) for line in ax.lines[:2]] == [[[0, 0.5], [1, 0.8]], [[0, 0.6], [1, 0.7]]]
    assert np.array(ax.lines[2].get_ydata()) == pytest.approx([0.55, 0.75])
    assert points(ax.lines[3]) == [[1, 0.9]]
