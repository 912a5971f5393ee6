"""The pieces of preprocessing on their own, without Spark: lines, integers, dictionaries, ranges, the order."""

from __future__ import annotations

import gzip
import itertools
import math
import random
from collections import Counter
from pathlib import Path

import numpy as np
import oracle_preprocess as oracle
import pytest

from dlrm_lib.columns import CategoricalColumn, NumericalColumn, RawColumns
from dlrm_lib.config import PreprocessConfig
from dlrm_lib.errors import InputError
from dlrm_lib.preprocess import counting, rows, shuffle
from dlrm_lib.preprocess import text as text_files
from dlrm_lib.preprocess.counting import Share
from dlrm_lib.preprocess.job import Job
from dlrm_lib.preprocess.numbers import encode_integers
from dlrm_lib.preprocess.rows import PADDING, REASONS, Parser, parse
from dlrm_lib.preprocess.spill import Part, read_piece, write_pieces
from dlrm_lib.preprocess.tokens import TAG, Tokens, joined
from dlrm_lib.preprocess.vocabulary import Dictionary, rank
from dlrm_lib.splitmix64 import splitmix64


def test_random_bytes_are_read_as_the_oracle_reads_them() -> None:
    rng = random.Random(7)
    columns = RawColumns(
        numbers=(NumericalColumn(name="n"), NumericalColumn(name="x", type="decimal", rule="identity")),
        tokens=(CategoricalColumn(name="c"),),
    )
    alphabet = [b"0", b"1", b"-", b"9", b"\t", b"\t", b"\t", b"\r", b"a", b"\x80", b"\xc3", b"\xa9", b"\xe0\xa0"]
    alphabet += [b".", b"e", b"E", b"+"]
    alphabet += [b"9223372036854775807", b"9223372036854775808", b"\xed\x9f\xbf", b"\xf0\x9f\x98\x80"]
    lines = [b"".join(rng.choices(alphabet, k=rng.randrange(9))) for _ in range(20000)]
    whole = [b"", b"-", b"-0", b"12", b"-9223372036854775808", b"9223372036854775808", b"1.0"]
    decimal = [b"", b"-", b"-0", b"-.5e-3", b"10000", b"9999.9999999999999999", b"1" * 40 + b"e-37", b"0x1", b"1e4 "]
    lines += [b"%d\t%s\t%s\tx" % (i % 2, rng.choice(whole), rng.choice(decimal)) for i in range(500)]
    chunk = b"".join(line + b"\n" for line in lines)
    rows = parse(chunk, columns)
    assert rows.lines == len(lines)
    read = [oracle.read_line(line, columns) for line in lines]
    bad = [(line, REASONS[reason], text) for line, reason, text in rows.bad]
    assert [(n, reason) for n, reason, _ in bad] == [(n, r) for n, r in enumerate(read) if isinstance(r, str)]
    assert [text for *_, text in bad] == [lines[n].removesuffix(b"\r") for n, *_ in bad]
    good = [row for row in read if isinstance(row, oracle.Row)]
    assert len(good) > 20
    assert {reason for _, reason, _ in bad} == set(REASONS)
    assert rows.label.tolist() == [row.label for row in good]
    found = [
        [None if m else x for x, m in zip(both, missing, strict=True)]
        for both, missing in zip(
            zip(rows.integer[:, 0].tolist(), rows.decimal[:, 0].tolist(), strict=True), rows.missing, strict=True
        )
    ]
    assert found == [row.numbers for row in good]
    assert np.isnan(rows.decimal[:, 0]).tolist() == rows.missing[:, 1].tolist()
    assert not rows.integer[:, 1].any()
    assert rows.tokens(0).strings().to_pylist() == [row.tokens[0] for row in good]


