"""Which rows of a part stay, where training is to learn from a share of the non-clicks (see ``negatives``).

Vocabularies are counted before, in all rows; those held out all stay.
"""

from __future__ import annotations

import numpy as np

from dlrm_lib.negatives import stays
from dlrm_lib.preprocess.job import Job
from dlrm_lib.preprocess.spill import Part, read_labels
from dlrm_lib.splitmix64 import splitmix64


def kept_rows(job: Job, training: int, part: Part, first: int) -> np.ndarray | None:
    """Which rows of a part stay.

    Args:
        job: What every task needs to know.
        training: Training rows over all parts, which are the first ones.
        part: The part.
        first: The number of its first row over all parts.

    Returns:
        bool [rows]; None if all of them do.
    """
    rows = min(part.rows, max(0, training - first))  # to train on
    if job.config.negative_rate == 1 or not rows:
        return None
    number = splitmix64(job.config.shuffle_seed, np.arange(first, first + rows))
    kept = np.ones(part.rows, bool)
    kept[:rows] = stays(read_labels(job.work, part, job.columns)[:rows], number, job.config.negative_rate)
    return kept


def count_kept_rows(job: Job, training: int, part: Part, first: int) -> int:
    """How many rows of a part stay; arguments as for ``kept_rows``."""
    kept = kept_rows(job, training, part, first)
    return part.rows if kept is None else int(kept.sum())
