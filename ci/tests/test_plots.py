"""Figures: the same bytes each time, and what they are given is what they draw."""

from __future__ import annotations

from types import SimpleNamespace

import matplotlib.pyplot as plt
import numpy as np
import pytest

from dlrm_lib import metrics
from dlrm_lib.plots import axes, panels, preprocessing, save, training
from dlrm_lib.preprocess.stages import Stage


def test_a_saved_figure_has_the_same_bytes_each_time(tmp_path):
    written = []
    for name in ("a", "b"):
        figure, ax = axes("A claim", "x (units)", "y (units)")
        ax.plot([1, 3, 2])
        save(figure, tmp_path / name / "figure")
        written.append({p.suffix: p.read_bytes() for p in (tmp_path / name).iterdir()})
    assert set(written[0]) == {".svg", ".png"}
    assert written[0] == written[1]


def test_no_figure_stays_open():
    panels(["one", "two", "three"], columns=2)
    assert plt.get_fignums() == []


def test_learning_curves_draw_every_event():
    progress = [SimpleNamespace(step=s, loss=1 / s) for s in (1, 2, 3)]
    evaluations = [SimpleNamespace(step=s, log_loss=2 / s, auc=s / 10) for s in (2, 3)]
    left, right = training.learning_curves(progress, evaluations, {"ceiling": 0.75}).axes
    drawn = [line.get_xydata().tolist() for line in (*left.lines, *right.lines)]
    assert drawn[:3] == [[[1, 1], [2, 1 / 2], [3, 1 / 3]], [[2, 1], [3, 2 / 3]], [[2, 0.2], [3, 0.3]]]
    assert drawn[3] == [[0, 0.75], [1, 0.75]]


def test_calibration_compares_predictions_with_clicks():
    probability = np.repeat([0.2, 0.6], 50)
    label = np.tile([1, 0, 0, 0, 0], 20).astype(bool)
    (ax,) = training.calibration(label, probability, bins=2).axes
    points = ax.containers[0].lines[0].get_xydata()
    assert points == pytest.approx(np.array([[0.2, 0.2], [0.6, 0.2]]))


def test_the_ladder_shows_every_level_and_the_interval():
    (ax,) = training.ladder({"guessing": 0.5, "DLRM": 0.7, "ceiling": 0.8}, interval=(0.69, 0.72)).axes
    assert [bar.get_x() + bar.get_width() for bar in ax.patches] == pytest.approx([0.5, 0.7, 0.8])
    assert {"0.5000", "0.7000", "0.8000"} <= {text.get_text() for text in ax.texts}
    (segment,) = ax.collections[0].get_segments()
    assert segment[:, 0] == pytest.approx([0.69, 0.72])


def test_roc_ends_in_the_corners():
    label, score = np.array([False, True, False, True]), np.array([0.1, 0.4, 0.35, 0.8])
    (ax,) = training.roc(label, {"model": score}, metrics.auc).axes
    curve = ax.lines[1].get_xydata()
    assert (curve[0].tolist(), curve[-1].tolist()) == ([0, 0], [1, 1])
    assert "model, AUC 1.0000" in [text.get_text() for text in ax.get_legend().get_texts()]


STAGES = [
    Stage("split", 100.0, 102.0, rows=500, shuffled_records=7, shuffled_bytes=1_000_000),
    Stage("split", 103.0, 104.0, rows=0, shuffled_records=0, shuffled_bytes=0),
    Stage("encode", 160.0, 163.0, rows=500, shuffled_records=1300, shuffled_bytes=500_000),
]


def test_the_timeline_leaves_out_the_pauses_between_steps():
    (ax,) = preprocessing.timeline({"slow": STAGES, "fast": [STAGES[2]]}).axes
    assert "slow 7.0 s, fast 3.0 s" in ax.get_title(loc="left")
    assert [(bar.get_x(), bar.get_width()) for bar in ax.patches] == [(0, 4), (4, 3), (0, 3)]
    bars = [[(p.vertices[:, 0].min(), p.vertices[:, 0].max()) for p in c.get_paths()] for c in ax.collections]
    assert bars == [[(0, 2), (3, 4)], [(4, 7)], [(0, 3)]]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["slow: split", "slow: encode", "fast: encode"]


def test_flows_show_what_each_shuffle_moved():
    (ax,) = preprocessing.flows(STAGES, STAGES[:1]).axes
    texts = [text.get_text() for text in ax.texts]
    assert {"shuffled: 1,307 records, 1.50 MB", "shuffled: 7 records, 1.00 MB"} <= set(texts)


def test_a_moved_limit_is_marked_once():
    figure = preprocessing.limit_cost([1, 5, 90], [1.0, 0.7, 0.2], [4000, 300, 20], 5)
    preprocessing.mark_limit(figure, [1, 5, 90], [1.0, 0.7, 0.2], [4000, 300, 20], 90)
    assert [[text.get_text() for text in ax.texts] for ax in figure.axes] == [["limit 90: 20.0%"], ["limit 90: 20"]]
    assert [ax.lines[-1].get_xydata().tolist() for ax in figure.axes] == [[[90, 0.2]], [[90, 20]]]


def test_numericals_leave_out_missing_values():
    before, missing = np.array([[1, 7], [3, 8], [5, 9]]), np.array([[False, True], [False, True], [True, True]])
    left, right = preprocessing.numericals(["a", "b"], missing, before, before + 10.0).axes
    assert left.lines[0].get_xdata() == pytest.approx([2, np.nan], nan_ok=True)
    assert right.lines[0].get_xdata() == pytest.approx([12, np.nan], nan_ok=True)