def plain_or_not(rng: random.Random) -> bytes:
    """A line like Criteo's, or one that differs from it by a byte or two."""
    fields = [rng.choice("01")]
    fields += [rng.choice(["", "0", "-1", "7", "12345", "9" * 18, "-" + "9" * 18, "1" + "0" * 18]) for _ in range(2)]
    fields += [rng.choice(["", f"{rng.randrange(2**32):08x}"]) for _ in range(3)]
    line = bytearray("\t".join(fields), "ascii")
    for _ in range(rng.choice([0, 0, 0, 1, 2])):
        at, byte = rng.randrange(len(line) + 1), rng.choice(b"\t\t -09af\r\x00\x1f\x7f\x80\xc3\xa9\xff")
        line[at : at + rng.choice([0, 1])] = bytes([byte])
    return bytes(line) + rng.choice([b"", b"", b"\r"])


def test_plain_lines_are_read_like_any_others() -> None:
    """The fast loop against the oracle and against the slow loop, on lines at the border between the two."""
    rng = random.Random(11)
    columns = RawColumns.unnamed(2, 3)
    lines = [plain_or_not(rng).replace(b"\n", b"") for _ in range(20000)]
    text = b"".join(line + b"\n" for line in lines)
    found = parse(text, columns)
    read = [oracle.read_line(line, columns) for line in lines]
    good = [row for row in read if isinstance(row, oracle.Row)]
    assert 10000 < len(good) < 19000
    for j in range(3):
        assert found.tokens(j).strings().to_pylist() == [row.tokens[j] for row in good]
    integers = np.where(found.missing, None, found.integer.astype(object))
    assert integers.tolist() == [row.numbers for row in good]
    assert found.label.tolist() == [row.label for row in good]
    data, first, plain = np.frombuffer(text + bytes(PADDING), np.uint8), 0, 0
    one = Parser(columns)
    for line in lines:
        after = rows._plain_line(data, first, 0, one._label, one._integer, one._missing, one._decimals, one._keys)
        first += len(line) + 1
        assert after in (0, first)
        plain += after == first
    assert 5000 < plain < len(good)


def test_a_parser_makes_room_and_starts_afresh() -> None:
    columns = RawColumns.unnamed(0, 1)
    parser = Parser(columns)
    for lines in (3, 9000, 1):
        text = b"".join(b"1\t%s\n" % (b"x" * (i % 20)) for i in range(lines))
        found = parser.parse(np.frombuffer(text + b"\xff" * PADDING, np.uint8), len(text))
        assert found.lines == len(found.label) == lines
        assert found.tokens(0).strings().to_pylist() == ["x" * (i % 20) for i in range(lines)]


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
    assert encoded.tobytes() == b"".join(oracle.float16(value, rule, []) for value in [*x, None])


def random_texts(rng: random.Random, size: int) -> list[bytes]:
    words = [b"a", b"a\x00", b"\x00", "\U0010ffff".encode(), b"x" * 8, b"x" * 9, b"12345678\x00", b"1234567\x00"]
    return [
        rng.choice([b"", rng.choice(words), b"%08x" % rng.randrange(4000), b"y" * rng.randrange(40)])
        for _ in range(size)
    ]


def test_tokens_are_what_they_were() -> None:
    rng = random.Random(2)
    texts = random_texts(rng, 5000)
    tokens = Tokens.of(texts)
    spelt = [text.decode() for text in texts]
    read = parse(b"".join(b"1\t%s\n" % text for text in texts), RawColumns.unnamed(0, 1)).tokens(0)
    assert read.strings().to_pylist() == spelt
    assert read.hashes().tolist() == tokens.hashes().tolist()
    assert tokens.strings().to_pylist() == spelt
    assert (tokens.keys == 0).tolist() == [not text for text in texts]
    assert (tokens.keys >= TAG).tolist() == [len(text) > 8 or 0 in text for text in texts]
    which = np.array([rng.randrange(5000) for _ in range(300)])
    assert tokens.take(which).strings().to_pylist() == [spelt[i] for i in which]
    assert tokens.take(np.arange(0)).strings().to_pylist() == []
    parts = [tokens.take(np.arange(a, b)) for a, b in ((0, 9), (9, 9), (9, 4000), (4000, 5000))]
    assert joined(parts).strings().to_pylist() == spelt
    # A hash depends on the text alone, not on the list that the token is in.
    assert joined(parts[::-1]).hashes().tolist() == np.concatenate([p.hashes() for p in parts[::-1]]).tolist()
    hashes = dict(zip(texts, tokens.hashes().tolist(), strict=True))
    assert len(set(hashes.values())) == len(hashes)
    shares = np.bincount(np.array(list(hashes.values()), np.uint64) % np.uint64(4), minlength=4)
    assert shares.min() > 0.2 * len(hashes)


