"""The second pass: codes become ids, numbers get what was learned, and every row goes to its place in the data set.

Held-out rows, and training rows in input order, go straight there. Shuffled training rows are dealt into buckets first,
row by row: a row that lies in one piece costs one access to memory when it moves, not one for each of its columns.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from dlrm_lib.features import SPLITS, FeatureSpec
from dlrm_lib.preprocess.bags import filled
from dlrm_lib.preprocess.compiled import compiled
from dlrm_lib.preprocess.counting import Share, part_ids
from dlrm_lib.preprocess.job import Job
from dlrm_lib.preprocess.numbers import learned
from dlrm_lib.preprocess.sampling import kept_rows
from dlrm_lib.preprocess.shuffle import deal
from dlrm_lib.preprocess.spill import Part, read_blocks, read_waiting, written
from dlrm_lib.preprocess.tally import Tally
from dlrm_lib.splitmix64 import splitmix64

DEALT = "dealt.npy"  # int64 [parts, buckets + 1]: where each bucket starts in each part's dealt rows
_SORTED_ROWS = 1 << 13  # rows gathered at a time: few enough to stay in the cache while their columns are written


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Where every row goes. Rows are numbered over all files in time order.

    Attributes:
        rows: Of each split, in that order, as ``split_rows`` has it.
        kept: The same without the training rows that ``negative_rate`` leaves out.
        spec: The encoded columns.
        shares: The shares of each column.
        parts: How many parts there are.
        bucket_bits: How many bits of a training row's number choose its bucket.
    """

    rows: dict[str, int]
    kept: dict[str, int]
    spec: FeatureSpec
    shares: tuple[tuple[Share, ...], ...]
    parts: int
    bucket_bits: int

    @property
    def record(self) -> np.dtype:
        """A row in one piece: its number in the shuffled order, and its fields by the names of their files."""
        columns: list[tuple] = [
            (f"cat_{j}", name) if most == 1 else (f"cat_{j}", name, (most,))
            for j, (name, most) in enumerate(zip(self.spec.category_dtypes, self.spec.columns.bags, strict=True))
        ]
        return np.dtype(
            [("number", np.uint64), ("label", np.bool_), ("numerical", np.float16, (self.spec.numerical,)), *columns]
        )


def reserve(job: Job, layout: Layout) -> None:
    """Makes the binary files at their full size, for tasks to write into; those that are there keep their content."""
    for split in SPLITS:
        for name in (layout.record.names or ())[1:]:
            with open(job.folder / split / f"{name}.bin", "ab") as file:
                file.truncate(layout.kept[split] * layout.record[name].itemsize)


def encode_part(
    job: Job, layout: Layout, index: int, part: Part, first: int, first_kept: int
) -> tuple[dict[str, int], dict[str, Tally], np.ndarray]:
    """Replaces a part's codes by ids and writes the rows that stay into their splits, or dealt into buckets.

    Args:
        job: What every task needs to know.
        layout: Where every row goes.
        index: The part's place among all parts.
        part: The part.
        first: The number of its first row.
        first_kept: How many rows stay before it.

    Returns:
        Clicks by split.
        What the columns of each split hold, rows that do not stay included.
        int64 [buckets]: how many of its rows each bucket of training rows gets.
    """
    kept = kept_rows(job, layout.rows["train"], part, first)
    numbers = np.arange(part.rows) if kept is None else np.flatnonzero(kept)
    rows = len(numbers)
    shuffled = min(rows, max(0, layout.kept["train"] - first_kept)) if job.config.order == "shuffled" else 0
    place = np.arange(rows)
    number = splitmix64(job.config.shuffle_seed, first + numbers[:shuffled])
    place[:shuffled], dealt = deal(number, layout.bucket_bits)
    records = np.empty(rows, layout.record)
    records["number"][place[:shuffled]] = number
    ids = part_ids(job, index, part, layout.parts, layout.shares)
    ids = [of.astype(name) for of, name in zip(ids, layout.spec.category_dtypes, strict=True)]
    clicks, tallies = dict.fromkeys(SPLITS, 0), {split: Tally(layout.spec) for split in SPLITS}
    waiting = learned(job.columns)
    raw = read_waiting(job.work, part, len(waiting))
    row = to = 0
    for block in read_blocks(job.work, part, job.columns):
        for column, of in zip(waiting, raw[row : row + len(block.label)].T, strict=True):
            block.numerical[:, column] = layout.spec.numeric_rules[column].encode(of)
        for split, _, begin, end in _pieces(layout.rows, first + row, first + row + len(block.label)):
            clicks[split] += int(block.label[begin:end].sum())
            tallies[split].add(block.numerical[begin:end], [codes[begin:end] for codes in block.codes], ids)
        stay = slice(None) if kept is None else kept[row : row + len(block.label)]
        row += len(block.label)
        block = block.take(stay)
        at = place[to : to + len(block.label)]
        records["label"][at] = block.label
        records["numerical"][at] = block.numerical
        for column, (of, codes) in enumerate(zip(ids, block.codes, strict=True)):
            if codes.ndim == 1:
                _place(of, codes, at, records[f"cat_{column}"])
            else:  # what fills up a bag is the first id that the column does not have
                padding = layout.spec.cardinalities[column]
                records[f"cat_{column}"][at] = np.where(filled(codes), padding, of[np.where(filled(codes), 0, codes)])
        to += len(block.label)
    if shuffled:
        with written(job.work / f"{index}.dealt") as file:  # tofile would not notice a disk that gets full
            file.write(records[:shuffled].view(np.uint8).data)
    for split, to, begin, end in _pieces(layout.kept, first_kept + shuffled, first_kept + rows):
        _write_at(job, split, to, end - begin, [records[shuffled:][begin:end]])
    return clicks, tallies, dealt


