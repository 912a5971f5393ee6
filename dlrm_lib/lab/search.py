"""A search for good settings: trials one after the other in the background, each a run that is kept."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from optuna.pruners import MedianPruner
from optuna.samplers import TPESampler
from optuna.trial import FrozenTrial, Trial, TrialState

from dlrm_lib.config import Config, as_dict, digest
from dlrm_lib.dataset import Dataset, Split
from dlrm_lib.errors import InputError
from dlrm_lib.lab.history import History, KeptRun
from dlrm_lib.lab.live_run import one_at_a_time, take_over
from dlrm_lib.lab.run import Run
from dlrm_lib.lab.search_report import importances, table
from dlrm_lib.lab.search_space import SearchSpace, changed
from dlrm_lib.lab.trials_file import alone, mend, open_study
from dlrm_lib.training import identity

# Trials at random before the sampler learns from them, and finished ones before any is compared with their median.
_AT_RANDOM, _TO_COMPARE = 5, 5
# Trials are compared at each tenth of a training, whatever its steps; before this one they tell too little.
_TENTHS, _FIRST_TENTH = 10, 3

_COUNTED = (TrialState.COMPLETE, TrialState.PRUNED)


class Search:
    """A budget of trials over some settings, for the best validation AUC that a training reaches.

    The first trial is the configuration as it stands. The others are chosen by Optuna's tree-structured Parzen
    estimator, from the usual values of the settings; what has to follow from them does (``search_space.changed``). A
    trial whose AUC, at the same share of its training, is below the median of the finished ones is given up.

    Everything is written down as it happens, in a file of its own in ``folder``. The same search made again (the same
    settings of data, model and training, rows and encoding, names and seed) goes on where that one ended, with the
    trials that it would have made; another one has another file. A trial that was interrupted is made again, and does
    not count. One whose values have been tried before counts, with what was found then.

    A trial that the configuration refuses, or whose training fails, counts, and stands behind all others: Optuna passes
    over failed trials and forgets where they were, but learns from pruned ones that nothing is to be found there, and a
    value made up would drown the differences between the rest when importances are told.

    Attributes:
        config: The configuration as it stands.
        names: The settings that are searched.
        trials: The budget.
        path: Where the trials are written down.
        state: new, running, stopped, finished or failed.
        failure: Why the search failed, for people; None if it has not.
        run: The trial that is training; None between trials.
    """

    def __init__(
        self,
        config: Config,
        dataset: Dataset,
        history: History,
        names: Iterable[str],
        trials: int,
        folder: str | Path,
        *,
        seed: int = 0,
        on_event: Callable[[Search], None] = lambda search: None,
    ) -> None:
        """
        Args:
            config: Where to start.
            dataset: What to train on.
            history: Where the runs are kept.
            names: Settings, of those that ``searchable`` names.
            trials: The budget, trials of earlier searches that this one goes on with included.
            folder: Where the trials are written down.
            seed: Of the choice of trials. Trainings have their own, which is the same for all.
            on_event: Called with this search in its thread, which waits for it, after each event of a run and each
                change.

        Raises:
            InputError: settings that cannot be searched, no trials, nothing to judge a training by, or a file of trials
                that cannot be read or written.
        """
        if trials < 1:
            raise InputError("A search needs at least one trial.", found=trials, remedy="Raise the budget.")
        self.config, self.trials, self._on_event = config, trials, on_event
        self._dataset, self._history = dataset, history
        self._space = SearchSpace(config, names)
        self.names = self._space.names
        self._seed = seed
        start = Run(config, dataset)
        self._train = start.dataset.train
        _refuse_without_auc(start)
        settings = {section: as_dict(getattr(config, section)) for section in ("data", "model", "training")}
        space = {name: repr(distribution) for name, distribution in self._space.distributions.items()}
        key = digest([settings, space, identity(start.dataset), seed])
        self.path = Path(folder) / f"search-{key}.log"
        self._study = open_study(self.path, key)
        self._study.pruner = MedianPruner(n_startup_trials=_TO_COMPARE, n_warmup_steps=_FIRST_TENTH)
        self._kept: dict[str, KeptRun | None] = {}
        self.state = "finished" if self.done >= trials else "new"
        self.failure: str | None = None
        self.run: Run | None = None
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def done(self) -> int:
        """Trials that count."""
        return len(self._trials(*_COUNTED))

    @property
    def alive(self) -> bool:
        """Whether its thread is there."""
        return self._thread is not None and self._thread.is_alive()

    def start(self) -> None:
        """Begins, or goes on, once the training under way, if any, is stopped. Nothing is left to do: returns."""
        with one_at_a_time:
            if self.done >= self.trials or (self.alive and not self._stopping.is_set()):
                return
            take_over(self)
            self._stopping.clear()
            self.state, self.failure = "running", None
            self._thread = threading.Thread(target=self._work, name="search", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Has it end behind the step under way, or the batch of an evaluation; returns at once."""
        self._stopping.set()

    def join(self, timeout: float | None = None) -> None:
        """Waits until its thread has ended, so many seconds at most."""
        if self._thread and self._thread.is_alive():
            self._thread.join(timeout)

    @property
    def best(self) -> KeptRun | None:
        """The finished trial with the highest AUC, the first of equals; None before there is one, or without record."""
        best = self._best()
        if best is None:
            return None
        name = best.user_attrs["run"]
        if name not in self._kept:  # of an earlier search
            self._kept.update({kept.name: kept for kept in self._history.runs()})
        return self._kept.setdefault(name, None)

    @property
    def best_config(self) -> Config:
        """Its configuration, to go on with; before there is one, that which the search starts from."""
        best = self._best()
        return changed(self.config, best.user_attrs["values"], self._train) if best else self.config

    def table(self) -> pd.DataFrame:
        """A line per trial that counts and for the one under way, from 1 on: 1 is the configuration as it stood.

        Its columns are the settings, ``AUC`` (the best on the validation split; NaN without one), ``state`` (finished,
        pruned, refused, failed, running), ``seconds``, ``run`` (the name in the history) and ``why`` (what was wrong).
        """
        return table(self.names, self._trials(*_COUNTED, TrialState.RUNNING))

    def importances(self) -> dict[str, float] | None:
        """How much each setting decided which trials are among the best quarter: shares of 1, greatest first.

        None while there are too few trials to tell. With few of them it is a hint at most.
        """
        return importances(self._trials(*_COUNTED))

    def _trials(self, *states: TrialState) -> list[FrozenTrial]:
        return self._study.get_trials(deepcopy=False, states=states)

    def _best(self) -> FrozenTrial | None:
        return max(self._trials(TrialState.COMPLETE), key=lambda trial: trial.value or 0.0, default=None)

    def _work(self) -> None:
        try:
            with alone(self.path):
                mend(self.path)
                for trial in self._trials(TrialState.RUNNING):  # of a process that was ended amid it
                    self._study.tell(trial.number, state=TrialState.FAIL)
                while self.done < self.trials and not self._stopping.is_set():
                    self._next()
                    self._on_event(self)
            self.state = "finished" if self.done >= self.trials else "stopped"
        except BaseException as error:  # nobody is there to catch it
            self.failure = str(error) if isinstance(error, InputError) else f"{type(error).__name__}: {error}"
            self.state = "failed"
        with contextlib.suppress(Exception):
            self._on_event(self)

    def _next(self) -> None:
        """Makes one trial."""
        done = self.done
        # From the number of trials alone, so that a search that goes on makes those that it would have made.
        (seed,) = np.random.SeedSequence([self._seed, done]).generate_state(1)
        self._study.sampler = TPESampler(n_startup_trials=_AT_RANDOM, seed=int(seed))
        if not done and not self._trials(TrialState.WAITING):
            self._study.enqueue_trial(self._space.place())
        trial = self._study.ask(self._space.distributions)
        try:
            own = {name: self._space.own(name) for name in self.names}
            trial.set_user_attr("values", self._space.values(trial.params) if done else own)
            self._try(trial, first=not done)
        except BaseException:
            self._study.tell(trial, state=TrialState.FAIL)
            raise
        finally:
            self.run = None

    def _try(self, trial: Trial, *, first: bool) -> None:
        values = trial.user_attrs["values"]
        try:
            config = changed(self.config, values, self._train)
        except InputError as error:
            self._tell(trial, TrialState.PRUNED, state="refused", why=str(error))
            return
        for other in self._trials(*_COUNTED):  # the same training would give the same
            if other.user_attrs["values"] == values:
                self._tell(trial, other.state, **{k: v for k, v in other.user_attrs.items() if k != "seconds"})
                return
        self.run = run = Run(config, self._dataset)
        watch = _Watch(trial)

        def on_event(run: Run) -> None:
            watch.see(run)
            self._on_event(self)

        run.train(abandon=lambda: watch.hopeless or self._stopping.is_set(), on_event=on_event)
        if first and run.failure and not run.step:
            raise InputError(run.failure)  # no trial could begin
        about: dict[str, Any] = {"seconds": run.seconds, "why": run.failure}
        if run.step:
            kept = self._history.keep(run)
            self._kept[kept.name] = kept
            about["run"] = kept.name
        if run.results.best:
            about["auc"] = run.results.best.auc
        if run.state == "finished":
            self._tell(trial, TrialState.COMPLETE, state="finished", **about)
        elif run.state == "failed" or watch.hopeless:
            self._tell(trial, TrialState.PRUNED, state="failed" if run.failure else "pruned", **about)
        else:
            self._study.tell(trial, state=TrialState.FAIL)

    def _tell(self, trial: Trial, counts_as: TrialState, **about: Any) -> None:
        for name, value in about.items():
            trial.set_user_attr(name, value)
        self._study.tell(trial, about["auc"] if counts_as == TrialState.COMPLETE else None, state=counts_as)


class _Watch:
    """Reports a run's AUC at each tenth of its training, and asks whether there is hope."""

    def __init__(self, trial: Trial) -> None:
        self.hopeless = False
        self._trial, self._tenth = trial, 0

    def see(self, run: Run) -> None:
        if not run.evaluations or run.over:
            return
        last = run.evaluations[-1]
        tenth = last.step * _TENTHS // run.steps
        if tenth > self._tenth and last.auc is not None:
            self._tenth = tenth
            self._trial.report(last.auc, tenth)
            self.hopeless = self._trial.should_prune()


def _refuse_without_auc(run: Run) -> None:
    """Raises InputError where a training would have no validation AUC."""
    validation: Split = run.dataset.validation
    labels: set[float] = set()
    for first in range(0, len(validation), 2**16):
        labels.update(np.unique(validation.read(first, min(first + 2**16, len(validation))).label))
        if len(labels) == 2:
            break
    if len(labels) < 2 or not run.steps:
        raise InputError(
            "A search needs an AUC to judge by: a training, and validation rows with clicks and without.",
            found=f"{run.steps:,} steps, {len(validation):,} validation rows, {len(labels)} kinds of labels",
            remedy="Train for at least one epoch, on a data set that holds rows out.",
        )
