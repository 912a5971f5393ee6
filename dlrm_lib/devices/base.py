"""What training asks of a device."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TypeVar

import torch

Batch = TypeVar("Batch", bound=tuple)


class Device(ABC):
    """One processor to train on.

    Attributes:
        torch_device: Where tensors live.
    """

    torch_device: torch.device

    @property
    @abstractmethod
    def description(self) -> str:
        """What a person reads in a record: the processor and how much of it is used."""

    @abstractmethod
    def synchronize(self) -> None:
        """Waits until all work given to the device is done, so that a clock can be read."""

    def seed(self, seed: int) -> None:
        """Makes random numbers drawn by torch repeatable."""
        torch.manual_seed(seed)

    def put(self, batch: Batch) -> Batch:
        """A named tuple of tensors, in the device's memory."""
        return type(batch)(*(tensor.to(self.torch_device, non_blocking=True) for tensor in batch))