def test_a_dictionary_numbers_and_counts_tokens_as_they_appear() -> None:
    rng = random.Random(1)
    numbers: dict[bytes, int] = {b"": 0}
    counts: Counter[bytes] = Counter()
    dictionary = Dictionary()
    for size in (3, 1, 5000, 0, 40):
        texts = random_texts(rng, size)
        expected = [numbers.setdefault(text, len(numbers)) for text in texts]
        counts.update(texts)
        assert dictionary.codes(Tokens.of(texts), count=True).tolist() == expected
    assert dictionary.codes(Tokens.of(list(numbers)), count=False).tolist() == list(range(len(numbers)))
    assert dictionary.size == len(numbers) - 1
    assert dictionary.tokens.strings().to_pylist() == [text.decode() for text in numbers if text]
    assert dictionary.counts.tolist() == [counts[text] for text in numbers if text]


def test_tokens_of_equal_hash_stay_apart() -> None:
    """These two have the same 64-bit FNV-1a hash, that of the table of long tokens."""
    twins = [b"8yn0iYCKYHlIj4-BwPqk", b"GReLUrM4wMqfg9yzV3KQ"] * 2
    assert Dictionary().codes(Tokens.of(twins), count=False).tolist() == [1, 2, 1, 2]
    assert len(set(Tokens.of(twins).hashes().tolist())) == 1  # or they would not be twins


def test_keys_that_meet_in_one_slot_stay_apart() -> None:
    """Keys chosen to fall into the first slot of any table, more than a small table holds."""
    inverse = pow(0x9E3779B97F4A7C15, -1, 2**64)
    keys = np.array([i * inverse % 2**64 for i in range(1, 1000)], np.uint64)
    keys = keys[(keys < TAG)]
    assert len(keys) > 900
    dictionary = Dictionary()
    assert (
        dictionary.codes(Tokens(np.repeat(keys, 2)), count=True).tolist()
        == np.repeat(np.arange(1, len(keys) + 1), 2).tolist()
    )
    assert set(dictionary.counts.tolist()) == {2}


@pytest.mark.parametrize("long", [False, True])
def test_ranks_go_by_count_then_bytes_and_stop_at_the_limit(long: bool) -> None:
    texts = ["b", "a", "ab", "Z", "é", "😀", "\uffff", "rare", "none"]
    if long:  # a long token makes the whole column take the other way of sorting
        texts[7] = "a rare and long token"
    tokens = Tokens.of([text.encode() for text in texts])
    ids, kept = rank(tokens, np.array([5, 5, 5, 5, 5, 5, 5, 2, 0]), 3)
    # In UTF-16 order the emoji would precede U+FFFF; in UTF-8 order it is last.
    assert kept["value"].to_pylist() == ["Z", "a", "ab", "b", "é", "\uffff", "😀"]
    assert kept["count"].to_pylist() == [5] * 7
    assert kept["id"].to_pylist() == list(range(1, 8))
    assert ids.tolist() == [4, 2, 3, 1, 5, 7, 6, 0, 0]
    assert rank(tokens, np.arange(9), 1)[0].tolist() == [0, 8, 7, 6, 5, 4, 3, 2, 1]
    assert rank(tokens, np.arange(9), 1)[1]["value"].to_pylist() == texts[:0:-1]


def test_both_ways_of_sorting_agree() -> None:
    rng = random.Random(4)
    texts = list({text for text in random_texts(rng, 3000) if text})
    counts = np.array([rng.randrange(1, 6) for _ in texts])
    expected = sorted(range(len(texts)), key=lambda i: (-counts[i], texts[i]))
    for chosen in (texts, [text for text in texts if len(text) <= 8 and 0 not in text]):
        of = np.array([counts[texts.index(text)] for text in chosen])
        _, kept = rank(Tokens.of(chosen), of, 2)
        order = [texts[i].decode() for i in expected if counts[i] >= 2 and texts[i] in set(chosen)]
        assert kept["value"].to_pylist() == order


