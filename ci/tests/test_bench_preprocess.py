"""What the benchmark of preprocessing compares with computes the same as the plain Python oracle."""

from __future__ import annotations

import dataclasses
import random
from functools import partial

import numpy as np
import oracle_preprocess as oracle
import pytest
from bench.preprocess import twice
from bench.preprocess_peers import SETTINGS, with_duckdb, with_polars

from dlrm_lib.columns import CRITEO

for peer in ("polars", "duckdb"):
    pytest.importorskip(peer, reason=f"{peer} is a package for developers: pip install -e '.[develop]'")

# Counts around the frequency limit, many ties, and text that CSV readers like to interpret.
_TOKENS = [f"{value:08x}" for value in range(120)] + ["", "", "é", "Z", '"', 'a"b', "241546e0", "00", "null", "a b"]
_INTEGERS = ["", "", "0", "-1", "-2", "-3", "-9223372036854775808", "9223372036854775805", "65519", "007"]


@pytest.fixture
def days(tmp_path):
    """Twelve days, so that their names sort otherwise than they follow each other."""
    draw = random.Random(5)
    raw = tmp_path / "raw"
    raw.mkdir()
    for day in range(12):
        tokens = [*_TOKENS, "only in the last day"] if day == 11 else _TOKENS
        with open(raw / f"day_{day}", "w", encoding="utf-8", newline="\n") as file:
            for _ in range(250):
                integers = [draw.choice([*_INTEGERS, str(draw.randrange(5000))]) for _ in range(13)]
                fields = [str(draw.randrange(2)), *integers, *(draw.choice(tokens[: 20 + 5 * j]) for j in range(26))]
                file.write("\t".join(fields) + "\n")
    return raw


_PEERS = {
    "polars": partial(with_polars, tuned=False),
    "polars_tuned": partial(with_polars, tuned=True),
    "duckdb": partial(with_duckdb, cores=2),
}


@pytest.mark.parametrize("peer", _PEERS)
def test_a_peer_encodes_as_the_oracle_does(days, tmp_path, peer):
    _PEERS[peer](days, tmp_path / "encoded")
    in_order = dataclasses.replace(SETTINGS, order="input")
    expected = oracle.encode([days / f"day_{day}" for day in range(12)], in_order, CRITEO).files

    def of_all_rows(name: str) -> bytes:
        return b"".join(expected[f"{split}/{name}"] for split in ("train", "test", "validation"))

    for name in ("label", *(f"cat_{j}" for j in range(26))):
        assert np.load(tmp_path / "encoded" / f"{name}.npy").tobytes() == of_all_rows(f"{name}.bin"), name
    # Polars rounds to float16 by way of float32, which can be one step off.
    numerical = np.load(tmp_path / "encoded" / "numerical.npy").view(np.int16).ravel()
    steps = numerical.astype(int) - np.frombuffer(of_all_rows("numerical.bin"), np.int16)
    assert np.abs(steps).max() <= 1
    assert np.count_nonzero(steps) < 0.001 * steps.size


def test_duckdb_keeps_many_rows_in_order(days, tmp_path):
    for path in days.iterdir():  # DuckDB's threads take 122,880 rows at a time
        path.write_bytes(50 * path.read_bytes())
    with_polars(days, tmp_path / "polars", tuned=True)
    with_duckdb(days, tmp_path / "duckdb", cores=2)
    for name in ("label", *(f"cat_{j}" for j in range(26))):
        polars, duckdb = (np.load(tmp_path / peer / f"{name}.npy") for peer in ("polars", "duckdb"))
        np.testing.assert_array_equal(duckdb, polars, name)


def test_rows_twice_keep_their_share_of_training_days(days):
    doubled = twice(days)
    texts = [(doubled / f"day_{day}").read_bytes() for day in range(23)]
    once = [(days / f"day_{day}").read_bytes() for day in range(12)]
    assert texts == [*once[:-1], *once[:-1], 2 * once[-1]]
    assert len(list(doubled.iterdir())) == 23
