"""One configuration with three faces: notebook parameters, widgets and command-line flags are all made from it.

Field names are NVIDIA's flag names where NVIDIA has the flag. Names are unique over all sections, so that an override
(`{"lr": 2.0}` in a notebook, `--lr 2.0` in a shell) needs no section.
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dlrm_lib.errors import InputError
from dlrm_lib.features import NUMERIC_RULES
from dlrm_lib.settings import Section, as_text, option, parse


@dataclass(frozen=True, kw_only=True)
class SyntheticConfig(Section):
    """Synthetic raw click logs."""

    rows: int = option(1_000_000, "rows in all, spread evenly over the days", at_least=1)
    days: int = option(8, "day files; the last is held out for validation and test", at_least=2)
    data_seed: int = option(2020, "seed of the rows and of the planted signal", at_least=0)


@dataclass(frozen=True, kw_only=True)
class PreprocessConfig(Section):
    """How raw rows become numbers."""

    frequency_limit: int | str | None = option(
        15,
        "values seen fewer times share id 0; 1 keeps every value; 15,3:5 means 5 in column 3; none: root of the "
        "counted rows / 64, but from 2 to 15",
        at_least=1,
    )
    vocabulary_days: str = option(
        "training", "days whose rows are counted for the vocabulary", choices=("training", "all")
    )
    numeric_rule: str = option(
        "log_x_plus_2",
        "log_x_plus_2: log(max(x + 2, 1)) with missing = 0; log_x_plus_3: log(x + 3), missing and x <= -3 become 0.0",
        choices=tuple(NUMERIC_RULES),
    )
    order: str = option("shuffled", "order of the training rows", choices=("shuffled", "input"))
    shuffle_seed: int = option(0, "seed of the order of the training rows", at_least=0)
    holdout_fraction: float = option(
        0.1, "share of the rows held out when there is only one day", at_least=0.0, below=1.0
    )
    max_bad_fraction: float = option(
        0.001, "stop when more than this share of lines is malformed", at_least=0.0, below=1.0
    )
    strict: bool = option(False, "stop at the first malformed line")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.frequency_limit is not None:
            _frequency_limits(self.frequency_limit)

    def for_rows(self, rows: int) -> PreprocessConfig:
        """These settings for a vocabulary counted in so many rows: many need their rare values less than few do."""
        if self.frequency_limit is not None:
            return self
        return dataclasses.replace(self, frequency_limit=min(15, max(2, round(math.sqrt(rows) / 64))))

    def limits(self, columns: int) -> tuple[int, ...]:
        """The frequency limit of each of so many categorical columns.

        Raises:
            InputError: ``frequency_limit`` names a column that is not there.
            ValueError: it is left open; ``for_rows`` settles it.
        """
        if self.frequency_limit is None:
            raise ValueError("frequency_limit is left open")
        general, special = _frequency_limits(self.frequency_limit)
        if beyond := [column for column in special if column >= columns]:
            raise InputError(
                f"--frequency_limit names column {beyond[0]}, but there are {columns} categorical columns.",
                found=self.frequency_limit,
                remedy="Columns are counted from 0.",
                fields=("frequency_limit",),
            )
        return tuple(special.get(column, general) for column in range(columns))


def _frequency_limits(setting: int | str) -> tuple[int, dict[int, int]]:
    """The general limit, and those of columns that have their own: ``15,3:5`` is 15, and 5 in column 3."""
    if isinstance(setting, int):
        return setting, {}
    special: dict[int, int] = {}
    general, *pairs = setting.split(",")
    try:
        for column, limit in (pair.split(":") for pair in pairs):
            if int(column) in special or int(column) < 0:
                raise ValueError
            special[int(column)] = int(limit)
        if min(int(general), *special.values(), 1) < 1:
            raise ValueError
    except ValueError:
        raise InputError(
            "--frequency_limit takes a whole number from 1 on, and after it perhaps limits of single columns.",
            found=setting,
            remedy="15,3:5 means 15, but 5 in column 3; columns are counted from 0, each named once.",
            fields=("frequency_limit",),
        ) from None
    return int(general), special


@dataclass(frozen=True, kw_only=True)
class DataConfig(Section):
    """Which rows a model sees."""

    dataset_subset: float | None = option(
        None, "share of the training rows to use, from the first on; none: all", above=0, at_most=1
    )
    num_numerical_features: int = option(
        13, "numerical columns, where the data set does not say (the 2020 layout, synthetic batches)", at_least=0
    )
    synthetic_dataset: bool = option(False, "random batches instead of a data set, to measure speed")
    synthetic_dataset_table_sizes: tuple[int, ...] = option(
        (100_000,) * 26, "ids of each categorical column of the random batches", at_least=1
    )
    synthetic_dataset_rows: int = option(4 * 10**9, "training rows of the random batches", at_least=1)
    num_indices_per_lookup_fixed: bool = option(
        False,
        "random batches have num_indices_per_lookup ids in every bag, instead of 1 to so many different ones",
    )


@dataclass(frozen=True, kw_only=True)
class ModelConfig(Section):
    """The network. Layer sizes exclude the input, which follows from the data and the interaction."""

    embedding_dim: int = option(16, "length of each embedding vector", at_least=1, usual=(4, 8, 16, 32, 64, 128))
    bottom_mlp_sizes: tuple[int, ...] = option(
        (64, 32, 16), "layers for numerical features; the last is embedding_dim", at_least=1
    )
    top_mlp_sizes: tuple[int, ...] = option((64, 32, 1), "layers after the interaction; the last is 1", at_least=1)
    standardise: bool = option(
        False, "shift and scale each number to mean 0 and deviation 1, as measured on the first training rows"
    )
    flag_missing: bool = option(
        False,
        "an input more for each number: 1 where it is missing, else 0 (log_x_plus_2 cannot tell missing from zero, so "
        "there both are flagged)",
    )
    embedding_init: float | None = option(
        None,
        "embeddings start as random numbers up to this size; none: one over the root of their table's rows",
        at_least=0.0,
    )
    embed_numbers: bool = option(
        False,
        "a vector more for each number, between those of the whole numbers beside it, that meets all others: its "
        "effect need not be smooth",
    )
    linear: bool = option(
        False,
        "the first number of each vector, times the root of their length, is added to the logit, as logistic "
        "regression adds a weight for each value",
    )
    interaction_op: str = option(
        "dot",
        "how features meet: pairwise dot products, concatenation, or the cross layers of DCN-v2",
        choices=("dot", "cat", "dcn"),
    )
    cross_layers: int = option(
        3,
        "with interaction_op dcn, cross layers one after the other",
        at_least=1,
        usual=(1, 2, 3, 4, 5),
        needs={"interaction_op": ("dcn",)},
    )
    cross_rank: int = option(
        64,
        "with interaction_op dcn, columns that each cross layer's matrix is squeezed through",
        at_least=1,
        usual=(8, 16, 32, 64, 128, 256, 512),
        needs={"interaction_op": ("dcn",)},
    )
    self_interaction: bool = option(
        False, "dot products of each vector with itself as well", needs={"interaction_op": ("dot",)}
    )
    num_indices_per_lookup: int = option(
        1, "most ids per categorical feature and row, their embeddings summed", at_least=1
    )
    hash_indices: bool = option(False, "ids modulo the table's size, so that every id has a row")
    max_table_size: int | None = option(
        None, "most rows of an embedding table, needs hash_indices; none: one for every id", at_least=1
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.max_table_size is not None and not self.hash_indices:
            raise InputError(
                "--max_table_size needs --hash_indices: some ids would have no row of their own.",
                found=f"max_table_size {self.max_table_size}",
                remedy="Add --hash_indices, or leave --max_table_size out.",
                fields=("hash_indices", "max_table_size"),
            )
        if self.bottom_mlp_sizes[-1] != self.embedding_dim:
            raise InputError(
                "The bottom MLP must end in a vector as long as an embedding.",
                found=f"bottom_mlp_sizes {as_text(self.bottom_mlp_sizes)}, embedding_dim {self.embedding_dim}",
                remedy=f"End bottom_mlp_sizes in {self.embedding_dim}, or change embedding_dim.",
                fields=("bottom_mlp_sizes", "embedding_dim"),
            )
        if self.top_mlp_sizes[-1] != 1:
            raise InputError(
                "The top MLP must end in one number, the click's logit.",
                found=f"top_mlp_sizes {as_text(self.top_mlp_sizes)}",
                remedy="End top_mlp_sizes in 1.",
                fields=("top_mlp_sizes",),
            )


@dataclass(frozen=True, kw_only=True)
class TrainingConfig(Section):
    """How the network is trained and tested."""

    batch_size: int | None = option(
        2048,
        "training rows per step; none: the power of two next to (rows of a pass)^0.6 / 4",
        at_least=1,
        usual=tuple(2**power for power in range(6, 17)),
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
    lasso_start_step: int = option(
        0,
        "steps before interaction_lasso starts: until the embeddings have learned something, no pair tells anything",
        at_least=0,
        usual=(0, 100, 200, 500, 1000, 2000),
        needs={"interaction_lasso": ()},
    )
    lr: float = option(1.0, "peak learning rate", at_least=0.0, usual=(1e-3, 10.0))
    warmup_factor: int = option(0, "warmup starts at 1 - 1/2^warmup_factor of the peak: 0 starts at zero", at_least=0)
    warmup_steps: int = option(100, "steps of linear warmup", at_least=0, usual=(0, 10, 20, 50, 100, 200, 500, 1000))
    decay_start_step: int | None = option(
        None,
        "first step of the decay; none: right after the warmup",
        at_least=0,
        usual=(0, 20, 50, 100, 200, 500, 1000, 2000),
    )
    decay_steps: int | None = option(
        0,
        "steps of decay to zero; 0: no decay; none: all that are left",
        at_least=0,
        usual=(0, 100, 200, 500, 1000, 2000, 5000, 10_000),
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
    auc_threshold: float | None = option(None, "stop once the validation AUC reaches this", at_least=0.0)
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
        if self.decay_steps != 0 and self.decay_start_step is not None and self.decay_start_step < self.warmup_steps:
            raise InputError(
                "The decay must not start before the warmup ends.",
                found=f"decay_start_step {self.decay_start_step}, warmup_steps {self.warmup_steps}",
                remedy="Raise --decay_start_step or lower --warmup_steps.",
                fields=("warmup_steps", "decay_start_step", "decay_steps"),
            )

    def for_rows(self, rows: int) -> TrainingConfig:
        """These settings for so many training rows: what was left open follows from their number."""
        decay_steps = self.decay_steps
        if decay_steps is None:
            start = self.warmup_steps if self.decay_start_step is None else self.decay_start_step
            decay_steps = max(0, self.steps(rows) - start)
        return dataclasses.replace(self, batch_size=self.batch_size_for(rows), decay_steps=decay_steps)

    def batch_size_for(self, rows: int) -> int:
        """``batch_size``, or where it is left open what follows from the number of training rows.

        The batch grows more slowly than they do: it is 32 for 4,000 rows, 256 for 100,000, 1,024 for a million. So a
        pass takes 130, 390 and 980 steps: with more rows, the network goes further from where it started.
        """
        return self.batch_size or 2 ** max(0, round(math.log2(max(rows, 1) ** 0.6 / 4)))

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
                "decay_start_step": self.warmup_steps if self.decay_start_step is None else self.decay_start_step,
                "test_freq": self.test_freq or max(1, config.steps_per_epoch(rows)),
                "device": device,
                "precision": precision,
                "execution": execution,
            }
        )


@dataclass(frozen=True, kw_only=True)
class ResolvedTraining(TrainingConfig):
    """Settings for one training, with nothing left open that the data or the machine decide.

    Raises:
        ValueError: something is left open; settings are resolved by a backend, not by hand.
    """

    if TYPE_CHECKING:  # a field said again would lose its help and its range
        batch_size: int
        decay_start_step: int
        decay_steps: int
        test_freq: int

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("batch_size", "decay_start_step", "decay_steps", "test_freq"):
            if getattr(self, name) is None:
                raise ValueError(f"{name} is left open")
        for name in ("device", "precision", "execution"):
            if getattr(self, name) == "auto":
                raise ValueError(f"{name} is left open")


@dataclass(frozen=True, kw_only=True)
class InferenceConfig(Section):
    """How the speed of a trained network is measured."""

    inference_benchmark_batch_sizes: tuple[int, ...] = option((1, 64, 4096), "rows per measured batch", at_least=1)
    inference_benchmark_steps: int = option(200, "measured batches of each size", at_least=1)


@dataclass(frozen=True, kw_only=True)
class Config:
    """Everything that decides a result: one section per stage of the pipeline."""

    preset: str = "laptop"
    synthetic: SyntheticConfig = SyntheticConfig()
    preprocess: PreprocessConfig = PreprocessConfig()
    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    training: TrainingConfig = TrainingConfig()
    inference: InferenceConfig = InferenceConfig()

    @classmethod
    def from_preset(cls, preset: str, overrides: Mapping[str, Any] | None = None) -> Config:
        """The named preset with some fields changed.

        Args:
            preset: A key of ``PRESETS``.
            overrides: Field name → value. Strings are parsed (`"64,32,16"` for layer sizes), lists become tuples.

        Raises:
            InputError: unknown preset or field, or a value outside its range; it names the field.
        """
        if preset not in PRESETS:
            raise InputError("There is no such preset.", found=preset, remedy=f"Use one of: {', '.join(PRESETS)}.")
        return cls(preset=preset).override(**PRESETS[preset]).override(**(overrides or {}))

    @classmethod
    def without_idle(cls, preset: str, values: Mapping[str, Any]) -> Config:
        """As ``from_preset``, but values that would do nothing are left out: those an older version wrote down, say.

        Raises:
            InputError: as ``from_preset``.
        """
        together = {**{f.name: f.default for _, f in fields()}, **PRESETS.get(preset, {}), **values}
        useless = idle(together)
        return cls.from_preset(preset, {name: value for name, value in values.items() if name not in useless})

    def override(self, **values: Any) -> Config:
        """A copy with the named fields changed, whichever section they are in.

        Others that would do nothing beside them, as the decay of a preset's Adam does beside SGD, become their default.

        Raises:
            InputError: an unknown field, a value outside its range, or one that would do nothing; it names the field.
        """
        where = {f.name: (section, f) for section, f in fields()}
        for name in values:
            if name not in where:
                raise InputError(
                    "There is no such setting.", found=name, remedy=f"Settings are: {', '.join(sorted(where))}."
                )
        given = {name: parse(where[name][1], value) for name, value in values.items()}
        together = {
            name: given.get(name, getattr(getattr(self, section), name)) for name, (section, _) in where.items()
        }
        for name in (useless := idle(together)):
            if name in given:
                _refuse_idle(where[name][1], together)
        changed: dict[str, dict[str, Any]] = {}
        for name, value in {**given, **{name: where[name][1].default for name in useless}}.items():
            changed.setdefault(where[name][0], {})[name] = value
        return dataclasses.replace(
            self, **{section: dataclasses.replace(getattr(self, section), **v) for section, v in changed.items()}
        )

    def for_rows(self, rows: int) -> Config:
        """The same with the training settings that follow from the number of training rows."""
        return dataclasses.replace(self, training=self.training.for_rows(rows))

    def flags(self, command_sections: Sequence[str]) -> list[str]:
        """The command-line flags for this configuration: its preset, then what differs from it in those sections."""
        preset = Config.from_preset(self.preset)
        changed = [f"--preset={self.preset}"]
        for section, f in fields():
            value = getattr(getattr(self, section), f.name)
            if section in command_sections and value != getattr(getattr(preset, section), f.name):
                off = "no" if value is False else ""
                changed.append(f"--{off}{f.name}" if isinstance(value, bool) else f"--{f.name}={as_text(value)}")
        return changed


PRESETS: dict[str, dict[str, Any]] = {
    # Seconds on any machine: what continuous integration runs. So few rows are read four times.
    "smoke": {
        "rows": 60_000,
        "days": 4,
        "standardise": True,
        "batch_size": 1024,
        "epochs": 4,
        "optimizer": "adam",
        "embedding_epsilon": 2e-4,
        "embedding_decay": 0.5,
        "lr": 0.01,
        "warmup_steps": 10,
        "decay_start_step": 18,
        "decay_steps": 158,
        "execution": "eager",
        "print_freq": 10,
    },
    # Minutes on a laptop: the preset the notebooks are written around. The epsilon is that of a rare row's gradient at
    # this batch size: without it Adam, whose bias correction takes each row for seen at every step, learns such rows by
    # heart, and a second pass makes it worse instead of better. The decay keeps what little they say out of the
    # interaction, the lasso the pairs of columns that say nothing. Validation AUCs, means over seeds: 0.7897 without
    # the decay, 0.7925 with it, 0.7933 with flags and small initial embeddings, 0.7942 with lasso and a fourth pass.
    # The first pass (432 steps) warms up, and the lasso starts behind it: with a warmup of 100 steps, or a lasso that
    # drops pairs whose embeddings have learned nothing yet, some seeds never find one of the planted pairs, mostly one
    # of a number and a category, and stay 0.003 behind.
    "laptop": {
        "standardise": True,
        "flag_missing": True,
        "embedding_init": 0.03,
        "epochs": 4,
        "optimizer": "adam",
        "embedding_epsilon": 2e-4,
        "embedding_decay": 1.0,
        "interaction_lasso": 0.1,
        "lasso_start_step": 432,
        "lr": 0.01,
        "warmup_steps": 432,
        "decay_start_step": 432,
        "decay_steps": 1296,
        "decay_power": 3.0,
        "print_freq": 100,
    },
    # Real Kaggle rows of any number. The fewer there are, the less a network finds beyond logistic regression, so that
    # is part of it (linear); embed_numbers lets each number bend as its column needs. Frequency limit, batch and
    # schedule follow from the rows. Chosen on the validation rows of rolling splits of the first 10,001 rows of the
    # training file and of 4,584 rows from all of it, whose test rows were seen too; the batch at 100,000 rows on
    # synthetic ones.
    "criteo_kaggle": {
        "frequency_limit": None,
        "numeric_rule": "log_x_plus_3",
        "standardise": True,
        "flag_missing": True,
        "embed_numbers": True,
        "linear": True,
        "embedding_init": 0.01,
        "batch_size": None,
        "epochs": 3,
        "optimizer": "adam",
        "embedding_epsilon": 2e-4,
        "embedding_decay": 0.5,
        "lr": 0.005,
        "warmup_steps": 20,
        "decay_steps": None,
        "print_freq": 50,
    },
    # NVIDIA's defaults for Criteo 1TB, and its vocabulary and logarithm rules.
    "criteo_terabyte": {
        "vocabulary_days": "all",
        "numeric_rule": "log_x_plus_3",
        "embedding_dim": 128,
        "bottom_mlp_sizes": (512, 256, 128),
        "top_mlp_sizes": (1024, 1024, 512, 256, 1),
        "batch_size": 32768,
        "lr": 28.0,
        "warmup_steps": 6400,
        "decay_start_step": 64000,
        "decay_steps": 80000,
    },
    # Habana's Medium configuration (HabanaAI/Model-References 4b841ff8, PyTorch/recommendation/dlrm): random rows, to
    # measure speed with. Its fused Adagrad in lazy mode keeps the learning rate it starts with.
    "gaudi_medium": {
        "synthetic_dataset": True,
        "synthetic_dataset_rows": 1_024_000,
        "synthetic_dataset_table_sizes": (3_000_000,),
        "num_numerical_features": 1024,
        "num_indices_per_lookup": 38,
        "embedding_dim": 64,
        "bottom_mlp_sizes": (1024, 1024, 64),
        "top_mlp_sizes": (*(4096,) * 7, 1),
        "interaction_op": "cat",
        "batch_size": 512,
        "test_batch_size": 512,
        "optimizer": "adagrad",
        "lr": 1e-5,
        "warmup_steps": 0,
        "print_freq": 500,
    },
}


def fields() -> list[tuple[str, dataclasses.Field]]:
    """Every setting as (section name, dataclass field), in reading order."""
    sections = [(f.name, f.default) for f in dataclasses.fields(Config) if dataclasses.is_dataclass(f.default)]
    return [(name, f) for name, section in sections for f in dataclasses.fields(section)]


def idle(values: Mapping[str, Any]) -> set[str]:
    """The settings, among all of them by name, whose value is not the default and does nothing beside the others."""
    values, found = dict(values), set()
    defaults = {f.name: f.default for _, f in fields()}
    needing = {f.name: f.metadata["needs"] for _, f in fields() if f.metadata["needs"]}
    for name, needs in itertools.chain(*itertools.repeat(needing.items(), 2)):  # twice: one may need another
        met = all(values[of] in wanted if wanted else values[of] != defaults[of] for of, wanted in needs.items())
        if not met and values[name] != defaults[name]:
            found.add(name)
            values[name] = defaults[name]  # as good as that for those that need it
    return found


def _refuse_idle(f: dataclasses.Field, values: dict[str, Any]) -> None:
    needed = f.metadata["needs"]
    said = [
        f"--{name} {' or '.join(map(as_text, wanted))}" if wanted else f"--{name}" for name, wanted in needed.items()
    ]
    raise InputError(
        f"--{f.name} needs {' and '.join(said)}: it would do nothing.",
        found=", ".join(f"{name} {as_text(values[name])}" for name in (f.name, *needed)),
        remedy=f"Leave --{f.name} out, or change what it needs.",
        fields=(f.name, *needed),
    )


def as_dict(section: Any) -> dict[str, Any]:
    """A configuration or section as JSON-ready values."""
    return json.loads(json.dumps(dataclasses.asdict(section)))


def digest(value: Any) -> str:
    """A short, stable hash of JSON-ready data, used in manifests and checkpoints."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]
