"""The one place where benches build what they measure: a model with its first weights on a device, and its step."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from bench.workload import Workload

from dlrm_lib.config import TrainingConfig
from dlrm_lib.devices import Device, pick
from dlrm_lib.model import DLRM
from dlrm_lib.training import TrainStep, train_step


@dataclass(frozen=True, kw_only=True)
class Built:
    """A fresh model where it trains or answers.

    Attributes:
        device: Where it is.
        model: With its first weights.
        training: How to train it.
    """

    device: Device
    model: DLRM
    training: TrainingConfig

    def step(self) -> TrainStep:
        """A step of the training, the fastest that the device has for it.

        Raises:
            InputError: the device lacks the precision or the execution.
        """
        return train_step(self.model, self.training, self.device)

    def for_inference(self) -> DLRM:
        """The model, run by the fastest code that the device has for it."""
        self.model.use_kernels(self.device, self.training.execution)
        return self.model


def processor() -> Device:
    """This machine's processor, with as many threads as torch has."""
    return pick("cpu")


def build(workload: Workload, device: Device, *, seed: int = 0) -> Built:
    """A model of its own, made where it will be: tables of many gigabytes never pass through the host."""
    device.seed(seed)
    with torch.device(device.torch_device):
        model = DLRM(workload.spec, workload.model)
    return Built(device=device, model=model, training=workload.training)
