"""Training as a generator of events, evaluation, checkpoints, and runs that go on where they were interrupted."""

from dlrm_lib.training.checkpoint import Results, load_checkpoint, load_state, save_checkpoint, save_state, state_path
from dlrm_lib.training.coalesced import CoalescedStep
from dlrm_lib.training.evaluation import Evaluation, evaluate, predict
from dlrm_lib.training.fused import FusedStep
from dlrm_lib.training.interruption import stop_on_interrupt
from dlrm_lib.training.loop import Progress, fit, steps_in_all, training_split
from dlrm_lib.training.step import TrainStep
from dlrm_lib.training.train_step import train_step

__all__ = [
    "CoalescedStep",
    "Evaluation",
    "FusedStep",
    "Progress",
    "Results",
    "TrainStep",
    "evaluate",
    "fit",
    "load_checkpoint",
    "load_state",
    "predict",
    "save_checkpoint",
    "save_state",
    "state_path",
    "steps_in_all",
    "stop_on_interrupt",
    "train_step",
    "training_split",
]
