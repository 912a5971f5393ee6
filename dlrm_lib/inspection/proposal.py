"""What each column of an unknown log could be: proposed with the reason, for a person to decide."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from dlrm_lib.columns import CRITEO
from dlrm_lib.inspection.beginning import FirstRows
from dlrm_lib.inspection.contents import Contents, contents, quoted
from dlrm_lib.preprocess.formats import LABELS

_ZERO_ONE = ("0", "1")
_PAIRS = (_ZERO_ONE, *((no.decode(), yes.decode()) for no, yes in LABELS))

# Words in the names of columns, the most telling first.
_OF_LABELS = (
    *("label", "labels", "clicked", "click", "clicks", "target", "converted", "conversion", "purchased", "bought"),
    *("installed", "outcome", "response", "y"),
)
_OF_TIMES = {"time", "timestamp", "datetime", "date", "ts", "epoch"}
_OF_IDS = {"id", "ids", "uuid", "guid", "key", "index", "row", "hash", "cookie", "session"}
_OF_CODES = {
    "code",
    "type",
    "kind",
    "category",
    "categorical",
    "class",
    "zip",
    "postcode",
    "version",
    "group",
    "segment",
}
_EPOCHS = ((10**8, 10**10), (10**11, 10**13), (10**14, 10**16))  # seconds, milliseconds, microseconds since 1970
_FEW = 20  # values
_SEVERAL = 0.1  # share of the rows with a bar between tokens
_LARGE = 10**9  # whole numbers beyond are more often hashes than quantities


@dataclass(frozen=True, kw_only=True)
class Proposal:
    """
    Attributes:
        contents: The column.
        role: ``label``, ``numerical``, ``categorical`` or ``ignored``.
        why: The reason, where it is not plain to see, and what to look at.
        declares: What a feature specification must say of it.
    """

    contents: Contents
    role: str
    why: str = ""
    declares: dict[str, Any] = field(default_factory=dict)


def propose(rows: FirstRows) -> list[Proposal]:
    """A proposal for each column.

    Columns without names are what their place makes them: the label, then integers, then tokens.
    """
    columns = list(contents(rows.table))
    if not rows.named:
        return list(_by_place(columns))
    times = Counter(column.name for column in columns)
    label = _label([column for column in columns if times[column.name] == 1])
    return [
        _as_label(column, "its name") if column is label else _proposal(column, alone=times[column.name] == 1)
        for column in columns
    ]


def remarks(rows: FirstRows, proposals: Sequence[Proposal]) -> Iterator[str]:
    """What to know before the specification is used, a sentence each."""
    if not any(proposal.role == "label" for proposal in proposals):
        two = [quoted(of.contents.name) for of in proposals if _labels(of.contents) and of.contents.distinct == 2]
        some = f"those of two values are {', '.join(two[:8])}" if two else "none has two values such as 0 and 1"
        yield f"no column is proposed as the label; {some}. List the one that says what was clicked under label"
    roles = [proposal.role for proposal in proposals]
    counts = roles.count("numerical"), roles.count("categorical")
    if not rows.named and counts == (CRITEO.numerical, CRITEO.categorical):
        yield "these are as many columns of each kind as Criteo's logs have, which are read without --feature_spec too"
    if not any(proposal.role in ("numerical", "categorical") for proposal in proposals):
        yield "nothing that a model could learn from is proposed"
    if rows.other_widths:
        yield f"{rows.other_widths:,} records have another number of fields, and would be rejected"
    if rows.not_utf8:
        yield f"{rows.not_utf8:,} rows are not UTF-8, and would be rejected"


def _labels(column: Contents) -> tuple[str, str] | None:
    """The pair of labels that a column holds, the one for a click second."""
    values = {value for value, _ in column.counts}
    found = (pair for pair in _PAIRS if values <= {*pair})
    return next(found, None) if values and not column.missing else None


def _words(column: Contents) -> set[str]:
    """The words in the name of a column: is_click, isClick and is-click have the same."""
    return {word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+|[0-9]+", column.name)}


def _label(columns: Sequence[Contents]) -> Contents | None:
    """The column whose name tells most that it is the label, among those that could be one; two values come first."""
    ranked = [
        (min(map(_OF_LABELS.index, telling)), column.distinct < 2, place)
        for place, column in enumerate(columns)
        if _labels(column) and (telling := _words(column) & {*_OF_LABELS})
    ]
    return columns[min(ranked)[-1]] if ranked else None


def _as_label(column: Contents, reason: str) -> Proposal:
    no, yes = _labels(column) or _ZERO_ONE
    why, declares = f"by {reason}", {}
    if column.distinct < 2:
        why += f", but all these rows have {quoted(column.counts[0][0])}"
    if (no, yes) != _ZERO_ONE:
        why += f"; {quoted(yes)} would be a click"
    if (no, yes) != _ZERO_ONE and column.kind != "boolean":
        declares = {"values": [no, yes]}
    return Proposal(contents=column, role="label", why=why, declares=declares)


def _proposal(column: Contents, *, alone: bool) -> Proposal:
    if why := _why_ignored(column, alone=alone):
        return Proposal(contents=column, role="ignored", why=why)
    if column.kind in ("integer", "decimal") and not (why := _why_tokens(column)):
        few = column.kind == "integer" and column.distinct <= _FEW
        return _number(column, "few whole numbers; categorical if they are names of things" if few else "")
    if column.words:
        why = f"{column.words:,} rows say in words that there is no value: a token like any other"
    elif sum(count for value, count in column.counts if "|" in value) > _SEVERAL * column.rows:
        why = "several tokens in one field? each text is taken as one"
    return Proposal(contents=column, role="categorical", why=why or "")


def _why_ignored(column: Contents, *, alone: bool) -> str | None:
    """Why a column is not proposed to be read; None where it is."""
    words = _words(column)
    if not column.name.strip():
        return "it has no name; pandas leaves its index so"
    if not alone:
        return "another column has this name too"
    if not column.readable and column.kind != "time":
        return f"values of the type {column.kind} are not read"
    if column.kind == "empty":
        return "it is empty in all these rows"
    least = column.least or 0
    if column.kind == "time" or (words & _OF_TIMES and any(low <= least < high for low, high in _EPOCHS)):
        return "a time? rows are taken in the order of the file"
    if column.distinct == 1 and not column.missing:
        return "all these rows have the same value"
    if column.kind == "integer" and column.climbs and column.all_different:
        return "it climbs from row to row: a number of the row?"
    if column.all_different and (column.kind == "text" or (column.kind == "integer" and words & _OF_IDS)):
        return "nearly every row has a value of its own: an id? categorical if they come again in more rows"
    return None


def _why_tokens(column: Contents) -> str | None:
    """Why a column of numbers is better taken for one of tokens; None where it is not."""
    if column.kind == "decimal":
        return None
    if telling := _words(column) & (_OF_IDS | _OF_CODES):
        return f"by its name ({', '.join(sorted(telling))}), though it holds whole numbers"
    if column.distinct == 2:
        return "two values"
    if column.largest is not None and column.largest >= _LARGE:
        return "whole numbers as large as hashes have"
    return None


def _number(column: Contents, why: str = "") -> Proposal:
    declares = {"type": "decimal"} if column.kind == "decimal" else {}
    if faults := column.words + column.odd:
        why = f"{faults:,} rows have no number here, and would be rejected; an empty field means missing"
    return Proposal(contents=column, role="numerical", why=why, declares=declares)


def _by_place(columns: Sequence[Contents]) -> Iterator[Proposal]:
    """The label in front, then numbers as far as they go, then tokens."""
    holds = [column.kind for column in columns]
    numbers = ("integer", "decimal", "empty")
    tokens = next((place for place, kind in enumerate(holds) if place and kind not in numbers), len(holds))
    while tokens > 1 and holds[tokens - 1] == "empty":  # of empty columns nobody can tell
        tokens -= 1
    for place, column in enumerate(columns):
        pair = _labels(column)
        if place == 0 and pair:
            yield _as_label(column, "its place")
        elif place == 0:
            yield Proposal(contents=column, role="ignored", why="the first field must be the label, 0 or 1")
        elif place < tokens:
            yield _number(column)
        else:
            why = f"holds {column.kind}s, but stands behind tokens" if column.kind in ("integer", "decimal") else ""
            yield Proposal(contents=column, role="categorical", why=why)
