"""Scores of a whole split and what they are worth."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch

from dlrm_lib.dataset import Split, read_ahead
from dlrm_lib.devices import Device
from dlrm_lib.errors import InputError, TrainingDiverged
from dlrm_lib.metrics import LogitTotals, NotANumber, StreamingAuc, auc, entropy, log_loss, normalised_entropy
from dlrm_lib.metrics.on_device import DeviceScores
from dlrm_lib.model import DLRM

# Up to here labels and logits are kept (5 bytes a row, three times as much while they are ranked) and the AUC is exact.
# Beyond, they are counted in bins, whose memory does not grow.
EXACT_ROWS = 20_000_000
# The same where the device ranks them: enough for the 89 million rows of half of Criteo's last day.
EXACT_ROWS_ON_DEVICE = 100_000_000


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Quality on one split after ``step`` training steps.

    Attributes:
        auc: Area under the ROC curve; None when the split has only one class.
        auc_error: By how much ``auc`` may err: 0 up to ``EXACT_ROWS`` rows, or ``EXACT_ROWS_ON_DEVICE``; None when
            ``auc`` is.
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
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """The rows of a split in their order, batch by batch, on the device: label float32 [B], logit float32 [B].

    A logit need not be a number. ``precision`` (fp32, tf32, bf16, fp16) is that of the matrix products.
    """
    was_training = model.training
    model.eval()
    try:
        with contextlib.closing(read_ahead(split, batch_size, put=device.put, workers=device.readers)) as batches:
            for batch in batches:
                with device.autocast(precision):
                    logit = model(batch.numerical, batch.categorical)
                logit = logit.float()
                device.mark_step()
                yield batch.label, logit
    finally:
        model.train(was_training)


def predict(model: DLRM, split: Split, *, batch_size: int, device: Device, precision: str = "fp32") -> np.ndarray:
    """Click probabilities of all rows of a split, in their order, float64 [rows].

    Raises:
        TrainingDiverged: the model gives something that is not a number.
    """
    settings = {"batch_size": batch_size, "device": device, "precision": precision}
    logit = torch.cat([torch.empty(0), *(logit.cpu() for _, logit in scored(model, split, **settings))])
    if logit.isnan().any():
        raise _diverged(split, int(logit.isnan().nonzero()[0]))
    return logit.double().sigmoid().numpy()


def evaluate(
    model: DLRM,
    split: Split,
    *,
    batch_size: int,
    device: Device,
    step: int,
    precision: str = "fp32",
    abandon: Callable[[], bool] = lambda: False,
) -> Evaluation | None:
    """What the model is worth on a split, in bounded memory however many rows it has.

    ``abandon`` is asked after each batch; once it says True there is no evaluation, and None is returned.

    Raises:
        InputError: the split is empty, or has bad values.
        TrainingDiverged: the model gives something that is not a number.
    """
    rows = len(split)
    if not rows:
        raise InputError(f"{split.folder} has no rows to evaluate on.", remedy="Encode more raw rows.")
    on_device = device.ranks_scores and rows <= EXACT_ROWS_ON_DEVICE
    scores = DeviceScores(rows, device.torch_device) if on_device else _HostScores(rows)
    try:
        batches = scored(model, split, batch_size=batch_size, device=device, precision=precision)
        with contextlib.closing(batches):
            for label, logit in batches:
                scores.update(label, logit)
                if abandon():
                    return None
        totals, area, error = scores.result()
    except NotANumber as bad:
        raise _diverged(split, bad.row) from None
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


class _HostScores:
    """As ``DeviceScores``, in the host's memory, for any number of rows; it stops at the first that is not a number."""

    def __init__(self, rows: int) -> None:
        self._totals, self._kept = LogitTotals(), []
        self._streaming = StreamingAuc() if rows > EXACT_ROWS else None

    def update(self, label: torch.Tensor, logit: torch.Tensor) -> None:
        clicked, logits = label.cpu().numpy().astype(bool), logit.cpu().numpy()
        self._totals.update(clicked, logits)
        if self._streaming:
            self._streaming.update(clicked, logits)
        else:
            self._kept.append((clicked, logits))

    def result(self) -> tuple[LogitTotals, float | None, float | None]:
        if self._streaming:
            return self._totals, *self._streaming.result()
        area = auc(*map(np.concatenate, zip(*self._kept, strict=True)))
        return self._totals, area, None if area is None else 0.0


def _diverged(split: Split, row: int) -> TrainingDiverged:
    return TrainingDiverged(
        f"The model's logit for row {row:,} of the {split.name} split is not a number.\n"
        "  remedy: Go back to an earlier checkpoint, and lower --lr or lengthen --warmup_steps."
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
