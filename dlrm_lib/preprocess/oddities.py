"""What a vocabulary shows that its owner may not have meant: read off the ranked values, not off the rows again."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from dlrm_lib.preprocess.formats import MISSING

_TELLING = 10  # fewer distinct values may be whole numbers by chance, as some of eight hexadecimal digits are
_LOOKED_AT = 1000  # of a column's values, the most frequent first


def words_for_missing(kept: pa.Table) -> tuple[tuple[str, int], ...]:
    """Which of a column's kept values say in words that there is none, such as ``nan``, with their counts."""
    words = kept.filter(pc.is_in(kept["value"], pa.array([word.decode() for word in MISSING], kept["value"].type)))
    return tuple(zip(words["value"].to_pylist(), words["count"].to_pylist(), strict=True))


def only_whole_numbers(kept: pa.Table) -> bool:
    """Whether a column's kept values are whole numbers, and enough of them to tell."""
    values = kept["value"].slice(0, _LOOKED_AT)
    return len(values) >= _TELLING and pc.all(pc.match_substring_regex(values, "^-?[0-9]+$")).as_py()
