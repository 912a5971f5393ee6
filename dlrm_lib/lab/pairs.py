"""What two columns of a log tell together that neither tells alone."""

from __future__ import annotations

import numpy as np
import pandas as pd


def joint_click_rates(rows: pd.DataFrame, first: str, second: str) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Click rates of all combinations of two columns' values, beside what the values predict one by one.

    Args:
        rows: With these columns and "label".
        first: The column whose values become the lines.
        second: The column whose values become the columns.

    Returns:
        The click rate of each combination, NaN where there is none; the rate if the two acted independently, so that
        their odds were multiplied; and the difference, in standard errors of the rate.
    """
    odds, overall = {}, rows["label"].mean()
    for name in (first, second):
        rate = rows.groupby(name)["label"].mean()
        odds[name] = rate / (1 - rate)
    product = np.outer(odds[first], odds[second]) * (1 - overall) / overall
    size = pd.crosstab(rows[first], rows[second])
    clicked = pd.crosstab(rows[first], rows[second], rows["label"], aggfunc="mean")
    predicted = size * 0 + product / (1 + product)
    return clicked, predicted, (clicked - predicted) / np.sqrt(predicted * (1 - predicted) / size)
