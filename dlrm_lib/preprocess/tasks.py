"""What Spark's Python workers do: parse a range, count a part, merge a column, encode a part, sort a bucket.

Every task reads files and writes files of its own, or its own region of a shared one, and can be run again at any time
with the same outcome. Nothing here imports torch, which would slow down the start of every worker.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dlrm_lib.config import PreprocessConfig
from dlrm_lib.features import SPLITS, RawColumns
from dlrm_lib.preprocess.rows import REASONS, Rows, encode_integers, parse
from dlrm_lib.preprocess.shuffle import deal, splitmix64
from dlrm_lib.preprocess.source import Range, UnreadableFile, chunks
from dlrm_lib.preprocess.spill import Block, Part, read_blocks, read_tokens, write_block, write_tokens
from dlrm_lib.preprocess.vocabulary import Dictionary, rank, write_vocabulary


@dataclass(frozen=True, kw_only=True)
class Job:
    """What every task needs to know.

    Attributes:
        folder: The unfinished data set.
        work: The folder for spills.
        columns: The columns of a raw row.
        config: How to encode.
        part_rows: A part ends with the chunk that reaches so many rows; this bounds the memory of a task.
    """

    folder: Path
    work: Path
    columns: RawColumns
    config: PreprocessConfig
    part_rows: int = 1 << 19


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Where every row goes. Rows are numbered over all files in time order; the first ``train`` ones are training rows.

    Attributes:
        train, test, validation: Rows of each split; in input order test precedes validation.
        first_row: The number of each part's first row.
        first_code: [M][parts]: where each part's ids start in a column's file of ids.
        category_dtypes: The stored type of each categorical column.
        bucket_bits: How many bits of a training row's number choose its bucket.
    """

    train: int
    test: int
    validation: int
    first_row: tuple[int, ...]
    first_code: tuple[tuple[int, ...], ...]
    category_dtypes: tuple[str, ...]
    bucket_bits: int


def parse_range(job: Job, piece: Range) -> list[Part] | str:
    """Reads a range of lines and spills its rows as codes, its tokens and its rejected lines.

    Returns:
        The parts it made (one, unless the range is a large gzip file), or why the file cannot be read.
    """
    parts: list[Part] = []
    lines = chunks(piece)
    try:
        more = True
        while more:
            part, more = _parse_part(job, piece, f"{piece.number}-{len(parts)}", lines)
            parts.append(part)
    except UnreadableFile as error:
        return str(error)
    return parts


def _parse_part(job: Job, piece: Range, name: str, lines: Iterator[bytes]) -> tuple[Part, bool]:
    """One part, and whether there may be another in the same range."""
    dictionaries = [Dictionary() for _ in range(job.columns.categorical)]
    blocks: list[int] = []
    bad = np.zeros(len(REASONS), np.int64)
    line = 0
    full = False
    with open(job.work / f"{name}.rows", "wb") as spill, open(job.work / f"{name}.bad", "wb") as rejected:
        for chunk in lines:
            rows = parse(chunk, job.columns)
            data = np.frombuffer(chunk, np.uint8)
            codes = np.empty((len(dictionaries), len(rows.label)), np.int32)
            for column, dictionary in enumerate(dictionaries):
                codes[column] = dictionary.codes(data, rows.start[column], rows.length[column])
            numerical = encode_integers(rows.integer, rows.missing, job.config.numeric_rule)
            write_block(spill, Block(rows.label, numerical, codes))
            blocks.append(len(rows.label))
            rejected.writelines(_rejected(chunk, rows, line))
            bad += np.bincount(rows.bad[:, 3], minlength=len(REASONS))
            line += rows.lines
            if full := sum(blocks) >= job.part_rows:
                break
    write_tokens(job.work, name, dictionaries)
    sizes = tuple(dictionary.size for dictionary in dictionaries)
    part = Part(
        name=name,
        file=piece.file,
        lines=line,
        blocks=tuple(blocks),
        sizes=sizes,
        bad=tuple(bad.tolist()),
    )
    return part, full


def _rejected(chunk: bytes, rows: Rows, line: int) -> Iterator[bytes]:
    """Line number within the part (from 0), reason and text of each rejected line."""
    for number, start, stop, reason in rows.bad.tolist():
        yield b"%d\t%s\t%s\n" % (line + number, REASONS[reason].encode(), chunk[start:stop])


def count_part(job: Job, index: int, part: Part, counted: int) -> Iterator[tuple[int, tuple[int, bytes, bytes, bytes]]]:
    """Counts the tokens in the first ``counted`` rows of a part.

    Yields:
        For each column: its index, and (the part's index, tokens, their ends, their counts), each as one blob.
    """
    counts = [np.zeros(size + 1, np.int64) for size in part.sizes]
    for block in read_blocks(job.work, part, job.columns):
        for column, codes in enumerate(block.categorical):
            counts[column] += np.bincount(codes[: max(counted, 0)], minlength=part.sizes[column] + 1)
        counted -= len(block.label)
    for column, (text, ends) in enumerate(read_tokens(job.work, part)):
        yield column, (index, text.tobytes(), ends.tobytes(), counts[column].tobytes())


