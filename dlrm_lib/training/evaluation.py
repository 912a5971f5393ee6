"""Scores of a whole split and what they are worth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from dlrm_lib.dataset import Split
from dlrm_lib.devices import Device
from dlrm_lib.errors import InputError
from dlrm_lib.metrics import auc, log_loss
from dlrm_lib.model import DLRM


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Quality on one split after ``step`` training steps.

    Attributes:
        auc: Area under the ROC curve, exact; None when the split has only one class.
        log_loss: Mean negative log likelihood in nats.
        base_log_loss: Log loss of the split's own click rate: what a model must beat to know anything.
        rows: Rows evaluated.
    """

    step: int
    split: str
    auc: float | None
    log_loss: float
    base_log_loss: float
    rows: int


@torch.inference_mode()
def predict(model: DLRM, split: Split, *, batch_size: int, device: Device) -> np.ndarray:
    """Click probabilities of all rows of a split, in their order, float64 [rows]."""
    was_training = model.training
    model.eval()
    logits = [model(b.numerical, b.categorical).cpu() for b in map(device.put, split.batches(batch_size))]
    model.train(was_training)
    return torch.sigmoid(torch.cat(logits).double()).numpy()


def evaluate(model: DLRM, split: Split, *, batch_size: int, device: Device, step: int) -> Evaluation:
    """AUC and log loss of the model on a split.

    Raises:
        InputError: the split is empty.
    """
    if not len(split):
        raise InputError(f"{split.folder} has no rows to evaluate on.", remedy="Encode more raw rows.")
    return judge(np.asarray(split.label), predict(model, split, batch_size=batch_size, device=device), split.name, step)


def judge(label: np.ndarray, probability: np.ndarray, split: str, step: int = 0) -> Evaluation:
    """The evaluation of given probabilities, whatever made them: float64 [rows] against bool [rows]."""
    return Evaluation(
        step=step,
        split=split,
        auc=auc(label, probability),
        log_loss=log_loss(label, probability),
        base_log_loss=log_loss(label, np.full(len(label), label.mean())),
        rows=len(label),
    )
