"""Widgets without a browser: what a moved control does is what its callback does."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from ipywidgets import Widget
from matplotlib.figure import Figure
from matplotlib.image import imread

from dlrm_lib.config import ModelConfig, TrainingConfig
from dlrm_lib.lab.explorers.bag import bag
from dlrm_lib.lab.explorers.frequency_limit import frequency_limit
from dlrm_lib.lab.explorers.interaction_matrix import interaction_matrix
from dlrm_lib.lab.explorers.learning_rate import learning_rate
from dlrm_lib.lab.explorers.loss_scale import loss_scale
from dlrm_lib.model.interactions import interaction
from dlrm_lib.optim import schedule
from dlrm_lib.plots import interaction as plots
from dlrm_lib.plots.preprocessing import limit_cost
from dlrm_lib.plots.training import schedules

LIMITS, COVERAGE, ROWS = [1, 3, 15, 200], [1.0, 0.8, 0.5, 0.1], [50_000, 9000, 800, 30]


def pixels(png: bytes) -> np.ndarray:
    return imread(io.BytesIO(png), format="png")[..., :3]


def drawn(figure: Figure) -> np.ndarray:
    """What a figure of its own looks like."""
    png = io.BytesIO()
    figure.savefig(png, format="png", dpi="figure")
    return pixels(png.getvalue())


def parts(explorer):
    """Its controls and its picture."""
    controls, picture = explorer.children
    return controls.children, picture


@pytest.mark.parametrize("limit", LIMITS)
def test_the_slider_shows_what_a_new_figure_would(limit):
    (slider,), picture = parts(frequency_limit(LIMITS, COVERAGE, ROWS, 3))
    before = pixels(picture.value)
    slider.value = limit
    after = pixels(picture.value)
    assert np.abs(after - drawn(limit_cost(LIMITS, COVERAGE, ROWS, limit))).max() < 0.02
    assert (np.abs(after - before).max() > 0.5) == (limit != 3)


def test_the_slider_goes_back_without_leaving_marks():
    (slider,), picture = parts(frequency_limit(LIMITS, COVERAGE, ROWS, 15))
    first = picture.value
    for limit in (1, 200, 3, 15):
        slider.value = limit
    assert picture.value == first
    assert [label for label, _ in slider.options] == ["1", "3", "15", "200"]


def test_a_pair_of_vectors_is_shown_as_a_new_figure_would():
    vectors = torch.randn(6, 4, generator=torch.manual_seed(3))
    (first, second, switch), picture = parts(interaction_matrix(vectors))
    products = (vectors @ vectors.T).abs().tril(-1)
    assert products[first.value, second.value] == products.max()
    for i, j, with_itself in ((4, 2, False), (0, 5, False), (3, 3, False), (3, 3, True), (5, 1, True), (4, 2, False)):
        first.value, second.value, switch.value = i, j, with_itself
        new = plots.interaction_matrix(vectors.numpy(), (i, j), self_interaction=with_itself)
        assert np.abs(pixels(picture.value) - drawn(new)).max() < 0.02


def test_vectors_have_the_names_of_their_columns():
    vectors = torch.randn(4, 4, generator=torch.manual_seed(3))
    (first, _, _), _ = parts(interaction_matrix(vectors, columns=["shop", "page", "user"]))
    assert [name for name, _ in first.options] == ["numbers", "shop", "page", "user"]
    figure = plots.interaction_matrix(vectors.numpy(), (2, 1), columns=["shop", "page", "user"])
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["numbers", "page"]
    assert any(text.get_text().startswith("page, from") for text in figure.axes[1].texts)
    (unnamed, _, _), _ = parts(interaction_matrix(vectors))
    assert [name for name, _ in unnamed.options] == ["numbers", "C1", "C2", "C3"]


@pytest.mark.parametrize("self_interaction", [False, True])
def test_the_place_of_a_pair_is_where_the_library_puts_its_product(self_interaction):
    vectors = torch.randn(7, 5, generator=torch.manual_seed(4))
    config = ModelConfig(embedding_dim=5, bottom_mlp_sizes=(5,), self_interaction=self_interaction)
    output = interaction(7, True, config)(vectors[None, 0], vectors[None, 1:])[0]
    for i in range(7):
        for j in range(i + self_interaction):
            at = plots.place_in_input(5, i, j, self_interaction=self_interaction)
            assert output[at].item() == pytest.approx((vectors[i] @ vectors[j]).item(), abs=1e-5)


SCHEDULE = TrainingConfig(lr=2.0, warmup_steps=10, decay_start_step=60, decay_steps=40)


def test_a_schedule_is_bent_as_the_library_has_it():
    sliders, picture = parts(learning_rate(SCHEDULE, 90))
    lr, warmup, factor, start, decay = sliders
    assert [slider.description for slider in sliders] == [
        "lr",
        "warmup_steps",
        "warmup_factor",
        "decay_start_step",
        "decay_steps",
    ]
    own = [schedule.learning_rate(step, SCHEDULE) for step in range(90)]
    for values in ((0.5, 20, 1, 30, 60), (2.0, 0, 0, 90, 0), (4.0, 30, 3, 30, 61)):
        lr.value, warmup.value, factor.value, start.value, decay.value = values
        names = ("lr", "warmup_steps", "warmup_factor", "decay_start_step", "decay_steps")
        config = TrainingConfig(**dict(zip(names, values, strict=True)))
        yours = [schedule.learning_rate(step, config) for step in range(90)]
        new = schedules({"this configuration": own, "yours": yours}, note="")
        assert np.abs(pixels(picture.value) - drawn(new)).max() < 0.02


@pytest.mark.parametrize(
    ("values", "note"),
    [
        ((2.0, 30, 0, 20, 10), "The decay must not start before the warmup ends."),
        ((2.0, 90, 0, 90, 10), "The warmup takes the whole training: only the last step has the peak rate."),
        ((2.0, 10, 0, 40, 30), "The decay ends at step 70 of 90: from there on hardly anything is learned."),
        ((2.0, 10, 0, 40, 50), ""),
    ],
)
def test_a_schedule_that_nobody_wants_is_told_in_the_picture(values, note, monkeypatch):
    notes = []
    monkeypatch.setattr(
        "dlrm_lib.lab.explorers.learning_rate.schedules",
        lambda rates, note=None: notes.append(note) or schedules(rates, note),
    )
    for steps in (88, 89, 90):
        sliders, _ = parts(learning_rate(SCHEDULE, steps))
    assert notes == ["", "", ""]
    for slider, value in zip(sliders, values, strict=True):
        slider.value = value
    assert notes[-1] == note


EXPLORERS = (
    lambda **how: frequency_limit(LIMITS, COVERAGE, ROWS, 15, **how),
    lambda **how: interaction_matrix(torch.eye(4), **how),
    lambda **how: learning_rate(SCHEDULE, 90, **how),
    lambda **how: loss_scale({"a": torch.randn(8)}, **how),
    lambda **how: bag(torch.tensor([[1, 2], [2, 9]]), 9, **how),
)


@pytest.mark.parametrize("explorer", EXPLORERS)
def test_headless_is_a_picture_and_makes_no_widget(explorer, monkeypatch):
    monkeypatch.setattr(Widget, "__init__", lambda *_, **__: pytest.fail("a widget was made"))
    assert isinstance(explorer(headless=True), Figure)
    with pytest.raises(pytest.fail.Exception, match="a widget was made"):
        explorer()
