"""Settings of training and measuring: open ones, and those of one training, where nothing is open any more."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dlrm_lib.config.data import FEW_ROWS
from dlrm_lib.errors import InputError
from dlrm_lib.settings import Section, option

_FEW_ROWS_FACTOR, _MANY_ROWS_FACTOR = 0.25, 0.5
_MOST_BATCH = 32_768  # NVIDIA's for the four billion rows of Criteo's 24 days
# The settings that count steps, or give a share of all of them.
STEPS = ("warmup_steps", "decay_start_step", "decay_steps", "lasso_start_step")
_SHARE = "or below 1 their share of the whole training"
_SHARES = (0, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9)


@dataclass(frozen=True, kw_only=True)
class TrainingConfig(Section):
    """How the network is trained and tested."""

    batch_size: int | None = option(
        2048,
        "training rows per step; none: the power of two next to batch_factor * (rows of a pass)^0.6, up to "
        f"{_MOST_BATCH:,}",
        at_least=1,
        usual=tuple(2**power for power in range(6, 17)),
    )
    batch_factor: float | None = option(
        0.25,
        f"how large a batch_size is that follows from the rows; none: {_FEW_ROWS_FACTOR} for fewer than {FEW_ROWS:,}, "
        f"else {_MANY_ROWS_FACTOR}",
        above=0,
        needs={"batch_size": (None,)},
    )
    test_batch_size: int = option(32768, "rows per evaluation batch", at_least=1)
    epochs: int = option(1, "passes over the training rows", at_least=0, usual=(1, 2, 3, 4, 5, 6, 8, 10))
    max_steps: int | None = option(None, "stop after this many steps", at_least=1)
    optimizer: str = option(
        "sgd",
        "update rule of the MLPs and the embeddings; row-wise Adagrad keeps one number per embedding row",
        choices=("sgd", "adagrad", "rowwise_adagrad", "adam"),
    )
    embedding_epsilon: float | None = option(
        None,
        "added to the root that divides an embedding row's step (not SGD): the larger, the smaller the steps of rare "
        "rows; none: 1e-10 for Adagrad, 1e-8 for Adam",
        above=0,
        usual=(1e-8, 1e-2),
        needs={"optimizer": ("adagrad", "rowwise_adagrad", "adam")},
    )
    embedding_decay: float = option(
        0.0,
        "with Adam, before its step an embedding row shrinks by lr * embedding_decay * (steps since it was last "
        "seen)^2, by half at most: rare rows stay small",
        at_least=0.0,
        usual=(0.01, 10.0),
        needs={"optimizer": ("adam",)},
    )
    interaction_lasso: float = option(
        0.0,
        "with Adam, after its step the top MLP's weights of each dot product shrink together by lr * interaction_lasso "
        "* root of the first layer's outputs, down to zero: pairs of features that tell nothing drop out",
        at_least=0.0,
        usual=(0.005, 0.2),
        needs={"optimizer": ("adam",), "interaction_op": ("dot",)},
    )
    lasso_start_step: int | float = option(
        0,
        f"steps before interaction_lasso starts, {_SHARE}: until the embeddings have learned something, no pair tells "
        "anything",
        at_least=0,
        usual=_SHARES,
        needs={"interaction_lasso": ()},
    )
    lr: float = option(1.0, "peak learning rate", at_least=0.0, usual=(1e-3, 10.0))
    warmup_factor: int = option(0, "warmup starts at 1 - 1/2^warmup_factor of the peak: 0 starts at zero", at_least=0)
    warmup_steps: int | float = option(100, f"steps of linear warmup, {_SHARE}", at_least=0, usual=_SHARES)
    decay_start_step: int | float | None = option(
        None, f"first step of the decay, {_SHARE}; none: right after the warmup", at_least=0, usual=_SHARES
    )
    decay_steps: int | float | None = option(
        0, f"steps of decay to zero, {_SHARE}; 0: no decay; none: all that are left", at_least=0, usual=_SHARES
    )
    decay_power: float = option(
        2.0,
        "the decay is the share of decay_steps that is left, to this power: the larger, the longer small rates last",
        above=0,
        usual=(1.0, 4.0),
    )
    precision: str = option(
        "auto",
        "numbers of the MLPs and the interaction (embeddings stay fp32); auto: the device's own choice",
        choices=("auto", "fp32", "tf32", "bf16", "fp16"),
    )
    loss_scale: float | str = option(
        8192.0, "with fp16, what the loss is multiplied by; dynamic: found while training", above=0, words=("dynamic",)
    )
    execution: str = option(
        "auto",
        "eager: one operation after the other; compile: kernels compiled for this machine; graph: those, and the whole "
        "step as one CUDA graph; lazy: operations collected and compiled in pieces, on a Gaudi, and eager on the CPU; "
        "auto: the fastest, and on a Gaudi compile",
        choices=("auto", "eager", "compile", "graph", "lazy"),
    )
    deterministic: bool = option(
        False, "add up embedding gradients in a fixed order on a GPU too, so that a run can be repeated to the bit"
    )
    shuffle_batch_order: bool = option(False, "visit the training batches in a random order, a new one each epoch")
    shuffle_rows: bool = option(False, "visit the training rows in a random order, a new one each epoch")
    seed: int = option(12345, "seed of the initial weights and of the order of batches and rows", at_least=0)
    print_freq: int = option(200, "steps between progress lines", at_least=1)
    test_freq: int | None = option(None, "steps between evaluations; none: after each epoch", at_least=1)
    test_after: float = option(0.0, "no evaluation before this many epochs", at_least=0.0)
    auc_threshold: float | None = option(None, "stop once the validation AUC reaches this", above=0, at_most=1)
    benchmark_warmup_steps: int = option(0, "first steps that speeds leave out", at_least=0)
    preload_batches: int | None = option(
        None,
        "train on the first so many batches again and again, held on the device, so that speeds leave out reading",
        at_least=1,
    )
    device: str = option("auto", "where to train", choices=("auto", "cpu", "cuda", "hpu"))

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.shuffle_rows and self.shuffle_batch_order:
            raise InputError(
                "--shuffle_rows and --shuffle_batch_order exclude each other.",
                found="both",
                remedy="Rows in a random order need no random order of the batches: leave one out.",
                fields=("shuffle_rows", "shuffle_batch_order"),
            )
        start, warmup = self.decay_start_step, self.warmup_steps
        # A share and a number of steps can be compared in ``for_steps`` only.
        if self.decay_steps != 0 and start is not None and start < warmup and (not start or _alike(start, warmup)):
            raise InputError(
                "The decay must not start before the warmup ends.",
                found=f"decay_start_step {start}, warmup_steps {warmup}",
                remedy="Raise --decay_start_step or lower --warmup_steps.",
                fields=("warmup_steps", "decay_start_step", "decay_steps"),
            )

    def for_rows(self, rows: int) -> TrainingConfig:
        """These settings for so many training rows: what was left open or is a share becomes a number of its own."""
        batch_size, usual = self.batch_size_for(rows), TrainingConfig.batch_factor
        return dataclasses.replace(self, batch_size=batch_size, batch_factor=usual).for_steps(self.steps(rows))

    def for_steps(self, steps: int) -> TrainingConfig:
        """These settings for a training of so many steps: shares of it, and a decay left open, become whole steps.

        The start of the decay waits for the end of the warmup, where one is a share and the other is not.
        """
        found = {name: in_steps(getattr(self, name), steps) for name in STEPS}
        warmup, start = found["warmup_steps"], found["decay_start_step"]
        if start is not None:
            start = found["decay_start_step"] = max(start, warmup)
        if found["decay_steps"] is None:
            found["decay_steps"] = max(0, steps - (warmup if start is None else start))
        return dataclasses.replace(self, **found)

    def batch_size_for(self, rows: int) -> int:
        """``batch_size``, or where it is left open what follows from the number of training rows.

        The batch grows more slowly than they do: with a ``batch_factor`` of 0.25 it is 32 for 4,000 rows, 256 for
        100,000, 1,024 for a million. So a pass takes 130, 390 and 980 steps: with more rows, the network goes further
        from where it started.
        """
        factor = self.batch_factor or (_FEW_ROWS_FACTOR if rows < FEW_ROWS else _MANY_ROWS_FACTOR)
        fitting = 2 ** max(0, round(math.log2(factor * max(rows, 1) ** 0.6)))
        return self.batch_size or min(fitting, _MOST_BATCH)

    def steps_per_epoch(self, rows: int) -> int:
        """Steps of one pass over so many samples."""
        return -(-rows // self.batch_size_for(rows))

    def steps(self, rows: int) -> int:
        """Steps of a whole training on so many samples."""
        of_all_epochs = self.epochs * self.steps_per_epoch(rows)
        return min(of_all_epochs, self.max_steps or of_all_epochs)

    def resolved(self, rows: int, *, device: str, precision: str, execution: str) -> ResolvedTraining:
        """These settings for training on so many samples on a device that says what ``auto`` means there."""
        config = self.for_rows(rows)
        values = {f.name: getattr(config, f.name) for f in dataclasses.fields(config)}
        return ResolvedTraining(
            **{
                **values,
                "decay_start_step": config.warmup_steps if config.decay_start_step is None else config.decay_start_step,
                "test_freq": self.test_freq or max(1, config.steps_per_epoch(rows)),
                "device": device,
                "precision": precision,
                "execution": execution,
            }
        )


def _is_share(steps: int | float | None) -> bool:
    return steps is not None and 0 < steps < 1


def _alike(one: int | float, other: int | float) -> bool:
    return _is_share(one) == _is_share(other)


def in_steps(setting: int | float | None, steps: int) -> Any:
    """One of ``STEPS`` in steps of a training of so many: a share of it comes to one step at least."""
    return max(1, round(setting * steps)) if setting is not None and _is_share(setting) else setting


@dataclass(frozen=True, kw_only=True)
class ResolvedTraining(TrainingConfig):
    """Settings for one training, with nothing left open that the data or the machine decide.

    Raises:
        ValueError: something is left open; settings are resolved by a backend, not by hand.
    """

    if TYPE_CHECKING:  # a field said again would lose its help and its range
        batch_size: int
        warmup_steps: int
        decay_start_step: int
        decay_steps: int
        lasso_start_step: int
        test_freq: int

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("batch_size", "decay_start_step", "decay_steps", "test_freq"):
            if getattr(self, name) is None:
                raise ValueError(f"{name} is left open")
        for name in STEPS:
            if _is_share(getattr(self, name)):
                raise ValueError(f"{name} is still a share")
        for name in ("device", "precision", "execution"):
            if getattr(self, name) == "auto":
                raise ValueError(f"{name} is left open")


@dataclass(frozen=True, kw_only=True)
class InferenceConfig(Section):
    """How the speed of a trained network is measured."""

    inference_benchmark_batch_sizes: tuple[int, ...] = option((1, 64, 4096), "rows per measured batch", at_least=1)
    inference_benchmark_steps: int = option(200, "measured batches of each size", at_least=1)
