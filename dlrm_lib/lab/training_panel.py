"""Train, pause, stop: the buttons over a live run, and in words how far it is."""

from __future__ import annotations

import html
import time
from collections.abc import Callable

from ipywidgets import HTML, Button, HBox, IntProgress, VBox

from dlrm_lib.config import Config
from dlrm_lib.dataset import Dataset
from dlrm_lib.errors import InputError
from dlrm_lib.lab.consequences import in_time
from dlrm_lib.lab.live_run import LiveRun
from dlrm_lib.lab.run import Run

# Seconds between two looks at a run: drawing takes a few milliseconds of the processor that trains.
EVERY = 0.2


class TrainingPanel:
    """
    Attributes:
        widget: What to display.
        train, pause, stop: The buttons; while a run is paused, ``pause`` lets it go on.
        live: The run that was started last; None before the first.
    """

    def __init__(self, dataset: Dataset, on_event: Callable[[Run], None]) -> None:
        """``on_event``: called a few times a second while a run trains, in its thread, and always once it is over."""
        self._dataset, self._on_event, self._seen = dataset, on_event, 0.0
        self._config: Config | None = None
        self.live: LiveRun | None = None
        self.train = Button(description="Train", icon="play", button_style="primary")
        self.pause = Button(description="Pause", icon="pause", disabled=True)
        self.stop = Button(description="Stop", icon="stop", disabled=True)
        self._bar, self._words, self._failure = IntProgress(max=1), HTML(), HTML()
        self.train.on_click(self._start)
        self.pause.on_click(self._pause)
        self.stop.on_click(lambda _: self.live and self.live.stop())
        buttons = HBox([self.train, self.pause, self.stop, self._bar]).add_class("dlrm-buttons")
        self.widget = VBox([buttons, self._words, self._failure]).add_class("dlrm-training")
        self._words.value = '<span class="dlrm-quiet">Nothing has been trained here yet.</span>'

    def offer(self, config: Config | None) -> None:
        """What ``Train`` would train; None: nothing, for a setting is wrong."""
        self._config = config
        self._enable()

    def _start(self, _: object = None) -> None:
        if self._config is None:
            return
        try:
            run = Run(self._config, self._dataset)
        except InputError as error:
            self._complain(str(error))
            return
        self.live = LiveRun(run, self._look)
        self.live.start()

    def _pause(self, _: object) -> None:
        if self.live and self.live.run.state == "paused":
            self.live.resume()
        elif self.live:
            self.live.pause()

    def show(self, run: Run) -> None:
        """Says how far a run is, whoever trains it."""
        self._say(run)
        self._complain(run.failure)

    def _look(self, run: Run) -> None:
        """In the run's thread."""
        now = time.monotonic()
        if run.state == "running" and now - self._seen < EVERY and len(run.progress) > 1:
            return
        self._seen = now
        self.show(run)
        self._on_event(run)

    def _say(self, run: Run) -> None:
        self._enable()
        self._bar.max, self._bar.value = max(run.steps, 1), run.step
        self._bar.bar_style = {"finished": "success", "failed": "danger", "stopped": "warning"}.get(run.state, "")
        parts = [f"<b>{run.state}</b>", f"step {run.step:,} of {run.steps:,}"]
        if run.state == "running" and run.progress:
            parts.append(f"{in_time((run.steps - run.step) * run.progress[-1].step_time)} left")
        elif run.over:
            parts.append(in_time(run.seconds))
        if run.progress:
            rate = run.dataset.manifest.negative_rate
            sampled = "" if rate == 1 else f" of all clicks and {rate:g} of the other rows"
            parts.append(f"loss {run.progress[-1].loss:.4f}{sampled}")
        if (best := run.results.best) and best.auc is not None:
            but = ", no better than the base rate" if best.is_no_better_than_the_base_rate else ""
            parts.append(f"best validation AUC {best.auc:.5f} (step {best.step:,}){but}")
        if run.samples_per_second:
            parts.append(f"{run.samples_per_second:,.0f} rows/s")
        self._words.value = " · ".join(parts)

    def _complain(self, failure: str | None) -> None:
        self._failure.value = f'<pre class="dlrm-failure" role="alert">{html.escape(failure)}</pre>' if failure else ""

    def _enable(self) -> None:
        state = self.live.run.state if self.live else "new"
        under_way = state in ("running", "paused")
        self.train.disabled = under_way or self._config is None
        self.pause.disabled = self.stop.disabled = not under_way
        self.pause.description, self.pause.icon = ("Resume", "play") if state == "paused" else ("Pause", "pause")
