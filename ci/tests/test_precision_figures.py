"""Figures and the explorer of chapter 05 draw what they are given."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from ipywidgets import Widget
from matplotlib.figure import Figure
from matplotlib.image import imread
from matplotlib.patches import StepPatch

from dlrm_lib.lab.explorers.loss_scale import loss_scale
from dlrm_lib.model.cost import Cost
from dlrm_lib.number_formats import BF16, FORMATS, FP16
from dlrm_lib.plots import precision, speed

GRADIENTS = {"embeddings": torch.tensor([0.0, 2.0**-30, 2.0**-20, 3.0]), "MLPs": torch.tensor([[-1.0, 2.0**-12]])}


def texts(of) -> list[str]:
    return [text.get_text() for text in of.texts if text.get_text()]


def entries(ax) -> list[str]:
    return [text.get_text() for text in ax.get_legend().get_texts()]


def test_formats_draw_their_bits_and_their_range():
    bits, span = precision.formats(FORMATS).axes
    assert [bar.get_width() for bar in bits.patches] == [1, 8, 23, 1, 8, 10, 1, 8, 7, 1, 5, 10]
    fp16 = span.patches[-2:]
    assert [(bar.get_x(), bar.get_width()) for bar in fp16] == [(-24, 10), (-14, pytest.approx(30, abs=0.001))]
    assert texts(span)[-2:] == ["6e-08", "6.55e+04"]


def test_rounding_errors_are_the_worst_of_each_octave():
    x = np.array([1.0, 1.5, 2.0, 3.0, 4.0])
    (ax,) = precision.rounding_errors(x, {"fp16": np.array([0.1, 0.3, 0.2, 0.1, np.inf])}).axes
    assert ax.lines[0].get_xdata().tolist() == [1, 2, 4]
    assert ax.lines[0].get_ydata() == pytest.approx([0.3, 0.2, np.nan], nan_ok=True)


def test_gradients_are_counted_where_the_format_puts_them():
    small, large = precision.gradient_ranges(GRADIENTS, FP16, [1, 2.0**16]).axes
    assert entries(small) == [
        "embeddings: 33.3% zero, 33.3% subnormal, 0.0% infinite",
        "MLPs: 0.0% zero, 0.0% subnormal, 0.0% infinite",
    ]
    assert entries(large) == [
        "embeddings: 0.0% zero, 0.0% subnormal, 33.3% infinite",
        "MLPs: 0.0% zero, 0.0% subnormal, 50.0% infinite",
    ]
    (wide,) = precision.gradient_ranges(GRADIENTS, BF16, [1.0]).axes
    assert all("0.0% zero, 0.0% subnormal, 0.0% infinite" in entry for entry in entries(wide))
    assert texts(small) == ["zero", "subnormal", "infinite"]
    assert texts(wide) == []  # Its limits are far outside.
    # All three gradients that are not zero are in the histogram: its shares are those of one whole.
    first, second = (patch.get_data() for patch in small.patches if isinstance(patch, StepPatch))
    assert first.values.sum() == pytest.approx(1)
    assert second.edges[:-1][second.values > 0].tolist() == [-12, 0]


def test_swallowed_updates_and_how_far_tables_stray():
    left, right = precision.swallowed({"fp32": 0.0, "bf16": 0.8}, {"fp32": [0.0, 0.0], "bf16": [0.2, 0.3]}).axes
    assert [bar.get_width() for bar in left.patches] == [0.0, 0.8]
    assert texts(left) == ["0.0%", "80.0%"]
    assert [line.get_xydata().tolist() for line in right.lines] == [[[1, 0], [2, 0]], [[1, 0.2], [2, 0.3]]]


def test_loss_scales_mark_the_skipped_steps():
    (ax,) = precision.loss_scales({"a": ([8.0, 4.0, 4.0], [1, 3]), "b": ([2.0, 2.0, 2.0], [])}).axes
    drawn = [line.get_xydata().tolist() for line in ax.lines]
    assert drawn[:4] == [[[1, 8], [2, 4], [3, 4]], [[1, 8], [3, 4]], [[1, 2], [2, 2], [3, 2]], []]
    assert entries(ax) == ["a", "b", "skipped"]


def test_parity_shows_each_seed_and_leaves_out_what_is_undefined():
    (ax,) = precision.parity({"fp32": [0.7, 0.8], "fp16": [None, None]}).axes
    assert list(ax.lines[0].get_xdata()) == [0.7, 0.8]
    assert list(ax.lines[1].get_xdata()) == pytest.approx([0.75, 0.75])
    assert [label.get_text() for label in ax.get_yticklabels()] == ["fp32", "fp16"]


def test_timelines_put_the_parts_in_a_row():
    (ax,) = speed.timelines({"fp32": {"gather": 0.002, "forward": 0.006}, "bf16": {"gather": 0.001}}, "a machine").axes
    bars = [(round(bar.get_x(), 6), round(bar.get_width(), 6)) for bar in ax.patches]
    assert bars == [(0, 2), (2, 6), (0, 1)]
    assert {"8 ms", "1 ms"} <= set(texts(ax))
    assert "a machine" in ax.get_title(loc="left")


def test_the_drawing_of_launch_gaps_says_that_it_is_one():
    figure = speed.launch_gaps()
    assert all("Drawing" in ax.get_title(loc="left") for ax in figure.axes)


def test_the_roofline_bends_where_both_rates_meet():
    parts = {"copy": Cost(bytes=4.0), "low": Cost(flops=2e12, bytes=1e12), "high": Cost(flops=9e12, bytes=1e12)}
    (ax,) = speed.roofline(parts, 4e12, 1e12, "a card").axes
    points = [line.get_xydata().tolist() for line in ax.lines[1:]]
    assert points == [[[2.0, 2.0]], [[9.0, 4.0]]]
    assert texts(ax) == ["low: 2", "high: 9"]


def test_published_results_stand_beside_what_was_not_measured():
    (ax,) = speed.published({"theirs": 4.5e6, "this workbook": "not measured yet"}, {"ceiling": 2e7}).axes
    assert [bar.get_width() for bar in ax.patches] == [4.5, 0.0]
    assert texts(ax) == ["4.5", "not measured yet"]
    assert ax.lines[0].get_xdata()[0] == 20.0


def pixels(png: bytes) -> np.ndarray:
    return imread(io.BytesIO(png), format="png")[..., :3]


def test_the_explorer_shows_what_a_new_figure_would():
    controls, picture = loss_scale(GRADIENTS, 4.0).children
    slider, menu = controls.children
    for scale, held_in in ((2.0**20, FP16), (2.0**20, BF16), (4.0, FP16)):
        slider.value, menu.value = scale, held_in
        png = io.BytesIO()
        precision.gradient_ranges(GRADIENTS, held_in, [scale]).savefig(png, format="png", dpi="figure")
        assert np.array_equal(pixels(picture.value), pixels(png.getvalue()))
    assert [label for label, _ in menu.options] == ["fp32", "TF32", "bf16", "fp16"]
    assert slider.options[0] == ("1", 1.0)
    assert slider.options[-1] == ("1,073,741,824", 2.0**30)


def test_headless_is_a_picture_and_makes_no_widget(monkeypatch):
    monkeypatch.setattr(Widget, "__init__", lambda *_, **__: pytest.fail("a widget was made"))
    assert isinstance(loss_scale(GRADIENTS, headless=True), Figure)
