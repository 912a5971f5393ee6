"""Recording a step once and replaying it: the host then starts one thing per step instead of hundreds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, Protocol

import torch

from dlrm_lib.backends.backend import AnyBatch


class Recorder(Protocol):
    """What can record; ``cuda.backend`` has the one that makes CUDA graphs."""

    def aside(self, function: Callable[[], torch.Tensor]) -> torch.Tensor:
        """Runs a function in the way that recording will need, and returns its result."""

    def record(self, function: Callable[[], torch.Tensor]) -> tuple[Callable[[], None], torch.Tensor]:
        """Records a function without running it: what replays it, and the tensor that a replay leaves its result in."""


class Captured(Generic[AnyBatch]):
    """A function of a batch, recorded after a few calls; from then on its calls replay the recording.

    The recording holds addresses, not values: a batch is copied into the one that it was recorded with, and whatever
    else changes from call to call must lie in tensors that stay. The calls before the recording are real ones, of other
    batches: they compile, choose algorithms and fill caches, which must not happen while recording.

    All batches must have the same shapes.
    """

    calls_before = 3

    def __init__(self, function: Callable[[AnyBatch], torch.Tensor], recorder: Recorder) -> None:
        self._function, self._recorder = function, recorder
        self._calls = 0
        self._replay: Callable[[], None] | None = None

    def __call__(self, batch: AnyBatch) -> torch.Tensor:
        """The function's result for ``batch``, a named tuple of tensors."""
        if self._calls < self.calls_before:
            self._calls += 1
            return self._recorder.aside(lambda: self._function(batch))
        if self._replay is None:
            self._batch = type(batch)(*(tensor.clone() for tensor in batch))
            self._replay, self._result = self._recorder.record(lambda: self._function(self._batch))
        for place, tensor in zip(self._batch, batch, strict=True):
            place.copy_(tensor)
        self._replay()
        return self._result.clone()
