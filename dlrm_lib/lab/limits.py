"""What a frequency limit costs each column, and what a lower one would: from counts alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd


def limit_costs(seen: pd.DataFrame, limits: Sequence[int]) -> pd.DataFrame:
    """A line for each column, by its number.

    Args:
        seen: Columns "column", "count" and "values": so many values of a column occur "count" times each.
        limits: The frequency limit of each column.

    Returns:
        "rare", the share of the column's cells whose value has no id; "more rows", the values that a third of the limit
        would keep besides; "saved", the share of the cells that hold those.
    """
    limit = np.asarray(limits)[seen["column"]]
    cells = seen["count"] * seen["values"]
    rare = seen["count"] < limit
    saved = rare & (seen["count"] >= np.maximum(1, limit // 3))
    found = pd.DataFrame(
        {"rare": cells.where(rare, 0), "more rows": seen["values"].where(saved, 0), "saved": cells.where(saved, 0)}
    )
    found, of_column = found.groupby(seen["column"]).sum(), cells.groupby(seen["column"]).sum()
    found[["rare", "saved"]] = found[["rare", "saved"]].div(of_column, axis=0)
    return found
