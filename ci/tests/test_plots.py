"""Figures: the same bytes each time, and what they are given is what they draw."""

from __future__ import annotations

import importlib
import inspect
import io
import pkgutil
import subprocess
import sys
from types import SimpleNamespace

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from dlrm_lib import metrics, plots
from dlrm_lib.config import ModelConfig
from dlrm_lib.features import FeatureSpec
from dlrm_lib.model import blueprint
from dlrm_lib.plots import axes, click_logs, network, panels, preprocessing, save, style, training
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


def test_the_settings_of_matplotlib_are_the_user_s_before_and_after():
    code = """
import importlib, pkgutil, matplotlib
before = dict(matplotlib.rcParams)
import dlrm_lib.plots
for module in pkgutil.iter_modules(dlrm_lib.plots.__path__):
    importlib.import_module(f"dlrm_lib.plots.{module.name}")
dlrm_lib.plots.tour.pipeline().draw_without_rendering()
dlrm_lib.plots.axes("a", "b", "c")
print({name for name, value in matplotlib.rcParams.items() if before[name] != value} or "as before")
"""
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("as before\n", "")


def test_figures_look_the_same_whatever_the_user_has_set(tmp_path):
    label, score = np.array([False, True, False, True]), np.array([0.1, 0.4, 0.35, 0.8])
    theirs = {
        **{"lines.linewidth": 9, "xtick.color": "red", "grid.color": "green", "font.size": 20, "text.color": "blue"},
        **{"axes.grid": False, "svg.hashsalt": "x", "legend.frameon": True, "figure.constrained_layout.use": False},
    }
    written = []
    for name, settings in (("a", {}), ("b", theirs)):
        with plt.rc_context(settings):
            save(training.roc(label, {"model": score}, metrics.auc), tmp_path / name / "figure")
            with style():
                figure, ax = axes("A claim", "x", "y")
                ax.plot([1, 3, 2], label="mine")
                ax.legend()
            svg = io.StringIO()
            figure.savefig(svg, format="svg", metadata={"Date": None})
        written.append([svg.getvalue(), *((p.name, p.read_bytes()) for p in sorted((tmp_path / name).iterdir()))])
    assert written[0] == written[1]


def test_every_function_that_draws_does_it_in_the_style():
    drawing = []
    for module in pkgutil.iter_modules(plots.__path__, "dlrm_lib.plots."):
        functions = inspect.getmembers(importlib.import_module(module.name), inspect.isfunction)
        drawing += [f for name, f in functions if not name.startswith("_") and "Figure" in str(f.__annotations__)]
    assert len(drawing) > 50
    assert [f.__qualname__ for f in drawing if not hasattr(f, "__wrapped__")] == []


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


def test_blocks_name_the_sizes_of_what_they_are_given():
    spec = FeatureSpec(numerical=5, cardinalities=(30, 1000))
    config = ModelConfig(embedding_dim=4, bottom_mlp_sizes=(8, 4), top_mlp_sizes=(6, 1))
    (ax,) = network.blocks(blueprint(spec, config)).axes
    texts = {text.get_text() for text in ax.texts}
    assert {"N = 5", "M = 2", "F = M + 1 = 3", "5 → 8 → 4", "1,030 rows, D = 4", "8 → 6 → 1"} <= texts
    assert {"[B, N]", "[B, M]", "[B, D]", "[B, M, D]", "[B, W]"} <= texts


def test_shapes_draw_each_tensor_to_scale_and_mark_the_block():
    tensors = {"ids": ("B M", (7, 9)), "rows": ("B M D", (7, 9, 4)), "logits": ("B", (7,))}
    where, ax = network.shapes("interaction", tensors).axes
    in_front = [patch for patch in ax.patches if patch.get_facecolor()[3] < 1]
    assert [(p.get_width(), p.get_height()) for p in in_front] == [(3, 1), (2, 3), (1, 1)]
    starts = [patch.get_x() for patch in in_front]
    assert starts == sorted(starts)
    texts = [text.get_text() for text in ax.texts if text.get_text()]
    assert texts == [
        "ids",
        "B = 7 of them",
        "M = 9",
        "rows",
        "B = 7 of them",
        "D = 4",
        "M = 9",
        "logits",
        "B = 7 of them",
    ]
    (filled,) = [patch for patch in where.patches if hasattr(patch, "get_boxstyle") and patch.get_facecolor()[3] == 1]
    assert filled.get_x() + filled.get_width() / 2 == pytest.approx(60.5)  # between the tables and the top MLP


def test_the_speed_ladder_compares_with_its_base_and_says_what_is_missing():
    speeds = {"slow": (900.0, 1000.0, 1200.0), "none": "no bf16 here", "fast": (2000.0, 2500.0, 3000.0)}
    (ax,) = network.speed_ladder(speeds, "a machine", base="slow").axes
    assert "a machine" in ax.get_title(loc="left")
    assert [bar.get_width() for bar in ax.patches] == [1.0, 0.0, 2.5]
    assert [text.get_text() for text in ax.texts] == ["1,000", "no bf16 here", "2,500, 2.50 times"]
    (lines,) = ax.collections
    assert [segment.tolist() for segment in lines.get_segments()] == [[[0.9, 0], [1.2, 0]], [[2.0, 2], [3.0, 2]]]


