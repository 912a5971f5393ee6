"""What the benchmark of reading compares reads the same rows."""

from __future__ import annotations

import numpy as np
import pytest
from bench.reader import contestants, write


@pytest.fixture(scope="module")
def splits(tmp_path_factory):
    return write(tmp_path_factory.mktemp("data"), 300)


def test_both_layouts_hold_the_same_rows(splits):
    one, other = (list(split.batches(300)) for split in splits.values())
    assert all(np.array_equal(a, b) for a, b in zip(one[0], other[0], strict=True))


@pytest.mark.parametrize("layout", ["columns", "records"])
def test_contestants_that_keep_the_order_give_the_same_batches(splits, layout):
    steps = contestants(splits[layout], 100, 2)
    in_order = {name: step for name, step in steps.items() if name.startswith(("in order", "slices", "per row"))}
    assert len(in_order) == 5
    for number in range(3):
        expected = splits[layout].read(100 * number, 100 * number + 100)
        for name, step in in_order.items():
            for a, b in zip(step(number), expected, strict=True):
                assert np.array_equal(a, b), name
                assert str(a.dtype).removeprefix("torch.") == str(b.dtype).removeprefix("torch.")
