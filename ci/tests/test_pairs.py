"""What two columns tell together, against loops over rows."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from dlrm_lib.lab.pairs import joint_click_rates

CHANCES = {("a", "x"): 0.8, ("a", "y"): 0.2, ("b", "x"): 0.2, ("b", "y"): 0.8, ("c", "x"): 0.5}  # no row has c and y


def test_a_planted_pair_stands_out_of_what_its_columns_say_alone():
    draw = np.random.default_rng(0)
    rows = [(first, second, draw.random() < chance) for (first, second), chance in CHANCES.items() for _ in range(200)]
    clicked, predicted, errors = joint_click_rates(pd.DataFrame(rows, columns=["one", "two", "label"]), "one", "two")

    def odds(place=None, value=None):
        labels = [row[2] for row in rows if place is None or row[place] == value]
        return sum(labels) / (len(labels) - sum(labels))

    for first, second in CHANCES:
        rate = np.mean([label for one, two, label in rows if (one, two) == (first, second)])
        product = odds(0, first) * odds(1, second) / odds()
        expected = product / (1 + product)
        assert clicked.loc[first, second] == pytest.approx(rate)
        assert predicted.loc[first, second] == pytest.approx(expected)
        assert errors.loc[first, second] == pytest.approx((rate - expected) / (expected * (1 - expected) / 200) ** 0.5)
    assert clicked.isna().to_numpy().sum() == 1
    assert np.isnan(errors.loc["c", "y"])
    assert errors.loc[["a", "b"]].abs().min(axis=None) > 5
