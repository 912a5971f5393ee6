"""Vocabularies from the counts of all parts.

The counts travel through Spark's shuffle: one blob per part and column, or per part and share of a column where a
column has too many tokens for one task. The work is cut into bins of bounded size: memory does not grow with the rows.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from dlrm_lib.preprocess.job import Job
from dlrm_lib.preprocess.oddities import only_whole_numbers, words_for_missing
from dlrm_lib.preprocess.spill import Part, read_blocks, read_dictionaries, read_piece, write_pieces, written
from dlrm_lib.preprocess.tokens import Tokens, joined
from dlrm_lib.preprocess.vocabulary import Dictionary, rank, write_vocabulary


class Share(NamedTuple):
    """The tokens of a column whose hash leaves the remainder ``number`` when divided by ``of``."""

    column: int
    number: int
    of: int

    @property
    def name(self) -> str:
        """For file names."""
        return f"{self.column}-{self.number}"


class Blob(NamedTuple):
    """What a part says of a share, as Spark's shuffle carries it: tokens and counts, as bytes."""

    share: Share
    part: int
    keys: bytes
    text: bytes
    ends: bytes
    counts: bytes


class Ranked(NamedTuple):
    """A column's vocabulary: its cardinality (kept values and id 0), the hash of its values, and what is odd in it."""

    column: int
    cardinality: int
    digest: str
    words_for_missing: tuple[tuple[str, int], ...]
    only_whole_numbers: bool


