"""Bad values are found wherever they are, and good ones pass, whatever the shape."""

from __future__ import annotations

import numpy as np
import pytest

from dlrm_lib.dataset.checks import Fault, first_fault

CARDINALITIES = np.array([3, 1, 2**31 - 2], np.uint32)
ROWS = (1, 2, 31, 32, 33, 64, 100, 4096)


def good(rows, seed=0):
    rng = np.random.default_rng([seed, rows])
    extremes = np.array([0.0, -0.0, 3.4028235e38, -3.4028235e38, 1e-45], np.float32)
    numerical = rng.choice(extremes, (rows, 2))
    ids = (rng.random((rows, 3)) * CARDINALITIES).astype(np.int32)
    ids[0] = CARDINALITIES - 1
    return numerical, ids, rng.integers(2, size=rows).astype(np.float32), CARDINALITIES


@pytest.mark.parametrize("rows", ROWS)
def test_good_rows_pass(rows):
    assert first_fault(*good(rows)) is None


@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize(
    ("part", "column", "value"),
    [
        ("categorical", 0, 3),
        ("categorical", 1, 1),
        ("categorical", 1, -1),
        ("categorical", 2, 2**31 - 2),
        ("categorical", 2, -(2**31)),
        ("numerical", 0, float("inf")),
        ("numerical", 1, float("-inf")),
        ("label", 0, 2),
        ("label", 0, 255),
        ("label", 0, -1),
        ("label", 0, -(2**31)),
    ],
)
def test_a_bad_value_is_found_in_every_row(rows, part, column, value):
    for row in {0, rows // 2, rows - 1}:
        arrays = good(rows)
        array = dict(zip(("numerical", "categorical", "label"), arrays[:3], strict=True))[part]
        array.reshape(rows, -1)[row, column] = value
        assert first_fault(*arrays) == Fault(part, row, column, value)


# Quiet and signalling, of both signs.
@pytest.mark.parametrize("bits", [0x7FC0_0000, 0x7F80_0001, 0xFFC0_0000, 0xFF80_0001, 0xFFFF_FFFF])
def test_every_kind_of_nan_is_found(bits):
    arrays = good(50)
    arrays[0].view(np.uint32)[40, 1] = bits
    fault = first_fault(*arrays)
    assert fault[:3] == ("numerical", 40, 1)
    assert np.isnan(fault.value)
