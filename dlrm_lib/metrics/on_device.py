"""The AUC and the likelihood of scores that stay in the memory of the GPU that computed them."""

from __future__ import annotations

import math

import torch
from torch.nn import functional

from dlrm_lib.metrics.likelihood import LARGEST_LOSS, LogitTotals, NotANumber

_ROWS = 1 << 20  # per block of float64


class DeviceScores:
    """The labels and logits of a known number of rows, judged where they are: what ``LogitTotals`` and ``auc`` give.

    It keeps 5 bytes a row. Sorting takes up to 40 more by the sizes of what torch's sort on a GPU allocates: 3.5 GB for
    the 89 million rows of half of Criteo's last day. Only ``result`` waits for the device, so that no batch does. In
    what batches the rows come makes no difference.
    """

    def __init__(self, rows: int, device: torch.device) -> None:
        self.rows = 0
        self._clicked = torch.empty(rows, dtype=torch.bool, device=device)
        self._logit = torch.empty(rows, dtype=torch.float32, device=device)

    def update(self, label: torch.Tensor, logit: torch.Tensor) -> None:
        """Adds rows: labels bool or 0/1 [B], logits [B], compared as float32, infinities allowed.

        Raises:
            ValueError: the lengths differ.
            RuntimeError: more rows than were announced.
        """
        if label.shape != logit.shape or label.ndim != 1:
            raise ValueError(f"labels {label.shape} and logits {logit.shape} must be two vectors of one length")
        self._clicked.narrow(0, self.rows, len(label)).copy_(label)
        self._logit.narrow(0, self.rows, len(logit)).copy_(logit)
        self.rows += len(logit)

    def result(self) -> tuple[LogitTotals, float | None, float | None]:
        """Totals, AUC and by how much it may err, which is 0; None and None if the labels hold one class only.

        Raises:
            NotANumber: a logit is not a number.
        """
        clicked, logit = self._clicked[: self.rows], self._logit[: self.rows]
        loss, probability, clicks = _sums(clicked, logit).tolist()
        if math.isnan(loss):  # an infinite logit costs a finite loss: only one that is not a number does this
            raise NotANumber(int(logit.isnan().nonzero()[0]))
        totals = LogitTotals(self.rows, int(clicks), loss, probability)
        pairs = totals.clicks * (totals.rows - totals.clicks)
        if not pairs:
            return totals, None, None
        return totals, _twice_the_pairs_in_order(clicked, logit) / (2 * pairs), 0.0


def _sums(clicked: torch.Tensor, logit: torch.Tensor) -> torch.Tensor:
    """Of negative log likelihoods, of probabilities and of clicks, float64 [3]."""
    sums = torch.zeros(3, dtype=torch.float64, device=logit.device)
    for y, z in zip(clicked.split(_ROWS), logit.split(_ROWS), strict=True):
        z = z.double()
        losses = -functional.logsigmoid(torch.where(y, z, -z))  # of the logit of what happened
        sums += torch.stack([losses.clamp(max=LARGEST_LOSS).sum(), z.sigmoid().sum(), y.sum()])
    return sums


def _twice_the_pairs_in_order(clicked: torch.Tensor, logit: torch.Tensor) -> int:
    """(click, non-click) pairs whose click has the higher score, counted twice, and those that tie, counted once."""
    positive, negative = logit[clicked], logit[~clicked].sort().values
    below, not_above = (torch.searchsorted(negative, positive, right=right).sum() for right in (False, True))
    return int(below + not_above)  # int64: exact up to 4 billion rows
