"""Training as a generator of events, evaluation, and checkpoints."""

from dlrm_lib.training.checkpoint import load_checkpoint, save_checkpoint
from dlrm_lib.training.evaluation import Evaluation, evaluate, predict
from dlrm_lib.training.loop import Progress, fit

__all__ = ["Evaluation", "Progress", "evaluate", "fit", "load_checkpoint", "predict", "save_checkpoint"]
