"""What an encoded click log consists of, and the ``feature_spec.yaml`` that says so.

The file layout is the one that NVIDIA's later DLRM loader reads (NVIDIA/DeepLearningExamples,
``PyTorch/Recommendation/DLRM``): one binary file per categorical column, one for all numerical columns, one for labels.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from dlrm_lib.columns import RawColumns, declared
from dlrm_lib.errors import InputError
from dlrm_lib.numeric_rules import NUMERIC_RULES, NumericRule

SPLITS = ("train", "validation", "test")
_CATEGORY_DTYPES = (("int8", 2**7 - 1), ("int16", 2**15 - 1), ("int32", 2**31 - 1))


def split_rows(rows: int, held_out: int) -> dict[str, int]:
    """Rows of each split, in the order of time: training rows, then of those held out a half to test on, the rest.

    Args:
        rows: In all.
        held_out: The last so many, which play the last day.
    """
    test = held_out // 2
    return {"train": rows - held_out, "test": test, "validation": held_out - test}


def category_dtype(cardinality: int) -> str:
    """The smallest of int8, int16, int32 whose maximum is strictly above ``cardinality``, as NVIDIA's loader wants."""
    for name, maximum in _CATEGORY_DTYPES:
        if cardinality < maximum:
            return name
    raise InputError(
        f"A column has {cardinality:,} categories.",
        remedy="Raise --frequency_limit: ids must fit 31 bits.",
        fields=("frequency_limit",),
    )


@dataclass(frozen=True, kw_only=True)
class FeatureSpec:
    """An encoded data set's columns.

    Attributes:
        numerical: Number of numerical columns.
        cardinalities: For each categorical column, the number of ids, id 0 (rare, unseen, missing) included.
        numeric_rules: How each numerical column was encoded; by default all as by NVIDIA's released script.
        raw_columns: The raw columns, which the encoded ones have their names of; None: they have none.
        missing_id: The id of a missing token: 0, or 1 where id 0 means rare and unseen values alone.
    """

    numerical: int
    cardinalities: tuple[int, ...]
    numeric_rules: tuple[NumericRule, ...] = ()
    raw_columns: RawColumns | None = None
    missing_id: int = 0

    def __post_init__(self) -> None:
        if not self.numeric_rules:
            object.__setattr__(self, "numeric_rules", (NUMERIC_RULES["log_x_plus_3"],) * self.numerical)
        if len(self.numeric_rules) != self.numerical:
            raise ValueError(f"{len(self.numeric_rules)} numeric rules for {self.numerical} columns")
        if (self.columns.numerical, self.columns.categorical) != (self.numerical, len(self.cardinalities)):
            raise ValueError("other raw columns than encoded ones")
        if self.raw_columns == RawColumns.unnamed(self.numerical, len(self.cardinalities)):
            object.__setattr__(self, "raw_columns", None)  # so that equal ones are equal

    @functools.cached_property
    def columns(self) -> RawColumns:
        """The raw columns: what each is called."""
        return self.raw_columns or RawColumns.unnamed(self.numerical, len(self.cardinalities))

    @property
    def missing_numbers(self) -> tuple[float, ...]:
        """What stands for a missing number in each numerical column."""
        return tuple(rule.missing_number for rule in self.numeric_rules)

    @property
    def category_dtypes(self) -> tuple[str, ...]:
        """The NumPy dtype name in which each categorical column is stored."""
        return tuple(category_dtype(c) for c in self.cardinalities)

    def write(self, path: Path) -> None:
        """Writes ``feature_spec.yaml``.

        ``source_spec`` names train and test only, and there is no part beside NVIDIA's four: its loader refuses both.
        What a feature has beyond ``dtype`` and ``cardinality`` it ignores: there the numeric rules are, the id of
        missing tokens, if they have one for themselves, and what its raw column declares, so that the file says how
        such rows are read.
        """
        files = [f"cat_{j}.bin" for j in range(len(self.cardinalities))]
        label, numerical = self.columns.label.name, list(self.columns.numerical_names)
        # A column without a name is called like its file, as NVIDIA's are.
        categorical = [
            file if file == f"{name}.bin" else name
            for name, file in zip(self.columns.categorical_names, files, strict=True)
        ]
        features: dict[str, dict] = {label: {"dtype": "bool"}}
        for name, rule in zip(numerical, self.numeric_rules, strict=True):
            features[name] = {"dtype": "float16", "numeric_rule": rule.entry()}
        for name, cardinality, dtype in zip(categorical, self.cardinalities, self.category_dtypes, strict=True):
            features[name] = {"cardinality": cardinality, "dtype": dtype}
            if self.missing_id:
                features[name]["missing_id"] = self.missing_id
        raw: list[Any] = [self.columns.label, *self.columns.numbers, *self.columns.tokens]
        for feature, column in zip(features.values(), raw, strict=True):
            feature |= declared(column)
        chunks = [("numerical.bin", numerical), ("label.bin", [label])]
        chunks += [(file, [name]) for name, file in zip(categorical, files, strict=True)]
        sources = {
            split: [
                {"type": "split_binary", "features": names, "files": [f"{split}/{file}"]}
                for file, names in chunks
                if names
            ]
            for split in ("train", "test")
        }
        document = {
            "channel_spec": {"numerical": numerical, "categorical": categorical, "label": [label]},
            "feature_spec": features,
            "source_spec": sources,
            "metadata": {},
        }
        path.write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")

    @classmethod
    def read(cls, path: Path, numeric_rule: NumericRule = NUMERIC_RULES["log_x_plus_3"]) -> FeatureSpec:
        """Reads ``feature_spec.yaml``.

        Args:
            path: The file.
            numeric_rule: That of the columns whose rule the file does not say: earlier versions wrote none.

        Raises:
            InputError: the file is absent or is not such a specification.
        """
        try:
            document = yaml.safe_load(path.read_text(encoding="utf-8"))
            channels, features = document["channel_spec"], document["feature_spec"]
            rules = [features[name].get("numeric_rule") for name in channels["numerical"]]
            return cls(
                numerical=len(rules),
                cardinalities=tuple(int(features[name]["cardinality"]) for name in channels["categorical"]),
                numeric_rules=tuple(numeric_rule if rule is None else NumericRule.of(rule) for rule in rules),
                raw_columns=RawColumns.read(path),
                missing_id=max((int(features[n].get("missing_id", 0)) for n in channels["categorical"]), default=0),
            )
        except FileNotFoundError:
            raise InputError(
                f"{path} does not exist.", remedy="Run `python -m dlrm_lib preprocess` to encode raw rows first."
            ) from None
        except (AttributeError, KeyError, TypeError, ValueError, yaml.YAMLError) as error:
            raise InputError(
                f"{path} is not a feature specification.", found=f"{type(error).__name__}: {error}"
            ) from None


# Criteo's 24 days with values seen fewer than 15 times merged, as counted by NVIDIA (the cardinalities in its
# ``tests/feature_specs/criteo_f15.yaml``): the scale that DLRM is made for.
CRITEO_TERABYTE = FeatureSpec(
    numerical=13,
    cardinalities=(
        *(7_912_889, 33_823, 17_139, 7_339, 20_046, 4, 7_105, 1_382, 63, 5_554_114, 582_469, 245_828, 11),
        *(2_209, 10_667, 104, 4, 968, 15, 8_165_896, 2_675_940, 7_156_453, 302_516, 12_022, 97, 35),
    ),
)
