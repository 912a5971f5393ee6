"""What training asks of a device."""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import NamedTuple, Protocol, TypeVar

import torch
from torch import nn

Batch = TypeVar("Batch", bound=tuple)

PRECISIONS = {"fp32": torch.float32, "tf32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class ModelShape(NamedTuple):
    """What kernels must know of a model.

    Attributes:
        dim: D, the length of an embedding.
        vectors: F, how many vectors meet in the interaction.
        self_interaction: Each also with itself.
        sizes: Rows of each table.
    """

    dim: int
    vectors: int
    self_interaction: bool
    sizes: tuple[int, ...]


class Kernels(Protocol):
    """Code made for a device and one shape of model; see ``kernels.cpu.CpuKernels`` for what each does.

    Attributes:
        lookup: (tables' weight, int32 ids [B, M]) → their rows [B, M, D] as the layers take them; None where plain
            torch is as good.
    """

    lookup: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] | None

    def interact(self, bottom: torch.Tensor | None, rows: torch.Tensor, width: int) -> torch.Tensor: ...

    def add_rows(self, weight: torch.Tensor, row_ids: torch.Tensor, gradient: torch.Tensor, scale: float) -> None: ...

    def sum_rows(
        self, weight: torch.Tensor, row_ids: torch.Tensor, gradient: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]: ...


class Device(ABC):
    """One processor to train on.

    Attributes:
        torch_device: Where tensors live.
        readers: Threads that read batches and copy them to the device while it works.
        ranks_scores: It sorts scores faster than the host: they stay there until the AUC is known.
        fuses: Its kernels cover a whole step of SGD.
        coalesces: It wants batches of whole size whose rows are coalesced on the host, so that no shape ever changes.
        sums_bags: torch's ``embedding_bag`` runs on it.
        adagrad_keeps_lr: What ``adagrad`` makes never looks at its learning rate again.
    """

    torch_device: torch.device
    readers: int
    ranks_scores: bool = False
    fuses = False
    coalesces = False
    sums_bags = True
    adagrad_keeps_lr = False

    @property
    @abstractmethod
    def description(self) -> str:
        """What a person reads in a record: the processor and how much of it is used."""

    @abstractmethod
    def synchronize(self) -> None:
        """Waits until all work given to the device is done, so that a clock can be read."""

    def free_memory(self) -> int | None:
        """Bytes that new tensors can take now; None where nobody says."""
        return None

    def mark_step(self) -> None:  # noqa: B027
        """Where operations are recorded first, has those up to here compiled and run; calls elsewhere run as they are.

        A training step calls it after the backward pass and after the update, an evaluation after each batch.
        """

    @abstractmethod
    def precision(self, name: str) -> str:
        """The precision of matrix products called ``name``: fp32, tf32, bf16, fp16; ``auto`` is the device's usual one.

        Raises:
            InputError: the device does not have it.
        """

    @abstractmethod
    def execution(self, name: str) -> str:
        """How a step runs here: eager, compile, graph or lazy; ``auto`` is the fastest there is.

        Raises:
            InputError: the device does not have it.
        """

    @abstractmethod
    def kernels(self, execution: str, shape: ModelShape) -> Kernels | None:
        """Code made for this device and a model of this shape; None if it is to run, or must run, without."""

    def compiled(self, mlp: nn.Module, execution: str) -> Callable[[torch.Tensor], torch.Tensor]:
        """The layers in the form that trains fastest on batches of one size; the same weights."""
        return mlp

    def for_inference(self, mlp: nn.Sequential, execution: str) -> Callable[[torch.Tensor], torch.Tensor]:
        """The layers in the form that answers fastest on batches of any size; the same weights."""
        return mlp

    def adagrad(self, parameters: list[nn.Parameter], lr: float) -> torch.optim.Optimizer:
        """Adagrad for a few large parameters, on a device that ``coalesces``."""
        return torch.optim.Adagrad(parameters, lr=lr, foreach=False)

    def captured(self, function: Callable[[Batch], torch.Tensor]) -> Callable[[Batch], torch.Tensor]:
        """A function of a batch that is recorded and replayed, where a device can: it must not wait for the device."""
        raise NotImplementedError(f"{self.description} cannot record steps")

    def autocast(self, precision: str) -> contextlib.AbstractContextManager:
        """Within it, matrix products take 16-bit copies of their inputs if ``precision`` is bf16 or fp16.

        Parameters, embeddings, sums over the batch and the loss stay float32.
        """
        if PRECISIONS[precision] == torch.float32:
            return contextlib.nullcontext()
        return torch.autocast(self.torch_device.type, dtype=PRECISIONS[precision])

    def seed(self, seed: int) -> None:
        """Makes random numbers drawn by torch repeatable."""
        torch.manual_seed(seed)

    def put(self, batch: Batch) -> Batch:
        """A named tuple of tensors, in the device's memory."""
        return type(batch)(*(tensor.to(self.torch_device, non_blocking=True) for tensor in batch))
