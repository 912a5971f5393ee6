"""Orders computed on the fly: every entry once, differently for every seed, without a pattern."""

from __future__ import annotations

import numpy as np
import pytest

from dlrm_lib.dataset import permutation
from dlrm_lib.dataset.permutation import Permutation

SIZES = [1, 2, 3, 4, 5, 7, 8, 9, 31, 97, 127, 128, 129, 1000, 1023, 1024, 1025, 7919, 65_535, 65_536, 65_537, 100_003]


@pytest.fixture(params=["stored", "computed"])
def kind(request, monkeypatch):
    if request.param == "computed":
        monkeypatch.setattr(permutation, "_STORED", 0)
    return request.param


def entries(size, seed):
    return Permutation(size, seed)[np.arange(size)]


@pytest.mark.parametrize("size", SIZES)
def test_every_entry_comes_once(kind, size):
    for seed in ([0, 0], [0, 1], [2**40, 3]):
        found = entries(size, seed)
        assert found.dtype == np.int64
        assert np.array_equal(np.sort(found), np.arange(size))


def test_places_are_found_one_by_one_as_all_at_once(kind):
    order = Permutation(1000, [4, 2])
    whole = order[np.arange(1000)]
    for places in ([0], [999], [5, 5, 3], list(range(400, 700)), []):
        assert order[np.array(places, np.int64)].tolist() == whole[places].tolist()


def test_seed_and_epoch_decide(kind):
    assert np.array_equal(entries(500, [1, 2]), entries(500, [1, 2]))
    seen = {entries(500, seed).tobytes() for seed in ([1, 2], [2, 1], [1, 3], [0, 2], [12, 0])}
    assert len(seen) == 5


def test_large_orders_are_not_stored():
    size = 2**40 - 3
    order = Permutation(size, [0, 0])
    assert order._stored is None
    places = np.concatenate([np.arange(10_000), size - 1 - np.arange(10_000)])
    found = order[places]
    assert len(set(found.tolist())) == 20_000
    assert (found.min(), found.max()) >= (0, 0)
    assert found.max() < size


def test_it_looks_uniform(kind):
    """Chi-square of where entries go, of how far neighbours part, and of the lowest bits: each within 5 sigma."""
    size, cells = 60_000, 20
    found = entries(size, [7, 1])
    place, entry = np.arange(size) * cells // size, found * cells // size
    parted = (np.diff(found) % size) * cells // size
    for pairs, degrees in (
        (place * cells + entry, (cells - 1) ** 2),
        (parted, cells - 1),
        (np.arange(size) % 8 * 8 + found % 8, 49),
    ):
        counts = np.bincount(pairs)
        expected = len(pairs) / len(counts)
        chi_square = ((counts - expected) ** 2 / expected).sum()
        assert abs(chi_square - degrees) < 5 * np.sqrt(2 * degrees)


def test_first_entries_of_many_seeds_are_uniform(kind):
    found = [int(Permutation(1000, [seed, 0])[np.array([0])][0]) * 10 // 1000 for seed in range(2000)]
    counts = np.bincount(found, minlength=10)
    assert ((counts - 200) ** 2 / 200).sum() < 9 + 5 * np.sqrt(18)
