"""Five sliders that bend the schedule of the learning rate."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING

from matplotlib.artist import Artist
from matplotlib.figure import Figure

from dlrm_lib.config import TrainingConfig
from dlrm_lib.errors import InputError
from dlrm_lib.lab.picture import explorer
from dlrm_lib.plots.training import schedules
from dlrm_lib.training import schedule

if TYPE_CHECKING:
    from ipywidgets import VBox


def learning_rate(config: TrainingConfig, steps: int, *, headless: bool = False) -> Figure | VBox:
    """The learning rate of every step: the configuration's own beside one to play with, or beside two variants.

    Args:
        config: Where the sliders start: with a third of the steps as warmup, and a third as decay.
        steps: Steps of the training.
        headless: Return the picture with the variants.
    """
    third = {"warmup_steps": steps // 3, "decay_start_step": 2 * steps // 3, "decay_steps": steps // 3}
    own = {"this configuration": _rates(config, steps)}
    variants = {"a third warmup, a third decay": third, "the same, warmup_factor = 1": third | {"warmup_factor": 1}}
    if headless:
        return schedules(
            own | {name: _rates(dataclasses.replace(config, **of), steps) for name, of in variants.items()}
        )
    from ipywidgets import FloatLogSlider, IntSlider, Layout

    wide = {"style": {"description_width": "9rem"}, "layout": Layout(width="26rem")}
    peak = math.log10(config.lr or 1.0)
    sliders = {"lr": FloatLogSlider(config.lr or 1.0, min=peak - 1, max=peak + 1, step=0.05, description="lr", **wide)}
    for name, start, most in (
        ("warmup_steps", third["warmup_steps"], steps),
        ("warmup_factor", 0, 4),
        ("decay_start_step", third["decay_start_step"], steps),
        ("decay_steps", third["decay_steps"], steps),
    ):
        sliders[name] = IntSlider(start, min=0, max=most, description=name, **wide)

    def draw(*values: float) -> tuple[Figure, list[Artist]]:
        try:
            changed = dataclasses.replace(config, **dict(zip(sliders, values, strict=True)))
        except InputError as error:
            return schedules(own, note=str(error).splitlines()[0]), []
        return schedules(own | {"yours": _rates(changed, steps)}, note=_note(changed, steps)), []

    return explorer(list(sliders.values()), draw)


def _rates(config: TrainingConfig, steps: int) -> list[float]:
    return [schedule.learning_rate(step, config) for step in range(steps)]


def _note(config: TrainingConfig, steps: int) -> str:
    """What a schedule does that nobody wants, in a sentence."""
    if config.warmup_steps >= steps:
        return "The warmup takes the whole training: only the last step has the peak rate."
    end = schedule.decay_start(config) + config.decay_steps
    if config.decay_steps and end < steps:
        return f"The decay ends at step {end:,} of {steps:,}: from there on hardly anything is learned."
    return ""
