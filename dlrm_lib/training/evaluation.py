"""Scores of a whole split and what they are worth."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from dlrm_lib.dataset import Split
from dlrm_lib.devices import Device
from dlrm_lib.errors import InputError, TrainingDiverged
from dlrm_lib.metrics import LogitTotals, StreamingAuc, auc, entropy, log_loss, normalised_entropy
from dlrm_lib.model import DLRM

# Up to here labels and logits are kept (5 bytes a row, three times as much while they are ranked) and the AUC is exact.
# Beyond, as with the 89 million rows of Criteo's last day, they are counted in bins, whose memory does not grow.
EXACT_ROWS = 20_000_000


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Quality on one split after ``step`` training steps.

    Attributes:
        auc: Area under the ROC curve; None when the split has only one class.
        auc_error: By how much ``auc`` may err: 0 up to ``EXACT_ROWS`` rows; None when ``auc`` is.
        log_loss: Mean negative log likelihood in nats.
        base_log_loss: Log loss of the split's own click rate: what a model must beat to know anything.
        normalised_entropy: ``log_loss / base_log_loss``; None when the split has only one class.
        calibration: Clicks predicted (the sum of probabilities) for each click that happened; None without clicks.
        rows: Rows evaluated.
    """

    step: int
    split: str
    auc: float | None
    auc_error: float | None
    log_loss: float
    base_log_loss: float
    normalised_entropy: float | None
    calibration: float | None
    rows: int


@torch.inference_mode()
def scored(
    model: DLRM, split: Split, *, batch_size: int, device: Device, precision: str = "fp32"
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The rows of a split in their order, batch by batch: label bool [B], logit float32 [B].

    ``precision`` (fp32, bf16, fp16) is that of the matrix products.

    Raises:
        TrainingDiverged: the model gives something that is not a number.
    """
    was_training = model.training
    model.eval()
    rows = 0
    try:
        for batch in split.batches(batch_size):
            there = device.put(batch)
            with device.autocast(precision):
                logit = model(there.numerical, there.categorical).float().cpu().numpy()
            if np.isnan(logit).any():
                row = rows + int(np.isnan(logit).argmax())
                raise TrainingDiverged(
                    f"The model's logit for row {row:,} of the {split.name} split is not a number.\n"
                    "  remedy: Go back to an earlier checkpoint, and lower --lr or lengthen --warmup_steps."
                )
            yield batch.label.numpy().astype(bool), logit
            rows += len(logit)
    finally:
        model.train(was_training)


def predict(model: DLRM, split: Split, *, batch_size: int, device: Device, precision: str = "fp32") -> np.ndarray:
    """Click probabilities of all rows of a split, in their order, float64 [rows].

    Raises:
        TrainingDiverged: the model gives something that is not a number.
    """
    settings = {"batch_size": batch_size, "device": device, "precision": precision}
    logits = [logit for _, logit in scored(model, split, **settings)]
    return torch.sigmoid(torch.from_numpy(np.concatenate([np.empty(0, np.float32), *logits])).double()).numpy()


def evaluate(
    model: DLRM, split: Split, *, batch_size: int, device: Device, step: int, precision: str = "fp32"
) -> Evaluation:
    """What the model is worth on a split, in bounded memory however many rows it has.

    Raises:
        InputError: the split is empty, or has bad values.
        TrainingDiverged: the model gives something that is not a number.
    """
    if not len(split):
        raise InputError(f"{split.folder} has no rows to evaluate on.", remedy="Encode more raw rows.")
    totals, kept = LogitTotals(), []
    streaming = StreamingAuc() if len(split) > EXACT_ROWS else None
    for label, logit in scored(model, split, batch_size=batch_size, device=device, precision=precision):
        totals.update(label, logit)
        if streaming:
            streaming.update(label, logit)
        else:
            kept.append((label, logit))
    if streaming:
        area, error = streaming.result()
    else:
        area = auc(*map(np.concatenate, zip(*kept, strict=True)))
        error = None if area is None else 0.0
    return _evaluation(
        step=step,
        split=split.name,
        rows=totals.rows,
        clicks=totals.clicks,
        loss=totals.loss / totals.rows,
        expected_clicks=totals.probability,
        area=area,
        error=error,
    )


def judge(label: np.ndarray, probability: np.ndarray, split: str, step: int = 0) -> Evaluation:
    """The evaluation of given probabilities, whatever made them: float64 [rows] against bool [rows]."""
    area = auc(label, probability)
    return _evaluation(
        step=step,
        split=split,
        rows=len(label),
        clicks=int(np.count_nonzero(label)),
        loss=log_loss(label, probability),
        expected_clicks=float(np.sum(probability, dtype=np.float64)),
        area=area,
        error=None if area is None else 0.0,
    )


def _evaluation(
    *,
    step: int,
    split: str,
    rows: int,
    clicks: int,
    loss: float,
    expected_clicks: float,
    area: float | None,
    error: float | None,
) -> Evaluation:
    rate = clicks / rows
    return Evaluation(
        step=step,
        split=split,
        auc=area,
        auc_error=error,
        log_loss=loss,
        base_log_loss=entropy(rate),
        normalised_entropy=normalised_entropy(loss, rate),
        calibration=expected_clicks / clicks if clicks else None,
        rows=rows,
    )
