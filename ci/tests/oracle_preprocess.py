"""The encoding of raw rows in plain Python, from its description: lists, dictionaries, big integers. Slow."""

from __future__ import annotations

import gzip
import hashlib
import statistics
import struct
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from oracle_numbers import drawn, edges, float16, read_number, splitmix64

_REASONS = [
    "blank line",
    "not UTF-8",
    "wrong number of fields",
    "label is not 0 or 1",
    "not an integer",
    "integer beyond 64 bits",
    "not a decimal number",
    "decimal number too large",
]


class Row(NamedTuple):
    """A raw row: 0 or 1, numbers or None, tokens ('' if missing)."""

    label: int
    numbers: list[int | float | None]
    tokens: list[str]


class Expected(NamedTuple):
    """What a data set should hold: files by name, vocabularies as rows, facts of the manifest, and of its columns."""

    files: dict[str, bytes]
    vocabularies: list[list[tuple[str, int, int]]]
    manifest: dict
    columns: dict[str, dict]


def read_line(line: bytes, columns) -> Row | str:
    """A line without its newline as a row, or the reason to reject it."""
    if line.endswith(b"\r"):
        line = line[:-1]
    if not line:
        return "blank line"
    try:
        fields = line.decode("utf-8").split("\t")
    except UnicodeDecodeError:
        return "not UTF-8"
    if len(fields) != columns.total:
        return "wrong number of fields"
    if fields[0] not in ("0", "1"):
        return "label is not 0 or 1"
    first = 1 + columns.numerical
    numbers: list[int | float | None] = []
    for field, column in zip(fields[1:first], columns.numbers, strict=True):
        number = read_number(field, column)
        if isinstance(number, str):
            return number
        numbers.append(number)
    return Row(int(fields[0]), numbers, fields[first:])


def lines_of(path: Path) -> list[bytes]:
    """The lines of a file, without newlines; nothing after the last newline is no line, nor a mark before the first."""
    text = gzip.decompress(path.read_bytes()) if path.name.endswith(".gz") else path.read_bytes()
    lines = text.removeprefix(b"\xef\xbb\xbf").split(b"\n")
    return lines if lines[-1] else lines[:-1]


def encode(days: list[Path], config, columns, learned_rows: int = 1 << 18) -> Expected:
    """Encodes day files (or one file), given in time order."""
    rows: list[Row] = []
    days_rows: list[int] = []
    quarantine = [b"file\tline\treason\ttext"]
    reasons: Counter[str] = Counter()
    for path in days:
        before = len(rows)
        for number, line in enumerate(lines_of(path), start=1):
            row = read_line(line, columns)
            if isinstance(row, str):
                reasons[row] += 1
                text = line[:-1] if line.endswith(b"\r") else line
                quarantine.append(b"\t".join([path.name.encode(), str(number).encode(), row.encode(), text]))
            else:
                rows.append(row)
        days_rows.append(len(rows) - before)
    held_out = days_rows[-1] if len(days) > 1 else round(len(rows) * config.holdout_fraction)
    train = rows[: len(rows) - held_out]
    rest = rows[len(rows) - held_out :]
    splits = {"train": train, "validation": rest[len(rest) // 2 :], "test": rest[: len(rest) // 2]}
    if config.order == "shuffled":
        order = sorted(range(len(train)), key=lambda i: (splitmix64(config.shuffle_seed, i), i))
        splits["train"] = [train[i] for i in order]

    general, *special = str(config.frequency_limit).split(",")
    limits = dict.fromkeys(range(columns.categorical), int(general))
    limits |= {int(column): int(limit) for column, limit in (pair.split(":") for pair in special)}
    counted = rows if config.vocabulary_days == "all" else train
    rules = [of.rule or ("log" if of.type == "decimal" else config.numeric_rule) for of in columns.numbers]
    learned = [
        edges([row.numbers[column] for row in drawn(counted, learned_rows)], of.bins or 100)
        for column, of in enumerate(columns.numbers)
    ]
    vocabularies = []
    for column in range(columns.categorical):
        counts = Counter(row.tokens[column] for row in counted if row.tokens[column])
        kept = [(value, count) for value, count in counts.items() if count >= limits[column]]
        kept.sort(key=lambda pair: (-pair[1], pair[0].encode()))
        vocabularies.append([(value, count, i) for i, (value, count) in enumerate(kept, start=1)])
    ids = [{value: i for value, _, i in vocabulary} for vocabulary in vocabularies]

    files = {"quarantine/rejected.tsv": b"".join(line + b"\n" for line in quarantine)}
    for name, members in splits.items():
        files[f"{name}/label.bin"] = bytes(row.label for row in members)
        files[f"{name}/numerical.bin"] = b"".join(
            float16(*of) for row in members for of in zip(row.numbers, rules, learned, strict=True)
        )
        for column, of in enumerate(ids):
            cardinality = len(of) + 1
            kind = "b" if cardinality < 127 else "h" if cardinality < 32767 else "i"
            values = [of.get(row.tokens[column], 0) for row in members]
            files[f"{name}/cat_{column}.bin"] = struct.pack(f"<{len(values)}{kind}", *values)
    manifest = {
        "source": [
            {
                "name": path.name,
                "bytes": len(path.read_bytes()),
                "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
            }
            for path in days
        ],
        "rows": {name: len(members) for name, members in splits.items()},
        "clicks": {name: sum(row.label for row in members) for name, members in splits.items()},
        "quarantined": {reason: reasons[reason] for reason in _REASONS if reasons[reason]},
        "cardinalities": [len(vocabulary) + 1 for vocabulary in vocabularies],
        "vocabularies": [
            hashlib.sha256("".join(f"{value}\n" for value, _, _ in vocabulary).encode()).hexdigest()
            for vocabulary in vocabularies
        ],
    }
    described: dict[str, dict] = {}
    for name, members in splits.items():
        for column in range(columns.numerical if members else 0):
            rule = rules[column], learned[column]
            numbers = [struct.unpack("<e", float16(row.numbers[column], *rule))[0] for row in members]
            missing = struct.unpack("<e", float16(None, *rule))[0]
            facts = {"missing": numbers.count(missing) / len(members), "constant": len(set(numbers)) == 1}
            facts |= {"mean": statistics.fmean(numbers), "deviation": statistics.pstdev(numbers)}
            described.setdefault(columns.numerical_names[column], {})[name] = facts
        for column, of in enumerate(ids if members else ()):
            tokens = [row.tokens[column] for row in members]
            unknown = [token for token in tokens if token and token not in of]
            facts = {"missing": tokens.count("") / len(members), "unknown": len(unknown) / len(members)}
            facts["constant"] = len({of.get(token, 0) for token in tokens}) == 1
            described.setdefault(columns.categorical_names[column], {})[name] = facts
    return Expected(files, vocabularies, manifest, described)
