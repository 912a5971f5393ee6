"""One training, held so that it can be watched, paused and gone on with: by a widget, a notebook or a search alike."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from dlrm_lib.config import Config
from dlrm_lib.dataset import Dataset, Split, random_dataset, refuse_bags, subset
from dlrm_lib.errors import InputError, TrainingDiverged
from dlrm_lib.memory import shortage
from dlrm_lib.training import Evaluation, Progress, Results, Training, build, fit

# The least that a curve needs to look like one. A point of the AUC costs an evaluation.
LOSSES, EVALUATIONS = 100, 10


class Run:
    """One training of a configuration: its events so far, and how it ended.

    It gives the numbers of ``python -m dlrm_lib train`` with the same configuration, to the bit.

    Attributes:
        asked: The configuration as it was given.
        config: The one that is trained: ``asked``, with reports often enough to be watched. Given again it stays as it
            is, so that it is what repeats the run.
        dataset: What it trains on: the share that ``dataset_subset`` says, or random rows for ``synthetic_dataset``.
        device_description: Where it trains, in words; None before it has begun, since the machine may lack the device.
        training: What trains; None before it has begun.
        progress: The loss curve, with a point more at each pause.
        evaluations: The AUC curve.
        results: The best and the last evaluation.
        state: new, running, paused, stopped, finished or failed.
        failure: Why it failed, for people; None if it has not.
        steps: Steps in all.
    """

    def __init__(self, config: Config, dataset: Dataset) -> None:
        self.asked, data = config, config.data
        self.dataset = random_dataset(config) if data.synthetic_dataset else subset(dataset, data.dataset_subset)
        rows = len(self.dataset.train)
        self.steps = config.training.steps(rows)
        self.config = watchable(config, self.dataset.train)
        self.device_description: str | None = None
        self.training: Training | None = None
        self.progress: list[Progress] = []
        self.evaluations: list[Evaluation] = []
        self.results = Results()
        self.state = "new"
        self.failure: str | None = None
        self._clock: tuple[float, float | None] = 0.0, None  # seconds until the last start, and when that was
        self._measured_rows = self._measured_seconds = 0.0

    @property
    def step(self) -> int:
        """Steps done."""
        return self.training.step.done if self.training else 0

    @property
    def seconds(self) -> float:
        """Seconds since it began, evaluations included, pauses left out."""
        before, began = self._clock
        return before if began is None else before + time.perf_counter() - began

    @property
    def samples_per_second(self) -> float | None:
        """Rows trained per second over the whole run, the first ``benchmark_warmup_steps`` steps left out."""
        return self._measured_rows / self._measured_seconds if self._measured_seconds else None

    @property
    def over(self) -> bool:
        """Whether it is stopped, finished or failed, so that no training changes it any more."""
        return self.state in ("stopped", "finished", "failed")

    def train(
        self,
        *,
        stop: Callable[[], bool] = lambda: False,
        abandon: Callable[[], bool] = lambda: False,
        on_event: Callable[[Run], None] = lambda run: None,
    ) -> None:
        """Trains until it ends, or goes on where it was paused, to the same bits as if it never had been.

        Nothing happens to a run that is over. Whatever goes wrong in training makes it ``failed``, and is not raised.

        Args:
            stop: Asked after each step; True: ``paused``, behind the evaluation if one is due.
            abandon: Asked before the first step, after each step, and after each batch of an evaluation; True:
                ``stopped`` for good.
            on_event: Called with this run after each event and each change of state.
        """
        if self.over:
            return
        seen = _Asked(stop, abandon)
        self.state, self._clock = "running", (self.seconds, time.perf_counter())
        state = "stopped"  # of a run that is interrupted amid a step
        try:
            on_event(self)
            training = self._prepare()
            if not seen.abandon():
                for event in fit(training, stop=seen.stop, abandon=seen.abandon):
                    self._take(event)
                    on_event(self)
            state = "stopped" if seen.abandoned else "paused" if seen.stopped and not self._at_end() else "finished"
        except Exception as error:
            self.fail(error)
            state = self.state
        finally:
            self.state, self._clock = state, (self.seconds, None)
        on_event(self)

    def fail(self, error: BaseException) -> None:
        """Ends it as ``failed``; the first reason stays."""
        error = shortage(error) or error
        expected = isinstance(error, InputError | TrainingDiverged)
        self.failure = self.failure or (str(error) if expected else f"{type(error).__name__}: {error}")
        self.state = "failed"

    def _prepare(self) -> Training:
        """Builds what trains, as the command ``train`` does, unless it is there."""
        if self.training:
            return self.training
        if not self.config.data.synthetic_dataset:
            refuse_bags(self.config)
        self.training = training = build(self.config, self.dataset)
        self.device_description, self.steps = training.backend.description, training.steps
        return training

    def _take(self, event: Progress | Evaluation) -> None:
        if isinstance(event, Evaluation):
            self.evaluations.append(event)
            self.results.add(event)
            return
        if event.step > self.config.training.benchmark_warmup_steps:
            seconds = event.step_time * (event.step - (self.progress[-1].step if self.progress else 0))
            self._measured_seconds += seconds
            self._measured_rows += event.samples_per_second * seconds
        self.progress.append(event)

    def _at_end(self) -> bool:
        threshold, last = self.config.training.auc_threshold, self.results.last
        reached = last is not None and last.step == self.step and last.reaches(threshold)
        return reached or self.step >= self.steps


def watchable(config: Config, train: Split) -> Config:
    """The configuration with reports often enough for live curves of a training on these rows.

    The loss is told at least ``LOSSES`` times, and the AUC about ``EVALUATIONS`` times unless ``test_freq`` says how
    often.
    The model is the same; but more evaluations can have another best one, so that what repeats the run needs them too.
    """
    training, steps = config.training, config.training.steps(len(train))
    print_freq = min(training.print_freq, max(1, steps // LOSSES))
    often = max(1, min(training.steps_per_epoch(len(train)), math.ceil(steps / EVALUATIONS)))
    return config.override(print_freq=print_freq, test_freq=training.test_freq or often)


class _Asked:
    """Remembers what the two questions were answered, since ``fit`` does not say why it ended."""

    def __init__(self, stop: Callable[[], bool], abandon: Callable[[], bool]) -> None:
        self._stop, self._abandon = stop, abandon
        self.stopped = self.abandoned = False

    def stop(self) -> bool:
        self.stopped = self.stopped or self._stop()
        return self.stopped

    def abandon(self) -> bool:
        self.abandoned = self.abandoned or self._abandon()
        return self.abandoned
