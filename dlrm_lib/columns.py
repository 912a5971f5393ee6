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

NO_AND_YES = ("0", "1")  # labels, unless a column declares others

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
        values: The texts that stand for no click and for a click.

    Raises:
        InputError: the values are not two different texts.
    """

    name: str = "label"
    values: tuple[str, str] = NO_AND_YES

    def __post_init__(self) -> None:
        values = self.values if isinstance(self.values, (list, tuple)) else (self.values,)
        texts = [value for value in values if isinstance(value, str) and value and value.isprintable()]
        if len(set(texts)) != 2 or len(values) != 2:
            raise InputError(
                f"The label {self.name!r} takes two values: the one for no click, then the one for a click.",
                found=", ".join(map(repr, values)),
                remedy="For example values: [no, yes] in a feature spec, or --label_values no,yes.",
            )
        object.__setattr__(self, "values", tuple(values))  # YAML has lists


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
    """A column of tokens: one in each row, or a bag of several.

    Attributes:
        name: What it is called.
        most: The most tokens of a row that are kept, L; above 1 the column holds bags.
        separator: What stands between the tokens of a bag in text: one character. Parquet has lists instead.

    Raises:
        InputError: such a column cannot be.
    """

    name: str
    most: int = 1
    separator: str = "|"

    def __post_init__(self) -> None:
        if type(self.most) is not int or self.most < 1:
            raise InputError(
                f"Column {self.name!r}: `most` is the number of tokens that a row may have, from 1 on.",
                found=repr(self.most),
                remedy="1 means one token in each row, 5 a bag of up to five.",
            )
        if not isinstance(self.separator, str) or len(self.separator.encode()) != 1 or self.separator in "\t\n\r\0":
            raise InputError(
                f"Column {self.name!r}: `separator` is one ASCII character, and no tab or end of a line.",
                found=repr(self.separator),
                remedy='"|" is the one that is meant where none is given.',
            )


@dataclass(frozen=True, kw_only=True)
class RawColumns:
    """The columns of a raw row, in the order in which a line without a header has them: label, numbers, tokens.

    Attributes:
        label: Whether a row was clicked.
        numbers: The numerical columns.
        tokens: The categorical columns.

    Raises:
        InputError: two columns have one name, or one has none.
    """

    label: LabelColumn = LabelColumn()
    numbers: tuple[NumericalColumn, ...] = ()
    tokens: tuple[CategoricalColumn, ...] = ()

    def __post_init__(self) -> None:
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

    @classmethod
    def of(cls, entry: Mapping[str, Any]) -> RawColumns:
        """The columns from what ``dataclasses.asdict`` makes of them, perhaps by way of JSON."""
        return cls(
            label=LabelColumn(**entry["label"]),
            numbers=tuple(NumericalColumn(**column) for column in entry["numbers"]),
            tokens=tuple(CategoricalColumn(**column) for column in entry["tokens"]),
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
    def bags(self) -> tuple[int, ...]:
        """The most tokens that a row has in each categorical column, L."""
        return tuple(column.most for column in self.tokens)

    @property
    def names(self) -> tuple[str, ...]:
        """All names, in the order of a line without a header."""
        return (self.label.name, *self.numerical_names, *self.categorical_names)

    @property
    def total(self) -> int:
        """Fields in a well-formed line, the label included."""
        return 1 + self.numerical + self.categorical

    @property
    def named(self) -> bool:
        """Whether the log names its columns."""
        return self.names[1:] != self.unnamed(self.numerical, self.categorical).names[1:]

    @property
    def in_pictures(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """What tables and pictures call the numbers and the tokens; those without names I1 … and C1 …, as Criteo's."""
        if self.named:
            return self.numerical_names, self.categorical_names
        return tuple(f"I{i + 1}" for i in range(self.numerical)), tuple(f"C{j + 1}" for j in range(self.categorical))

    @classmethod
    def read(cls, path: Path) -> RawColumns:
        """Reads the columns from a ``feature_spec.yaml``, as a person writes it or as an encoded data set has it.

        The lists ``label``, ``numerical`` and ``categorical`` in its ``channel_spec`` name the columns; what its
        ``feature_spec`` says of a name is how that column is read. Cardinalities and files need not be there yet.

        Raises:
            InputError: the file is absent or is not such a specification.
        """
        try:
            text = path.read_text(encoding="utf-8")
            document = yaml.safe_load(text)
            channels, features = document["channel_spec"], document.get("feature_spec") or {}
            label, *channels = ([] if channels.get(kind) is None else channels[kind] for kind in _CHANNELS)
            # Labels are texts as they are written: to YAML, no and yes are truth values, and -1 and 1 are numbers.
            written = (yaml.load(text, Loader=yaml.BaseLoader).get("feature_spec") or {}) if label else {}
            if not all(isinstance(of, list) for of in (label, *channels)) or not any(channels):
                raise ValueError("no list of numerical or categorical columns")
            if len(label) > 1:
                raise ValueError(f"{len(label)} columns of labels")
            return cls(
                label=next(iter(_columns(LabelColumn, label, written)), LabelColumn()),
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

# As Criteo's 1TB logs are published on the Hugging Face hub.
CRITEO_ON_THE_HUB = RawColumns(
    numbers=tuple(NumericalColumn(name=f"integer_feature_{i}") for i in range(1, 14)),
    tokens=tuple(CategoricalColumn(name=f"categorical_feature_{i}") for i in range(1, 27)),
)
