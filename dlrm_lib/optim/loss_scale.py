"""Loss scaling: fp16 gradients are small, and those below 6e-8 would be lost (Micikevicius et al. 2018)."""

from __future__ import annotations

import torch


class LossScale:
    """The factor that the loss is multiplied by, and its gradients divided by again.

    Fixed, as in NVIDIA's trainer, or dynamic, by the rule of ``torch.amp.GradScaler``: half after an overflow, double
    after 2,000 steps without one. All of it is kept and computed on the device, so that a step need not wait for it.

    Attributes:
        scale: The factor, float32 scalar; a power of two costs no precision.
        good_steps: Steps without overflow since the scale last changed, int64 scalar; counted if it is dynamic.
        skipped: Steps that overflowed, int64 scalar.
    """

    growth_interval = 2000
    highest = 2.0**24  # Beyond, the scaled loss itself would soon leave fp32's exact range without any gain.

    def __init__(self, setting: float | str, device: torch.device | None = None) -> None:
        """``setting`` is a number above 0, or ``dynamic``."""
        self.dynamic = setting == "dynamic"
        self.scale = torch.tensor(2.0**16 if self.dynamic else float(setting), device=device)
        self.good_steps, self.skipped = torch.zeros(2, dtype=torch.int64, device=device).unbind()

    @property
    def value(self) -> float:
        """The factor as a number; reading it waits for the device."""
        return self.scale.item()

    def update(self, overflow: torch.Tensor) -> None:
        """Counts a step, and adapts the factor: ``overflow`` is above 0 if its gradients left the range of fp16."""
        overflowed = overflow > 0
        self.skipped += overflowed
        if not self.dynamic:
            return
        self.good_steps += 1
        grows = (self.good_steps >= self.growth_interval) & ~overflowed
        self.scale.mul_(1.0 + 1.0 * grows - 0.5 * overflowed).clamp_(1.0, self.highest)
        self.good_steps.masked_fill_(overflowed | grows, 0)

    def state_dict(self) -> dict[str, torch.Tensor]:
        """What a training that goes on must know: the tensors themselves."""
        return {"scale": self.scale, "good_steps": self.good_steps, "skipped": self.skipped}
