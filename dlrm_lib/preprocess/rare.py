"""Counts below the frequency limit, kept with a data set so that a later one can add to them.

They are many, and only other runs read them, so they lie in the order of a hash: no sorting of texts, and a column that
was counted in several shares is written share after share. Compressed they take about five bytes a value.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from dlrm_lib.files import new_file
from dlrm_lib.preprocess.arrow import numbers
from dlrm_lib.preprocess.tokens import Tokens

_GROUP_ROWS = 1 << 20


def write_rare(path: Path, shares: Iterable[tuple[Tokens, np.ndarray]]) -> None:
    """Writes values without an id and their counts as Parquet.

    Args:
        path: The file.
        shares: Distinct tokens and how often each was seen; all hashes of a share are below those of the next one. The
            bytes do not depend on how many shares there are.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema([("value", pa.large_string()), ("count", pa.int64())])
    options = {"compression": "zstd", "use_dictionary": ["count"], "store_schema": False}
    with (
        new_file(path) as partial,
        pq.ParquetWriter(partial, schema, column_encoding={"value": "DELTA_LENGTH_BYTE_ARRAY"}, **options) as writer,
    ):
        waiting = pa.Table.from_batches([], schema)  # schema.empty_table() would import pandas
        for tokens, counts in shares:
            order = _order(tokens)
            for first in range(0, len(order), _GROUP_ROWS):
                which = order[first : first + _GROUP_ROWS]
                more = pa.table([tokens.take(which).strings(), numbers(counts[which])], schema=schema)
                waiting = pa.concat_tables([waiting, more])
                if len(waiting) >= _GROUP_ROWS:
                    writer.write_table(waiting.slice(0, _GROUP_ROWS).combine_chunks())
                    waiting = waiting.slice(_GROUP_ROWS)
        if len(waiting):
            writer.write_table(waiting.combine_chunks())


def _order(tokens: Tokens) -> np.ndarray:
    """The order of the hashes; where two tokens have the same one, that of their bytes."""
    hashes = tokens.hashes()
    order = np.argsort(hashes)
    if len(order) and (np.diff(hashes[order]) == 0).any():
        texts = [text.encode() for text in tokens.strings().to_pylist()]
        order = np.array(sorted(order, key=lambda i: (hashes[i], texts[i])))
    return order
