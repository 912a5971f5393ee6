"""The fused optimizer, with what sets it apart from torch's."""

from __future__ import annotations

from habana_frameworks.torch.core.step_closure import mark_step_of
from habana_frameworks.torch.record import record
from habana_frameworks.torch.utils.internal import refuse_unless_lazy

import torch
from torch.optim import Optimizer


class FusedAdagrad(Optimizer):
    """Adagrad, in lazy mode only.

    The learning rate is copied into ``group["lr_t"]`` when the optimizer is made, and read from there: a schedule that
    sets ``group["lr"]`` changes nothing.
    """

    def __init__(self, params, lr=1e-2, lr_decay=0, weight_decay=0, initial_accumulator_value=0, eps=1e-10):
        defaults = {
            "lr": lr,
            "lr_decay": lr_decay,
            "eps": eps,
            "weight_decay": weight_decay,
            "initial_accumulator_value": initial_accumulator_value,
        }
        _refuse_negative(defaults)
        super().__init__(params, defaults)
        for group in self.param_groups:
            for parameter in group["params"]:
                self.state[parameter]["sum"] = torch.full_like(parameter, initial_accumulator_value).detach()
            group["lr_t"] = torch.tensor([lr])
            group["step_t"] = torch.tensor([0], dtype=torch.int32)
        mark_step_of("FusedAdagrad")

    @torch.no_grad()
    def step(self, closure=None):
        """One step; returns None even with a closure.

        Raises:
            RuntimeError: a gradient is sparse, or steps are not lazy.
        """
        if closure is not None:
            with torch.enable_grad():
                closure()
        for group in self.param_groups:
            mark_step_of("FusedAdagrad")
            parameters = _with_dense_gradient(group)
            group["step_t"] += 1
            refuse_unless_lazy("FusedAdagrad")
            rate = group["lr_t"] / (1 + (group["step_t"] - 1) * group["lr_decay"])
            for parameter in parameters:
                gradient = parameter.grad + group["weight_decay"] * parameter
                total = self.state[parameter]["sum"]
                total += gradient * gradient
                parameter -= rate * gradient / (total.sqrt() + group["eps"])
        record("FusedAdagrad.step")


def _refuse_negative(settings: dict[str, float]) -> None:
    for name, value in settings.items():
        if not value >= 0:
            raise ValueError(f"{name} is {value}")


def _with_dense_gradient(group: dict) -> list[torch.nn.Parameter]:
    parameters = [parameter for parameter in group["params"] if parameter.grad is not None]
    if any(parameter.grad.is_sparse for parameter in parameters):
        raise RuntimeError("the fused optimizer takes no sparse gradients")
    return parameters
