"""Learning curves that grow while a run trains, in the browser: to zoom into, to hover over, to lay over others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from dlrm_lib.plots import AMBER, BLUE, GREEN, ORANGE, PINK, SKY
from dlrm_lib.training import Evaluation, Progress

# The curve in front, then those it is compared with; after the last of them the colours begin again.
_FIRST, _OTHERS = BLUE, (ORANGE, GREEN, PINK, AMBER, SKY)
_GRID = "rgba(128, 128, 128, 0.25)"  # to be seen on a light and on a dark page


class Curve(Protocol):
    """What is drawn of a run, one that trains (``Run``) or a kept one (``KeptRun``)."""

    progress: Sequence[Progress]
    evaluations: Sequence[Evaluation]


class Curves:
    """Loss, AUC and speed of some runs against the training step, one above the other.

    Attributes:
        widget: What to display.
    """

    def __init__(self) -> None:
        self._names: tuple[str, ...] = ()
        grid = make_subplots(rows=3, cols=1, shared_xaxes=True, row_heights=[0.4, 0.4, 0.2], vertical_spacing=0.045)
        self.widget = figure = go.FigureWidget(grid)
        figure.update_layout(
            autosize=True,
            height=430,
            margin={"l": 56, "r": 8, "t": 26, "b": 40},
            paper_bgcolor="rgba(0, 0, 0, 0)",
            plot_bgcolor="rgba(0, 0, 0, 0)",
            font_size=11,
            hovermode="x unified",
            uirevision="kept",  # what a person zoomed to stays when points arrive
            legend={"orientation": "h", "y": 1.0, "yanchor": "bottom", "x": 0},
        )
        lines = {"gridcolor": _GRID, "linecolor": _GRID, "zeroline": False}
        figure.update_xaxes(**lines, rangemode="tozero")
        figure.update_xaxes(title="step", title_standoff=4, row=3)
        for row, title in enumerate(("log loss (nats)", "validation AUC", "rows/s"), start=1):
            figure.update_yaxes(**lines, title=title, title_standoff=4, row=row)
        figure.update_yaxes(minallowed=0, maxallowed=1, row=2)
        figure.update_yaxes(rangemode="tozero", nticks=3, row=3)
        figure._config = {"responsive": True, "displaylogo": False}
        figure.add_class("dlrm-curves")

    def show(self, runs: Mapping[str, Curve]) -> None:
        """Draws these runs, name → run, the first in front; the same names as before are carried on, not drawn anew."""
        with self.widget.batch_update():
            if tuple(runs) != self._names:
                self._names = tuple(runs)
                self.widget.data = ()
                for at, name in enumerate(runs):
                    rows = (1, 1, 2, 3)
                    self.widget.add_traces(_traces(name, at), rows=rows, cols=(1,) * len(rows))
            for at, run in enumerate(runs.values()):
                self._carry_on(self.widget.data[4 * at : 4 * at + 4], run)

    @staticmethod
    def _carry_on(traces: Sequence[go.Scatter], run: Curve) -> None:
        progress, evaluations = list(run.progress), list(run.evaluations)  # another thread may add to them
        steps, tested = [e.step for e in progress], [e.step for e in evaluations]
        values = (
            (steps, [e.loss for e in progress]),
            (tested, [e.log_loss for e in evaluations]),
            (tested, [e.auc for e in evaluations]),
            (steps, [e.samples_per_second for e in progress]),
        )
        for trace, (x, y) in zip(traces, values, strict=True):
            if len(trace.x) != len(x):
                trace.update(x=x, y=y)


def _traces(name: str, at: int) -> list[go.Scatter]:
    """Training loss, validation loss, validation AUC and speed of the run at this place, without points yet."""
    color = _OTHERS[(at - 1) % len(_OTHERS)] if at else _FIRST
    thin = {"mode": "lines", "line": {"color": color, "width": 1.2}, "showlegend": False}
    thick = {"mode": "lines+markers", "line": {"color": color, "width": 1.8 if at else 2.4}, "marker": {"size": 5}}
    shared = {"legendgroup": name, "x": (), "y": ()}
    return [
        go.Scatter(name=f"{name}, training rows", opacity=0.6, **thin, **shared),
        go.Scatter(name=name, **thick, **shared),
        go.Scatter(name=name, showlegend=False, **thick, **shared),
        go.Scatter(name=name, **thin, **shared),
    ]
