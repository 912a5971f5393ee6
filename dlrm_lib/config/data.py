"""Settings of the rows: how synthetic ones are made, how raw ones are encoded, which of them a model sees."""

from __future__ import annotations

import dataclasses
import difflib
import math
import re
from collections.abc import Sequence
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
        "values seen fewer times share id 0; 1 keeps every value; 15,shop:5 means 5 in column shop, which may also be "
        "given by its number from 0; none: root of the counted rows / 64, but from 2 to 15",
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
    separate_missing: bool = option(False, "missing tokens get id 1 for themselves; id 0 then is rare or unseen")
    order: str = option("shuffled", "order of the training rows", choices=("shuffled", "input"))
    shuffle_seed: int = option(
        0, "seed of the order of the training rows, and of which of them negative_rate keeps", at_least=0
    )
    negative_rate: float = option(
        1.0,
        "share of the training rows without a click that is kept; predictions are corrected to all rows",
        above=0.0,
        at_most=1.0,
    )
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

    def limits(self, columns: Sequence[str]) -> tuple[int, ...]:
        """The frequency limit of each of these categorical columns.

        A column is meant by its name, or by its number from 0. Where columns have whole numbers for names, a number is
        always a name: else the same digits would mean one column or another.

        Raises:
            InputError: ``frequency_limit`` names a column that is not there, or one twice.
            ValueError: it is left open; ``for_rows`` settles it.
        """
        if self.frequency_limit is None:
            raise ValueError("frequency_limit is left open")
        general, special = _frequency_limits(self.frequency_limit)
        numbers = {} if any(map(str.isdecimal, columns)) else {str(j): name for j, name in enumerate(columns)}
        of_column: dict[str, int] = {}
        for said, limit in special.items():
            name = numbers.get(said, said)
            if name not in columns:
                raise _no_such_column(said, self.frequency_limit, columns, counted=bool(numbers))
            if name in of_column:
                raise _no_limits(self.frequency_limit)
            of_column[name] = limit
        return tuple(of_column.get(name, general) for name in columns)


# A name may hold commas and colons: a limit ends where a comma or nothing follows its digits.
_LIMIT_OF_A_COLUMN = re.compile(r",(.+?):\s*([0-9]+)\s*(?=,|$)")


def _frequency_limits(setting: int | str) -> tuple[int, dict[str, int]]:
    """The general limit, and those of columns that have their own: ``15,shop:5`` is 15, and 5 in column shop."""
    if isinstance(setting, int):
        return setting, {}
    general, comma, rest = setting.partition(",")
    pairs = list(_LIMIT_OF_A_COLUMN.finditer(comma + rest))
    special = {pair[1].strip(): int(pair[2]) for pair in pairs}
    all_read = sum(len(pair[0]) for pair in pairs) == len(comma + rest) and len(special) == len(pairs)
    if not all_read or not re.fullmatch("[0-9]+", general.strip()) or min(int(general), *special.values(), 1) < 1:
        raise _no_limits(setting)
    return int(general), special


def _no_limits(setting: int | str) -> InputError:
    return InputError(
        "--frequency_limit takes a whole number from 1 on, and after it perhaps limits of single columns.",
        found=setting,
        remedy="15,shop:5 means 15, but 5 in column shop; 15,3:5 in column 3, counted from 0. Name each once.",
        fields=("frequency_limit",),
    )


def _no_such_column(said: str, setting: int | str, columns: Sequence[str], *, counted: bool) -> InputError:
    near = difflib.get_close_matches(said, columns, n=3)
    some = ", ".join(near or columns[:5]) + (", …" if not near and len(columns) > 5 else "")
    remedy = f"{'Near it are' if near else 'They are'} {some}." if columns else "Leave it out."
    if said.isdecimal() and counted:
        remedy = "Columns are counted from 0."
    return InputError(
        f"--frequency_limit names column {said}, but there are {len(columns)} categorical columns, and none is that.",
        found=setting,
        remedy=remedy,
        fields=("frequency_limit",),
    )


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
