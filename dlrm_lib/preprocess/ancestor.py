"""Tomorrow's rows: the data set whose vocabulary a run takes over, and what that decides."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dlrm_lib.columns import NumericalColumn, RawColumns
from dlrm_lib.config import PreprocessConfig, digest
from dlrm_lib.errors import InputError
from dlrm_lib.features import FeatureSpec
from dlrm_lib.manifest import Manifest
from dlrm_lib.numeric_rules import BINS, LEARNED, NUMERIC_RULES, NumericRule
from dlrm_lib.places import local
from dlrm_lib.preprocess.tokens import Tokens

# Settings without which an id or a number would not mean the same in both data sets.
INHERITED = ("frequency_limit", "numeric_rule", "separate_missing")
_BATCH_ROWS = 1 << 18
_REMEDY = "Name a data set as preprocess left it, or encode its rows again."


class Known(NamedTuple):
    """Some values of a column that were counted before.

    Attributes:
        tokens: Distinct tokens, none of them missing.
        counts: int64 [n]: how often each was seen.
        ids: int32 [n]: the id of each; 0: none.
        missing: How often none was seen, counted once for a column.
    """

    tokens: Tokens
    counts: np.ndarray
    ids: np.ndarray
    missing: int


@dataclass(frozen=True, kw_only=True)
class Ancestor:
    """A data set whose ids stay as they are.

    Attributes:
        folder: The data set.
        manifest: Its manifest.
        columns: The columns of its raw rows.
        numeric_rules: How each numerical column is encoded, what was learned included.
        extend: Whether values that reach the frequency limit get new ids.
        complete: Whether the values without an id are known, with their counts.
        sizes: How many values of each column are known.
    """

    folder: Path
    manifest: Manifest
    columns: RawColumns
    numeric_rules: tuple[NumericRule, ...]
    extend: bool
    complete: bool
    sizes: tuple[int, ...]

    @classmethod
    def open(cls, folder: Path, *, extend: bool) -> Ancestor:
        """Opens an encoded data set.

        Raises:
            InputError: it is none, a file of its vocabulary is absent or of another size, or it is to be extended and
                keeps no counts of the values without an id.
        """
        manifest = Manifest.read(folder)
        spec = FeatureSpec.read(_spec(folder), NUMERIC_RULES[manifest.config["numeric_rule"]])
        if list(spec.cardinalities) != manifest.cardinalities:
            raise _other_values(_spec(folder), f"cardinalities {list(spec.cardinalities)}")
        columns = spec.columns
        rules = [column.rule_by(manifest.config["numeric_rule"]) for column in columns.numbers]
        if [rule.name for rule in spec.numeric_rules] != rules:
            raise _other_values(_spec(folder), f"numeric rules {[rule.name for rule in spec.numeric_rules]}")
        sizes = [_rows(_kept(folder, column)) for column in range(columns.categorical)]
        for column, (rows, cardinality) in enumerate(zip(sizes, manifest.cardinalities, strict=True)):
            if rows != cardinality - 1:
                raise _other_values(_kept(folder, column), f"{rows:,} values, of {cardinality - 1:,}")
        complete = all(_rare(folder, column).exists() for column in range(columns.categorical))
        if complete:
            sizes = [rows + _rows(_rare(folder, column)) for column, rows in enumerate(sizes)]
        elif extend:
            raise InputError(
                f"{folder} cannot be extended: it keeps no counts of the values that have no id yet.",
                found=f"no {_rare(folder, 0).parent.relative_to(folder)}, which earlier versions did not write",
                remedy="Leave out --extend, or encode its rows again and take that vocabulary.",
            )
        return cls(
            folder=folder,
            manifest=manifest,
            columns=columns,
            numeric_rules=spec.numeric_rules,
            extend=extend,
            complete=complete,
            sizes=tuple(sizes),
        )

    def same_columns(self, columns: RawColumns | None) -> RawColumns:
        """The columns of rows to encode: its own, or those given.

        Raises:
            InputError: the encoded ones would be others.
        """
        if columns is None:
            return self.columns
        for kind in ("numerical", "categorical"):
            here, there = (getattr(of, f"{kind}_names") for of in (columns, self.columns))
            for place, (name, other) in enumerate(itertools.zip_longest(here, there, fillvalue="none")):
                if name != other:
                    raise InputError(
                        f"The rows have other columns than those of {self.folder}.",
                        found=f"{kind} column {place}, counted from 0: {name}, and there {other}",
                        remedy="Leave out --feature_spec, or take the vocabulary of rows that have these columns.",
                    )
        for name, most, there in zip(columns.categorical_names, columns.bags, self.columns.bags, strict=True):
            if most != there:
                raise InputError(
                    f"Column {name} has bags of another size than in {self.folder}.",
                    found=f"most: {most}, and there {there}",
                    remedy=f"Declare most: {there}, or leave out --feature_spec.",
                )
        for column, other in zip(columns.numbers, self.columns.numbers, strict=True):
            mine, theirs = map(self._meaning, (column, other))
            if mine != theirs:
                raise InputError(
                    f"The numbers of {column.name!r} would mean something else than in {self.folder}.",
                    found=f"{mine}, and there {theirs}",
                    remedy="Leave out --feature_spec and --numerical: that data set says how its columns are read.",
                )
        return columns

    def _meaning(self, column: NumericalColumn) -> str:
        """How a column is read and encoded, as it would be declared."""
        rule = column.rule_by(self.manifest.config["numeric_rule"])
        return f"type: {column.type}, rule: {rule}" + (f", bins: {column.bins or BINS}" if rule == LEARNED else "")

    @property
    def files(self) -> list[Path]:
        """All files that are read of it."""
        columns = range(self.columns.categorical)
        rare = [_rare(self.folder, column) for column in columns if self.complete]
        return [_spec(self.folder), *(_kept(self.folder, column) for column in columns), *rare]

    def known(self, column: int) -> Iterator[Known]:
        """Yields what is known of a column, a bounded number of values at a time."""
        first = 1
        for tokens, counts in _batches(_kept(self.folder, column)):
            ids = np.arange(first, first + len(counts), dtype=np.int32)
            missing = self.manifest.missing_id if first == 1 else 0  # then the first value is none
            first += len(counts)
            yield Known(
                tokens.take(np.arange(missing, len(counts))), counts[missing:], ids[missing:], sum(counts[:missing])
            )
        for tokens, counts in _batches(_rare(self.folder, column)) if self.complete else ():
            yield Known(tokens, counts, np.zeros(len(counts), np.int32), 0)

    def check(self, digests: list[str]) -> None:
        """Refuses values other than those that the data set was made with; ``digests`` are what was found."""
        manifest = self.manifest
        for column, (found, expected) in enumerate(zip(digests, manifest.vocabularies, strict=False)):
            if found != expected:
                raise _other_values(_kept(self.folder, column), "other values, or in another order")
        if digest(digests) != manifest.vocabulary:  # an earlier version kept no hash of each column
            raise _other_values(self.folder / "vocabulary", "other values, or in another order")

    def remarks(self, source: list[dict[str, Any]]) -> list[str]:
        """Sentences about raw files (as in a manifest) that were trained on before: their values are counted again."""
        before = [entry["source"] for entry in (*self.manifest.lineage, self.manifest.ancestor)]
        known = {file["sha256"] for files in before for file in _trained_on(files)}
        again = [file["name"] for file in _trained_on(source) if file["sha256"] in known]
        return [f"{name} was counted for this vocabulary before: now its values count twice" for name in again]


def _trained_on(source: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The raw files without the held-out day."""
    return source[:-1] if len(source) > 1 else source


