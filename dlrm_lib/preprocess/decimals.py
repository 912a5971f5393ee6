"""Numbers with a point or an exponent, from text to the nearest float64.

A number is ``-?digits[.digits][e±digits]``; digits may be missing on one side of the point. Its magnitude is bounded by
the digits before the point, which can be told from the text alone, whatever the rounding.
"""

from __future__ import annotations

import numpy as np

from dlrm_lib.columns import RawColumns
from dlrm_lib.numeric_rules import FIXED_RULES, NumericRule
from dlrm_lib.preprocess.compiled import compiled
from dlrm_lib.preprocess.tokens import Texts

_MINUS, _PLUS, _POINT, _ZERO, _E, _LOWER = (ord(c) for c in "-+.0e ")
_EXACT = np.uint64(1 << 53)  # whole numbers up to here are float64, and so are the powers of ten up to the 22nd:
_POWERS = 10.0 ** np.arange(23)  # a product or quotient of two such is rounded once
_MANTISSA = 19  # digits that fit into 64 bits
_FAR = 1 << 20  # no exponent of a float64 is so large, nor of a line's digits and one together

MALFORMED, TOO_LARGE = 1, 2


def digits_of(columns: RawColumns) -> np.ndarray:
    """int64 [N]: how many digits before the point a number of each column of decimals may have; 0 for integers."""
    rules = [FIXED_RULES.get(column.rule or "", NumericRule) for column in columns.numbers]
    decimal = [column.type == "decimal" for column in columns.numbers]
    return np.array([rule.digits * is_one for rule, is_one in zip(rules, decimal, strict=True)], np.int64)


def read_decimals(texts: Texts, digits: int) -> tuple[np.ndarray, np.ndarray]:
    """Numbers from their texts.

    Args:
        texts: The texts; an empty one is missing.
        digits: How many digits a number may have before the point.

    Returns:
        float64 [n], NaN where missing or faulty.
        uint8 [n]: what is wrong: 0 nothing, ``MALFORMED`` or ``TOO_LARGE``.
    """
    values, faults = np.empty(len(texts.start)), np.empty(len(texts.start), np.uint8)
    spelled = np.zeros((len(values), 2), np.int64)
    _read_all(texts.data, texts.start, texts.length, digits, values, faults, spelled)
    settle(texts.data, spelled, values)
    return values, faults


def is_faulty(text: bytes, digits: int) -> bool:
    """Whether a text is no number, or one with more digits before the point."""
    _, (fault,) = read_decimals(Texts.of(np.frombuffer(text, np.uint8), np.array([0, len(text)])), digits)
    return bool(fault)


def settle(data: np.ndarray, spelled: np.ndarray, values: np.ndarray) -> None:
    """Rounds correctly what ``read_decimal`` could not.

    Args:
        data: uint8: the text.
        spelled: integer [..., 2]: start and length in it of each such number, 0 and 0 for the others.
        values: float64 [...], contiguous: gets their values.
    """
    which = np.flatnonzero(spelled[..., 1])
    if len(which):
        import pyarrow as pa

        start, length = spelled.reshape(-1, 2)[which].T
        text, ends = Texts(data, start, length).packed(np.arange(len(which)))
        numbers = pa.LargeStringArray.from_buffers(len(which), pa.py_buffer(ends), pa.py_buffer(text))
        values.reshape(-1)[which] = numbers.cast(pa.float64()).to_numpy()


@compiled
def read_decimal(data, at, stop, most):
    """Reads the number that starts at ``at``, up to the first byte that is no part of it, or up to ``stop``.

    Returns its value, where it ends, whether the value is the nearest float64, and what is wrong with it (0: nothing).
    """
    negative = at < stop and data[at] == _MINUS
    at += negative
    mantissa, digits, exponent = np.uint64(0), 0, 0  # of digits, only those from the first on that is not 0
    some = point = False
    while at < stop:
        digit = np.uint8(data[at] - _ZERO)
        if digit <= 9:
            some = True
            digits += digits > 0 or digit > 0
            if digits <= _MANTISSA:
                mantissa = mantissa * np.uint64(10) + np.uint64(digit)
                exponent -= point
            else:
                exponent += not point
        elif data[at] == _POINT and not point:
            point = True
        else:
            break
        at += 1
    if some and at < stop and data[at] | _LOWER == _E:
        at += 1
        minus = at < stop and data[at] == _MINUS
        at += minus or (at < stop and data[at] == _PLUS)
        some, power = False, 0
        while at < stop:
            digit = np.uint8(data[at] - _ZERO)
            if digit > 9:
                break
            some = True
            power = min(power * 10 + np.int64(digit), _FAR)
            at += 1
        exponent += -power if minus else power
    if not some:
        return np.nan, at, True, MALFORMED
    if digits > 0 and min(digits, _MANTISSA) + exponent > most:
        return np.nan, at, True, TOO_LARGE
    value, exact = np.float64(mantissa), digits <= _MANTISSA and mantissa <= _EXACT and -22 <= exponent <= 22
    if exact:
        value = value * _POWERS[exponent] if exponent >= 0 else value / _POWERS[-exponent]
    return -value if negative else value, at, exact, 0


@compiled
def _read_all(data, start, length, most, values, faults, spelled):
    for i in range(values.size):
        values[i], faults[i] = np.nan, 0
        if length[i]:
            value, end, exact, fault = read_decimal(data, start[i], start[i] + length[i], most)
            if end < start[i] + length[i]:
                fault = MALFORMED
            faults[i] = fault
            if fault == 0:
                values[i] = value
                if not exact:
                    spelled[i, 0], spelled[i, 1] = start[i], length[i]
