"""The kept runs as the tuning lab takes them: to be compared, shown again, and repeated elsewhere.

``dlrm_lib.runs`` owns their format: those that the command line keeps in the same folder are shown beside the lab's.
"""

from __future__ import annotations

import dataclasses
import json
import shlex
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from dlrm_lib import runs
from dlrm_lib.config import Config, as_dict, fields, idle
from dlrm_lib.errors import InputError
from dlrm_lib.lab.run import Run
from dlrm_lib.settings import as_text
from dlrm_lib.training import Evaluation, Progress, Results

# What the command ``train`` looks at.
_TRAINED = ("data", "model", "training")


@dataclass(frozen=True, kw_only=True)
class KeptRun:
    """A run as it was when it was kept; what it shares with ``Run`` means the same.

    Attributes:
        name: That of its folder, unique among the runs.
        config: What was trained, and repeats the run.
        asked: What a person had asked for, without the reports that the run added.
        device: In words; None if it failed before it had one.
        date: When it began to be kept, in UTC, as ISO 8601 has it.
    """

    name: str
    config: Config
    asked: Config
    state: str
    failure: str | None
    step: int
    steps: int
    progress: tuple[Progress, ...]
    evaluations: tuple[Evaluation, ...]
    seconds: float
    samples_per_second: float | None
    device: str | None
    date: str

    @property
    def best(self) -> Evaluation | None:
        """The first evaluation that no other is better than."""
        return self._results().best

    @property
    def last(self) -> Evaluation | None:
        """The latest evaluation."""
        return self._results().last

    def _results(self) -> Results:
        results = Results()
        for evaluation in self.evaluations:
            results.add(evaluation)
        return results


class History:
    """A folder of kept runs; several notebooks and the command line may share it.

    Attributes:
        unreadable: What was wrong with runs when ``runs`` last read them, a sentence for each.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.unreadable: list[str] = []

    def keep(self, run: Run) -> KeptRun:
        """Writes a run, whatever its state, under a new name.

        Raises:
            InputError: nothing can be written there.
        """
        config = {
            "given": as_dict(run.config),
            "resolved": run.training and as_dict(run.training.config),
            "asked": {name: getattr(run.asked.training, name) for name in ("print_freq", "test_freq")},
        }
        splits = (run.dataset.train, run.dataset.validation, run.dataset.test)
        with runs.new_run(
            self.folder,
            config=config,
            kind="lab",
            command=_train(run.config, run.dataset.folder),
            preset=run.config.preset,
            dataset=None if run.config.data.synthetic_dataset else str(run.dataset.folder),
            rows={split.name: len(split) for split in splits},
            device=run.device_description,
            steps=run.steps,
        ) as kept:
            for line in _lines(run):
                kept.log(line)
            kept.state, kept.failure, kept.seconds = run.state, run.failure, run.seconds
        return _kept(runs.read_run(kept.folder))

    def runs(self) -> list[KeptRun]:
        """All trainings that can be read, newest first; what cannot is told in ``unreadable``."""
        kept, self.unreadable = runs.kept_runs(self.folder)
        found = []
        for run in reversed(kept):
            if run.about["kind"] in ("train", "lab"):
                try:
                    found.append(_kept(run))
                except (ValueError, LookupError, TypeError, AttributeError) as error:
                    reason = str(error).splitlines()[0] if isinstance(error, InputError) else repr(error)
                    self.unreadable.append(f"{run.folder} is no run that this version can read ({reason}).")
        return found


def table(runs: Iterable[KeptRun]) -> pd.DataFrame:
    """A line per run, indexed by name: its preset with the settings that differ from it, and what it reached.

    AUCs and log losses are those on the validation split; speeds are in rows/s. What a run has not is NaN or NA.
    """
    lines = [
        {
            "run": run.name,
            "settings": "; ".join(
                (run.asked.preset, *(f"{name} {as_text(value)}" for name, value in _changed(run.asked).items()))
            ),
            "state": run.state,
            "best AUC": run.best and run.best.auc,
            "at step": run.best and run.best.step,
            "last AUC": run.last and run.last.auc,
            "last log loss": run.last and run.last.log_loss,
            "rows/s": run.samples_per_second,
            "seconds": run.seconds,
            "device": run.device,
        }
        for run in runs
    ]
    numbers = dict.fromkeys(("best AUC", "last AUC", "last log loss", "rows/s", "seconds"), "float64")
    columns = ["run", "settings", "state", "best AUC", "at step", *list(numbers)[1:], "device"]
    return pd.DataFrame(lines, columns=columns).astype({**numbers, "at step": "Int64"}).set_index("run")


def command(run: KeptRun, dataset: str | Path) -> str:
    """The command line that repeats a run on the data set in a folder, for a shell.

    On the same device, with as many threads, it gives the same numbers to the bit.
    """
    return _train(run.config, dataset)


def parameters(run: KeptRun) -> str:
    """The notebook parameters that repeat a run, as YAML: for ``papermill … -y``."""
    changed = {name: value for name, value in _changed(run.config).items() if name not in ("device", "seed")}
    training = run.config.training
    values = {
        "preset": run.config.preset,
        "device": training.device,
        "seed": training.seed,
        "headless": True,
        "overrides": json.loads(json.dumps(changed)),  # lists for tuples
    }
    return yaml.safe_dump(values, sort_keys=False)


def _train(config: Config, dataset: str | Path) -> str:
    return shlex.join(["python", "-m", "dlrm_lib", "train", *config.flags(_TRAINED), "--dataset", str(dataset)])


def _changed(config: Config) -> dict[str, Any]:
    """The settings that differ from the preset's, but for those that fall away beside the others."""
    preset = Config.from_preset(config.preset)
    own, usual = ({f.name: getattr(getattr(of, s), f.name) for s, f in fields()} for of in (config, preset))
    changed = {name: value for name, value in own.items() if value != usual[name]}
    return {name: value for name, value in changed.items() if name not in idle({**own, name: usual[name]})}


def _lines(run: Run) -> list[dict[str, Any]]:
    """What the command ``train`` would have logged."""
    config = as_dict(run.training.config if run.training else run.config)
    result = {
        "what": "result",
        "step": run.step,
        "best_auc": run.results.best and run.results.best.auc,
        "best_step": run.results.best and run.results.best.step,
        "last_auc": run.results.last and run.results.last.auc,
        "average_train_throughput": run.samples_per_second,
    }
    events: list[Progress | Evaluation] = sorted(
        [*run.progress, *run.evaluations], key=lambda event: event.step
    )  # progress before its evaluation
    return [
        {"what": "train", "device": run.device_description, "step": 0, "config": config},
        *({"what": type(event).__name__.lower(), **dataclasses.asdict(event)} for event in events),
        result,
    ]


def _kept(run: runs.KeptRun) -> KeptRun:
    about = run.about
    given = {
        name: value for section in run.given.values() if isinstance(section, dict) for name, value in section.items()
    }
    config = Config.without_idle(run.given["preset"], given)
    progress = tuple(Progress(**line) for line in run.lines("progress"))
    evaluations = tuple(Evaluation(**line) for line in run.lines("evaluation") if line["split"] == "validation")
    if about["result"]:
        speed = about["result"]["average_train_throughput"]
    else:
        speed = progress[-1].average_samples_per_second if progress else None
    return KeptRun(
        name=run.name,
        config=config,
        asked=config.override(**run.asked),
        state=about["state"],
        failure=about["failure"],
        step=about["step"],
        steps=about["steps"],
        progress=progress,
        evaluations=evaluations,
        seconds=about["seconds"],
        samples_per_second=speed,
        device=about["device"],
        date=about["began"],
    )
