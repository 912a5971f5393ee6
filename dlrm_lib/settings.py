"""A setting: a dataclass field that knows its sentence of help and its choices or range, and checks its value."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from dlrm_lib.errors import InputError


def option(
    default: Any,
    help: str,
    *,
    choices: tuple[str, ...] | None = None,
    words: tuple[str, ...] = (),
    at_least: float | None = None,
    above: float | None = None,
    at_most: float | None = None,
    below: float | None = None,
    usual: tuple[float, ...] | None = None,
    needs: Mapping[str, tuple[Any, ...]] | None = None,
):
    """A field with what a person needs to set it: a sentence, and either its choices or its range.

    Args:
        default: Its value where nobody sets another.
        help: What it means.
        choices: All values that it may have.
        words: Values that a number (``float | str``) may have besides numbers.
        at_least: Smallest number.
        above: All numbers are greater.
        at_most: Greatest number.
        below: All numbers are smaller.
        usual: What is worth trying, which sliders and searches offer: of a whole number these values, ascending; of
            another number all from the first to the second, on a logarithmic scale.
        needs: Other settings without which a value other than the default does nothing, each with the values it must
            have one of; no values: any but its default.
    """
    limits = {"at_least": at_least, "above": above, "at_most": at_most, "below": below}
    meta = {"help": help, "choices": choices, "words": words, "usual": usual, "needs": needs or {}, **limits}
    return dataclasses.field(default=default, metadata=meta)


def as_text(value: Any) -> str:
    """A value as a person types it behind a flag: `64,32,16`, `true`, `none`."""
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return str(value).lower() if value is None or isinstance(value, bool) else str(value)


_LIMITS = {
    "at_least": ("at least", lambda value, limit: value >= limit),
    "above": ("above", lambda value, limit: value > limit),
    "at_most": ("at most", lambda value, limit: value <= limit),
    "below": ("below", lambda value, limit: value < limit),
}


def check(f: dataclasses.Field, value: Any) -> None:
    """Raises InputError where a value of the field's type is not among its choices or in its range."""
    meta = f.metadata
    bad = None
    open_ = value is None and "None" in str(f.type)
    if meta["choices"] and value not in meta["choices"] and not open_:
        bad = f"one of {', '.join(meta['choices'])}"
    elif value == ():
        bad = "at least one number"
    elif value is not None and not isinstance(value, str | bool):
        values = value if isinstance(value, tuple) else (value,)
        for limit, (text, holds) in _LIMITS.items():
            if meta[limit] is not None and not all(holds(v, meta[limit]) for v in values):
                bad = f"{text} {meta[limit]}"
                break
    if bad:
        raise InputError(
            f"--{f.name} must be {bad}.",
            found=as_text(value),
            remedy=f"{f.name}: {meta['help']}.",
            fields=(f.name,),
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Section:
    """Checks every field against its declared choices or range when a section is built."""

    def __post_init__(self) -> None:
        for f in dataclasses.fields(self):
            check(f, getattr(self, f.name))


def parse(f: dataclasses.Field, value: Any) -> Any:
    """Turns a flag's text or a notebook's JSON value into the field's type.

    Raises:
        InputError: the value cannot be read as that type.
    """
    kind = str(f.type)
    try:
        if value in f.metadata["words"]:
            return value
        if value is None or (isinstance(value, str) and value.lower() == "none" and "None" in kind):
            if "None" not in kind:
                raise ValueError
            return None
        if kind.startswith("int | str"):
            return int(value) if str(value).strip().lstrip("-").isdigit() else str(value)
        if kind.startswith("tuple"):
            return tuple(int(v) for v in (value.split(",") if isinstance(value, str) else value))
        if kind.startswith("bool"):
            return {"true": True, "false": False}[str(value).lower()]
        if kind.startswith("int"):
            if isinstance(value, bool):
                raise ValueError
            if kind.startswith("int | float") and 0 < float(value) < 1:
                return float(value)
            if int(value) != float(value):
                raise ValueError
            return int(value)
        if kind.startswith("float"):
            if not math.isfinite(float(value)):
                raise ValueError
            return float(value)
        return str(value)
    except (ValueError, TypeError, KeyError, OverflowError):
        expected = {
            "tuple": "whole numbers separated by commas",
            "bool": "true or false",
            "int | float": "a whole number, or a share below 1",
            "int": "a whole number",
            "float": "a finite number",
        }
        wanted = next(text for prefix, text in expected.items() if kind.startswith(prefix))
        wanted = " or ".join((wanted, *f.metadata["words"]))
        raise InputError(
            f"--{f.name} takes {wanted}.",
            found=value,
            remedy=f"{f.name}: {f.metadata['help']}.",
            fields=(f.name,),
        ) from None
