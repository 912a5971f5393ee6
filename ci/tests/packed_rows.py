"""Small data sets in the layout of NVIDIA's DLRM of 2020, written with ``struct`` field by field."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import numpy as np

from dlrm_lib.features import SPLITS

CARDINALITIES = (3, 7, 200, 40_000)


def random_rows(rows: int, cardinalities=CARDINALITIES, numerical=4, seed=0) -> list[list]:
    """Rows of Python numbers: label, numbers that float32 holds exactly, ids."""
    rng = np.random.default_rng([seed, rows])
    return [
        [
            int(rng.integers(2)),
            *rng.normal(size=numerical).astype(np.float32).tolist(),
            *(int(rng.integers(cardinality)) for cardinality in cardinalities),
        ]
        for _ in range(rows)
    ]


def write_packed(path: Path, rows: list[list], numerical=4) -> None:
    """One little-endian row after the other."""
    ids = len(CARDINALITIES) if not rows else len(rows[0]) - 1 - numerical
    path.write_bytes(b"".join(struct.pack(f"<i{numerical}f{ids}i", *row) for row in rows))


def write_dataset(folder: Path, rows=(50, 0, 20), cardinalities=CARDINALITIES, numerical=4) -> dict[str, list[list]]:
    """Train, validation and test; a split of no rows has no file. Returns the rows."""
    folder.mkdir()
    content = {}
    for seed, (name, count) in enumerate(zip(SPLITS, rows, strict=True)):
        content[name] = random_rows(count, cardinalities, numerical, seed)
        if count:
            write_packed(folder / f"{name}_data.bin", content[name], numerical)
    sizes = {f"_c{14 + j}": cardinality - 1 for j, cardinality in enumerate(cardinalities)}
    (folder / "model_size.json").write_text(json.dumps(sizes))
    return content
