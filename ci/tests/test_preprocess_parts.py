"""The pieces of preprocessing on their own, without Spark: lines, integers, dictionaries, ranges, the order."""

from __future__ import annotations

import gzip
import math
import random
from collections import Counter
from pathlib import Path

import numpy as np
import oracle_preprocess as oracle
import pytest

from dlrm_lib.features import RawColumns
from dlrm_lib.preprocess import shuffle, source
from dlrm_lib.preprocess.rows import REASONS, encode_integers, parse
from dlrm_lib.preprocess.vocabulary import Dictionary, rank


def test_random_bytes_are_read_as_the_oracle_reads_them() -> None:
    rng = random.Random(7)
    columns = RawColumns(numerical=2, categorical=1)
    alphabet = [b"0", b"1", b"-", b"9", b"\t", b"\t", b"\t", b"\r", b"a", b"\x80", b"\xc3", b"\xa9", b"\xe0\xa0"]
    alphabet += [b"9223372036854775807", b"9223372036854775808", b"\xed\x9f\xbf", b"\xf0\x9f\x98\x80"]
    lines = [b"".join(rng.choices(alphabet, k=rng.randrange(9))) for _ in range(20000)]
    lines += [
        b"%d\t%s\t%s\tx" % (i % 2, *rng.choices([b"", b"-", b"-0", b"-9223372036854775808"], k=2)) for i in range(50)
    ]
    chunk = b"".join(line + b"\n" for line in lines)
    rows = parse(chunk, columns)
    assert rows.lines == len(lines)
    read = [oracle.read_line(line, 2, 1) for line in lines]
    bad = [(number, *span, REASONS[reason]) for number, *span, reason in rows.bad.tolist()]
    assert [(n, reason) for n, _, _, reason in bad] == [(n, r) for n, r in enumerate(read) if isinstance(r, str)]
    assert [chunk[a:b] for _, a, b, _ in bad] == [lines[n].removesuffix(b"\r") for n, *_ in bad]
    good = [row for row in read if isinstance(row, oracle.Row)]
    assert len(good) > 20
    assert set(Counter(reason for *_, reason in bad)) == set(REASONS)
    assert rows.label.tolist() == [row.label for row in good]
    found = [
        [None if m else x for x, m in zip(*both, strict=True)]
        for both in zip(rows.integer.tolist(), rows.missing, strict=True)
    ]
    assert found == [row.integers for row in good]
    tokens = [chunk[a : a + n].decode() for a, n in zip(rows.start[0], rows.length[0], strict=True)]
    assert tokens == [row.tokens[0] for row in good]


@pytest.mark.parametrize("rule", ["log_x_plus_2", "log_x_plus_3"])
def test_integers_are_encoded_in_float64_and_rounded_once(rule: str) -> None:
    rng = random.Random(3)
    x = [*range(-5, 5000), -(2**63), 2**63 - 1, 2**63 - 2, 2**63 - 3, 2**63 - 4, 2**53, 2**53 + 1, 65504, 10**18]
    x += [rng.randrange(2 ** rng.randrange(1, 64)) for _ in range(20000)]
    # Where the logarithm lies next to the middle between two float16 numbers, rounding twice would show.
    halves = np.arange(0x3C00, 0x5180, dtype=np.uint16).view(np.float16).astype(float)
    x += [n + d for half in (halves[1:] + halves[:-1]) / 2 for n in [int(math.exp(half))] for d in (-4, -3, -2, -1, 0)]
    x = [value for value in x if value < 2**63]
    missing = np.zeros((1, len(x) + 1), bool)
    missing[0, -1] = True
    encoded = encode_integers(np.array([[*x, 0]], np.int64), missing, rule)
    assert encoded.dtype == np.float16
    assert encoded.tobytes() == b"".join(oracle.float16(value, rule) for value in [*x, None])


def test_a_dictionary_numbers_tokens_as_they_appear() -> None:
    rng = random.Random(1)
    numbers: dict[bytes, int] = {b"": 0}
    dictionary = Dictionary()
    for size in (3, 1, 5000, 0, 40):
        tokens = [
            rng.choice([b"", b"a", b"a\x00", b"%08x" % rng.randrange(4000), b"x" * rng.randrange(40)])
            for _ in range(size)
        ]
        data = np.frombuffer(b"--" + b"".join(tokens), np.uint8)
        length = np.array([len(token) for token in tokens], np.int32)
        start = (2 + np.cumsum(length) - length).astype(np.int32)
        expected = [numbers.setdefault(token, len(numbers)) for token in tokens]
        assert dictionary.codes(data, start, length).tolist() == expected
    assert dictionary.size == len(numbers) - 1
    assert dictionary.text.tobytes() == b"".join(numbers)
    assert np.diff(dictionary.ends).tolist() == [len(token) for token in list(numbers)[1:]]


