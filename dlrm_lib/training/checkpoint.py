"""What a run leaves on the disk: a model to use, and beside it all that the run needs to go on.

A *checkpoint* is a model with its configuration, the hashes of its data and what it reached: what ``test`` opens. A
*training state* holds the optimizer, the random state and the position in the data as well: a run that is resumed from
it ends in the same bits as one that was never interrupted.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from dlrm_lib.backends.backend import Backend
from dlrm_lib.config import Config, TrainingConfig, as_dict
from dlrm_lib.dataset import Dataset
from dlrm_lib.errors import InputError
from dlrm_lib.features import NUMERIC_RULES, FeatureSpec, NumericRule
from dlrm_lib.files import resolved
from dlrm_lib.manifest import Manifest
from dlrm_lib.model import DLRM
from dlrm_lib.settings import as_text
from dlrm_lib.training.build import Training, build
from dlrm_lib.training.evaluation import Evaluation
from dlrm_lib.training.tensor_file import TensorFile, open_tensors, write_tensors

_FORMAT = 3
# A model knows what its inputs mean; a position in the data also needs the same rows in the same order.
_MEANING = ("config", "vocabulary")
_ROWS = (*_MEANING, "source", "split")
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
    """Writes the model with its configuration, the hashes of the data it was trained on, and what it reached.

    Raises:
        InputError: the disk is full, or does not let itself be written to; an older file stays as it was.
    """
    write_tensors(path, training.model.state_dict(), {**_about("checkpoint", training), "metrics": metrics})


def load_checkpoint(path: Path, manifest: Manifest, device: torch.device | str = "cpu") -> tuple[DLRM, Config]:
    """Opens a checkpoint for a data set, on any device.

    Raises:
        InputError: no such file, not a checkpoint, damaged, or one that was trained on ids of another meaning.
    """
    with _opened(path, "checkpoint") as file:
        _same_data(path, file.about["hashes"], manifest.hashes, _MEANING)
        config = _config(path, file.about)
        model = _model(file.about, config).to(device)
        file.read(model.state_dict())
    return model, config


def save_state(path: Path, training: Training, results: Results) -> None:
    """Writes everything that a run needs to go on after its last step. Call it between two steps.

    Raises:
        InputError: as ``save_checkpoint``.
    """
    step = training.step
    about = {
        **_about("training state", training),
        "training_rows": len(training.dataset.train),
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
    where it runs; the promise of the same bits holds on the same device.

    Raises:
        InputError: as ``load_checkpoint`` and ``build``, or a setting or data set that would lead elsewhere; it names
            the setting.
    """
    with _opened(path, "training state") as file:
        about = file.about
        _same_data(path, about["hashes"], dataset.manifest.hashes, _ROWS)
        _same_rows(path, about, dataset)
        then = _config(path, about)
        _refuse_change(path, then.model, config.model)
        training = build(config, dataset, backend=backend, model=_model(about, config))
        _same_training(path, then.training, config.training, training)
        optimizer, random = training.step.state_dict(), torch.get_rng_state()
        file.read(training.model.state_dict(), "model.")
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
    with _opened(path, "checkpoint") as file:
        return dict(file.about["metrics"])


def _quality(evaluation: Evaluation) -> float:
    return -evaluation.log_loss if evaluation.auc is None else evaluation.auc


def _about(kind: str, training: Training) -> dict[str, Any]:
    config, spec, manifest = training.config, training.model.spec, training.dataset.manifest
    return {
        "format": _FORMAT,
        "kind": kind,
        "preset": config.preset,
        "model": as_dict(config.model),
        "training": as_dict(config.training),
        "numerical": spec.numerical,
        "cardinalities": manifest.cardinalities,
        "numeric_rules": [dataclasses.asdict(rule) for rule in spec.numeric_rules],
        "hashes": manifest.hashes,
    }


@contextmanager
def _opened(path: Path, kind: str) -> Iterator[TensorFile]:
    with open_tensors(path) as file:
        found = file.about.get("kind")
        if found != kind:
            raise InputError(f"{path} is no {kind}.", found=found, remedy=f"Name a file that was written as a {kind}.")
        if file.about["format"] != _FORMAT:
            raise InputError(
                f"{path} was written by another version of this program.",
                found=f"format {file.about['format']} instead of {_FORMAT}",
                remedy="Use that version, or train again.",
            )
        yield file


def _same_data(path: Path, then: Mapping[str, str], now: Mapping[str, str], names: tuple[str, ...]) -> None:
    for name in names:
        if then[name] != now[name]:
            raise InputError(
                f"{path} was trained on a data set with another {name}.",
                found=f"{then[name]} in the checkpoint, {now[name]} in the data set",
                remedy="Use the data set it was trained on, or train again.",
            )


def _same_rows(path: Path, about: dict[str, Any], dataset: Dataset) -> None:
    if len(dataset.train) != about["training_rows"]:
        raise InputError(
            f"{path} was written by a run with another number of training rows.",
            found=f"{about['training_rows']:,} then, {len(dataset.train):,} now",
            remedy="Resume with --dataset_subset as it was.",
        )


def _same_training(path: Path, then: TrainingConfig, asked: TrainingConfig, training: Training) -> None:
    """Compares what the two say once nothing is open any more; how the run may be longer does not count."""
    now = training.settings
    then = then.resolved(
        len(training.train),
        device=now.device,
        precision=now.precision if then.precision == "auto" else then.precision,
        execution=now.execution,
    )
    _refuse_change(path, then, now, asked)


def _refuse_change(path: Path, then: Any, now: Any, asked: Any = None) -> None:
    """Raises InputError for the first setting of a section that has changed and must not."""
    for f in dataclasses.fields(now):
        before, after = getattr(then, f.name), getattr(now, f.name)
        if f.name in _MAY_CHANGE or before == after:
            continue
        remedy = f"Resume with --{f.name} as it was, or start a new run with --load_checkpoint_path."
        if asked and getattr(asked, f.name) in (None, "auto"):
            remedy = (
                f"It is left open and follows from other settings, --epochs perhaps, which are not those of the run: "
                f"resume with --{f.name} {as_text(before)}, or with these as they were."
            )
        raise InputError(
            f"--{f.name} has changed since {path} was written, which would not be the same run.",
            found=f"{before} then, {after} now",
            remedy=remedy,
        )


def _config(path: Path, about: dict[str, Any]) -> Config:
    try:
        return Config.without_idle(about["preset"], {**about["model"], **about["training"]})
    except InputError as error:
        raise InputError(
            f"{path} was trained with a configuration that this version does not know.",
            found=str(error).splitlines()[0],
            remedy="Use the version that wrote it, or train again.",
        ) from None


def _model(about: dict[str, Any], config: Config) -> DLRM:
    if "numeric_rules" in about:
        rules = tuple(map(NumericRule.of, about["numeric_rules"]))
    else:  # an earlier version wrote what stands for a missing number, the same in all columns
        (rule,) = (rule for rule in NUMERIC_RULES.values() if rule.missing_number == about["missing_number"])
        rules = (rule,) * about["numerical"]
    spec = FeatureSpec(
        numerical=about["numerical"],
        cardinalities=tuple(about["cardinalities"]),
        numeric_rules=rules,
    )
    return DLRM(spec, config.model)
