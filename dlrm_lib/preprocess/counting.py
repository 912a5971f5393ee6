"""Vocabularies from the counts of all parts.

The counts travel through Spark's shuffle: one blob per part and column, or per part and share of a column where a
column has too many tokens for one task. The work is cut into bins of bounded size: memory does not grow with the rows.
Where a vocabulary is taken over, its values and counts come in the same way, as if counted in one part more.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from dlrm_lib.preprocess.ancestor import Known
from dlrm_lib.preprocess.job import Job
from dlrm_lib.preprocess.oddities import only_whole_numbers, words_for_missing
from dlrm_lib.preprocess.rare import write_rare
from dlrm_lib.preprocess.spill import Part, read_blocks, read_dictionaries, read_piece, write_pieces, written
from dlrm_lib.preprocess.tokens import Tokens, joined
from dlrm_lib.preprocess.vocabulary import Dictionary, digest_of, rank, write_vocabulary


class Share(NamedTuple):
    """The tokens of a column whose hash lies in the ``number``-th of so many equal ranges."""

    column: int
    number: int
    of: int

    @property
    def name(self) -> str:
        """For file names."""
        return f"{self.column}-{self.number}"


class Blob(NamedTuple):
    """What a part, or what was counted before, says of a share, as Spark's shuffle carries it.

    Attributes:
        share: The share.
        part: Index of the part; ``BEFORE`` for what was counted before.
        missing: How often none was seen; counted with the first share of a column.
        keys, text, ends: The tokens, as ``Tokens.arrays`` takes them apart.
        counts: int32 (of what was counted before int64): how often each was seen.
        ids: int32: the id that each had before; empty for parts.
    """

    share: Share
    part: int
    missing: int
    keys: bytes
    text: bytes
    ends: bytes
    counts: bytes
    ids: bytes


BEFORE = -1


class Ranked(NamedTuple):
    """A column's vocabulary.

    Attributes:
        column: Which one.
        cardinality: Its ids, id 0 included.
        digest: The hash of its values.
        taken: The hash of those that were taken over.
        words_for_missing, only_whole_numbers: What is odd in it.
    """

    column: int
    cardinality: int
    digest: str
    taken: str
    words_for_missing: tuple[tuple[str, int], ...]
    only_whole_numbers: bool


def bins(job: Job, parts: Sequence[Part], least: int) -> list[list[Share]]:
    """Cuts the counting into bins of about equal work; large columns into several shares.

    Args:
        job: Says how much a bin may hold.
        parts: All parts.
        least: How many bins there should be, if there are as many columns.
    """
    before = job.ancestor.sizes if job.ancestor else (0,) * job.columns.categorical
    totals = [sum((part.sizes[column] for part in parts), known) for column, known in enumerate(before)]
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
    for column, (tokens, counts) in enumerate(read_dictionaries(job.work / f"{part.name}.tokens", part)):
        if recounted is not None:
            counts = recounted[column]
        elif counted <= 0:
            counts = np.zeros_like(counts)
        missing = min(max(counted, 0), part.rows) - int(counts.sum())
        yield from _blobs(bin_of, column, index, tokens, counts.astype(np.int32), np.zeros(0, np.int32), missing)


def count_before(job: Job, bin_of: dict[Share, int], column: int) -> Iterator[tuple[int, Blob]]:
    """Yields, for each share of a column in ``bin_of``, its bin and what is known of it from before."""
    for known in job.ancestor.known(column) if job.ancestor else ():
        yield from _blobs(bin_of, column, BEFORE, *known)


def _blobs(
    bin_of: dict[Share, int],
    column: int,
    part: int,
    tokens: Tokens,
    counts: np.ndarray,
    ids: np.ndarray,
    missing: int,
) -> Iterator[tuple[int, Blob]]:
    """Cuts tokens of a column into its shares; those of a part have no ids yet."""
    for share in (share for share in bin_of if share.column == column):
        some, of_some, given = tokens, counts, ids
        if share.of > 1:
            which = members(tokens, share)
            some, of_some, given = tokens.take(which), counts[which], ids[which] if len(ids) else ids
        packed = [array.tobytes() for array in (*some.arrays(), of_some, given)]
        yield bin_of[share], Blob(share, part, missing if share.number == 0 else 0, *packed)


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
    high = np.uint64(32)
    return np.flatnonzero((tokens.hashes() >> high) * np.uint64(share.of) >> high == share.number)


class _Merged:
    """The counts of one share, added up part by part."""

    def __init__(self) -> None:
        self.dictionary = Dictionary()
        self.codes: dict[int, np.ndarray] = {}
        self.missing = 0
        self._given: list[tuple[np.ndarray, np.ndarray]] = []

    def add(self, blob: Blob) -> None:
        kinds = (blob.keys, np.uint64), (blob.text, np.uint8), (blob.ends, np.int64)
        tokens = Tokens.of_arrays(*(np.frombuffer(data, kind) for data, kind in kinds))
        codes = self.dictionary.codes(tokens, count=False) - 1
        # No token occurs twice in a part, so that no code does.
        self.dictionary.counts[codes] += np.frombuffer(blob.counts, np.int64 if blob.part == BEFORE else np.int32)
        self.missing += blob.missing
        if blob.part == BEFORE:
            self._given.append((codes, np.frombuffer(blob.ids, np.int32)))
        else:
            self.codes[blob.part] = codes

    def given(self) -> np.ndarray:
        """int32 [n]: the id that each token had before; 0: none."""
        given = np.zeros(self.dictionary.size, np.int32)
        for codes, ids in self._given:
            given[codes] = ids
        return given


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
        tokens, counts, given = of_share.dictionary.tokens, of_share.dictionary.counts, of_share.given()
        codes, missing = [of_share.codes[part] for part in range(parts)], of_share.missing
        del of_share  # the slots of its table take more memory than all that follows
        has_id = (given > 0) | (counts >= job.limit(share.column))
        kept, rare = np.flatnonzero(has_id), np.flatnonzero(~has_id & (counts > 0))
        if share.of == 1:
            id_of, column = _rank(job, share.column, tokens, counts, given, missing)
            ranked.append(column)
            _write_rare(job, share.column, [(tokens.take(rare), counts[rare])])
        else:
            id_of = np.zeros(len(counts), np.int32)
            id_of[kept] = np.arange(1, len(kept) + 1)
            _save(job, f"kept-{share.name}", tokens.take(kept), counts[kept], given[kept], missing)
            if job.keeps_rare:
                _save(job, f"rare-{share.name}", tokens.take(rare), counts[rare])
        write_pieces(job.work / f"ids-{share.name}", [id_of[of_part] for of_part in codes])
    return ranked


def rank_column(job: Job, shares: list[Share], parts: int) -> Ranked:
    """Ranks a column that was merged in several shares, and rewrites what ``merge_bin`` wrote of it as ids."""
    kept = [_load(job, f"kept-{share.name}") for share in shares]
    tokens, counts, given, missing = zip(*kept, strict=True)
    id_of, column = _rank(
        job, shares[0].column, joined(list(tokens)), np.concatenate(counts), np.concatenate(given), sum(missing)
    )
    first = 0
    for share, of_share in zip(shares, counts, strict=True):
        id_of_share = np.concatenate([np.zeros(1, np.int32), id_of[first : first + len(of_share)]])
        first += len(of_share)
        path = job.work / f"ids-{share.name}"
        pieces = [id_of_share[read_piece(path, parts, part)] for part in range(parts)]
        write_pieces(job.work / f"final-{share.name}", pieces)
    _write_rare(job, shares[0].column, (_load(job, f"rare-{share.name}")[:2] for share in shares))
    return column


def part_ids(job: Job, index: int, part: Part, parts: int, shares: Sequence[Sequence[Share]]) -> list[np.ndarray]:
    """For each column, the ids of a part's codes: int32 [size + 1], first that of a missing token."""
    found = []
    dictionaries = None
    for column, of_column in enumerate(shares):
        ids = np.zeros(part.sizes[column] + 1, np.int32)
        ids[0] = job.config.separate_missing
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


