"""What a run leaves on the disk: a model to use, and beside it all that the run needs to go on.

A *checkpoint* is a model with its configuration, the meaning of its inputs and what it reached: what ``test`` opens. A
*training state* holds the optimizer, the random state and the position in the data as well: a run that is resumed from
it ends in the same bits as one that was never interrupted.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from dlrm_lib.backends import pick
from dlrm_lib.backends.backend import Backend
from dlrm_lib.columns import RawColumns
from dlrm_lib.config import Config, ModelConfig, TrainingConfig, as_dict
from dlrm_lib.dataset import Dataset
from dlrm_lib.errors import InputError
from dlrm_lib.files import resolved
from dlrm_lib.model import DLRM
from dlrm_lib.numeric_rules import NUMERIC_RULES
from dlrm_lib.settings import as_text
from dlrm_lib.training.build import Training, build
from dlrm_lib.training.compatibility import data_facts, refuse_other_meaning, refuse_other_rows, renamed
from dlrm_lib.training.evaluation import Evaluation
from dlrm_lib.training.growth import Growth
from dlrm_lib.training.needs import check_memory, check_weights
from dlrm_lib.training.tensor_file import Target, TensorFile, open_tensors, write_tensors

_FORMAT = 4
_WITHOUT_BOUNDS = 3  # the format before: as this one, but without the bounds of a model's inputs
_BOUNDS = ("standardise.low", "standardise.high")
# What may change when a run goes on: how long it is, when it reports and is judged, and where it runs.
_MAY_CHANGE = {
    "test_batch_size",
    "epochs",
    "max_steps",
    "print_freq",
    "test_freq",
    "test_after",
    "auc_threshold",
    "benchmark_warmup_steps",
    "device",
    "execution",
}


@dataclass
class Results:
    """The best and the last evaluation of a run.

    Attributes:
        best: The one with the highest AUC, or, where a split with one class has none, with the lowest log loss; the
            first of equals.
        last: The latest.
    """

    best: Evaluation | None = None
    last: Evaluation | None = None

    def add(self, evaluation: Evaluation) -> bool:
        """Takes note of an evaluation; tells whether it is the best so far."""
        self.last = evaluation
        better = self.best is None or _quality(evaluation) > _quality(self.best)
        if better:
            self.best = evaluation
        return better


def state_path(path: Path) -> Path:
    """Where the training state of a run lies that keeps its checkpoint at ``path``: beside what a link leads to."""
    path = resolved(path) if path.is_symlink() else path
    return path.with_name(f"{path.stem}.state.safetensors")


def save_checkpoint(path: Path, training: Training, *, metrics: dict[str, Any]) -> None:
    """Writes the model with its configuration, what is known of the data it was trained on, and what it reached.

    Raises:
        InputError: the disk is full, or does not let itself be written to; an older file stays as it was.
    """
    write_tensors(path, training.model.state_dict(), {**_about("checkpoint", training), "metrics": metrics})


def load_checkpoint(
    path: Path, dataset: Dataset, device: torch.device | str = "cpu", *, to_train: bool = False
) -> tuple[DLRM, Config]:
    """Opens a checkpoint for a data set, on any device: its own, or a later one of its lineage.

    For a later one that has more ids the tables grow. An id that the model does not know scores as id 0 does, as if the
    rows had been encoded with the model's own vocabulary; or, to be trained, has the vector that a new model would have
    for it, drawn by torch's random state.

    Raises:
        InputError: no such file, not a checkpoint, damaged, or one that was trained on ids or numbers of another
            meaning; it names the column or setting that differs.
    """
    with opened(path, "checkpoint") as file:
        refuse_other_meaning(path, file.about, dataset)
        config = _config(path, file.about)
        check_weights(dataset.spec, config.model)
        model = _model(file.about, config, dataset).to(device)
        file.read(_saved(model, file))
        if not to_train:
            Growth(model.tables, file.about["cardinalities"]).score_as_id_0(model.tables.weight)
    return model, config


def restore_model(path: Path, training: Training) -> None:
    """Reads the weights of a checkpoint into the model of a training, so that tables are not in memory twice.

    Raises:
        InputError: as ``load_checkpoint``, or the checkpoint is one of another model; this one's weights are then lost.
    """
    with opened(path, "checkpoint") as file:
        refuse_other_meaning(path, file.about, training.dataset)
        file.read(_saved(training.model, file))
        training.model.negative_rate = file.about["negative_rate"]


def save_state(path: Path, training: Training, results: Results) -> None:
    """Writes everything that a run needs to go on after its last step. Call it between two steps.

    Raises:
        InputError: as ``save_checkpoint``.
    """
    step = training.step
    about = {
        **_about("training state", training),
        "done": step.done,
        **{name: value and dataclasses.asdict(value) for name, value in vars(results).items()},
    }
    parts = {
        "model": training.model.state_dict(),
        "step": step.state_dict(),
        "random": {"torch": torch.get_rng_state()},
    }
    write_tensors(path, {f"{part}.{name}": tensor for part, of in parts.items() for name, tensor in of.items()}, about)


def load_state(
    path: Path, config: Config, dataset: Dataset, backend: Backend | None = None
) -> tuple[Training, Results]:
    """Goes back to where a run was when it wrote ``path``: what ``fit`` and ``save_state`` take to go on from there.

    Sets torch's random state too. ``config`` may differ from the run's own in its length, in when it reports, and in
    where it runs; the promise of the same bits holds on the same device. With another length, what is a share of all
    steps or follows from them comes to other steps.

    Raises:
        InputError: as ``load_checkpoint`` and ``build``, or a setting or data set that would lead elsewhere; it names
            the setting.
    """
    with opened(path, "training state") as file:
        about = file.about
        refuse_other_meaning(path, about, dataset)
        refuse_other_rows(path, about, dataset)
        then = _config(path, about)
        config = dataclasses.replace(config, model=_settled(config.model, then.model))
        _refuse_change(path, then.model, config.model)
        backend = backend or pick(config.training.device, config.training.execution)
        check_memory(config, dataset, backend)
        training = build(config, dataset, backend=backend, model=_model(about, config, dataset))
        _same_training(path, then.training, config.training, training)
        optimizer, random = training.step.state_dict(), torch.get_rng_state()
        file.read(_saved(training.model, file), "model.")
        file.read(optimizer, "step.")
        file.read({"torch": random}, "random.")
    training.step.load_state_dict(optimizer)
    torch.set_rng_state(random)
    return training, Results(**{name: about[name] and Evaluation(**about[name]) for name in ("best", "last")})


def reached(path: Path) -> dict[str, Any]:
    """The ``metrics`` that a checkpoint was saved with.

    Raises:
        InputError: no such file, not a checkpoint, or damaged.
    """
    with opened(path, "checkpoint") as file:
        return dict(file.about["metrics"])


def renamed_columns(path: Path, dataset: Dataset) -> dict[str, str]:
    """The columns of a data set that a checkpoint knows by another name, with that name.

    Raises:
        InputError: no such file, not a checkpoint, or damaged.
    """
    with opened(path, "checkpoint") as file:
        return renamed(file.about, dataset)


def _quality(evaluation: Evaluation) -> float:
    return -evaluation.log_loss if evaluation.auc is None else evaluation.auc


def _about(kind: str, training: Training) -> dict[str, Any]:
    config = training.config
    return {
        "format": _FORMAT,
        "kind": kind,
        "preset": config.preset,
        "model": as_dict(config.model),
        "training": as_dict(config.training),
        **data_facts(training.dataset),
    }


@contextmanager
def opened(path: Path, kind: str) -> Iterator[TensorFile]:
    """A file that was written as a ``checkpoint`` or as a ``training state``.

    Raises:
        InputError: there is none, it is something else, of another version, or damaged.
    """
    with open_tensors(path) as file:
        found = file.about.get("kind")
        if found != kind:
            raise InputError(f"{path} is no {kind}.", found=found, remedy=f"Name a file that was written as a {kind}.")
        if file.about["format"] not in (_WITHOUT_BOUNDS, _FORMAT):
            raise InputError(
                f"{path} was written by another version of this program.",
                found=f"format {file.about['format']} instead of {_FORMAT}",
                remedy="Use that version, or train again.",
            )
        _complete(file.about)
        yield file


def _complete(about: dict[str, Any]) -> None:
    """Adds what earlier versions wrote in other words."""
    if "numeric_rules" not in about:  # but what stands for a missing number, the same in all columns
        (rule,) = (rule for rule in NUMERIC_RULES.values() if rule.missing_number == about["missing_number"])
        about["numeric_rules"] = [rule.entry()] * about["numerical"]
    about.setdefault("indices_per_lookup", about["model"]["num_indices_per_lookup"])
    about.setdefault("columns", None)
    about.setdefault("negative_rate", 1.0)


def _saved(model: DLRM, file: TensorFile) -> dict[str, Target]:
    """What takes the tensors of a model that a file has, into tables that may have grown since.

    Where the file has no bounds the model keeps those of a new one: none.
    """
    tensors: dict[str, Target] = dict(model.state_dict())
    tables = model.tables
    tensors["tables.weight"] = Growth(tables, file.about["cardinalities"]).kept_rows(tables.weight)
    if file.about["format"] == _WITHOUT_BOUNDS:
        tensors = {name: tensor for name, tensor in tensors.items() if name not in _BOUNDS}
    return tensors


def _settled(asked: ModelConfig, then: ModelConfig) -> ModelConfig:
    """What is left to the number of rows is as the run has it: its model may have begun with other rows."""
    left = [name for name in ("embed_numbers", "linear") if getattr(asked, name) is None]
    return dataclasses.replace(asked, **{name: getattr(then, name) for name in left})


def _same_training(path: Path, then: TrainingConfig, asked: TrainingConfig, training: Training) -> None:
    """Compares what the two would say of a run as long as the one then, once nothing is open any more."""
    now, rows = training.settings, len(training.train)
    where = {"device": now.device, "execution": now.execution}
    precision = now.precision if then.precision == "auto" else then.precision
    as_long = dataclasses.replace(asked, epochs=then.epochs, max_steps=then.max_steps)
    _refuse_change(
        path,
        then.resolved(rows, precision=precision, **where),
        as_long.resolved(rows, precision=now.precision, **where),
        asked,
    )


def _refuse_change(path: Path, then: Any, now: Any, asked: Any = None) -> None:
    """Raises InputError for the first setting of a section that has changed and must not."""
    for f in dataclasses.fields(now):
        before, after = getattr(then, f.name), getattr(now, f.name)
        if f.name in _MAY_CHANGE or before == after:
            continue
        remedy = f"Resume with --{f.name} as it was, or start a new run with --load_checkpoint_path."
        if asked and getattr(asked, f.name) != after:
            remedy = (
                f"{as_text(getattr(asked, f.name))} of --{f.name} comes to another value than the run has: resume "
                f"with --{f.name} {as_text(before)}, or with the settings it follows from as they were."
            )
        raise InputError(
            f"--{f.name} has changed since {path} was written, which would not be the same run.",
            found=f"{before} then, {after} now",
            remedy=remedy,
        )


def _config(path: Path, about: dict[str, Any]) -> Config:
    try:
        # What an earlier version did not know was off, whatever the preset leaves open today.
        model = {"embed_numbers": False, "linear": False, **about["model"]}
        return Config.without_idle(about["preset"], {**model, **about["training"]})
    except InputError as error:
        raise InputError(
            f"{path} was trained with a configuration that this version does not know.",
            found=str(error).splitlines()[0],
            remedy="Use the version that wrote it, or train again.",
        ) from None


def _model(about: dict[str, Any], config: Config, dataset: Dataset) -> DLRM:
    """A new model of all ids that there are by now, its columns called as they were."""
    columns = RawColumns.of(about["columns"]) if about["columns"] else None
    spec = dataclasses.replace(dataset.spec, raw_columns=columns)
    return DLRM(spec, config.model, negative_rate=about["negative_rate"])
