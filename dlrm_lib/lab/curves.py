"""Learning curves that grow while a run trains, in the browser: to look at closely, and to lay over others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from anywidget import AnyWidget
from traitlets import List

from dlrm_lib.lab.style import CURVES
from dlrm_lib.plots import AMBER, BLUE, GREEN, ORANGE, PINK, SKY
from dlrm_lib.training import Evaluation, Progress

# The curve in front, then those it is compared with; after the last of them the colours begin again.
_FIRST, _OTHERS = BLUE, (ORANGE, GREEN, PINK, AMBER, SKY)


class Curve(Protocol):
    """What is drawn of a run, one that trains (``Run``) or a kept one (``KeptRun``)."""

    @property
    def progress(self) -> Sequence[Progress]:
        """Its parts, in their order."""

    @property
    def evaluations(self) -> Sequence[Evaluation]:
        """Its evaluations, in their order."""


class Curves(AnyWidget):
    """Loss, AUC and speed of some runs against the training step, one above the other.

    Plotly's and matplotlib's widgets were tried: a page opened again while a run trains lost the former's picture, and
    a picture of the latter takes a tenth of a second from the training each time.

    Attributes:
        runs: What is drawn, the first in front: name, colour, and for each curve its steps and values.
    """

    _esm = Path(__file__).with_suffix(".js")
    _css = CURVES
    runs = List[Any]().tag(sync=True)

    def show(self, runs: Mapping[str, Curve]) -> None:
        """Draws these runs, name → run."""
        self.runs = [
            {
                "name": name,
                "color": _OTHERS[(at - 1) % len(_OTHERS)] if at else _FIRST,
                **_values(list(run.progress), list(run.evaluations)),  # another thread may add to them
            }
            for at, (name, run) in enumerate(runs.items())
        ]


def _values(progress: Sequence[Progress], evaluations: Sequence[Evaluation]) -> dict[str, list[Any]]:
    return {
        "steps": [event.step for event in progress],
        "loss": [event.loss for event in progress],
        "speed": [event.samples_per_second for event in progress],
        "tested": [event.step for event in evaluations],
        "log_loss": [event.log_loss for event in evaluations],
        "auc": [event.auc for event in evaluations],
    }