def _pieces(rows_of: dict[str, int], row: int, stop: int) -> Iterator[tuple[str, int, int, int]]:
    """Cuts rows ``row`` to ``stop`` by split: its name, the first row's place in it, the piece counted from ``row``."""
    begin = 0
    for split, rows in rows_of.items():
        first, last = max(row, begin), min(stop, begin + rows)
        if first < last:
            yield split, first - begin, first - row, last - row
        begin += rows


def sort_bucket(job: Job, layout: Layout, bucket: int, first: int) -> None:
    """Sorts a bucket's training rows and writes them into the training split.

    Args:
        job: What every task needs to know.
        layout: Where every row goes.
        bucket: Its number.
        first: The place of its first row.
    """
    ends = np.load(job.work / DEALT, mmap_mode="r")
    starts, stops = ends[:, bucket], ends[:, bucket + 1]
    records = np.empty(int((stops - starts).sum()), layout.record)
    row = 0
    for index, (start, stop) in enumerate(zip(starts.tolist(), stops.tolist(), strict=True)):
        if start < stop:
            piece = records[row : row + stop - start]
            with open(job.work / f"{index}.dealt", "rb") as file:
                file.seek(start * layout.record.itemsize)
                if file.readinto(piece.view(np.uint8).data) < piece.nbytes:
                    raise EOFError(f"{file.name} was cut short")
            row += len(piece)
    order = np.argsort(records["number"])  # no two numbers are equal, so any sort will do
    whole = records.view(f"V{layout.record.itemsize}")  # moved as bytes, not field by field
    blocks_at = range(0, len(order), _SORTED_ROWS)
    blocks = (whole[order[at : at + _SORTED_ROWS]].view(layout.record) for at in blocks_at)
    _write_at(job, "train", first, len(order), blocks)


def _write_at(job: Job, split: str, first: int, rows: int, blocks: Iterable[np.ndarray]) -> None:
    """Writes so many consecutive records into a split's files from row ``first``."""
    columns: dict[str, np.ndarray] = {}
    row = 0
    for block in blocks:
        for name in (block.dtype.names or ())[1:]:
            kind = block.dtype[name]
            if name not in columns:
                columns[name] = np.empty((rows, *kind.shape), kind.base)
            columns[name][row : row + len(block)] = block[name]
        row += len(block)
    for name, column in columns.items():
        with open(job.folder / split / f"{name}.bin", "r+b") as file:
            file.seek(first * column[0].nbytes)
            file.write(column.data)


@compiled
def _place(ids, codes, place, column):
    for i in range(codes.size):
        column[place[i]] = ids[codes[i]]
