"""What training, evaluation and measurements ask of whatever runs a model."""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from typing import Any, TypeVar

import torch

from dlrm_lib.backends.inference import Inference
from dlrm_lib.backends.step import Step
from dlrm_lib.config import ResolvedTraining, TrainingConfig
from dlrm_lib.errors import InputError
from dlrm_lib.model import DLRM

AnyBatch = TypeVar("AnyBatch", bound=tuple)

# The type of the numbers in and between the layers.
PRECISIONS = {"fp32": torch.float32, "tf32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class Backend(ABC):
    """One processor with all that runs a model on it.

    A model, a rule and a configuration say what is computed; ``training_step`` and ``inference`` turn them into
    functions that compute it here, each in its own precision, and leave nothing behind in the model or the process.

    Attributes:
        torch_device: Where tensors live.
        readers: Threads that read batches and copy them to the device while it works.
        ranks_scores: It sorts scores faster than the host: they stay there until the AUC is known.
        whole_batches: It trains on batches of whole size only, so that no shape ever changes.
    """

    torch_device: torch.device
    readers: int = 0
    ranks_scores: bool = False
    whole_batches: bool = False

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

    @abstractmethod
    def resolved_precision(self, name: str) -> str:
        """The precision called ``name``: fp32, tf32, bf16, fp16; ``auto`` is the usual one here. Nothing is changed.

        Raises:
            InputError: the device does not have it.
        """

    @property
    def precisions(self) -> tuple[str, ...]:
        """The names of those that it has, from exact to coarse."""
        found = []
        for name in PRECISIONS:
            with contextlib.suppress(InputError):
                found.append(self.resolved_precision(name))
        return tuple(found)

    @abstractmethod
    def resolved_execution(self, name: str) -> str:
        """How a step runs here: eager, compile, graph or lazy; ``auto`` is the fastest there is.

        Raises:
            InputError: the device does not have it.
        """

    @abstractmethod
    def training_step(self, model: DLRM, config: ResolvedTraining) -> Step[Any]:
        """The fastest step there is here for a model, on the device, and a configuration.

        Raises:
            InputError: the device cannot do what the configuration asks for.
        """

    @abstractmethod
    def inference(self, model: DLRM, precision: str = "fp32", execution: str = "eager") -> Inference:
        """The function of a batch that scores with ``model``, on the device, as it is at each call.

        Args:
            model: What is asked.
            precision: As in ``TrainingConfig``.
            execution: As in ``TrainingConfig``.

        Raises:
            InputError: the device does not have the precision or the execution.
        """

    def computing_in(self, precision: str) -> contextlib.AbstractContextManager:
        """What must hold in the process while products are made in a resolved precision, backward passes included."""
        return contextlib.nullcontext()

    def autocast(self, precision: str) -> contextlib.AbstractContextManager:
        """Within it, the forward pass makes matrix products of 16-bit copies if ``precision`` is bf16 or fp16.

        Parameters, embeddings, sums over the batch and the loss stay float32.
        """
        if PRECISIONS[precision] == torch.float32:
            return contextlib.nullcontext()
        return torch.autocast(self.torch_device.type, dtype=PRECISIONS[precision])

    def resolved(self, config: TrainingConfig, model: DLRM, rows: int) -> ResolvedTraining:
        """Settings for training a model on so many samples here, with nothing left open.

        Raises:
            InputError: the device does not have the precision or the execution.
        """
        return config.resolved(
            rows,
            device=self.torch_device.type,
            precision=self.resolved_precision(config.precision),
            execution=self.resolved_execution(config.execution),
        )

    def seed(self, seed: int) -> None:
        """Makes random numbers drawn by torch repeatable."""
        torch.manual_seed(seed)

    def put(self, batch: AnyBatch) -> AnyBatch:
        """A named tuple of tensors, in the device's memory."""
        return type(batch)(*(tensor.to(self.torch_device, non_blocking=True) for tensor in batch))
