"""Exercises of chapter 01: what a raw line says."""

from __future__ import annotations

from dlrm_lib.exercises.mechanism import Exercise

_INTEGERS, _TOKENS = 13, 26

# 1.1


def parse_line(line):
    """Only the line's end is cut off: an empty field is a missing value, also the last one."""
    text = line.decode().removesuffix("\n").removesuffix("\r")
    label, *fields = text.split("\t")
    integers = [int(field) if field else None for field in fields[:13]]
    return label == "1", integers, fields[13:]


def _line(label, integers, tokens, end="\n"):
    fields = [str(label), *("" if number is None else str(number) for number in integers), *tokens]
    return ("\t".join(fields) + end).encode()


def _diagnosis(answer, line, expected):
    """A sentence, or None where the answer is right."""
    got = answer(line)
    if got is None:
        return "your function returned nothing; end it with `return`."
    if not isinstance(got, tuple) or len(got) != 3:
        return "return three things: `return label, integers, tokens`."
    label, integers, tokens = got
    if not isinstance(integers, list) or not isinstance(tokens, list):
        return "integers and tokens must be lists."
    if len(integers) != _INTEGERS or len(tokens) != _TOKENS:
        return (
            f"expected {_INTEGERS} integers and {_TOKENS} tokens, got {len(integers)} and {len(tokens)}: "
            "empty fields count too, in the middle and at the end of the line."
        )
    if isinstance(label, str | bytes) or bool(label) != expected[0]:
        return f"the label must be {expected[0]}, a truth value: got {label!r}."
    for i, (ours, theirs) in enumerate(zip(expected[1], integers, strict=True), 1):
        if theirs != ours or isinstance(theirs, bool | float):
            return f"I{i}: expected {ours!r}, got {theirs!r}."
    for j, (ours, theirs) in enumerate(zip(expected[2], tokens, strict=True), 1):
        if theirs != ours:
            return f"C{j}: expected {ours!r}, got {theirs!r}. A token is text, and stays as it is."
    return None


_FULL = ([5, 0, -2, 12, 4711, 0, 1, -1, 3, 2, 8, 0, 44], [f"{j:02d}ab{j:04x}" for j in range(1, 27)])
_GAPS = ([None, 0, -2, None, 7, 0, None, -1, 3, None, 8, None, 44], ["0012e455", "", *_FULL[1][2:24], "", ""])


def _full(answer):
    return _diagnosis(answer, _line(1, *_FULL), (True, *_FULL))


def _no_tokens(answer):
    return _diagnosis(answer, _line(1, _FULL[0], _GAPS[1]), (True, _FULL[0], _GAPS[1]))


def _gaps(answer):
    return _diagnosis(answer, _line(0, *_GAPS), (False, *_GAPS))


def _windows(answer):
    wrong = _diagnosis(answer, _line(1, *_FULL, end="\r\n"), (True, *_FULL))
    return wrong and f"in a line that ends in \\r\\n, {wrong}"


EXERCISES = (
    Exercise(
        id="1.1",
        title="One line",
        hint='Cut off the end of the line and nothing else, then split at every tab: `text.split("\\t")` keeps empty '
        "fields. An empty integer is None; zero is a number.",
        solution=parse_line,
        checks=(_full, _no_tokens, _gaps, _windows),
    ),
)
