"""The encoding of raw rows in plain Python, from its description: lists, dictionaries, big integers. Slow."""

from __future__ import annotations

import gzip
import hashlib
import statistics
import struct
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from oracle_numbers import drawn, edges, float16, mixed, read_number, splitmix64

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
    """What a data set should hold: files by name, vocabularies as rows, counts of values without an id, edges of bins,
    facts of the manifest, and of its columns."""

    files: dict[str, bytes]
    vocabularies: list[list[tuple[str, int, int]]]
    rare: list[dict[str, int]]
    learned: list[list[float]]
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


def bag(field: str, column) -> list[str]:
    """The tokens of a field that are kept; one that is empty where there are none."""
    if column.most == 1:
        return [field]
    return [token for token in field.split(column.separator) if token][: column.most] or [""]


def lines_of(path: Path) -> list[bytes]:
    """The lines of a file, without newlines; nothing after the last newline is no line, nor a mark before the first."""
    text = gzip.decompress(path.read_bytes()) if path.name.endswith(".gz") else path.read_bytes()
    lines = text.removeprefix(b"\xef\xbb\xbf").split(b"\n")
    return lines if lines[-1] else lines[:-1]


def stays(row: Row, index: int, config) -> bool:
    """Whether training row ``index`` is kept: a click, or one whose number, mixed again, is below the rate."""
    return bool(row.label) or mixed(splitmix64(config.shuffle_seed, index)) < config.negative_rate * 2**64


def encode(
    days: list[Path],
    config,
    columns,
    earlier: Expected | None = None,
    extend: bool = False,
    learned_rows: int = 1 << 18,
) -> Expected:
    """Encodes day files (or one file), given in time order, with the ids and bins of what was encoded earlier."""
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
    accepted = {"train": train, "validation": rest[len(rest) // 2 :], "test": rest[: len(rest) // 2]}
    order = [i for i, row in enumerate(train) if stays(row, i, config)]
    if config.order == "shuffled":
        order.sort(key=lambda i: (splitmix64(config.shuffle_seed, i), i))
    splits = accepted | {"train": [train[i] for i in order]}

    general, *special = str(config.frequency_limit).split(",")
    limits = dict.fromkeys(range(columns.categorical), int(general))
    names = list(columns.categorical_names)
    for column, limit in (pair.split(":") for pair in special):
        limits[names.index(column) if column in names else int(column)] = int(limit)
    counted = rows if config.vocabulary_days == "all" else train
    rules = [of.rule or ("log" if of.type == "decimal" else config.numeric_rule) for of in columns.numbers]
    learned = [
        edges([row.numbers[column] for row in drawn(counted, learned_rows)], of.bins or 100)
        for column, of in enumerate(columns.numbers)
    ]
    if earlier:
        learned = earlier.learned
    vocabularies, rare = [], []
    for column in range(columns.categorical):
        bags = [bag(row.tokens[column], columns.tokens[column]) for row in counted]
        counts = Counter(token for tokens in bags for token in tokens if token or config.separate_missing)
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
            float16(*of) for row in members for of in zip(row.numbers, rules, learned, strict=True)
        )
        for column, of in enumerate(ids):
            cardinality = len(of) + 1
            kind = "b" if cardinality < 127 else "h" if cardinality < 32767 else "i"
            bags = [bag(row.tokens[column], columns.tokens[column]) for row in members]
            most = columns.tokens[column].most
            values = [of.get(token, 0) for tokens in bags for token in tokens]
            if most > 1:
                values = [i for tokens in bags for i in ([of.get(t, 0) for t in tokens] + [cardinality] * most)[:most]]
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
        "left_out": len(train) - len(order),
        "clicks": {name: sum(row.label for row in members) for name, members in splits.items()},
        "quarantined": {reason: reasons[reason] for reason in _REASONS if reasons[reason]},
        "cut": {
            column.name: sum(len([t for t in row.tokens[j].split(column.separator) if t]) > column.most for row in rows)
            for j, column in enumerate(columns.tokens)
            if column.most > 1
        },
        "cardinalities": [len(vocabulary) + 1 for vocabulary in vocabularies],
        "vocabularies": [
            hashlib.sha256("".join(f"{value}\n" for value, _, _ in vocabulary).encode()).hexdigest()
            for vocabulary in vocabularies
        ],
    }
    described: dict[str, dict] = {}
    for name, members in accepted.items():
        for column in range(columns.numerical if members else 0):
            rule = rules[column], learned[column]
            numbers = [struct.unpack("<e", float16(row.numbers[column], *rule))[0] for row in members]
            missing = struct.unpack("<e", float16(None, *rule))[0]
            facts = {"missing": numbers.count(missing) / len(members), "constant": len(set(numbers)) == 1}
            facts |= {"mean": statistics.fmean(numbers), "deviation": statistics.pstdev(numbers)}
            described.setdefault(columns.numerical_names[column], {})[name] = facts
        for column, of in enumerate(ids if members else ()):
            bags = [bag(row.tokens[column], columns.tokens[column]) for row in members]
            unknown = [tokens for tokens in bags if any(token and token not in of for token in tokens)]
            facts = {"missing": bags.count([""]) / len(members), "unknown": len(unknown) / len(members)}
            facts["constant"] = len({of.get(token, 0) for tokens in bags for token in tokens}) == 1
            described.setdefault(columns.categorical_names[column], {})[name] = facts
    return Expected(files, vocabularies, rare, learned, manifest, described)
