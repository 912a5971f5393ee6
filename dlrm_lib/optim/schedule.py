"""The learning rate: linear warmup, a plateau, polynomial decay; and what of it does not fit a training."""

from __future__ import annotations

from collections.abc import Iterator

from dlrm_lib.config import TrainingConfig

_FLOOR = 1e-7


def learning_rate(step: int, config: TrainingConfig) -> float:
    """The learning rate of a step, counted from 0, by settings of whole steps, as ``for_rows`` gives them.

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
    return int(config.warmup_steps if config.decay_start_step is None else config.decay_start_step)


def misfits(config: TrainingConfig, steps: int, done: int = 0) -> Iterator[str]:
    """What of a schedule does not fit a training, one sentence each.

    Args:
        config: Settings of whole steps, as ``for_rows`` gives them.
        steps: Those of the whole training.
        done: How many of them are behind a run that is resumed.
    """
    if steps <= done:
        return
    if steps < config.warmup_steps:
        yield f"Training ends at step {steps:,}, within the warmup of {config.warmup_steps:,}: lr is never reached."
    if config.interaction_lasso and config.lasso_start_step >= steps:
        yield f"Training ends at step {steps:,}, before interaction_lasso starts at {config.lasso_start_step:,}."
    if not config.decay_steps:
        return
    end = decay_start(config) + config.decay_steps
    if end < steps:
        rest = f"{steps - max(end, done):,} of the {steps - done:,} steps{' left' if done else ''}"
        yield f"The decay ends at step {end:,} of {steps:,}: {rest} have a learning rate of nearly 0."
    last = learning_rate(steps - 1, config)
    if end > steps >= config.warmup_steps and last > config.lr / 10:
        yield f"Training ends at step {steps:,}, long before the decay at {end:,}: it ends with lr {last:.2g}."


def course(config: TrainingConfig, steps: int, done: int) -> str:
    """How the learning rate of a resumed training goes on, in a sentence."""
    if steps <= done:
        return f"All {steps:,} steps are done."
    now, last = (learning_rate(step, config) for step in (done, steps - 1))
    return f"The learning rate goes on at {now:.3g} after step {done:,} and ends at {last:.3g} in step {steps:,}."
