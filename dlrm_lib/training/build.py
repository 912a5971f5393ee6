"""From a configuration and a data set to all that trains: nobody else puts a training together."""

from __future__ import annotations

import dataclasses
import functools
from dataclasses import dataclass
from typing import Any, cast

from dlrm_lib.backends import pick
from dlrm_lib.backends.backend import Backend
from dlrm_lib.backends.inference import Inference
from dlrm_lib.backends.step import Step
from dlrm_lib.config import Config, ResolvedTraining
from dlrm_lib.dataset import Dataset, Split
from dlrm_lib.errors import InputError
from dlrm_lib.model import DLRM
from dlrm_lib.training.needs import check_memory


@dataclass(eq=False)
class Training:
    """A model, what trains it and what it is trained on; ``build`` makes it.

    Attributes:
        config: Resolved: nothing in it is left open.
        dataset: Samples to train on and to judge by.
        train: Those that training passes through: all, or without the last ones that would not fill a batch.
        backend: Where it runs.
        model: On the device.
        step: What trains it, with all that is remembered from step to step.
    """

    config: Config
    dataset: Dataset
    train: Split
    backend: Backend
    model: DLRM
    step: Step[Any]

    @property
    def settings(self) -> ResolvedTraining:
        """How it is trained."""
        return cast(ResolvedTraining, self.config.training)

    @property
    def steps_per_epoch(self) -> int:
        """Steps in one pass over the data."""
        return self.train.steps(self.settings.batch_size)

    @property
    def steps(self) -> int:
        """Steps of the whole training."""
        return self.settings.steps(len(self.train))

    @functools.cached_property
    def inference(self) -> Inference:
        """The model as a function of a batch, as it is at each call, in the precision of the training."""
        return self.backend.inference(self.model, self.settings.precision, self.settings.execution)


def build(config: Config, dataset: Dataset, *, backend: Backend | None = None, model: DLRM | None = None) -> Training:
    """All that trains by a configuration on a data set, ready for its first step.

    Without a ``model`` torch's random numbers are seeded with the configuration's seed and a new one is drawn.

    Args:
        config: Settings, open or resolved.
        dataset: What to train on.
        backend: Where; by default what the configuration says.
        model: To go on with, instead of a new one; it is moved to the device, and goes on with the ``negative_rate`` of
            the data set.

    Raises:
        InputError: this machine or device cannot do what the configuration asks for, or lacks the memory for it, or
            there is nothing to train on.
    """
    config = dataclasses.replace(config, model=config.model.for_rows(len(dataset.train)))
    settings = config.training
    backend = backend or pick(settings.device, settings.execution)
    check_memory(config, dataset, backend, there=model is not None)
    if model is None:
        backend.seed(settings.seed)
        model = DLRM(dataset.spec, config.model, negative_rate=dataset.manifest.negative_rate)
    model.train_among(dataset.manifest.negative_rate)
    model = model.to(backend.torch_device)
    batch_size = settings.batch_size_for(len(dataset.train))
    train = _whole_batches(dataset.train, batch_size, backend)
    resolved = backend.resolved(dataclasses.replace(settings, batch_size=batch_size), model, len(train))
    config = dataclasses.replace(config, training=resolved)
    return Training(config, dataset, train, backend, model, backend.training_step(model, resolved))


def _whole_batches(train: Split, batch_size: int, backend: Backend) -> Split:
    if not len(train):
        raise InputError(f"{train.folder} has no rows to train on.", remedy="Encode more raw rows.")
    if not backend.whole_batches or not len(train) % batch_size:
        return train
    if len(train) < batch_size:
        raise InputError(
            f"{train.folder} does not fill one batch, and {backend.description} trains on whole ones.",
            found=f"{len(train):,} rows, batch_size {batch_size:,}",
            remedy="Lower --batch_size.",
        )
    return train.first(len(train) - len(train) % batch_size)
