"""The encoding of raw rows in plain Python, from its description: lists, dictionaries, big integers. Slow."""

from __future__ import annotations

import gzip
import hashlib
import math
import re
import statistics
import struct
from collections import Counter
from pathlib import Path
from typing import NamedTuple

_MASK = 2**64 - 1
_REASONS = [
    "blank line",
    "not UTF-8",
    "wrong number of fields",
    "label is not 0 or 1",
    "not an integer",
    "integer beyond 64 bits",
]


class Row(NamedTuple):
    """A raw row: 0 or 1, integers or None, tokens ('' if missing)."""

    label: int
    integers: list[int | None]
    tokens: list[str]


class Expected(NamedTuple):
    """What a data set should hold: files by name, vocabularies as rows, counts of values without an id, facts of the
    manifest, and of its columns."""

    files: dict[str, bytes]
    vocabularies: list[list[tuple[str, int, int]]]
    rare: list[dict[str, int]]
    manifest: dict
    columns: dict[str, dict]


def read_line(line: bytes, numerical: int, categorical: int) -> Row | str:
    """A line without its newline as a row, or the reason to reject it."""
    if line.endswith(b"\r"):
        line = line[:-1]
    if not line:
        return "blank line"
    try:
        fields = line.decode("utf-8").split("\t")
    except UnicodeDecodeError:
        return "not UTF-8"
    if len(fields) != 1 + numerical + categorical:
        return "wrong number of fields"
    if fields[0] not in ("0", "1"):
        return "label is not 0 or 1"
    integers: list[int | None] = []
    for field in fields[1 : 1 + numerical]:
        if field == "":
            integers.append(None)
        elif not re.fullmatch(r"-?[0-9]+", field):
            return "not an integer"
        elif not -(2**63) <= int(field) < 2**63:
            return "integer beyond 64 bits"
        else:
            integers.append(int(field))
    return Row(int(fields[0]), integers, fields[1 + numerical :])


def lines_of(path: Path) -> list[bytes]:
    """The lines of a file, without newlines; nothing after the last newline is no line, nor a mark before the first."""
    text = gzip.decompress(path.read_bytes()) if path.name.endswith(".gz") else path.read_bytes()
    lines = text.removeprefix(b"\xef\xbb\xbf").split(b"\n")
    return lines if lines[-1] else lines[:-1]


def float16(x: int | None, rule: str) -> bytes:
    """The encoded integer."""
    if rule == "log_x_plus_2":
        value = math.log(max((0 if x is None else x) + 2, 1))
    else:
        value = 0.0 if x is None or x <= -3 else math.log(x + 3)
    return struct.pack("<e", value)


def splitmix64(seed: int, index: int) -> int:
    """The number by which training row ``index`` is sorted."""
    z = (seed + (index + 1) * 0x9E3779B97F4A7C15) & _MASK
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 & _MASK
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB & _MASK
    return z ^ (z >> 31)


def encode(days: list[Path], config, columns, earlier: Expected | None = None, extend: bool = False) -> Expected:
    """Encodes day files (or one file), given in time order, with the ids of what was encoded earlier."""
    rows: list[Row] = []
    days_rows: list[int] = []
    quarantine = [b"file\tline\treason\ttext"]
    reasons: Counter[str] = Counter()
    for path in days:
        before = len(rows)
        for number, line in enumerate(lines_of(path), start=1):
            row = read_line(line, columns.numerical, columns.categorical)
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
    names = list(columns.categorical_names)
    for column, limit in (pair.split(":") for pair in special):
        limits[names.index(column) if column in names else int(column)] = int(limit)
    vocabularies, rare = [], []
    for column in range(columns.categorical):
        counted = rows if config.vocabulary_days == "all" else train
        counts = Counter(row.tokens[column] for row in counted if row.tokens[column] or config.separate_missing)
        known = [""] if config.separate_missing else []
        if earlier:
            known = [value for value, _, _ in earlier.vocabularies[column]]
            counts.update({value: count for value, count, _ in earlier.vocabularies[column]})
            counts.update(earlier.rare[column])
        new = []
        if extend or not earlier:
            new = [value for value, count in counts.items() if count >= limits[column] and value not in known]
            new.sort(key=lambda value: (-counts[value], value.encode()))
        vocabularies.append([(value, counts[value], i) for i, value in enumerate(known + new, start=1)])
        rare.append({value: count for value, count in counts.items() if count and value not in known + new})
    ids = [{value: i for value, _, i in vocabulary} for vocabulary in vocabularies]

    files = {"quarantine/rejected.tsv": b"".join(line + b"\n" for line in quarantine)}
    for name, members in splits.items():
        files[f"{name}/label.bin"] = bytes(row.label for row in members)
        files[f"{name}/numerical.bin"] = b"".join(
            float16(x, config.numeric_rule) for row in members for x in row.integers
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
            numbers = [struct.unpack("<e", float16(row.integers[column], config.numeric_rule))[0] for row in members]
            missing = struct.unpack("<e", float16(None, config.numeric_rule))[0]
            facts = {"missing": numbers.count(missing) / len(members), "constant": len(set(numbers)) == 1}
            facts |= {"mean": statistics.fmean(numbers), "deviation": statistics.pstdev(numbers)}
            described.setdefault(columns.numerical_names[column], {})[name] = facts
        for column, of in enumerate(ids if members else ()):
            tokens = [row.tokens[column] for row in members]
            unknown = [token for token in tokens if token and token not in of]
            facts = {"missing": tokens.count("") / len(members), "unknown": len(unknown) / len(members)}
            facts["constant"] = len({of.get(token, 0) for token in tokens}) == 1
            described.setdefault(columns.categorical_names[column], {})[name] = facts
    return Expected(files, vocabularies, rare, manifest, described)
