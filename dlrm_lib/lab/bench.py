"""The widgets of the tuning lab, put together."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from IPython import get_ipython
from ipywidgets import HTML, Box, Tab, VBox, Widget

from dlrm_lib.config import Config
from dlrm_lib.dataset import EncodedDataset
from dlrm_lib.lab.consequences import consequences, tiles
from dlrm_lib.lab.curves import Curves
from dlrm_lib.lab.form import Form
from dlrm_lib.lab.history import History, KeptRun
from dlrm_lib.lab.live_run import end_training
from dlrm_lib.lab.machine import Machine
from dlrm_lib.lab.run import Run
from dlrm_lib.lab.runs_panel import RunsPanel
from dlrm_lib.lab.search_panel import SearchPanel
from dlrm_lib.lab.style import LAB
from dlrm_lib.lab.training_panel import TrainingPanel

_in_cells: dict[str, Bench] = {}
"""The id of a notebook's cell → the lab that it made last."""


class Bench(VBox):
    """
    Attributes:
        form: The settings.
        training: The buttons and the live run.
        curves: Of the run that trains, and of those that are chosen in the table.
        runs: The kept ones.
        search: The search.
    """

    def __init__(self, config: Config, dataset: EncodedDataset, history: History) -> None:
        end_training()  # of a lab that this one replaces: measuring needs the machine for itself
        self._dataset, self._history = dataset, history
        self._machine = Machine.measure(config.training.device)
        self._price = HTML()
        self._front: dict[str, Run | KeptRun] = {}
        self.form, self.curves = Form(config), Curves()
        self.training = TrainingPanel(dataset, self._told)
        self.runs = RunsPanel(history, dataset.folder, chosen=lambda _: self._draw(), restored=self.form.show)
        self.search = SearchPanel(dataset, history, history.folder, on_event=self._searched, restored=self.form.show)
        self.form.observe(self._offer)
        self._offer(self.form.config)
        right = VBox([self._price, self.training.widget, self.curves])
        tabs = Tab([self.runs.widget, self.search.widget], titles=("Runs", "Search"))
        super().__init__([HTML(f"<style>{LAB}</style>"), Box([self.form.widget, right]).add_class("dlrm-bench"), tabs])
        self.add_class("dlrm-lab")
        self._replace_the_one_before()

    def close(self) -> None:
        """Ends all its widgets, in the page and in the kernel. They are hundreds: each that is left makes a page wait
        when it is opened again."""
        left, seen = [self], {self}
        while left:
            widget = left.pop()
            parts = _widgets_in([getattr(widget, name) for name in widget.keys]) - seen
            left += parts
            seen |= parts
        for widget in seen:
            Widget.close(widget)

    def _replace_the_one_before(self) -> None:
        """A cell that is run again shows only the new lab; the front end says which cell it is (JupyterLab does)."""
        parent = getattr(get_ipython(), "parent_header", {})
        if cell := parent.get("metadata", {}).get("cellId"):
            if before := _in_cells.get(cell):
                before.close()
            _in_cells[cell] = self

    def _offer(self, config: Config | None) -> None:
        self.training.offer(config)
        self.search.offer(config)
        (self._price.remove_class if config else self._price.add_class)("dlrm-stale")
        if config:
            trained = Run(config, self._dataset).dataset  # a share of the rows, or random ones, if it says so
            price = consequences(config, trained.spec, len(trained.train), self._machine)
            self._price.value = tiles(price)

    def _told(self, run: Run) -> None:
        """In the thread of the run."""
        self._front = {"this run": run}
        if run.over and run.step:
            kept = self._history.keep(run)
            self._front = {kept.name: kept}
            self.runs.refresh()
        self._draw()

    def _searched(self, run: Run | None) -> None:
        """In the thread of the search."""
        if run:
            self.training.show(run)
            self._front = {"this trial": run}
        else:
            self.runs.refresh()
        self._draw()

    def _draw(self) -> None:
        self.curves.show(self._front | {run.name: run for run in self.runs.chosen})


def _widgets_in(values: Iterable[Any]) -> set[Widget]:
    """The widgets among values and in lists of them."""
    flat = [part for value in values for part in (value if isinstance(value, list | tuple) else [value])]
    return {part for part in flat if isinstance(part, Widget)}
