"""Settings of the rows: how synthetic ones are made, how raw ones are encoded, which of them a model sees."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

from dlrm_lib.errors import InputError
from dlrm_lib.numeric_rules import NUMERIC_RULES
from dlrm_lib.settings import Section, option

# Below so many training rows a network learns most of what it knows about single values, not about pairs of them: there
# it gains from being told more about each.
FEW_ROWS = 500_000


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
