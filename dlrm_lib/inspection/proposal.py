"""What each column of an unknown log could be: proposed with the reason, for a person to decide."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from dlrm_lib.columns import LabelColumn, NumericalColumn
from dlrm_lib.inspection.contents import Contents, contents, quoted
from dlrm_lib.inspection.first_rows import FirstRows
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
    label = _label(columns)
    return [_as_label(column) if column is label else _proposal(column, columns) for column in columns]


def remarks(rows: FirstRows, proposals: Sequence[Proposal]) -> Iterator[str]:
    """What to know before the specification is used, a sentence each."""
    if not any(proposal.role == "label" for proposal in proposals):
        two = [quoted(of.contents.name) for of in proposals if _labels(of.contents) and of.contents.distinct == 2]
        known = f"columns of two values are {', '.join(two[:8])}" if two and rows.named else "no column says whether"
        yield f"no label is proposed: {known}. Name the column that says what was clicked under label"
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
    """The column whose name tells most that it is the label, among those that could be one."""
    could = [column for column in columns if _labels(column)]
    telling = [
        (min((_OF_LABELS.index(word) for word in _words(of) if word in _OF_LABELS), default=99), of) for of in could
    ]
    rank, column = min(telling, key=lambda pair: pair[0], default=(99, None))
    return column if rank < 99 else None


def _as_label(column: Contents) -> Proposal:
    no, yes = _labels(column) or _ZERO_ONE
    why = f"by its name; {quoted(yes)} would be a click"
    if column.distinct < 2:
        why = f"by its name, but all these rows have {quoted(column.counts[0][0])}"
    elif (no, yes) != _ZERO_ONE and not _declarable(LabelColumn, "values"):
        why += f", and must be 1, and {quoted(no)} 0"
    declares = {"values": [no, yes]} if (no, yes) != _ZERO_ONE and _declarable(LabelColumn, "values") else {}
    return Proposal(contents=column, role="label", why=why, declares=declares)


def _declarable(kind: type, key: str) -> bool:
    return key in {f.name for f in fields(kind)}


def _proposal(column: Contents, columns: Sequence[Contents]) -> Proposal:
    if why := _why_ignored(column, columns):
        return Proposal(contents=column, role="ignored", why=why)
    if column.kind in ("integer", "decimal") and not (why := _why_tokens(column)):
        return _number(column)
    if column.words:
        why = f"{column.words:,} rows say in words that there is no value: a token like any other"
    return Proposal(contents=column, role="categorical", why=why or "")


def _why_ignored(column: Contents, columns: Sequence[Contents]) -> str | None:
    """Why a column is not proposed to be read; None where it is."""
    words = _words(column)
    if not column.name.strip():
        return "it has no name; pandas leaves its index so"
    if sum(other.name == column.name for other in columns) > 1:
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


def _number(column: Contents) -> Proposal:
    why, declares = "", {}
    if column.kind == "decimal" and _declarable(NumericalColumn, "type"):
        declares = {"type": "decimal"}
    elif column.kind == "decimal":
        why = "decimals, which must be scaled to whole numbers first"
    elif column.distinct <= 20:
        why = "few whole numbers; categorical if they are names of things"
    if faults := column.words + column.odd:
        why = f"{faults:,} rows have no number here, and would be rejected; an empty field means missing"
    return Proposal(contents=column, role="numerical", why=why, declares=declares)


def _by_place(columns: Sequence[Contents]) -> Iterator[Proposal]:
    """The label in front, then integers as far as they go, then tokens."""
    holds = [column.kind for column in columns]
    tokens = next((place for place, kind in enumerate(holds) if place and kind not in ("integer", "empty")), len(holds))
    while tokens > 1 and holds[tokens - 1] == "empty":  # of empty columns nobody can tell
        tokens -= 1
    for place, column in enumerate(columns):
        if place == 0:
            fits = _labels(column) == _ZERO_ONE
            yield Proposal(
                contents=column,
                role="label" if fits else "ignored",
                why="by its place" if fits else "the first field must be the label, 0 or 1",
            )
        elif place < tokens:
            faults = column.words + column.odd
            why = f"{faults:,} rows have no whole number here, and would be rejected" if faults else ""
            yield Proposal(contents=column, role="numerical", why=why)
        else:
            why = f"holds {column.kind}s, but stands behind tokens" if column.kind in ("integer", "decimal") else ""
            if column.kind == "decimal" and holds[1:place].count("text") == 0:
                why = "holds decimals, which must be whole numbers first"
            yield Proposal(contents=column, role="categorical", why=why)
