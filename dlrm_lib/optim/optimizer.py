"""What every update rule is: an update of embedding rows, its dense twin for the layers, and what both remember."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar

import torch
from torch import nn

from dlrm_lib.config import TrainingConfig
from dlrm_lib.model import DLRM
from dlrm_lib.optim.rows import RowUpdates, TorchRows

Dense = Callable[[list[nn.Parameter]], torch.optim.Optimizer]


class Optimizer(ABC):
    """An update rule with all that it remembers.

    Rows that occur several times in a batch get the sum of their gradients, as if the table had a dense gradient.

    Attributes:
        dense_class: Torch's optimizer of the same rule.
        usual_epsilon: Added to the root that divides a row's step; None where nothing is divided.
        is_linear: An update is the gradient times a factor, so that equal rows need not be found and whole steps can be
            fused.
        is_static: An update never waits for the device, and no shape in it depends on the data.
        weight: float32 [rows of all tables, D], updated in place.
        dense: The layers' optimizer; without layers it does nothing.
        rows: What adds to rows of ``weight``.
        state: Tensors by name, on the device of the tables, that a checkpoint must keep.
    """

    dense_class: ClassVar[Callable[..., torch.optim.Optimizer]]
    usual_epsilon: ClassVar[float | None] = None
    is_linear: ClassVar[bool] = False
    is_static: ClassVar[bool] = True

    def __init__(
        self,
        weight: torch.Tensor,
        layers: Iterable[nn.Parameter] = (),
        *,
        epsilon: float | None = None,
        rows: RowUpdates | None = None,
        dense: Dense | None = None,
    ) -> None:
        """
        Args:
            weight: The tables.
            layers: What the dense twin updates.
            epsilon: Instead of the usual one.
            rows: Code made for the device; plain torch by default.
            dense: Makes the dense twin where a device has one of its own.
        """
        self.weight, self.rows = weight, rows or TorchRows()
        self.epsilon = self.usual_epsilon if epsilon is None else epsilon
        self.dense = (dense or self._dense)(list(layers))
        self.state: dict[str, torch.Tensor] = {}

    @classmethod
    def of(cls, model: DLRM, config: TrainingConfig, **how: Any) -> Optimizer:
        """The rule for a model, with its options from ``config``; ``how`` is ``rows`` and ``dense``."""
        return cls(model.tables.weight, model.parameters(), epsilon=config.embedding_epsilon, **how)

    def update_layers(self, lr: float, step: int) -> None:
        """One update by the gradients at the layers, in the training's step of that number, from 1."""
        for group in self.dense.param_groups:
            group["lr"] = lr
        self.dense.step()

    def update_rows(self, row_ids: torch.Tensor, gradient: torch.Tensor, lr: float) -> None:
        """One update of the rows int64 [K] by their gradients float32 [K, D]; rows may repeat."""
        self.update_distinct_rows(*self.rows.sum_rows(self.weight, row_ids, gradient), lr)

    @abstractmethod
    def update_distinct_rows(self, rows: torch.Tensor, gradient: torch.Tensor, lr: float) -> None:
        """As ``update_rows``, where each row occurs once; it may overwrite the gradient."""

    def begin_rows(self, rows: torch.Tensor) -> None:
        """Begins with rows int64 [K] that were not there before: nothing is remembered of them."""
        for of_rows in self.state.values():
            if of_rows.dim():
                of_rows.index_fill_(0, rows, 0)

    def bytes_kept(self) -> int:
        """What all that it remembers takes, also of a model on the device ``meta``, where nothing is there."""
        return _bytes(self.state) + self.bytes_kept_of_layers()

    def bytes_kept_of_layers(self) -> int:
        """The dense twin's part of it."""
        return sum(map(_bytes, self.dense.state.values()))

    def _dense(self, parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
        """The dense twin, its state there from the start, so that it can be read before the first step."""
        # As a group: torch refuses an empty list of parameters, but not an empty group.
        return self.dense_class([{"params": parameters}], lr=0.0, fused=not self.weight.is_meta)


def _bytes(state: Mapping[str, Any]) -> int:
    tensors = [value for value in state.values() if isinstance(value, torch.Tensor)]
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
