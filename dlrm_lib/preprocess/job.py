"""What every task needs to know. Nothing here imports torch, which would slow down the start of every worker."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dlrm_lib.columns import RawColumns
from dlrm_lib.config import PreprocessConfig
from dlrm_lib.preprocess.forms import Form

if TYPE_CHECKING:
    from dlrm_lib.preprocess.ancestor import Ancestor


@dataclass(frozen=True, kw_only=True)
class Job:
    """One run of preprocessing.

    Attributes:
        folder: The unfinished data set.
        work: The folder for spills.
        columns: The columns of a raw row.
        config: How to encode.
        files: The raw files, in time order.
        names: What each is called in the manifest and among rejected lines.
        forms: How each is read.
        days: The name of each one's day.
        ancestor: The data set whose vocabulary is taken over; None: a new one is made.
        part_rows: A part ends with the chunk that reaches so many rows; this bounds the memory of a task.
        bin_tokens: A counting task merges about so many (part, token) pairs at most, for the same reason.
        learned_rows: Numeric rules are learned from all training rows up to so many, else from about so many.
    """

    folder: Path
    work: Path
    columns: RawColumns
    config: PreprocessConfig
    files: tuple[Path, ...] = ()
    names: tuple[str, ...] = ()
    forms: tuple[Form, ...] = ()
    days: tuple[str, ...] = ()
    ancestor: Ancestor | None = None
    part_rows: int = 1 << 19
    bin_tokens: int = 1 << 23
    learned_rows: int = 1 << 18

    def limit(self, column: int) -> float:
        """How often a value of a column that has no id yet must be seen to get one."""
        frozen = self.ancestor is not None and not self.ancestor.extend
        return math.inf if frozen else self.config.limits(self.columns.categorical_names)[column]

    def taken(self, column: int) -> int:
        """The highest id of a column before any is given; 0: none."""
        if self.ancestor is not None:
            return self.ancestor.manifest.cardinalities[column] - 1
        return int(self.config.separate_missing)

    @property
    def keeps_rare(self) -> bool:
        """Whether values without an id are written down, with their counts: not where some are unknown."""
        return self.ancestor is None or self.ancestor.complete