def test_schedules_draw_every_rate_of_each():
    (ax,) = training.schedules({"this one": [0.1, 0.2, 0.2], "another": [0.2, 0.1, 0.0]}).axes
    assert [line.get_ydata().tolist() for line in ax.lines] == [[0.1, 0.2, 0.2], [0.2, 0.1, 0.0]]
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["this one", "another"]
    assert ax.lines[0].get_zorder() > ax.lines[1].get_zorder()


def test_passes_count_from_one_and_mark_the_chosen_one():
    (ax,) = training.passes([0.5, 0.4, 0.3], [0.6, 0.55, 0.7], best=2).axes
    drawn = [line.get_xydata().tolist() for line in ax.lines]
    assert drawn == [[[1, 0.5], [2, 0.4], [3, 0.3]], [[1, 0.6], [2, 0.55], [3, 0.7]], [[2, 0.55]]]


def test_short_runs_compare_with_knowing_nothing_and_bear_a_run_that_stopped_at_once():
    runs = {"good": [SimpleNamespace(step=s, loss=1 / s) for s in (2, 4)], "stopped": []}
    (ax,) = training.short_runs(runs, 0.6).axes
    good, stopped, base = (line.get_xydata().tolist() for line in ax.lines)
    assert (good, stopped) == ([[2, 0.5], [4, 0.25]], [])
    assert [y for _, y in base] == [0.6, 0.6]
    assert "stopped" in [text.get_text() for text in ax.get_legend().get_texts()]
    assert ax.get_yscale() == "linear"
    far = {"bad": [SimpleNamespace(step=1, loss=3.0)]}
    assert training.short_runs(runs | far, 0.6).axes[0].get_yscale() == "log"
    assert len(training.short_runs({"stopped": []}, 0.6).axes) == 1


def test_scores_are_shares_of_each_group():
    label = np.array([True] * 4 + [False] * 12)
    (ax,) = training.scores(label, np.where(label, 0.8, 0.1)).axes
    heights = np.array([bar.get_height() for bar in ax.patches]).reshape(2, -1)
    assert heights.sum(1) == pytest.approx([1, 1])
    assert heights[0].argmax() < heights[1].argmax() == heights.shape[1] - 1
    legend = [text.get_text() for text in ax.get_legend().get_texts()]
    assert legend == ["not clicked: 12 rows", "clicked: 4 rows"]
    training.scores(np.zeros(3, bool), np.zeros(3))  # one class, and nothing predicted


def test_one_class_has_no_roc_and_no_place_on_the_ladder():
    label, score = np.zeros(3, bool), np.array([0.1, 0.4, 0.35])
    (ax,) = training.roc(label, {"model": score}, metrics.auc).axes
    assert "model, undefined: one class only" in [text.get_text() for text in ax.get_legend().get_texts()]
    (ax,) = training.ladder({"guessing": 0.5, "DLRM": None}, interval=None).axes
    assert [label.get_text() for label in ax.get_yticklabels()] == ["guessing"]


def words(figure):
    return [text.get_text() for ax in figure.axes for text in ax.texts]


def test_what_there_is_not_is_said_in_the_picture_s_place():
    nothing = pd.DataFrame(index=range(3))
    assert words(click_logs.heavy_tails(nothing, nothing)) == ["These rows have no integers."]
    empty = np.empty((3, 0))
    assert words(preprocessing.numericals([], empty.astype(bool), empty, empty)) == ["These rows have no integers."]
    undefined = click_logs.single_columns(pd.Series({"C1": np.nan}), np.nan, None, [])
    assert words(undefined) == ["Undefined: an AUC takes later rows with a click and without."]


@pytest.mark.parametrize("columns", [1, 26, 800])
def test_a_log_of_any_width_stands_beside_criteo_s_columns(columns):
    sample = pd.Series({f"C{j + 1}": columns - j for j in range(columns)})
    figure = click_logs.vocabulary_sizes(sample, [900] * 26, 1000)
    ours, theirs = ([bar.get_height() for bar in bars] for bars in figure.axes[0].containers)
    assert ours == sample.tolist()
    assert theirs == [900] * 26
    names = [label.get_text() for label in figure.axes[0].get_xticklabels()]
    places = figure.axes[0].get_xticks()
    assert len(names) <= 81
    assert [name for name in names if name] == [f"C{place + 1}" for place in places if place < columns]


@pytest.mark.parametrize(("tables", "bars"), [(2, 4), (6, 8), (9, 9)])
def test_parameter_bars_add_up_what_has_no_bar_of_its_own(tables, bars):
    counts = {f"C{j}": 10 for j in range(tables)} | {"bottom MLP": 5, "top MLP": 7}
    figure = network.parameter_bars({"here": counts})
    widths = [bar.get_width() for bar in figure.axes[0].patches]
    assert len(widths) == bars
    assert sum(widths) == pytest.approx(sum(counts.values()) / 1000)
