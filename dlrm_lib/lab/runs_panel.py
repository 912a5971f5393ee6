"""The kept runs as a table: to sort, to choose from, to go back to, and to repeat elsewhere."""

from __future__ import annotations

import html
from collections.abc import Callable
from pathlib import Path

import pandas as pd
from ipywidgets import HTML, Button, HBox, VBox
from itables.widget import ITable

from dlrm_lib.config import Config
from dlrm_lib.lab.history import History, KeptRun, command, parameters, table

_DIGITS = {"best AUC": 5, "last AUC": 5, "last log loss": 5, "rows/s": 0, "seconds": 1}


class RunsPanel:
    """
    Attributes:
        widget: What to display.
        table: A click on a line chooses its run, another one gives it back.
        restore: The button that takes the settings of the chosen run.
        runs: Those in the table, newest first.
    """

    def __init__(
        self,
        history: History,
        dataset: Path,
        *,
        chosen: Callable[[list[KeptRun]], None],
        restored: Callable[[Config], None],
    ) -> None:
        """
        Args:
            history: Where they are kept.
            dataset: The folder that a repeated run is told to read.
            chosen: Called with the runs that are chosen, at each change.
            restored: Called with the settings of a run.
        """
        self._history, self._dataset, self._chosen, self._restored = history, dataset, chosen, restored
        self.runs: list[KeptRun] = []
        self.table = ITable(
            _shown([]),
            select="multi",
            paging=False,
            scrollY="15rem",
            scrollCollapse=True,
            layout={"topStart": None, "topEnd": None, "bottomStart": None, "bottomEnd": None},
            order=[],
            allow_html=False,
            showIndex=False,
            style="width:100%;table-layout:auto;margin:0",
            classes="compact hover",
        )
        self.restore = Button(
            description="Take these settings", icon="undo", disabled=True, tooltip="the form gets those of the run"
        )
        self._repeat, self._notes = HTML(), HTML()
        hint = HTML('<span class="dlrm-quiet">Click on lines to lay their curves over each other.</span>')
        head = HBox([hint, self.restore]).add_class("dlrm-buttons")
        self.widget = VBox([head, self.table, self._repeat, self._notes]).add_class("dlrm-runs")
        self.table.observe(self._choose, "selected_rows")
        self.restore.on_click(lambda _: self._restored(self.chosen[0].asked))
        self.refresh()

    def refresh(self) -> None:
        """Reads the folder again; what is chosen stays chosen."""
        before = {run.name for run in self.chosen}
        self.runs = self._history.runs()
        chosen = [at for at, run in enumerate(self.runs) if run.name in before]
        self.table.update(_shown(self.runs), selected_rows=chosen)
        self._notes.value = "<br>".join(map(html.escape, self._history.unreadable))

    @property
    def chosen(self) -> list[KeptRun]:
        """The runs whose lines are chosen."""
        return [self.runs[at] for at in self.table.selected_rows if at < len(self.runs)]

    def _choose(self, _: object = None) -> None:
        one = self.chosen[0] if len(self.chosen) == 1 else None
        self.restore.disabled = one is None
        self._repeat.value = _how_to_repeat(one, self._dataset) if one else ""
        self._chosen(self.chosen)


def _shown(runs: list[KeptRun]) -> pd.DataFrame:
    lines = table(runs).round(_DIGITS).astype({"rows/s": "Int64"})
    if lines["device"].nunique() < 2:
        lines = lines.drop(columns="device")
    return lines.reset_index()


def _how_to_repeat(run: KeptRun, dataset: Path) -> str:
    parts = {
        "the command line that repeats it": command(run, dataset),
        "as parameters of this notebook (papermill, -y)": parameters(run),
    }
    if run.failure:
        parts = {"why it failed": run.failure, **parts}
    shown = "".join(f"<summary>{title}</summary><pre>{html.escape(text)}</pre>" for title, text in parts.items())
    return f'<div class="dlrm-repeat"><b>{run.name}</b>{shown}</div>'
