"""Columns that a model cannot rely on: steady ones, and those that change between training and held-out rows.

The figures are those that ``preprocess`` counts (``Manifest.columns``).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from dlrm_lib.features import SPLITS, FeatureSpec
from dlrm_lib.manifest import Manifest

# In 68,000 rows of Criteo's log, no share of missing or unknown values moves by more than 0.06 between the first
# nine tenths and the last one, and no mean by more than a tenth of its deviation. What stands out moves by a
# multiple of that, and by more than chance explains in any of many columns.
_SHARE = 0.2
_DEVIATIONS = 1.0
_SPREAD = 3.0  # times the deviation
_LEAST_DEVIATION = 0.1  # ten per cent, as encoded numbers are logarithms
_ERRORS = 4.0  # standard errors
_NEW = 0.01  # of the held-out rows: fewer hardly change a result
_NAMES = 3


class _Column(NamedTuple):
    """A column's shares, mean and deviation, as in ``Manifest.columns``, in the training rows and in those held out.

    Attributes:
        missing: How to call what the share ``missing`` counts.
        error: Standard error of a difference of two means, for a deviation of 1.
    """

    name: str
    missing: str
    then: dict[str, Any]
    now: dict[str, Any]
    error: float

    def growth(self, share: str) -> float:
        """Of a share; 0 unless it stands out, in either direction."""
        before, after = self.then[share], self.now[share]
        middle = (before + after) / 2
        least = max(_SHARE, _ERRORS * math.sqrt(middle * (1 - middle)) * self.error)
        return after - before if abs(after - before) >= least else 0.0


def drift_remarks(manifest: Manifest, spec: FeatureSpec) -> list[str]:
    """A sentence for each kind of thing that stands out; none where all is as it should be.

    They are about splits of one class, columns that say nothing, and columns that are new, gone or changed in the rows
    held out. A column is named once, columns with the same fault together.
    """
    by_fault: dict[Callable[[_Column], str | None], list[tuple[str, str]]] = {}
    for column in _columns(manifest, spec):
        for fault in _FAULTS:
            if says := fault(column):
                by_fault.setdefault(fault, []).append((column.name, says))
                break
    found = list(_classes(manifest))
    for fault in _FAULTS:
        if fault in by_fault:
            (name, says), *others = by_fault[fault]
            names = [other for other, _ in others]
            more = f" and {len(names) - _NAMES} more" if len(names) > _NAMES else ""
            found.append(f"{name} {says}" + (f"; likewise {', '.join(names[:_NAMES])}{more}" if names else ""))
    return found


def _classes(manifest: Manifest) -> Iterator[str]:
    for split, rows in manifest.rows.items():
        clicks = manifest.clicks.get(split)
        if rows and clicks in (0, rows):
            share = "no row" if clicks == 0 else "every row"
            so = "there is nothing to learn" if split == "train" else "there is no AUC"
            none_left = clicks == rows and split == "train" and manifest.left_out
            raise_it = f"; --negative_rate {manifest.negative_rate:g} has kept no other: raise it" if none_left else ""
            yield f"{share} of the {split} split is a click: {so}{raise_it}"


def _columns(manifest: Manifest, spec: FeatureSpec) -> Iterator[_Column]:
    rows = manifest.accepted
    rules = dict(zip(spec.columns.numerical_names, spec.numeric_rules, strict=True))
    for name, splits in manifest.columns.items():
        if "train" not in splits:
            continue
        # Without rows held out nothing has changed, but a column may still be constant.
        held_out = [split for split in SPLITS[1:] if split in splits] or [SPLITS[0]]
        then, now = splits["train"], splits[held_out[0]]
        count = sum(rows[split] for split in held_out)
        if any(splits[split] != now for split in held_out):
            now = {what: sum(splits[split][what] * rows[split] for split in held_out) / count for what in then}
            now["constant"] = False
        missing = "missing or 0" if name in rules and rules[name].missing_is_zero else "missing"
        yield _Column(name, missing, then, now, math.sqrt(1 / rows["train"] + 1 / count))


def _is_rare(column: _Column) -> str | None:
    """All values share id 0 with what is missing."""
    if not (column.then["constant"] and column.then.get("unknown")):
        return None
    return "has no value frequent enough for an id of its own: lower --frequency_limit"


def _is_empty(column: _Column) -> str | None:
    if column.then["missing"] < 1 or column.now["missing"] < 1:
        return None
    return f"is {column.missing} in all rows, and says nothing"


def _is_constant(column: _Column) -> str | None:
    if not column.then["constant"] or column.now != column.then:
        return None
    return "has the same value in all rows, and says nothing"


def _is_new(column: _Column) -> str | None:
    there = 1 - column.now["missing"]
    if column.then["missing"] < 1 or there < _NEW:
        return None
    rest = "in none of those held out" if there == 1 else f"in {1 - there:.0%} of those held out"
    return f"is {column.missing} in all training rows, and {rest}"


def _was_constant(column: _Column) -> str | None:
    if not column.then["constant"] or column.then["missing"] == 1:
        return None
    return "is constant in the training rows, and not the same in those held out"


def _changes_missing(column: _Column) -> str | None:
    if not column.growth("missing"):
        return None
    then, now = column.then["missing"], column.now["missing"]
    return f"is {column.missing} in {then:.0%} of the training rows, and in {now:.0%} of those held out"


def _changes_values(column: _Column) -> str | None:
    if "unknown" not in column.then or column.growth("unknown") <= 0:
        return None
    then, now = column.then["unknown"], column.now["unknown"]
    return (
        f"has a value without an id, too rare or never seen, in {then:.0%} of the training rows, and "
        f"in {now:.0%} of those held out"
    )


def _changes_size(column: _Column) -> str | None:
    then, now = column.then, column.now
    if "mean" not in then:
        return None
    deviation, far = max(then["deviation"], _LEAST_DEVIATION), max(_DEVIATIONS, _ERRORS * column.error)
    if abs(now["mean"] - then["mean"]) < far * deviation and now["deviation"] < _SPREAD * far * deviation:
        return None
    return (
        f"has another size: the encoded numbers are {then['mean']:.2f} ± {then['deviation']:.2f} in the training rows, "
        f"and {now['mean']:.2f} ± {now['deviation']:.2f} in those held out"
    )


_FAULTS = (
    _is_rare,
    _is_empty,
    _is_constant,
    _is_new,
    _was_constant,
    _changes_missing,
    _changes_values,
    _changes_size,
)