def test_pieces_are_read_alone(tmp_path: Path) -> None:
    pieces = [np.arange(n, dtype=np.int32) - 5 for n in (3, 0, 0, 100, 1)]
    write_pieces(tmp_path / "pieces", pieces)
    for index, piece in enumerate(pieces):
        assert read_piece(tmp_path / "pieces", len(pieces), index).tolist() == piece.tolist()


def test_bins_hold_every_share_once_and_stay_small(tmp_path: Path) -> None:
    def part(*sizes: int) -> Part:
        return Part(name="", file=0, lines=0, blocks=(), sizes=sizes, bad=(), missing=(), cut=())

    columns = RawColumns.unnamed(0, 4)
    job = Job(folder=tmp_path, work=tmp_path, columns=columns, config=PreprocessConfig(), bin_tokens=100)
    parts = [part(10, 0, 170, 60), part(20, 1, 180, 40)]
    found = counting.bins(job, parts, 2)
    shares = sorted(share for members in found for share in members)
    assert shares == [Share(0, 0, 1), Share(1, 0, 1), *(Share(2, k, 4) for k in range(4)), Share(3, 0, 1)]
    totals = {0: 30, 1: 1, 2: 350 / 4, 3: 100}
    assert max(sum(totals[share.column] for share in members) for members in found) <= 150
    assert len(counting.bins(job, [part(1, 1, 1, 1)], 2)) == 2
    assert len(counting.bins(job, [part(1, 1, 1, 1)], 9)) == 4
    none = Job(folder=tmp_path, work=tmp_path, columns=RawColumns.unnamed(1, 0), config=job.config)
    assert counting.bins(none, [part()], 8) == []


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
                monkeypatch.setattr(text_files, "CHUNK", chunk)
                pieces = list(itertools.pairwise(text_files.PlainLines().bounds(path, size)))
                chunks = [[data[:size].tobytes() for data, size in text_files.chunks(path, *piece)] for piece in pieces]
                assert b"".join(b"".join(each) for each in chunks) == text + b"\n" * (text[-1:] not in (b"", b"\n"))
                assert all(each.endswith(b"\n") for of_piece in chunks for each in of_piece)
                assert all(
                    len(data) >= size + PADDING for piece in pieces for data, size in text_files.chunks(path, *piece)
                )
                if not compressed:
                    starts = [at for at in range(len(text)) if at == 0 or text[at - 1 : at] == b"\n"]
                    before = [sum(at < start for at in starts) for start, _ in pieces]
                    assert [text_files.PlainLines().before(path, start) for start, _ in pieces] == before


def test_a_line_without_end_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_files, "CHUNK", 10)
    monkeypatch.setattr(text_files, "LONGEST_LINE", 50)
    path = tmp_path / "rows"
    path.write_bytes(b"short\n" + b"x" * 100)
    with pytest.raises(InputError, match="rows is not text: a line has more than 50 bytes"):
        list(text_files.chunks(path, 0, 1000))


def test_splitmix64_gives_the_published_numbers() -> None:
    """The first outputs for seed 1234567, as the generator's reference implementation prints them."""
    published = [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431]
    assert splitmix64(1234567, np.arange(4)).tolist() == published
    assert [oracle.splitmix64(1234567, i) for i in range(4)] == published


@pytest.mark.parametrize("bits", [0, 1, 5])
def test_rows_are_dealt_by_their_highest_bits(bits: int) -> None:
    number = splitmix64(3, np.arange(1000))
    place, dealt = shuffle.deal(number, bits)
    bucket = [n >> (64 - bits) for n in number.tolist()]
    assert np.argsort(place).tolist() == sorted(range(1000), key=lambda i: (bucket[i], i))
    assert dealt.tolist() == [bucket.count(b) for b in range(2**bits)]


def test_buckets_stay_small_until_there_are_very_many() -> None:
    assert [shuffle.bucket_bits(rows) for rows in (0, 1, 2**19, 2**19 + 1, 10**7, 2**40)] == [0, 0, 0, 1, 5, 11]
