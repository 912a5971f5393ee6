"""The runs of a tuning lab, kept as records: to be compared, shown again, and repeated elsewhere."""

from __future__ import annotations

import dataclasses
import json
import re
import shlex
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from dlrm_lib.config import Config, as_dict, fields
from dlrm_lib.errors import InputError
from dlrm_lib.lab.run import Run
from dlrm_lib.records import write_record
from dlrm_lib.settings import as_text
from dlrm_lib.training import Evaluation, Progress, Results

_WHAT = "tuning lab run"
_NAME = re.compile(r"run-(\d+)")
# What the command ``train`` looks at.
_TRAINED = ("data", "model", "training")


@dataclass(frozen=True, kw_only=True)
class KeptRun:
    """A run as it was when it was kept; what it shares with ``Run`` means the same.

    Attributes:
        name: Short, unique in its folder, and greater than those before: ``run-0012``.
        config: What was trained, and repeats the run.
        asked: What a person had asked for, without the reports that the run added.
        device: In words; None if it failed before it had one.
        date: When it was kept, in UTC, as ISO 8601 has it.
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
    """A folder of kept runs, each a record of its own; several notebooks may share it.

    Attributes:
        unreadable: What was wrong with records when ``runs`` last read them, a sentence for each.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.unreadable: list[str] = []

    def keep(self, run: Run) -> KeptRun:
        """Writes a run, whatever its state, under a new name.

        Raises:
            InputError: the record cannot be written.
        """
        try:
            path = self._new_name()
            try:
                record = write_record(
                    path,
                    what=_WHAT,
                    config=as_dict(run.config),
                    metrics=_metrics(run),
                    command=_train(run.config, run.dataset.folder),
                )
            except BaseException:
                path.unlink()
                raise
        except OSError as error:
            raise InputError(
                f"The run cannot be kept in {self.folder}.",
                found=error.strerror,
                remedy="Make room there, or choose another folder.",
            ) from None
        return _kept(path.stem, record)

    def runs(self) -> list[KeptRun]:
        """All that can be read, newest first; what cannot is told in ``unreadable``."""
        found, self.unreadable = [], []
        for path in sorted(self.folder.glob("run-*.json"), key=_number, reverse=True):
            try:
                text = path.read_text(encoding="utf-8")
                if text:  # else the name is just being taken
                    found.append(_kept(path.stem, json.loads(text)))
            except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
                reason = str(error).splitlines()[0] if isinstance(error, InputError) else repr(error)
                self.unreadable.append(f"{path} is no record of a run that this version can read ({reason}).")
        return found

    def _new_name(self) -> Path:
        """An empty file in the place of the next record, which nobody else then takes."""
        self.folder.mkdir(parents=True, exist_ok=True)
        number = max(map(_number, self.folder.glob("run-*.json")), default=0)
        while True:
            number += 1
            path = self.folder / f"run-{number:04}.json"
            try:
                path.touch(exist_ok=False)
            except FileExistsError:
                continue
            return path


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
    """The settings that differ from the preset's."""
    preset = Config.from_preset(config.preset)
    values = {f.name: (getattr(getattr(config, s), f.name), getattr(getattr(preset, s), f.name)) for s, f in fields()}
    return {name: value for name, (value, usual) in values.items() if value != usual}


def _metrics(run: Run) -> dict[str, Any]:
    return {
        "state": run.state,
        "failure": run.failure,
        "asked": {name: getattr(run.asked.training, name) for name in ("print_freq", "test_freq")},
        "step": run.step,
        "steps": run.steps,
        "seconds": run.seconds,
        "samples_per_second": run.samples_per_second,
        "device": run.device_description,
        "progress": [dataclasses.asdict(event) for event in run.progress],
        "evaluations": [dataclasses.asdict(evaluation) for evaluation in run.evaluations],
    }


def _kept(name: str, record: dict[str, Any]) -> KeptRun:
    metrics = dict(record["metrics"])
    sections = dict(record["config"])
    preset = sections.pop("preset")
    config = Config.without_idle(preset, {name: value for s in sections.values() for name, value in s.items()})
    return KeptRun(
        name=name,
        config=config,
        asked=config.override(**metrics.pop("asked")),
        progress=tuple(Progress(**event) for event in metrics.pop("progress")),
        evaluations=tuple(Evaluation(**event) for event in metrics.pop("evaluations")),
        date=record["date"],
        **metrics,
    )


def _number(path: Path) -> int:
    named = _NAME.fullmatch(path.stem)
    return int(named[1]) if named else 0
