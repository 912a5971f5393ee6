"""What frequency limits cost, against a loop over cells."""

from __future__ import annotations

import pandas as pd
import pytest

from dlrm_lib.lab.limits import limit_costs

# Column → value → how often it occurs.
CELLS = {0: {"a": 40, "b": 9, "c": 4, "d": 3, "e": 1, "f": 1}, 1: {"a": 2, "b": 2}, 2: {"a": 100}}


@pytest.mark.parametrize("limits", [(15, 15, 15), (10, 1, 500), (4, 2, 3), (1, 1, 1)])
def test_each_column_pays_for_its_own_limit(limits):
    counts = pd.DataFrame(
        [(column, n) for column, of in CELLS.items() for n in of.values()], columns=["column", "count"]
    )
    costs = limit_costs(counts.groupby(["column", "count"]).size().rename("values").reset_index(), limits)
    for column, limit in enumerate(limits):
        times = CELLS[column].values()
        rare, kept = [n for n in times if n < limit], [n for n in times if max(1, limit // 3) <= n < limit]
        expected = {"rare": sum(rare) / sum(times), "more rows": len(kept), "saved": sum(kept) / sum(times)}
        assert costs.loc[column].to_dict() == pytest.approx(expected)
