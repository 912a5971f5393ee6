"""The report of a training: what people are told of it while it runs and at its end, and what of it is kept."""

from __future__ import annotations

import dataclasses
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dlrm_lib.commands.inference import timed_evaluation
from dlrm_lib.console import progress_bars, progress_line, result_line, say
from dlrm_lib.errors import InputError

if TYPE_CHECKING:
    from dlrm_lib.training import Evaluation, Progress, Results, SaveClock, Training


@dataclass
class Report:
    """What is told of a training under way and of its end, and what of it is kept.

    Attributes:
        training: All that trains.
        results: Its best and its last evaluation so far.
        path: Where the best model is kept; None if nothing is.
        clock: When the state is kept, besides at evaluations and at the end.
        log: Takes the lines for programs.
        remarks: What is wrong with the results, sentence by sentence.
    """

    training: Training
    results: Results
    path: Path | None
    clock: SaveClock
    log: Callable[[dict[str, Any]], None]

    def __post_init__(self) -> None:
        self.bars, self.began = progress_bars(), time.perf_counter()
        self.rows_per_second: float | None = None
        self._kept_step: int | None = None
        self.remarks: list[str] = []

    def tell(self, event: Progress | Evaluation) -> None:
        """One event, to the bar and the screen."""
        from dlrm_lib.training import Progress

        settings = self.training.settings
        if not isinstance(event, Progress):
            say(f"Epoch {self._epoch(event):.2f} step {event.step}. {result_line(event)}")
            return
        self.rows_per_second = event.average_samples_per_second
        if self.bars:
            self.bars("training", event.step, event.steps)
        if event.step <= settings.benchmark_warmup_steps:
            say(f"Warming up, step [{event.step}/{settings.benchmark_warmup_steps}]")
        else:
            say(progress_line(event, settings.epochs))

    def keep_model(self, metrics: dict[str, Any]) -> None:
        """Writes the model as it is, if there is a place for it."""
        from dlrm_lib.training import save_checkpoint

        if self.path:
            save_checkpoint(self.path, self.training, metrics=metrics)

    def keep_state(self) -> None:
        """Writes what ``--resume`` needs, if there is a place for it and it is not there already."""
        from dlrm_lib.training import save_state, state_path

        done = self.training.step.done
        if self.path and self._kept_step != done:
            with self.clock.saving():
                save_state(state_path(self.path), self.training, self.results)
            self._kept_step = done

    def keep_state_if_possible(self) -> None:
        """The same amid an epoch: where it cannot be written, the state before stays, and training goes on."""
        try:
            self.keep_state()
        except InputError as error:
            say(f"{error}\n  Training goes on; the state of an earlier step stays.", file=sys.stderr)

    def summary(self) -> dict[str, Any]:
        """The best and the last on the validation split, and the speed: to the screen, and as facts for the log."""
        settings, best, last = self.training.settings, self.results.best, self.results.last
        if last and last.reaches(settings.auc_threshold):
            seconds = time.perf_counter() - self.began
            say(
                f"Hit target accuracy AUC {settings.auc_threshold} at epoch {self._epoch(last):.2f} in {seconds:.0f}s. "
                f"Average speed {last.step * settings.batch_size / seconds:.1f} records/s."
            )
        named = {"best and last": best} if best == last else {"best": best, "last": last}
        for name, result in named.items():
            if result:
                say(f"{name} model: {result_line(result)} (step {result.step}, epoch {self._epoch(result):.2f})")
                self._remark_on(name, result)
        if self.rows_per_second:
            say(f"average training throughput: {self.rows_per_second:,.0f} rows/s")
        return {
            "best_auc": best and best.auc,
            "best_epoch": best and self._epoch(best),
            "best_step": best and best.step,
            "last_auc": last and last.auc,
            "average_train_throughput": self.rows_per_second,
        }

    def test(self) -> dict[str, Any]:
        """The last model on the test split, and the best where that is another one and was kept."""
        from dlrm_lib.training import restore_model

        training, best, done = self.training, self.results.best, self.training.step.done
        test, batch_size = training.dataset.test, training.settings.test_batch_size
        if training.config.data.synthetic_dataset or not len(test):
            return {}
        models = [("best and last" if best and best.step == done else "last", done)]
        if self.path and best and best.step != done and self._holds_ours():
            models.append(("best", best.step))
        for name, step in models:
            if self.path and step != done:
                restore_model(self.path, training)
            evaluation, seconds = timed_evaluation(training.inference, test, batch_size, step)
            say(f"{name} model: {result_line(evaluation)} (step {step})")
            self._remark_on(name, evaluation)
            self.log({"what": "evaluation", "model": name, **dataclasses.asdict(evaluation)})
        return {"average_test_throughput": evaluation.rows / seconds}

    def refuse_foreign_model(self) -> None:
        """Raises InputError if what is kept is not what this run has written: it must not be taken for it."""
        if not self._holds_ours():
            raise InputError(
                f"{self.path} is not the model of this run any more.",
                found="another model, or none, that something else has left there meanwhile",
                remedy="Train again, with a --save_checkpoint_path that nothing else writes to.",
            )

    def _holds_ours(self) -> bool:
        from dlrm_lib.training import reached

        best, step = self.results.best, self.training.step.done
        written = dataclasses.asdict(best) if best else {"step": step}
        try:
            return self.path is not None and reached(self.path) == written
        except InputError:
            return False

    def _remark_on(self, model: str, evaluation: Evaluation) -> None:
        from dlrm_lib.training import remarks

        self.remarks += (f"{model} model, {remark}" for remark in remarks(evaluation))

    def _epoch(self, evaluation: Evaluation) -> float:
        return evaluation.step / self.training.steps_per_epoch