def test_tokens_of_equal_hash_stay_apart() -> None:
    """These two have the same 64-bit FNV-1a hash, the dictionary's."""
    text = np.frombuffer(b"8yn0iYCKYHlIj4-BwPqkGReLUrM4wMqfg9yzV3KQ" * 2, np.uint8)
    start = np.arange(4, dtype=np.int32) * 20
    assert Dictionary().codes(text, start, np.full(4, 20, np.int32)).tolist() == [1, 2, 1, 2]


def test_ranks_go_by_count_then_bytes_and_stop_at_the_limit() -> None:
    tokens = ["b", "a", "ab", "Z", "é", "😀", "\uffff", "rare", "none"]
    text = [token.encode() for token in tokens]
    dictionary = Dictionary()
    length = np.array([len(token) for token in text])
    dictionary.codes(np.frombuffer(b"".join(text), np.uint8), np.cumsum(length) - length, length)
    ids, kept = rank(dictionary, np.array([99, 5, 5, 5, 5, 5, 5, 5, 2, 0]), 3)
    # In UTF-16 order the emoji would precede U+FFFF; in UTF-8 order it is last.
    assert kept["value"].to_pylist() == ["Z", "a", "ab", "b", "é", "\uffff", "😀"]
    assert ids.tolist() == [0, 4, 2, 3, 1, 5, 7, 6, 0, 0]
    assert rank(dictionary, np.array([99, *range(9)]), 1)[0].tolist() == [0, 0, 8, 7, 6, 5, 4, 3, 2, 1]


@pytest.mark.parametrize("compressed", [False, True])
def test_every_line_belongs_to_one_range(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compressed: bool) -> None:
    rng = random.Random(5)
    for text in (
        b"",
        b"\n",
        b"a",
        b"\n\na\n\n",
        b"".join(b"x" * rng.randrange(30) + b"\n" for _ in range(20)) + b"end",
    ):
        path = tmp_path / ("rows.gz" if compressed else "rows")
        path.write_bytes(gzip.compress(text) if compressed else text)
        for size in (1, 2, 3, 7, 50, 10**6):
            for chunk in (1, 5, 10**6):
                monkeypatch.setattr(source, "_CHUNK", chunk)
                chunks = [list(source.chunks(piece)) for piece in source.cut([path], size)]
                assert b"".join(b"".join(each) for each in chunks) == text
                whole = [each for pieces in chunks for each in pieces]
                assert all(each.endswith(b"\n") for each in whole[:-1])


def test_a_line_without_end_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "_CHUNK", 10)
    monkeypatch.setattr(source, "_LONGEST_LINE", 50)
    path = tmp_path / "rows"
    path.write_bytes(b"short\n" + b"x" * 100)
    with pytest.raises(source.UnreadableFile, match="more than 50 bytes"):
        list(source.chunks(source.cut([path], 1000)[0]))


def test_splitmix64_gives_the_published_numbers() -> None:
    """The first outputs for seed 1234567, as the generator's reference implementation prints them."""
    published = [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431]
    assert shuffle.splitmix64(1234567, np.arange(4)).tolist() == published
    assert [oracle.splitmix64(1234567, i) for i in range(4)] == published


@pytest.mark.parametrize("bits", [0, 1, 5])
def test_rows_are_dealt_by_their_highest_bits(bits: int) -> None:
    number = shuffle.splitmix64(3, np.arange(1000))
    order, rows = shuffle.deal(number, bits)
    bucket = [n >> (64 - bits) for n in number.tolist()]
    assert order.tolist() == sorted(range(1000), key=lambda i: (bucket[i], i))
    assert rows.tolist() == [bucket.count(b) for b in range(2**bits)]


def test_buckets_stay_small_until_there_are_very_many() -> None:
    assert [shuffle.bucket_bits(rows) for rows in (0, 1, 2**19, 2**19 + 1, 10**7, 2**40)] == [0, 0, 0, 1, 5, 11]
