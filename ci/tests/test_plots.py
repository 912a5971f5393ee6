"""Figures: the same bytes each time, and what they are given is what they draw."""

from __future__ import annotations

from types import SimpleNamespace

import matplotlib.pyplot as plt
import numpy as np
import pytest

from dlrm_lib import metrics
from dlrm_lib.plots import axes, panels, save, training


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
