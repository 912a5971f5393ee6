"""Loss scaling: fp16 gradients are small, and those below 6e-8 would be lost (Micikevicius et al. 2018)."""

from __future__ import annotations

import torch


class LossScale:
    """The factor that the loss is multiplied by, and its gradients divided by again.

    Fixed, as in NVIDIA's trainer, or dynamic, by the rule of ``torch.amp.GradScaler``: half after an overflow, double
    after 2,000 steps without one.

    Attributes:
        value: The factor; a power of two costs no precision.
    """

    growth_interval = 2000
    highest = 2.0**24  # Beyond, the scaled loss itself would soon leave fp32's exact range without any gain.

    def __init__(self, setting: float | str) -> None:
        """``setting`` is a number above 0, or ``dynamic``."""
        self.dynamic = setting == "dynamic"
        self.value = 2.0**16 if self.dynamic else float(setting)
        self.good_steps = 0

    def update(self, *, overflowed: bool) -> None:
        """Adapts the factor to whether the step's gradients left the range of fp16."""
        if not self.dynamic:
            return
        self.good_steps = 0 if overflowed else self.good_steps + 1
        if overflowed:
            self.value = max(self.value / 2, 1.0)
        elif self.good_steps == self.growth_interval:
            self.value, self.good_steps = min(self.value * 2, self.highest), 0

    def state_dict(self) -> dict[str, torch.Tensor]:
        """What a training that goes on must know."""
        return {
            "value": torch.tensor(self.value, dtype=torch.float64),
            "good_steps": torch.tensor(self.good_steps, dtype=torch.int64),
        }

    def load_state_dict(self, state: dict[str, torch.Tensor]) -> None:
        """Goes on where ``state_dict`` was taken."""
        self.value, self.good_steps = state["value"].item(), int(state["good_steps"])
