"""Numbers as text and as features, in plain Python, from their description: regular expressions, lists, ``math``."""

from __future__ import annotations

import bisect
import math
import re
import struct

_MASK = 2**64 - 1


def read_number(field: str, column) -> int | float | str | None:
    """A field's number, None if it is missing, or the reason to reject it."""
    if field == "":
        return None
    if column.type == "integer":
        if not re.fullmatch(r"-?[0-9]+", field):
            return "not an integer"
        return int(field) if -(2**63) <= int(field) < 2**63 else "integer beyond 64 bits"
    match = re.fullmatch(r"-?([0-9]*)(?:\.([0-9]*))?(?:[eE]([+-]?[0-9]+))?", field)
    if not match or not match[1] + (match[2] or ""):
        return "not a decimal number"
    digits = match[1] + (match[2] or "")
    zeros = len(digits) - len(digits.lstrip("0"))
    most = 4 if column.rule == "identity" else 308
    if zeros < len(digits) and len(match[1]) - zeros + int(match[3] or 0) > most:
        return "decimal number too large"
    return float(field)


def edges(numbers: list[int | float | None], bins: int) -> list[float]:
    """Where the bins of a quantile column meet."""
    known = sorted(float(x) for x in numbers if x is not None)
    return [known[len(known) * k // bins] for k in range(1, bins)] if known else []


def drawn(rows: list, most: int) -> list:
    """The rows that bins are learned from."""
    if len(rows) <= most:
        return rows
    return [row for index, row in enumerate(rows) if splitmix64(0, index) < 2**64 * most // len(rows)]


def float16(x: int | float | None, rule: str, learned: list[float]) -> bytes:
    """The encoded number; ``learned`` are the edges of the rule ``quantile``."""
    least = 2.0**-24
    if x is None:
        missing = {"log_x_plus_2": math.log(2), "log_x_plus_3": 0.0, "log": -1.0, "quantile": -1.0}
        return struct.pack("<e", missing.get(rule, least))
    if rule == "log_x_plus_2":
        value = math.log(max(x + 2, 1))
    elif rule == "log_x_plus_3":
        value = 0.0 if x <= -2 else math.log(x + 3)
    elif rule == "log":
        value = math.log(max(float(x) + 1, 1))
    elif rule == "signed_log":
        value = math.copysign(math.log(abs(float(x)) + 1), x)
    elif rule == "identity":
        value = x
    else:
        below, up_to = bisect.bisect_left(learned, float(x)), bisect.bisect_right(learned, float(x))
        value = (below + up_to + 1) / (2 * (len(learned) + 1))
    (rounded,) = struct.unpack("<e", struct.pack("<e", value))
    if rule in ("signed_log", "identity") and rounded == least:
        rounded = 0.0
    return struct.pack("<e", rounded or 0.0)


def splitmix64(seed: int, index: int) -> int:
    """Number ``index`` of the generator."""
    return mixed((seed + (index + 1) * 0x9E3779B97F4A7C15) & _MASK)


def mixed(z: int) -> int:
    """Its last step."""
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 & _MASK
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB & _MASK
    return z ^ (z >> 31)