def taken_over(folder: str | Path | None, output: Path, *, extend: bool) -> Ancestor | None:
    """The data set whose vocabulary ``output`` takes over, if it takes over any.

    Raises:
        InputError: there is none to extend, the two are one folder, or as ``Ancestor.open``.
    """
    if folder is None:
        if extend:
            remedy = "Add --vocabulary ENCODED: the data set whose ids stay as they are."
            raise InputError("--extend needs a vocabulary to extend.", remedy=remedy)
        return None
    folder = local(folder).absolute()
    if folder.resolve() == output.resolve():
        raise InputError(
            f"{folder} cannot be the output, for its vocabulary is taken over.",
            remedy="Choose another --output; the older data set may be removed once the new one is there.",
        )
    return Ancestor.open(folder, extend=extend)


def inherited(config: PreprocessConfig, manifest: Manifest, given: Collection[str] = INHERITED) -> PreprocessConfig:
    """The settings with which further rows mean the same as those of a data set.

    Args:
        config: The settings otherwise.
        manifest: That of the data set.
        given: Settings that somebody has chosen, and that are not to be replaced.

    Raises:
        InputError: one of these differs where the meaning depends on it; it names the setting.
    """
    theirs = PreprocessConfig(**{name: manifest.config[name] for name in INHERITED if name in manifest.config})
    for name in INHERITED:
        before, now = getattr(theirs, name), getattr(config, name)
        if name in given and now is not None and now != before:
            raise InputError(
                f"--{name} is decided by the data set whose vocabulary is taken.",
                found=f"{now}, and {before} there",
                remedy=f"Leave out --{name}, or make a new vocabulary without --vocabulary.",
                fields=(name,),
            )
    return dataclasses.replace(config, **{name: getattr(theirs, name) for name in INHERITED})


def _spec(folder: Path) -> Path:
    return folder / "feature_spec.yaml"


def _kept(folder: Path, column: int) -> Path:
    return folder / "vocabulary" / f"cat_{column}.parquet"


def _rare(folder: Path, column: int) -> Path:
    return folder / "vocabulary" / "rare" / f"cat_{column}.parquet"


def _rows(path: Path) -> int:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.read_metadata(path).num_rows
    except (OSError, pa.ArrowException) as error:
        found = "no such file" if isinstance(error, FileNotFoundError) else str(error).splitlines()[0]
        raise InputError(f"{path} cannot be read.", found=found, remedy=_REMEDY) from None


def _batches(path: Path) -> Iterator[tuple[Tokens, np.ndarray]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(_BATCH_ROWS, columns=["value", "count"]):
            yield Tokens.of_strings(batch["value"].cast(pa.large_string())), batch["count"].to_numpy()


def _other_values(path: Path, found: str) -> InputError:
    return InputError(f"{path} does not fit the manifest.", found=found, remedy=_REMEDY)
