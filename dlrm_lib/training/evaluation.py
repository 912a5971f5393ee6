"""Scores of a whole split and what they are worth."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import overload

import numpy as np
import torch

from dlrm_lib.backends.inference import Inference
from dlrm_lib.dataset import Split, read_ahead
from dlrm_lib.errors import InputError, TrainingDiverged
from dlrm_lib.metrics import LogitTotals, NotANumber, StreamingAuc, auc, entropy, normalised_entropy
from dlrm_lib.metrics.on_device import DeviceScores

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
        clicks: Those with label 1; None in what an earlier version has written.
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
    clicks: int | None = None

    @property
    def is_no_better_than_the_base_rate(self) -> bool:
        """Whether predicting the click rate for every row would do as well."""
        return self.normalised_entropy is not None and self.normalised_entropy >= 1

    def reaches(self, auc: float | None) -> bool:
        """Whether its AUC is at least this; never for None, which asks for nothing."""
        return auc is not None and self.auc is not None and self.auc >= auc


@torch.inference_mode()
def scored(
    inference: Inference, split: Split, *, batch_size: int
) -> Generator[tuple[torch.Tensor, torch.Tensor], None, None]:
    """The samples of a split in their order, batch by batch, on the device: label float32 [B], logit float32 [B].

    A logit need not be a number.
    """
    model, backend = inference.model, inference.backend
    was_training = model.training
    model.eval()
    try:
        with contextlib.closing(read_ahead(split, batch_size, put=backend.put, workers=backend.readers)) as batches:
            for batch in batches:
                yield batch.label, inference(batch)
    finally:
        model.train(was_training)


def predict(inference: Inference, split: Split, *, batch_size: int) -> np.ndarray:
    """Click probabilities of all samples of a split, in their order, float64 [rows].

    Raises:
        TrainingDiverged: the model gives something that is not a number.
    """
    scores = scored(inference, split, batch_size=batch_size)
    logit = torch.cat([torch.empty(0), *(logit.cpu() for _, logit in scores)])
    if logit.isnan().any():
        raise _diverged(split, int(logit.isnan().nonzero()[0]))
    return logit.double().sigmoid().numpy()


@overload
def evaluate(inference: Inference, split: Split, *, batch_size: int, step: int = 0) -> Evaluation: ...


@overload
def evaluate(
    inference: Inference, split: Split, *, batch_size: int, step: int = 0, abandon: Callable[[], bool]
) -> Evaluation | None: ...


def evaluate(
    inference: Inference,
    split: Split,
    *,
    batch_size: int,
    step: int = 0,
    abandon: Callable[[], bool] = lambda: False,
) -> Evaluation | None:
    """What a model is worth on a split, in bounded memory however many samples it has.

    Args:
        inference: The model as a function of a batch: of a ``Training``, or made by a backend.
        split: Samples to judge by.
        batch_size: Samples scored at a time.
        step: Training steps that the model has had.
        abandon: Asked after each batch; once it says True there is no evaluation, and None is returned.

    Raises:
        InputError: the split is empty, or has bad values.
        TrainingDiverged: the model gives something that is not a number.
    """
    rows = len(split)
    if not rows:
        raise InputError(f"{split.folder} has no rows to evaluate on.", remedy="Encode more raw rows.")
    backend = inference.backend
    on_device = backend.ranks_scores and rows <= EXACT_ROWS_ON_DEVICE
    scores = DeviceScores(rows, backend.torch_device) if on_device else _HostScores(rows)
    try:
        batches = scored(inference, split, batch_size=batch_size)
        with contextlib.closing(batches):
            for label, logit in batches:
                scores.update(label, logit)
                if abandon():
                    return None
        totals, found, error = scores.result()
    except NotANumber as bad:
        raise _diverged(split, bad.row) from None
    rate, loss = totals.clicks / totals.rows, totals.loss / totals.rows
    return Evaluation(
        step=step,
        split=split.name,
        auc=found,
        auc_error=error,
        log_loss=loss,
        base_log_loss=entropy(rate),
        normalised_entropy=normalised_entropy(loss, rate),
        calibration=totals.probability / totals.clicks if totals.clicks else None,
        rows=totals.rows,
        clicks=totals.clicks,
    )


class _HostScores:
    """As ``DeviceScores``, in the host's memory, for any number of rows; it stops at the first that is not a number."""

    def __init__(self, rows: int) -> None:
        self._totals = LogitTotals()
        self._kept: list[tuple[np.ndarray, np.ndarray]] = []
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
        exact = auc(*map(np.concatenate, zip(*self._kept, strict=True)))
        return self._totals, exact, None if exact is None else 0.0


def _diverged(split: Split, row: int) -> TrainingDiverged:
    return TrainingDiverged(
        f"The model's logit for row {row:,} of the {split.name} split is not a number.\n"
        "  remedy: Go back to an earlier checkpoint, and lower --lr or lengthen --warmup_steps."
    )
