"""The learning rate: linear warmup, a plateau, polynomial decay."""

from __future__ import annotations

from dlrm_lib.config import TrainingConfig

_FLOOR = 1e-7


def learning_rate(step: int, config: TrainingConfig) -> float:
    """The learning rate of a step, counted from 0.

    As in NVIDIA's DLRM (``lr_step`` of its 2020 release): after the warmup's first ``step + 1`` of ``warmup_steps``
    steps the rate has covered that share of the way to ``lr``; the decay is polynomial, there always of power 2, and
    stops at 1e-7.

    Example:
        >>> config = TrainingConfig(lr=1.0, warmup_steps=4, decay_start_step=6, decay_steps=4)
        >>> [learning_rate(step, config) for step in range(8)]
        [0.25, 0.5, 0.75, 1.0, 1.0, 1.0, 0.5625, 0.25]
    """
    done = step + 1
    decayed = done - decay_start(config)
    if config.decay_steps and decayed > 0:
        left = max(config.decay_steps - decayed, 0) / config.decay_steps
        return max(config.lr * left**config.decay_power, _FLOOR)
    if done < config.warmup_steps:
        return config.lr * (1 - (1 - done / config.warmup_steps) / 2**config.warmup_factor)
    return config.lr


def decay_start(config: TrainingConfig) -> int:
    """Steps before the decay: ``decay_start_step``, or the warmup when that is not set."""
    return config.warmup_steps if config.decay_start_step is None else config.decay_start_step
