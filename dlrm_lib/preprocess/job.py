"""What every task needs to know. Nothing here imports torch, which would slow down the start of every worker."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dlrm_lib.columns import RawColumns
from dlrm_lib.config import PreprocessConfig


@dataclass(frozen=True, kw_only=True)
class Job:
    """One run of preprocessing.

    Attributes:
        folder: The unfinished data set.
        work: The folder for spills.
        columns: The columns of a raw row.
        config: How to encode.
        files: The raw files, in time order.
        part_rows: A part ends with the chunk that reaches so many rows; this bounds the memory of a task.
        bin_tokens: A counting task merges about so many (part, token) pairs at most, for the same reason.
        learned_rows: Numeric rules are learned from all training rows up to so many, else from about so many.
    """

    folder: Path
    work: Path
    columns: RawColumns
    config: PreprocessConfig
    files: tuple[Path, ...] = ()
    part_rows: int = 1 << 19
    bin_tokens: int = 1 << 23
    learned_rows: int = 1 << 18
