"""Which of the training steps a run takes."""

from __future__ import annotations

from dlrm_lib.config import TrainingConfig
from dlrm_lib.devices import Device
from dlrm_lib.errors import InputError
from dlrm_lib.model import DLRM
from dlrm_lib.model.interaction import DotInteraction
from dlrm_lib.training.coalesced import CoalescedStep
from dlrm_lib.training.fused import FusedStep
from dlrm_lib.training.step import TrainStep


def train_step(model: DLRM, config: TrainingConfig, device: Device) -> TrainStep:
    """The fastest step there is for a model, a configuration and a device.

    Raises:
        InputError: the device does not have the precision or execution, or ``graph`` is asked for where it cannot be.
    """
    if device.coalesces:
        return CoalescedStep(model, config, device)
    execution, obstacle = device.execution(config.execution), _obstacle(model, config)
    if config.execution == "graph" and obstacle:
        raise InputError(
            "--execution graph takes SGD, dot interaction and one id per feature.",
            found=obstacle,
            remedy="Use --execution auto, which then runs the step without a graph.",
        )
    if device.fuses and execution != "eager" and not obstacle:
        return FusedStep(model, config, device, captured=execution == "graph")
    return TrainStep(model, config, device)


def _obstacle(model: DLRM, config: TrainingConfig) -> str | None:
    """What keeps a model from a ``FusedStep``; None if nothing does."""
    if config.optimizer != "sgd":
        return f"optimizer {config.optimizer}"
    if not isinstance(model.interaction, DotInteraction):
        return "interaction cat"
    if model.linear or model.numbers:
        return "linear" if model.linear else "embed_numbers"
    if model.tables.indices_per_lookup > 1:
        return f"{model.tables.indices_per_lookup} ids per feature"
    return None if len(model.tables.sizes) else "no categorical column"
