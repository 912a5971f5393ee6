"""The one place where benches build what they measure: a model with its first weights, and the step that trains it.

Where there is a data set and a whole configuration, ``dlrm_lib.training.build`` does it, for benches as for anybody.
"""

from __future__ import annotations

from bench.workload import Workload

from dlrm_lib.backends import pick
from dlrm_lib.backends.backend import Backend
from dlrm_lib.backends.step import TrainingStep
from dlrm_lib.model import DLRM

ROWS = 100_000  # of a training, where settings follow from them


def processor() -> Backend:
    """This machine's processor, with as many threads as torch has."""
    return pick("cpu")


def new_model(workload: Workload, backend: Backend, *, seed: int = 0) -> DLRM:
    """A model made where it will be: tables of many gigabytes never pass through the host."""
    backend.seed(seed)
    with backend.torch_device:
        return DLRM(workload.spec, workload.model)


def new_step(workload: Workload, backend: Backend, *, seed: int = 0, model: DLRM | None = None) -> TrainingStep:
    """The fastest step that the backend has for a training, on a new model or the given one.

    Raises:
        InputError: the backend lacks the precision or the execution.
    """
    model = model or new_model(workload, backend, seed=seed)
    return backend.training_step(model, backend.resolved(workload.training, model, ROWS))
