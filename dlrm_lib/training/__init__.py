"""Training as a generator of events, evaluation, checkpoints, and runs that go on where they were interrupted."""

from dlrm_lib.training.build import Training, build
from dlrm_lib.training.checkpoint import (
    Results,
    load_checkpoint,
    load_state,
    reached,
    save_checkpoint,
    save_state,
    state_path,
)
from dlrm_lib.training.evaluation import Evaluation, evaluate, predict
from dlrm_lib.training.interruption import stop_on_interrupt
from dlrm_lib.training.loop import Progress, fit

__all__ = [
    "Evaluation",
    "Progress",
    "Results",
    "Training",
    "build",
    "evaluate",
    "fit",
    "load_checkpoint",
    "load_state",
    "predict",
    "reached",
    "save_checkpoint",
    "save_state",
    "state_path",
    "stop_on_interrupt",
]
