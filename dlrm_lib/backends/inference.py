"""Scoring with a model: the forward pass alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch

from dlrm_lib.dataset import Batch
from dlrm_lib.model import DLRM, Parts

if TYPE_CHECKING:
    from dlrm_lib.backends.backend import Backend


class Inference:
    """A model as a function of a batch, in one precision and without gradients.

    Attributes:
        model: What is asked; its weights may change between calls.
        backend: Where it is.
        precision: fp32, tf32, bf16 or fp16.
    """

    def __init__(
        self,
        model: DLRM,
        backend: Backend,
        precision: str,
        *,
        parts: Parts | None = None,
        lookup: Callable[[torch.Tensor], torch.Tensor] | None = None,
        after: Callable[[], None] = lambda: None,
    ) -> None:
        """
        Args:
            model: On the device.
            backend: Where.
            precision: A resolved one.
            parts: What computes the model's parts in their place.
            lookup: int32 [B, M] or [B, M, L] ids → their vectors [B, M, D], in place of the tables' own.
            after: Called behind each batch.
        """
        self.model, self.backend, self.precision = model, backend, precision
        self._parts, self._lookup, self._after = parts, lookup or model.tables, after

    @torch.inference_mode()
    def __call__(self, batch: Batch) -> torch.Tensor:
        """A batch on the device → the logits of its samples among all rows, float32 [B]."""
        with self.backend.computing_in(self.precision), self.backend.autocast(self.precision):
            logit = self.model.dense(batch.numerical, self._lookup(batch.categorical), self._parts).float()
            logit = self.model.among_all(logit)
        self._after()
        return logit
