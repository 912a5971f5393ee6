"""Small encoded data sets for tests, written straight from arrays."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from dlrm_lib.config import PreprocessConfig, as_dict, digest
from dlrm_lib.dataset import EncodedDataset
from dlrm_lib.features import SPLITS, FeatureSpec
from dlrm_lib.manifest import Manifest
from dlrm_lib.numeric_rules import NUMERIC_RULES

CARDINALITIES = (3, 7, 200, 40_000)


def write_split(folder: Path, spec: FeatureSpec, label, numerical, categorical) -> None:
    """Writes one split: label [rows], numerical [rows, N], categorical [rows, M]."""
    folder.mkdir(parents=True, exist_ok=True)
    np.asarray(label, bool).tofile(folder / "label.bin")
    np.asarray(numerical, np.float16).tofile(folder / "numerical.bin")
    for j, dtype in enumerate(spec.category_dtypes):
        np.asarray(categorical)[:, j].astype(dtype).tofile(folder / f"cat_{j}.bin")


def random_dataset(folder: Path, rows=(3000, 500, 700), cardinalities=CARDINALITIES, numerical=4, seed=0, click=None):
    """A data set with random features; ``click(numerical, categorical)`` gives each row's probability (default 0.3)."""
    rng = np.random.default_rng(seed)
    rule = NUMERIC_RULES[PreprocessConfig().numeric_rule]
    spec = FeatureSpec(numerical=numerical, cardinalities=tuple(cardinalities), numeric_rules=(rule,) * numerical)
    clicks = {}
    for split, n in zip(SPLITS, rows, strict=True):
        x = rng.lognormal(0, 1, (n, numerical)).astype(np.float16)
        ids = (rng.random((n, len(cardinalities))) ** 2 * np.array(cardinalities)).astype(np.int32)
        label = rng.random(n) < (click(x, ids) if click else 0.3)
        clicks[split] = int(label.sum())
        write_split(folder / split, spec, label, x, ids)
    spec.write(folder / "feature_spec.yaml")
    Manifest(
        config=as_dict(PreprocessConfig()),
        source=[{"name": "day_0", "bytes": 1, "sha256": "0"}],
        rows=dict(zip(SPLITS, rows, strict=True)),
        clicks=clicks,
        quarantined={},
        cardinalities=list(cardinalities),
        vocabulary=digest([seed, list(cardinalities)]),
    ).write(folder)
    return EncodedDataset(folder)
