"""Rules that are learned from the training rows, as the vocabularies are: the bins of quantile columns.

Up to ``Job.learned_rows`` rows all their numbers count. Of more rows, about so many are drawn, by their numbers alone:
which ones does not depend on how the files were cut, and a bin of one in a hundred is off by some per cent of its size.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dlrm_lib.columns import RawColumns
from dlrm_lib.numeric_rules import BINS, FIXED_RULES, LEARNED, NumericRule, QuantileRule
from dlrm_lib.preprocess.job import Job
from dlrm_lib.preprocess.numbers import learned
from dlrm_lib.preprocess.spill import Part, read_waiting
from dlrm_lib.splitmix64 import splitmix64

_SEED = 0  # not that of the order: another order of the same rows has the same bins


def sample_part(job: Job, counted: int, part: Part, first: int) -> np.ndarray:
    """What a part's rows tell of the columns whose rule is learned.

    Args:
        job: What every task needs to know.
        counted: Rules are learned from the first so many rows, over all files.
        part: The part.
        first: The number of its first row.

    Returns:
        float64 [rows drawn, W], NaN where missing.
    """
    rows = np.arange(first, max(first, min(first + part.rows, counted)))
    if counted > job.learned_rows:
        rows = rows[splitmix64(_SEED, rows) < np.uint64(2**64 * job.learned_rows // counted)]
    return np.array(read_waiting(job.work, part, len(learned(job.columns)))[rows - first])


def settled_rules(columns: RawColumns, numeric_rule: str, samples: Sequence[np.ndarray]) -> tuple[NumericRule, ...]:
    """The rule of each numerical column.

    Args:
        columns: The columns.
        numeric_rule: The rule of integers that declare none.
        samples: What ``sample_part`` has of each part.
    """
    drawn = iter(np.concatenate(samples).T if samples else ())
    names = [column.rule_by(numeric_rule) for column in columns.numbers]
    return tuple(
        QuantileRule.learned(next(drawn), column.bins or BINS) if name == LEARNED else FIXED_RULES[name]
        for name, column in zip(names, columns.numbers, strict=True)
    )
