"""Noticing that training has gone wrong, at events only: between them no step waits for the device."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from typing import Any

import torch

from dlrm_lib.backends.step import Prepared, Step
from dlrm_lib.dataset import Split
from dlrm_lib.errors import TrainingDiverged
from dlrm_lib.model import DLRM
from dlrm_lib.training.diagnosis import diagnose


class DivergenceMonitor:
    """Raises ``TrainingDiverged`` with a diagnosis when something is wrong.

    A loss has run away when it is ten times that of the first step, and of a model that gives every row 0.5 (ln 2).
    Bad data do not do that: where all labels are inverted the loss starts somewhat higher, and falls.
    """

    RUNAWAY = 10
    # A dynamic loss scale needs 16 overflows to come down from 65,536 to 1; with more in a row no scale helps.
    IDLE_STEPS = 20

    def __init__(self, model: DLRM, step: Step[Any]) -> None:
        self.model, self.step = model, step
        self._first_loss: torch.Tensor | None = None
        self._skipped, self._idle = step.skipped, 0

    def see(self, loss: torch.Tensor, batch: Prepared, lr: float) -> None:
        """Takes note of a step: nothing is computed."""
        self._batch, self._lr = batch, lr
        if self._first_loss is None:
            self._first_loss = loss.clone()

    def check_steps(self, mean_loss: float, steps: int) -> None:
        """Looks at the steps since the last event."""
        done, skipped = self.step.done, self.step.skipped
        if not math.isfinite(mean_loss) or mean_loss > self._limit():
            raise self._diverged(f"The loss is {mean_loss:g} at step {done:,}, the mean since step {done - steps:,}.")
        self._idle = self._idle + steps if skipped - self._skipped == steps else 0
        self._skipped = skipped
        if self._idle >= self.IDLE_STEPS:
            since = done - self._idle
            raise self._diverged(f"No step since step {since:,} has changed the model: all gradients overflowed.")

    def check_weights(self) -> None:
        """Reads all weights once; it needs no memory."""
        # A sum is not finite if one of its terms is not, or if they are so large that nothing can be done with them.
        weights = [tensor for tensor in self.model.state_dict().values() if tensor.is_floating_point()]
        if not torch.stack([weight.sum() for weight in weights]).isfinite().all():
            raise self._diverged(
                f"A weight is no longer finite after step {self.step.done:,}, though the loss still was."
            )

    def check_log_loss(self, log_loss: float, split: Split) -> None:
        """Looks at an evaluation."""
        if log_loss > self._limit():
            what = f"The log loss on the {split.name} split is {log_loss:g} after step {self.step.done:,}."
            raise self._diverged(what, split)

    @contextlib.contextmanager
    def evaluating(self, split: Split) -> Iterator[None]:
        """Adds the diagnosis where an evaluation finds that a score is not a number."""
        try:
            yield
        except TrainingDiverged as error:
            raise self._diverged(str(error).splitlines()[0], split) from None

    def _limit(self) -> float:
        return self.RUNAWAY * max(math.log(2), 0.0 if self._first_loss is None else self._first_loss.item())

    def _diverged(self, what: str, judged: Split | None = None) -> TrainingDiverged:
        return TrainingDiverged(
            diagnose(
                self.model,
                self._batch,
                self.step.row_ids(self._batch),
                what=what,
                lr=self._lr,
                precision=self.step.precision,
                loss_scale=self.step.loss_scale.value if self.step.loss_scale else 1.0,
                skipped=self.step.skipped,
                judged=judged,
            )
        )
