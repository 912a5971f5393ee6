"""Widgets without a browser: what a moved control does is what its callback does."""

from __future__ import annotations

import io

import numpy as np
import pytest
from ipywidgets import Widget
from matplotlib.figure import Figure
from matplotlib.image import imread

from dlrm_lib.lab.frequency_limit import frequency_limit
from dlrm_lib.plots.preprocessing import limit_cost

LIMITS, COVERAGE, ROWS = [1, 3, 15, 200], [1.0, 0.8, 0.5, 0.1], [50_000, 9000, 800, 30]


def pixels(png: bytes) -> np.ndarray:
    return imread(io.BytesIO(png), format="png")[..., :3]


def drawn(limit: int) -> np.ndarray:
    """A figure of its own with the limit marked."""
    png = io.BytesIO()
    limit_cost(LIMITS, COVERAGE, ROWS, limit).savefig(png, format="png", dpi="figure")
    return pixels(png.getvalue())


@pytest.mark.parametrize("limit", LIMITS)
def test_the_slider_shows_what_a_new_figure_would(limit):
    slider, picture = frequency_limit(LIMITS, COVERAGE, ROWS, 3).children
    before = pixels(picture.value)
    slider.value = limit
    after = pixels(picture.value)
    assert np.abs(after - drawn(limit)).max() < 0.02
    assert (np.abs(after - before).max() > 0.5) == (limit != 3)


def test_the_slider_goes_back_without_leaving_marks():
    slider, picture = frequency_limit(LIMITS, COVERAGE, ROWS, 15).children
    first = picture.value
    for limit in (1, 200, 3, 15):
        slider.value = limit
    assert picture.value == first
    assert [label for label, _ in slider.options] == ["1", "3", "15", "200"]


def test_headless_is_a_picture_and_makes_no_widget(monkeypatch):
    monkeypatch.setattr(Widget, "__init__", lambda *_, **__: pytest.fail("a widget was made"))
    assert isinstance(frequency_limit(LIMITS, COVERAGE, ROWS, 15, headless=True), Figure)
    with pytest.raises(pytest.fail.Exception, match="a widget was made"):
        frequency_limit(LIMITS, COVERAGE, ROWS, 15)
