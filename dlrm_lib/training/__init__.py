"""Training as a generator of events, evaluation, checkpoints, and runs that go on where they were interrupted."""

from dlrm_lib.training.build import Training, build
from dlrm_lib.training.checkpoint import (
    Results,
    load_checkpoint,
    load_state,
    reached,
    renamed_columns,
    restore_model,
    save_checkpoint,
    save_state,
    state_path,
)
from dlrm_lib.training.compatibility import identity
from dlrm_lib.training.evaluation import Evaluation, evaluate, predict
from dlrm_lib.training.further import Origin, further
from dlrm_lib.training.interruption import stop_on_interrupt
from dlrm_lib.training.loop import Progress, StateDue, fit
from dlrm_lib.training.remarks import remarks
from dlrm_lib.training.save_clock import SaveClock

__all__ = [
    "Evaluation",
    "Origin",
    "Progress",
    "Results",
    "SaveClock",
    "StateDue",
    "Training",
    "build",
    "evaluate",
    "fit",
    "further",
    "identity",
    "load_checkpoint",
    "load_state",
    "predict",
    "reached",
    "remarks",
    "renamed_columns",
    "restore_model",
    "save_checkpoint",
    "save_state",
    "state_path",
    "stop_on_interrupt",
]