def _rank(
    job: Job, column: int, tokens: Tokens, counts: np.ndarray, given: np.ndarray, missing: int
) -> tuple[np.ndarray, Ranked]:
    """Gives a column's tokens their ids and writes its vocabulary."""
    taken = job.taken(column)
    id_of, kept = rank(tokens, counts, job.limit(column), given, taken)
    odd = words_for_missing(kept), only_whole_numbers(kept)
    if job.config.separate_missing:
        import pyarrow as pa

        first = pa.table({"value": [""], "count": [missing], "id": [1]}, kept.schema)
        kept = pa.concat_tables([first, kept]).combine_chunks()
    write_vocabulary(job.folder / "vocabulary" / f"cat_{column}.parquet", kept)
    return id_of, Ranked(column, len(kept) + 1, digest_of(kept), digest_of(kept.slice(0, taken)), *odd)


def _write_rare(job: Job, column: int, shares: Iterable[tuple[Tokens, np.ndarray]]) -> None:
    if job.keeps_rare:
        write_rare(job.folder / "vocabulary" / "rare" / f"cat_{column}.parquet", shares)


def _save(
    job: Job, name: str, tokens: Tokens, counts: np.ndarray, given: np.ndarray | None = None, missing: int = 0
) -> None:
    """Spills what is known of a share; without ``given``, no token has an id."""
    keys, text, ends = tokens.arrays()
    given = np.zeros(0, np.int32) if given is None else given
    with written(job.work / f"{name}.npz") as file:
        np.savez(file, keys=keys, text=text, ends=ends, counts=counts, given=given, missing=missing)


def _load(job: Job, name: str) -> Known:
    with np.load(job.work / f"{name}.npz") as arrays:
        tokens = Tokens.of_arrays(arrays["keys"], arrays["text"], arrays["ends"])
        return Known(tokens, arrays["counts"], arrays["given"], int(arrays["missing"]))