def bins(job: Job, parts: Sequence[Part], least: int) -> list[list[Share]]:
    """Cuts the counting into bins of about equal work; large columns into several shares.

    Args:
        job: Says how much a bin may hold.
        parts: All parts.
        least: How many bins there should be, if there are as many columns.
    """
    totals = [sum(part.sizes[column] for part in parts) for column in range(job.columns.categorical)]
    shares = [
        (total / of, Share(column, number, of))
        for column, total in enumerate(totals)
        for of in [max(1, -(-total // job.bin_tokens))]
        for number in range(of)
    ]
    count = min(len(shares), max(least, -(-sum(totals) // job.bin_tokens)))
    heap: list[tuple[float, int, list[Share]]] = [(0.0, number, []) for number in range(count)]
    for size, share in sorted(shares, key=lambda pair: (-pair[0], pair[1])):
        load, number, members = heapq.heappop(heap)
        heapq.heappush(heap, (load + size, number, [*members, share]))
    return [members for _, _, members in sorted(heap, key=lambda entry: entry[1])]


def count_part(job: Job, bin_of: dict[Share, int], index: int, part: Part, counted: int) -> Iterator[tuple[int, Blob]]:
    """Yields, for each share in ``bin_of``, its bin and what the first ``counted`` rows of a part say of it."""
    recounted = _recount(job, part, counted) if 0 < counted < part.rows else None
    shares: list[list[Share]] = [[] for _ in range(job.columns.categorical)]
    for share in bin_of:
        shares[share.column].append(share)
    for column, (tokens, counts) in enumerate(read_dictionaries(job.work / f"{part.name}.tokens", part)):
        if recounted is not None:
            counts = recounted[column]
        elif counted <= 0:
            counts = np.zeros_like(counts)
        for share in shares[column]:
            some, of_some = tokens, counts
            if share.of > 1:
                which = members(tokens, share)
                some, of_some = tokens.take(which), counts[which]
            packed = [array.tobytes() for array in (*some.arrays(), of_some.astype(np.int32))]
            yield bin_of[share], Blob(share, index, *packed)


def _recount(job: Job, part: Part, counted: int) -> list[np.ndarray]:
    """Counts the tokens of each column in the first rows of a part."""
    counts = [np.zeros(size + 1, np.int64) for size in part.sizes]
    for block in read_blocks(job.work, part, job.columns):
        for column, codes in enumerate(block.codes):
            counts[column] += np.bincount(codes[: max(counted, 0)], minlength=part.sizes[column] + 1)
        counted -= len(block.label)
    return [of[1:] for of in counts]


def members(tokens: Tokens, share: Share) -> np.ndarray:
    """The indices of the tokens that belong to a share of their column."""
    return np.flatnonzero(tokens.hashes() % np.uint64(share.of) == share.number)


class _Merged:
    """The counts of one share, added up part by part."""

    def __init__(self) -> None:
        self.dictionary = Dictionary()
        self.codes: dict[int, np.ndarray] = {}

    def add(self, blob: Blob) -> None:
        kinds = (blob.keys, np.uint64), (blob.text, np.uint8), (blob.ends, np.int64)
        tokens = Tokens.of_arrays(*(np.frombuffer(data, kind) for data, kind in kinds))
        codes = self.dictionary.codes(tokens, count=False)
        # No token occurs twice in a part, so that no code does.
        self.dictionary.counts[codes - 1] += np.frombuffer(blob.counts, np.int32)
        self.codes[blob.part] = codes - 1


def merge_bin(job: Job, parts: int, blobs: Iterable[Blob]) -> list[Ranked]:
    """Adds up the counts of a bin's shares.

    A column that is whole is ranked at once, and every part's ids are written. Of a share, what ``rank_column`` needs.

    Returns:
        The columns that were ranked.
    """
    merged: dict[Share, _Merged] = {}
    for blob in blobs:
        merged.setdefault(blob.share, _Merged()).add(blob)
    ranked = []
    while merged:
        share, of_share = merged.popitem()
        tokens, counts = of_share.dictionary.tokens, of_share.dictionary.counts
        codes = [of_share.codes[part] for part in range(parts)]
        if share.of == 1:
            id_of, column = _rank(job, share.column, tokens, counts)
            ranked.append(column)
        else:
            kept = np.flatnonzero(counts >= job.config.limits(job.columns.categorical_names)[share.column])
            id_of = np.zeros(len(counts), np.int32)
            id_of[kept] = np.arange(1, len(kept) + 1)
            keys, text, ends = tokens.take(kept).arrays()
            with written(job.work / f"kept-{share.name}.npz") as file:
                np.savez(file, keys=keys, text=text, ends=ends, counts=counts[kept])
        write_pieces(job.work / f"ids-{share.name}", [id_of[of_part] for of_part in codes])
    return ranked


def rank_column(job: Job, shares: list[Share], parts: int) -> Ranked:
    """Ranks a column that was merged in several shares, and rewrites what ``merge_bin`` wrote of it as ids."""
    kept = []
    for share in shares:
        with np.load(job.work / f"kept-{share.name}.npz") as arrays:
            kept.append((Tokens.of_arrays(arrays["keys"], arrays["text"], arrays["ends"]), arrays["counts"]))
    id_of, column = _rank(
        job, shares[0].column, joined([tokens for tokens, _ in kept]), np.concatenate([counts for _, counts in kept])
    )
    first = 0
    for share, (_, counts) in zip(shares, kept, strict=True):
        id_of_share = np.concatenate([np.zeros(1, np.int32), id_of[first : first + len(counts)]])
        first += len(counts)
        path = job.work / f"ids-{share.name}"
        pieces = [id_of_share[read_piece(path, parts, part)] for part in range(parts)]
        write_pieces(job.work / f"final-{share.name}", pieces)
    return column


def part_ids(job: Job, index: int, part: Part, parts: int, shares: Sequence[Sequence[Share]]) -> list[np.ndarray]:
    """For each column, the ids of a part's codes: int32 [size + 1], 0 for code 0."""
    found = []
    dictionaries = None
    for column, of_column in enumerate(shares):
        ids = np.zeros(part.sizes[column] + 1, np.int32)
        if len(of_column) == 1:
            ids[1:] = read_piece(job.work / f"ids-{of_column[0].name}", parts, index)
        else:
            if dictionaries is None:
                dictionaries = list(read_dictionaries(job.work / f"{part.name}.tokens", part))
            for share in of_column:
                piece = read_piece(job.work / f"final-{share.name}", parts, index)
                ids[1 + members(dictionaries[column][0], share)] = piece
        found.append(ids)
    return found


def _rank(job: Job, column: int, tokens: Tokens, counts: np.ndarray) -> tuple[np.ndarray, Ranked]:
    id_of, kept = rank(tokens, counts, job.config.limits(job.columns.categorical_names)[column])
    digest = write_vocabulary(job.folder / "vocabulary" / f"cat_{column}.parquet", kept)
    return id_of, Ranked(column, len(kept) + 1, digest, words_for_missing(kept), only_whole_numbers(kept))
