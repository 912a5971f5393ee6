"""Text that is not raw rows yet: one table of formats, each with its sign and the shell filter that makes rows of it.

A format is recognised by many lines, never by one. Filters are chained: a file with a header and semicolons needs two.
"""

from __future__ import annotations

import csv
import dataclasses
import functools
import re
from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple

from dlrm_lib.columns import RawColumns
from dlrm_lib.preprocess.packings import PYTHON
from dlrm_lib.preprocess.rows import BOM, parse

_MOST = 0.9  # share of the lines that show a format
CLEAN = 0.001  # share of rejected lines that a remedy may leave, as ``max_bad_fraction`` allows by default
STRAY = 0.1  # share of a column's values up to which decimals are mistakes: to scale the others would be another
_LINES = 5000

_NUMBER = re.compile(rb"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_VALUE = re.compile(rb"[0-9a-fA-F]{8}|" + _NUMBER.pattern)  # no name of a column: a hash, as Criteo's tokens are, or so
_INTEGER = re.compile(rb"-?\d+")
_WHOLE = re.compile(rb"-?\d+\.0*")
# Pairs of labels, the one for a click second.
LABELS = (
    *((b"-1", b"1"), (b"-1", b"+1"), (b"0.0", b"1.0"), (b"-1.0", b"1.0"), (b"False", b"True"), (b"false", b"true")),
    *((b"FALSE", b"TRUE"), (b"f", b"t"), (b"no", b"yes"), (b"n", b"y"), (b"N", b"Y")),
)
MISSING = (b"nan", b"NaN", b"NAN", b"NA", b"N/A", b"<NA>", b"null", b"NULL", b"None", b"none", b"\\N")
_SEPARATORS = {
    ",": "commas",
    ";": "semicolons",
    "|": "pipes",
    ":": "colons",
    " ": "spaces",
    "\x01": "the byte 01, as of Hive,",
}
_CSV = f"{PYTHON} -c \"import csv, sys; [print(*row, sep='\\t') for row in csv.reader(sys.stdin, delimiter='%s')]\""


class Step(NamedTuple):
    """One thing that sets text apart from raw rows.

    Attributes:
        fact: What was seen.
        filter: The shell command that mends it, from stdin to stdout; None where there is no such command.
        advice: What to do then, if that is known.
    """

    fact: str
    filter: str | None = None
    advice: str | None = None


class Lines:
    """The beginning of a file, to look for signs in.

    Args:
        text: Bytes, in whatever encoding; with ``cut`` the last line goes on.
        columns: The columns of a row.
        cut: Whether there is more.
    """

    def __init__(self, text: bytes, columns: RawColumns, *, cut: bool) -> None:
        self.text, self.columns, self.cut = text, columns, cut

    @functools.cached_property
    def lines(self) -> list[bytes]:
        """Whole lines without their ends, at most ``_LINES``."""
        *lines, last = self.text.removeprefix(BOM).split(b"\n")
        if last and not (self.cut and lines):
            lines.append(last)
        return [line.removesuffix(b"\r") for line in lines[:_LINES]]

    @functools.cached_property
    def fields(self) -> list[list[bytes]]:
        """Of each line that is not blank."""
        return [line.split(b"\t") for line in self.lines if line]

    @functools.cached_property
    def width(self) -> int:
        """The number of fields that most lines have; 0 if there is no such number."""
        (width, lines), *_ = Counter(map(len, self.fields)).most_common(1) or [(0, 0)]
        return width if lines >= _MOST * len(self.fields) else 0

    def column(self, index: int) -> list[bytes]:
        """The values of a field of the lines that have it, without empty ones."""
        return [fields[index] for fields in self.fields if index < len(fields) and fields[index]]

    def awk(self, action: str) -> str:
        """A filter that does something to the fields of each line."""
        without_return = r'{sub(/\r$/, "")} ' if b"\r\n" in self.text else ""
        return f"""awk 'BEGIN {{FS = OFS = "\\t"}} {without_return}{{{action}}} 1'"""

    def bad(self) -> float:
        """The share that are not rows."""
        return bad_share(self.lines, self.columns)


def layout(columns: RawColumns) -> str:
    """What a file must be."""
    return f"lines of {field_names(columns)}, separated by tabs"


def bad_share(lines: Sequence[bytes], columns: RawColumns) -> float:
    """The share of lines, given without their ends, that are not rows."""
    rows = parse(b"".join(line + b"\n" for line in lines), columns)
    return len(rows.bad) / max(rows.lines, 1)


def shown(field: bytes) -> str:
    """A field in an error."""
    return repr(field[:40])[1:] + ("…" if len(field) > 40 else "")


def field_names(columns: RawColumns) -> str:
    """The fields of a row in words."""
    number = "number" if any(column.type == "decimal" for column in columns.numbers) else "integer"
    kinds = ((columns.numerical, number), (columns.categorical, "token"))
    return ", ".join(["label", *(f"{n} {kind}{'s' if n > 1 else ''}" for n, kind in kinds if n)])


# The signs, in the order in which they are looked for: each sees what the filters of those before it have left.


def _nothing(seen: Lines) -> Step | None:
    if not seen.text.strip(b"\0"):
        return Step("only NUL bytes, as of a file whose content never reached the disk")
    if not seen.text.strip():
        return Step("only blank lines")
    start = seen.text.lstrip()[:200].lower()
    if start.startswith((b"<!doctype", b"<html", b"<?xml")):
        return Step("a page of HTML or XML, as servers send it in place of a file")
    if start.startswith((b"{", b"[")) and seen.bad() > _MOST:
        return Step("JSON")
    return None


def _utf16(seen: Lines) -> Step | None:
    halves = seen.text[: len(seen.text) // 2 * 2]
    nul = [halves[at::2].count(0) * 2 / max(len(halves), 1) > 0.5 for at in (0, 1)]
    if seen.text.startswith((b"\xff\xfe", b"\xfe\xff")) and any(nul):
        return Step("UTF-16", "iconv -f UTF-16 -t UTF-8")
    if nul[0] != nul[1]:
        return Step("UTF-16", f"iconv -f UTF-16{'BE' if nul[0] else 'LE'} -t UTF-8")
    return None


def _old_mac(seen: Lines) -> Step | None:
    if b"\n" not in seen.text and b"\r" in seen.text:
        return Step("lines that end with CR alone", r"tr '\r' '\n'")
    return None


def _blank_lines(seen: Lines) -> Step | None:
    if sum(not line.strip() for line in seen.lines) > CLEAN * len(seen.lines):
        return Step("blank lines between the others", "sed '/^[[:space:]]*$/d'")
    return None


def _separator(seen: Lines) -> Step | None:
    if sum(b"\t" in line for line in seen.lines) > (1 - _MOST) * len(seen.lines):
        return None
    quoted = _quoted(seen.lines)
    texts = [line.decode("utf-8", "replace") for line in seen.lines]
    found = []
    for separator in _SEPARATORS:
        rows = csv.reader(texts, delimiter=separator) if quoted else (text.split(separator) for text in texts)
        (width, lines), *_ = Counter(map(len, rows)).most_common(1) or [(1, 0)]
        if width > 1 and lines >= _MOST * len(texts):
            found.append((abs(width - seen.columns.total), separator))
    if not found:
        return None
    separator = min(found)[1]
    fact = f"fields separated by {_SEPARATORS[separator]} instead of tabs" + (", in quotes" if quoted else "")
    spelled = separator if separator.isprintable() else rf"\{ord(separator):03o}"
    return Step(fact, _CSV % separator if quoted else rf"tr '{spelled}' '\t'")


def _quotes(seen: Lines) -> Step | None:
    if seen.bad() > CLEAN and _quoted([field for fields in seen.fields for field in fields if field]):
        return Step("fields in quotes", _CSV % r"\t")
    return None


def _quoted(texts: Sequence[bytes]) -> bool:
    return sum(text.startswith(b'"') or text.endswith(b'"') for text in texts) > len(texts) / 2


def _header(seen: Lines) -> Step | None:
    if len(seen.fields) < 2:
        return None
    first, *others = seen.fields
    names = first[1:] if not first[0] else first  # pandas leaves its index without a name
    if len(set(names)) < len(names) or not all(names) or any(_VALUE.fullmatch(name) for name in names):
        return None
    # A row of tokens has all of that too: names stand above numbers.
    if len(others[0]) != len(first):
        return None
    body = Lines(b"\n".join(b"\t".join(fields) for fields in others), seen.columns, cut=False)
    values = [body.column(index) for index in range(len(first)) if first[index]]
    if any(of and sum(bool(_NUMBER.fullmatch(value)) for value in of) >= _MOST * len(of) for of in values):
        return Step("a header line", "tail -n +2")
    if any(of and set(of) <= set(pair) for of in (body.column(0), body.column(1)) for pair in LABELS):
        return Step("a header line", "tail -n +2")
    return None


def _too_many_fields(seen: Lines) -> Step | None:
    total, extra = seen.columns.total, seen.width - seen.columns.total
    if extra <= 0:
        return None
    counted = f"{seen.width} fields in a line instead of {total}"
    if not any(seen.column(index) for index in range(total, seen.width)):
        return Step(f"{counted}, the last empty", f"cut -f1-{total}")
    if not _is_label(seen.column(0)) and _is_label(seen.column(extra)):
        surplus = "one column" if extra == 1 else f"{extra} columns"
        return Step(f"{counted}: {surplus} too many in front, like an Id", f"cut -f{extra + 1}-")
    return Step(counted)


def _too_few_fields(seen: Lines) -> Step | None:
    width, total = seen.width, seen.columns.total
    if not width or width >= total:
        return None
    counted = f"{width} field{'s' if width > 1 else ''} in a line instead of {total}"
    if width == total - 1 and bad_share([b"0\t" + line for line in seen.lines], seen.columns) <= CLEAN:
        advice = "Give rows with labels, such as train.txt."
        return Step(f"{counted}: no label, like the test file of the Kaggle challenge", None, advice)
    return Step(counted)


def _label(seen: Lines) -> Step | None:
    labels = set(seen.column(0))
    if not labels or labels <= {b"0", b"1"}:
        return None
    for no, yes in LABELS:
        if labels <= {no, yes}:
            zero, one = no.decode(), yes.decode()
            numbers = f'if ($1 == "{zero}") $1 = 0; else if ($1 == "{one}") $1 = 1'
            return Step(f"labels {zero} and {one}", seen.awk(numbers))
    if seen.width == seen.columns.total and _is_label(seen.column(seen.width - 1)) and not _is_label(seen.column(0)):
        move = r'last = $NF; sub(/\t[^\t]*$/, ""); $0 = last "\t" $0'
        return Step("the label in the last column", seen.awk(move))
    return None


def _is_label(values: Sequence[bytes]) -> bool:
    return any(set(values) <= set(pair) for pair in ((b"0", b"1"), *LABELS))


def _missing_numbers(seen: Lines) -> Step | None:
    numbers = range(1, 1 + seen.columns.numerical)
    words = {value for index in numbers for value in seen.column(index)} & set(MISSING)
    if not words or seen.width != seen.columns.total:
        return None
    spelled = sorted(word.decode() for word in words)
    pattern = "|".join(re.escape(word).replace("/", r"\/") for word in spelled)
    empty = f'for (i = 2; i <= {numbers[-1] + 1}; i++) if ($i ~ /^({pattern})$/) $i = ""'
    return Step(f"{', '.join(spelled)} for a missing integer, which is an empty field here", seen.awk(empty))


def _decimals(seen: Lines) -> Step | None:
    """Columns of integers that hold decimals, where that is all that is wrong."""
    numbers = list(enumerate(seen.columns.numbers, 1))
    fractions = {  # of the values that are no integers
        column.name: (index, [value for value in seen.column(index) if not _INTEGER.fullmatch(value)])
        for index, column in numbers
        if column.type == "integer"
    }
    found = {name: of for name, of in fractions.items() if len(of[1]) > STRAY * len(seen.column(of[0]))}
    read = [dataclasses.replace(of, type="decimal" if of.name in found else of.type) for _, of in numbers]
    declared = dataclasses.replace(seen.columns, numbers=tuple(read))
    if not found or bad_share(seen.lines, declared) > CLEAN:
        return None
    name, (first, values) = next(iter(found.items()))
    fact = (
        f"decimals such as {values[0].decode()} in {len(found)} of the integer columns, the first in field {first + 1}"
    )
    if all(_WHOLE.fullmatch(value) for _, of in found.values() for value in of):
        whole = rf'for (i = 2; i <= {1 + seen.columns.numerical}; i++) sub(/\.0*$/, "", $i)'
        return Step(fact, seen.awk(whole))
    others = " and so for the others" if len(found) > 1 else ""
    return Step(fact, None, f"Declare them in a --feature_spec: feature_spec: {{{name}: {{type: decimal}}}}{others}.")


def _other_columns(seen: Lines) -> Step | None:
    """As many fields as wanted, but tokens begin earlier than ``columns`` says."""
    if seen.width != seen.columns.total or seen.bad() <= CLEAN:
        return None
    for numerical in reversed(range(seen.columns.numerical)):
        columns = RawColumns.unnamed(numerical=numerical, categorical=seen.columns.total - 1 - numerical)
        tokens = [value for value in seen.column(numerical + 1) if not _INTEGER.fullmatch(value)]
        if bad_share(seen.lines, columns) <= CLEAN and len(tokens) > len(seen.column(numerical + 1)) / 2:
            fact = f"tokens from field {numerical + 2} on, such as {shown(tokens[0])}"
            counts = f"{numerical} numerical and {columns.categorical} categorical columns"
            return Step(fact, None, f"Give a --feature_spec with {counts}.")
    return None


def _other_encoding(seen: Lines) -> Step | None:
    if sum(not _is_utf8(line) for line in seen.lines) > (1 - _MOST) * len(seen.lines):
        advice = "If it is text, convert it from its encoding: iconv -f ENCODING -t UTF-8."
        return Step("not UTF-8 in many lines", None, advice)
    return None


def _is_utf8(line: bytes) -> bool:
    try:
        line.decode()
    except UnicodeDecodeError:
        return False
    return True


SIGNS: tuple[Callable[[Lines], Step | None], ...] = (
    *(_nothing, _utf16, _old_mac, _blank_lines, _separator, _quotes, _header, _too_many_fields, _too_few_fields),
    *(_label, _missing_numbers, _decimals, _other_columns, _other_encoding),
)
