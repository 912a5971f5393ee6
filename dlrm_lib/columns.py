"""Which columns a raw click log has: what each is called, what it holds, and how its values are read."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

import yaml

from dlrm_lib.errors import InputError
from dlrm_lib.numeric_rules import FIXED_RULES, LEARNED

_CHANNELS = ("label", "numerical", "categorical")
_FILE = re.compile(r"cat_[0-9]+\.bin")
_TYPES = ("integer", "decimal")
_BINS = 1000  # with more, neighbours would be the same float16

Column = TypeVar("Column", "LabelColumn", "NumericalColumn", "CategoricalColumn")


@dataclass(frozen=True, kw_only=True)
class LabelColumn:
    """Whether a row was clicked.

    Attributes:
        name: What it is called.
    """

    name: str = "label"


@dataclass(frozen=True, kw_only=True)
class NumericalColumn:
    """A column of numbers.

    Attributes:
        name: What it is called.
        type: How its values are read: ``integer``, or ``decimal``, which knows a point and an exponent.
        rule: The name of the rule that encodes them; None: ``numeric_rule`` for integers, ``log`` for decimals.
        bins: Of the rule ``quantile``, how many bins; None: 100.

    Raises:
        InputError: there is no such type, rule or number of bins, or they do not go together.
    """

    name: str
    type: str = "integer"
    rule: str | None = None
    bins: int | None = None

    def __post_init__(self) -> None:
        rules = (*FIXED_RULES, LEARNED)
        for key, value, allowed in (("type", self.type, _TYPES), ("rule", self.rule, (None, *rules))):
            if value not in allowed:
                raise InputError(
                    f"Column {self.name} declares a {key} that there is not.",
                    found=value,
                    remedy=f"There are: {', '.join(name for name in allowed if name)}.",
                )
        if self.bins is not None and (
            self.rule != LEARNED or type(self.bins) is not int or not 2 <= self.bins <= _BINS
        ):
            raise InputError(
                f"Column {self.name} declares bins that cannot be.",
                found=f"bins: {self.bins}, rule: {self.rule}",
                remedy=f"rule: {LEARNED} takes from 2 to {_BINS:,} bins, and no other rule takes any.",
            )
        if self.rule == "identity" and self.type != "decimal":
            raise InputError(
                f"Column {self.name} declares rule: identity for integers.",
                remedy="Declare type: decimal too, which whole numbers are as well.",
            )

    def rule_by(self, numeric_rule: str) -> str:
        """The name of its rule, where ``numeric_rule`` is that of integers which declare none."""
        return self.rule or (numeric_rule if self.type == "integer" else "log")


@dataclass(frozen=True, kw_only=True)
class CategoricalColumn:
    """A column of tokens.

    Attributes:
        name: What it is called.
    """

    name: str


@dataclass(frozen=True, kw_only=True)
class RawColumns:
    """The columns of a raw row, in the order in which a line without a header has them: label, numbers, tokens.

    Attributes:
        label: Whether a row was clicked.
        numbers: The numerical columns.
        tokens: The categorical columns.

    Raises:
        InputError: two columns have one name, one has none, or there is neither a number nor a token.
    """

    label: LabelColumn = LabelColumn()
    numbers: tuple[NumericalColumn, ...] = ()
    tokens: tuple[CategoricalColumn, ...] = ()

    def __post_init__(self) -> None:
        if not self.numbers + self.tokens:
            raise InputError("A click log needs at least one numerical or categorical column.")
        for name, times in Counter(self.names).items():
            if not isinstance(name, str) or not name.strip() or times > 1:
                raise InputError(
                    "Every column needs a name of its own.",
                    found=f"{name!r}, {times} times" if times > 1 else repr(name),
                    remedy="Name each column once, with text; in YAML names like 1, yes or null need quotes.",
                )

    @classmethod
    def unnamed(cls, numerical: int = 13, categorical: int = 26) -> RawColumns:
        """Columns of a log that names none: ``num_0`` … and ``cat_0`` …; Criteo's by default."""
        return cls(
            numbers=tuple(NumericalColumn(name=f"num_{i}") for i in range(numerical)),
            tokens=tuple(CategoricalColumn(name=f"cat_{j}") for j in range(categorical)),
        )

    @property
    def numerical(self) -> int:
        """The number of numerical columns, N."""
        return len(self.numbers)

    @property
    def categorical(self) -> int:
        """The number of categorical columns, M."""
        return len(self.tokens)

    @property
    def numerical_names(self) -> tuple[str, ...]:
        """The names of the numerical columns."""
        return tuple(column.name for column in self.numbers)

    @property
    def categorical_names(self) -> tuple[str, ...]:
        """The names of the categorical columns."""
        return tuple(column.name for column in self.tokens)

    @property
    def names(self) -> tuple[str, ...]:
        """All names, in the order of a line without a header."""
        return (self.label.name, *self.numerical_names, *self.categorical_names)

    @property
    def total(self) -> int:
        """Fields in a well-formed line, the label included."""
        return 1 + self.numerical + self.categorical

    @classmethod
    def read(cls, path: Path) -> RawColumns:
        """Reads the columns from a ``feature_spec.yaml``, as a person writes it or as an encoded data set has it.

        The lists ``label``, ``numerical`` and ``categorical`` in its ``channel_spec`` name the columns; what its
        ``feature_spec`` says of a name is how that column is read. Cardinalities and files need not be there yet.

        Raises:
            InputError: the file is absent or is not such a specification.
        """
        try:
            document = yaml.safe_load(path.read_text(encoding="utf-8"))
            channels, features = document["channel_spec"], document.get("feature_spec") or {}
            label, *channels = ([] if channels.get(kind) is None else channels[kind] for kind in _CHANNELS)
            if not all(isinstance(of, list) for of in (label, *channels)) or not any(channels):
                raise ValueError("no list of numerical or categorical columns")
            if len(label) > 1:
                raise ValueError(f"{len(label)} columns of labels")
            return cls(
                label=next(iter(_columns(LabelColumn, label, features)), LabelColumn()),
                numbers=tuple(_columns(NumericalColumn, channels[0], features)),
                tokens=tuple(_columns(CategoricalColumn, channels[1], features)),
            )
        except InputError:
            raise
        except OSError as error:
            raise InputError(f"{path} cannot be read.", found=error.strerror) from None
        except (AttributeError, KeyError, TypeError, ValueError, yaml.YAMLError) as error:
            raise InputError(
                f"{path} is not a feature specification.",
                found=f"{type(error).__name__}: {error}".splitlines()[0],
                remedy="channel_spec: {numerical: [a, b], categorical: [c, d, e]} means 2 numbers and 3 tokens.",
            ) from None


def _columns(kind: type[Column], names: Iterable[Any], features: Mapping[str, Any]) -> Iterable[Column]:
    """The columns of a channel. A name that is that of a file, as in a data set without names, stands for the column.

    What else a feature says is of the encoded column: ``FeatureSpec`` reads it.
    """
    known = {field.name for field in fields(kind)} - {"name"}
    for name in names:
        said = {key: value for key, value in (features.get(name) or {}).items() if key in known}
        yield kind(name=name.removesuffix(".bin") if _FILE.fullmatch(str(name)) else name, **said)


def declared(column: LabelColumn | NumericalColumn | CategoricalColumn) -> dict[str, Any]:
    """What a column says of itself beside its name, as a feature specification holds it."""
    said = ((field, getattr(column, field.name)) for field in fields(column) if field.name != "name")
    return {
        field.name: list(value) if isinstance(value, tuple) else value
        for field, value in said
        if value != field.default
    }


CRITEO = RawColumns.unnamed()
