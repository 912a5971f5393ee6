"""Five sliders that bend the schedule of the learning rate."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from matplotlib.figure import Figure

from dlrm_lib.config import TrainingConfig
from dlrm_lib.errors import InputError
from dlrm_lib.lab.explorers.picture import explorer
from dlrm_lib.optim import schedule
from dlrm_lib.plots.training import schedules

if TYPE_CHECKING:
    from ipywidgets import VBox


def learning_rate(config: TrainingConfig, steps: int, *, headless: bool = False) -> Figure | VBox:
    """The learning rate of each of so many steps: the configuration's beside one to play with, or beside two variants.

    The sliders start with a third of the steps as warmup, and a third as decay; ``headless`` shows this and a variant.
    """

    config = config.for_steps(steps)

    def rates(training: TrainingConfig) -> list[float]:
        return [schedule.learning_rate(step, training) for step in range(steps)]

    third: dict[str, Any] = {
        "warmup_steps": steps // 3,
        "decay_start_step": 2 * steps // 3,
        "decay_steps": steps - 2 * steps // 3,
    }
    own = {"this configuration": rates(config)}
    if headless:
        own["a third warmup, a third decay"] = rates(replace(config, **third))
        own["the same, warmup_factor = 1"] = rates(replace(config, **third, warmup_factor=1))
        return schedules(own)
    from ipywidgets import FloatLogSlider, IntSlider, Layout

    wide: dict[str, Any] = {"style": {"description_width": "9rem"}, "layout": Layout(width="26rem")}
    sliders = {"lr": FloatLogSlider(config.lr or 1.0, min=-5, max=2, description="lr", **wide)}
    for name, start in {"warmup_steps": 0, "warmup_factor": 0, **third}.items():
        sliders[name] = IntSlider(start, max=4 if name == "warmup_factor" else steps, description=name, **wide)

    def draw(*values: Any) -> tuple[Figure, list]:
        try:
            changed = replace(config, **dict(zip(sliders, values, strict=True)))
        except InputError as error:
            return schedules(own, str(error).splitlines()[0]), []
        return schedules(own | {"yours": rates(changed)}, _note(changed, steps)), []

    return explorer(list(sliders.values()), draw)


def _note(config: TrainingConfig, steps: int) -> str:
    """What a schedule does that nobody wants, in a sentence."""
    if config.warmup_steps >= steps:
        return "The warmup takes the whole training: only the last step has the peak rate."
    end = schedule.decay_start(config) + (config.decay_steps or 0)
    early = f"The decay ends at step {end:,} of {steps:,}: from there on hardly anything is learned."
    return early if config.decay_steps and end < steps else ""
