"""A search in the lab: what to search, how many trials, and what they have found so far."""

from __future__ import annotations

import html
import math
import time
from collections.abc import Callable
from pathlib import Path

from ipywidgets import HTML, Button, HBox, IntProgress, IntSlider, SelectMultiple, VBox

from dlrm_lib.config import Config
from dlrm_lib.dataset import Dataset
from dlrm_lib.errors import InputError
from dlrm_lib.lab.history import History
from dlrm_lib.lab.run import Run
from dlrm_lib.lab.search import Search
from dlrm_lib.lab.search_space import searchable
from dlrm_lib.lab.training_panel import EVERY
from dlrm_lib.settings import as_text

# Where a training runs is no matter of quality.
_NOT_OFFERED = {"device", "execution", "deterministic"}
_FIRST = ("lr", "embedding_dim", "embedding_decay")


class SearchPanel:
    """
    Attributes:
        widget: What to display.
        names, trials: What to search, and how long.
        start, stop, take: The buttons; ``take`` gives the settings of the best trial.
        search: The one that was started last; None before the first.
    """

    def __init__(
        self,
        dataset: Dataset,
        history: History,
        folder: Path,
        *,
        on_event: Callable[[Run | None], None],
        restored: Callable[[Config], None],
    ) -> None:
        """
        Args:
            dataset: Rows to train on.
            history: Where the runs are kept.
            folder: Where searches are written down.
            on_event: Called in the search's thread, a few times a second with the trial that trains, with None
                behind it.
            restored: Called with the settings of the best trial.
        """
        self._dataset, self._history, self._folder = dataset, history, folder
        self._on_event, self._restored, self._seen = on_event, restored, 0.0
        self._config: Config | None = None
        self.search: Search | None = None
        offered = [name for name in searchable() if name not in _NOT_OFFERED]
        self.names = SelectMultiple(options=offered, value=_FIRST, rows=9).add_class("dlrm-search-names")
        self.trials = IntSlider(20, 2, 100, description="trials").add_class("dlrm-search-trials")
        self.start = Button(description="Search", icon="search", button_style="primary")
        self.stop = Button(description="Stop", icon="stop", disabled=True)
        self.take = Button(description="Take the best settings", icon="undo", disabled=True)
        self._bar, self._words, self._found = IntProgress(max=1), HTML(), HTML()
        self.start.on_click(self._start)
        self.stop.on_click(lambda _: self.search and self.search.stop())
        self.take.on_click(lambda _: self.search and self._restored(self.search.best_config))
        self._words.value = (
            '<span class="dlrm-quiet">The first trial is the form as it stands; the others are chosen by what those '
            "before have shown. The same search goes on where it was stopped.</span>"
        )
        buttons = HBox([self.start, self.stop, self.take, self._bar]).add_class("dlrm-buttons")
        left = VBox([HTML("Settings to search (Ctrl for several)"), self.names, self.trials])
        right = VBox([buttons, self._words, self._found])
        self.widget = HBox([left, right]).add_class("dlrm-search")

    def offer(self, config: Config | None) -> None:
        """Where a search would start; None: nowhere, for a setting is wrong."""
        self._config = config
        self._enable()

    def _start(self, _: object) -> None:
        if self._config is None:
            return
        try:
            self.search = Search(
                self._config,
                self._dataset,
                self._history,
                self.names.value,
                self.trials.value,
                self._folder,
                on_event=self._look,
            )
        except InputError as error:
            self._words.value = _refusal(str(error))
            return
        self.search.start()
        self._say(self.search)

    def _look(self, search: Search) -> None:
        """In the search's thread."""
        run, now = search.run, time.monotonic()
        over = run is None or run.over
        if not over and now - self._seen < EVERY:
            return
        self._seen = now
        if search is self.search:
            self._say(search)
        self._on_event(None if over else run)

    def _say(self, search: Search) -> None:
        self._enable()
        self._bar.max, self._bar.value = search.trials, search.done
        parts = [f"<b>{search.state}</b>", f"{search.done} of {search.trials} trials"]
        if (kept := search.best) and (best := kept.best):
            parts.append(f"best validation AUC <b>{best.auc:.5f}</b> ({kept.name})")
        failure = (
            f'<pre class="dlrm-failure" role="alert">{html.escape(search.failure)}</pre>' if search.failure else ""
        )
        self._words.value = " · ".join(parts) + failure
        self._found.value = _found(search)

    def _enable(self) -> None:
        under_way = self.search is not None and self.search.state == "running"
        self.start.disabled = under_way or self._config is None
        self.stop.disabled = not under_way
        self.take.disabled = self.search is None or self.search.best is None


def _refusal(text: str | None) -> str:
    return f'<pre class="dlrm-failure" role="alert">{html.escape(text)}</pre>' if text else ""


def _found(search: Search) -> str:
    """HTML: the five best trials, and how much each setting mattered."""
    trials = search.table().sort_values("AUC", ascending=False, kind="stable").head(5)
    head = "".join(f"<th>{name}</th>" for name in ("trial", *search.names, "AUC", "state"))
    lines = "".join(
        f"<tr><td>{at}</td>"
        + "".join(f"<td>{as_text(line[name])}</td>" for name in search.names)
        + f"<td>{'–' if math.isnan(line['AUC']) else format(line['AUC'], '.5f')}</td><td>{line['state']}</td></tr>"
        for at, line in trials.iterrows()
    )
    bars = "".join(
        f'<div class="dlrm-share"><span>{name}</span><i style="width:{share:.0%}"></i><span>{share:.0%}</span></div>'
        for name, share in (search.importances() or {}).items()
    )
    mattered = f'<div class="dlrm-quiet">how much each setting mattered for the AUC</div>{bars}' if bars else ""
    return f'<table class="dlrm-found"><tr>{head}</tr>{lines}</table>{mattered}'
