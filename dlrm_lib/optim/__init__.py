"""How weights follow their gradients: one class per rule, the learning rate over the steps, and the loss scale.

A rule updates the embedding rows of a batch and nothing else of the tables; beside it stands its dense twin, torch's
optimizer of the same rule, for the layers.
"""

from __future__ import annotations

from dlrm_lib.optim.adagrad import Adagrad, RowwiseAdagrad
from dlrm_lib.optim.adam import Adam
from dlrm_lib.optim.loss_scale import LossScale
from dlrm_lib.optim.optimizer import Optimizer
from dlrm_lib.optim.rows import RowUpdates, TorchRows
from dlrm_lib.optim.schedule import course, decay_start, learning_rate, misfits
from dlrm_lib.optim.sgd import Sgd

# By the names of ``TrainingConfig.optimizer``.
OPTIMIZERS: dict[str, type[Optimizer]] = {
    "sgd": Sgd,
    "adagrad": Adagrad,
    "rowwise_adagrad": RowwiseAdagrad,
    "adam": Adam,
}

__all__ = [
    "OPTIMIZERS",
    "Adagrad",
    "Adam",
    "LossScale",
    "Optimizer",
    "RowUpdates",
    "RowwiseAdagrad",
    "Sgd",
    "TorchRows",
    "course",
    "decay_start",
    "learning_rate",
    "misfits",
]