def merge_column(job: Job, counted: list[tuple[int, tuple[int, bytes, bytes, bytes]]]) -> tuple[int, str]:
    """Makes a column's vocabulary from what ``count_part`` says of it for all parts, and ids for every part's codes.

    Returns:
        The column's cardinality and the hash of its values.
    """
    column = counted[0][0]
    blobs = sorted((blob for _, blob in counted), key=lambda blob: blob[0])
    dictionary = Dictionary()
    codes = []
    for _, text, ends, _ in blobs:
        ends = np.frombuffer(ends, np.int64)
        codes.append(dictionary.codes(np.frombuffer(text, np.uint8), ends[:-1], np.diff(ends)))
    total = np.zeros(dictionary.size + 1, np.int64)
    for code, (_, _, _, counts) in zip(codes, blobs, strict=True):
        total[code] += np.frombuffer(counts, np.int64)[1:]  # no code occurs twice in a part
    id_of, kept = rank(dictionary, total, job.config.frequency_limit)
    digest = write_vocabulary(job.folder / "vocabulary" / f"cat_{column}.parquet", kept)
    with open(job.work / f"ids_{column}", "wb") as file:
        for code in codes:
            file.write(np.concatenate([np.zeros(1, np.int32), id_of[code]]))
    return len(kept) + 1, digest


def encode_part(job: Job, layout: Layout, index: int, part: Part) -> tuple[dict[str, int], np.ndarray]:
    """Replaces a part's codes by ids and writes its rows where they belong: into a split, or dealt into buckets.

    Returns:
        Clicks by split.
        int64 [buckets]: how many of its rows each bucket of training rows gets.
    """
    ids = []
    for column, (size, dtype) in enumerate(zip(part.sizes, layout.category_dtypes, strict=True)):
        offset = layout.first_code[column][index] * 4
        ids.append(np.fromfile(job.work / f"ids_{column}", np.int32, size + 1, offset=offset).astype(dtype))
    clicks = dict.fromkeys(SPLITS, 0)
    shuffled: list[list[np.ndarray]] = []
    row = layout.first_row[index]
    for block in read_blocks(job.work, part, job.columns):
        encoded = [block.label, block.numerical, *(of[codes] for of, codes in zip(ids, block.categorical, strict=True))]
        for split, first, begin, end in _pieces(layout, row, row + len(block.label)):
            arrays = [array[begin:end] for array in encoded]
            clicks[split] += int(arrays[0].sum())
            if split == "train" and job.config.order == "shuffled":
                shuffled.append(arrays)
            else:
                _write_at(job.folder / split, first, arrays)
        row += len(block.label)
    if not shuffled:
        return clicks, np.zeros(1 << layout.bucket_bits, np.int64)
    arrays = [np.concatenate(blocks) for blocks in zip(*shuffled, strict=True)]
    return clicks, _deal_rows(job, layout, index, part, arrays)


def _pieces(layout: Layout, row: int, stop: int) -> Iterator[tuple[str, int, int, int]]:
    """Cuts rows ``row`` to ``stop`` by split: its name, the first row's place in it, the piece counted from ``row``."""
    begin = 0
    for split, rows in (("train", layout.train), ("test", layout.test), ("validation", layout.validation)):
        first, last = max(row, begin), min(stop, begin + rows)
        if first < last:
            yield split, first - begin, first - row, last - row
        begin += rows


def _deal_rows(job: Job, layout: Layout, index: int, part: Part, arrays: list[np.ndarray]) -> np.ndarray:
    """Spills a part's training rows bucket by bucket, each with its number; returns the buckets' rows."""
    first = layout.first_row[index]
    number = splitmix64(job.config.shuffle_seed, np.arange(first, first + len(arrays[0])))
    order, counts = deal(number, layout.bucket_bits)
    arrays = [array[order] for array in (number, *arrays)]
    begin = 0
    with open(job.work / f"{part.name}.buckets", "wb") as file:
        for rows in counts:
            for array in arrays:
                file.write(array[begin : begin + rows])
            begin += rows
    return counts


def sort_bucket(job: Job, layout: Layout, first: int, pieces: list[tuple[str, int, int]]) -> None:
    """Sorts a bucket's training rows and writes them into the training split.

    Args:
        job: What every task needs to know.
        layout: Where every row goes.
        first: The place of the bucket's first row.
        pieces: For each part that has some of its rows: the part's name, rows before them in its spill, their number.
    """
    dtypes = [(np.uint64, 1), (np.bool_, 1), (np.float16, job.columns.numerical)]
    dtypes += [(np.dtype(name), 1) for name in layout.category_dtypes]
    row_bytes = sum(np.dtype(dtype).itemsize * width for dtype, width in dtypes)
    pieces_of: list[list[np.ndarray]] = [[] for _ in dtypes]
    for name, before, rows in pieces:
        with open(job.work / f"{name}.buckets", "rb") as file:
            file.seek(before * row_bytes)
            for (dtype, width), arrays in zip(dtypes, pieces_of, strict=True):
                array = np.fromfile(file, dtype, rows * width)
                arrays.append(array.reshape(rows, width) if dtype is np.float16 else array)
    number, *arrays = (np.concatenate(arrays) for arrays in pieces_of)
    order = np.argsort(number)  # no two numbers are equal, so any sort will do
    _write_at(job.folder / "train", first, [array[order] for array in arrays])


def _write_at(folder: Path, first: int, arrays: list[np.ndarray]) -> None:
    """Writes labels, numericals and categorical columns of consecutive rows into a split's files from row ``first``."""
    names = ["label.bin", "numerical.bin", *(f"cat_{column}.bin" for column in range(len(arrays) - 2))]
    for name, array in zip(names, arrays, strict=True):
        row_bytes = array.dtype.itemsize * (array.shape[1] if array.ndim == 2 else 1)
        with open(folder / name, "r+b") as file:
            file.seek(first * row_bytes)
            file.write(np.ascontiguousarray(array))
