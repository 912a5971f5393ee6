"""What a vocabulary shows that its owner may not have meant: read off the ranked values, not off the rows again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from dlrm_lib.columns import RawColumns
from dlrm_lib.preprocess.arrow import texts
from dlrm_lib.preprocess.formats import MISSING

if TYPE_CHECKING:
    import pyarrow as pa

    from dlrm_lib.preprocess.counting import Ranked

_NAMED = 3  # columns in a remark
_TELLING = 10  # fewer distinct values may be whole numbers by chance, as some of eight hexadecimal digits are
_LOOKED_AT = 1000  # of a column's values, the most frequent first


def words_for_missing(kept: pa.Table) -> tuple[tuple[str, int], ...]:
    """Which of a column's kept values say in words that there is none, such as ``nan``, with their counts."""
    import pyarrow.compute as pc

    words = kept.filter(pc.is_in(kept["value"], texts(MISSING)))
    return tuple(zip(words["value"].to_pylist(), words["count"].to_pylist(), strict=True))


def only_whole_numbers(kept: pa.Table) -> bool:
    """Whether a column's kept values are whole numbers, and enough of them to tell."""
    import pyarrow.compute as pc

    values = kept["value"].slice(0, _LOOKED_AT)
    return len(values) >= _TELLING and pc.all(pc.match_substring_regex(values, "^-?[0-9]+$")).as_py()


def remarks(ranked: Sequence[Ranked], columns: RawColumns) -> list[str]:
    """Sentences about categorical columns, in the order of the columns."""
    found: dict[str, list[str]] = {}
    for of in ranked:
        for word, count in of.words_for_missing:
            found.setdefault(word, []).append(f"{columns.categorical_names[of.column]}: {count:,} times")
    said = [
        f"{word} is a token ({', '.join(where[:_NAMED])}{f', and in {len(where) - _NAMED} more columns' * more}): "
        "it counts as a category of its own, for only an empty field is missing"
        for word, where in found.items()
        for more in [len(where) > _NAMED]
    ]
    # One column too few counted as numerical makes the last number the first token.
    numerical = columns.numerical
    if numerical and len(ranked) > 1 and [of.column for of in ranked if of.only_whole_numbers] == [0]:
        said.append(
            f"{columns.categorical_names[0]} (field {numerical + 2}) holds whole numbers only, as no other column of "
            f"tokens does: if it is a quantity, count {numerical + 1} numerical columns in the --feature_spec"
        )
    return said


def of_bags(cut: Mapping[str, int], columns: RawColumns) -> list[str]:
    """A sentence about each column of bags that had more tokens than are kept, in so many rows."""
    return [
        f"{column.name} has more than {column.most} tokens in {cut[column.name]:,} rows: the first {column.most} "
        "are kept (`most` in the --feature_spec)"
        for column in columns.tokens
        if cut.get(column.name)
    ]
