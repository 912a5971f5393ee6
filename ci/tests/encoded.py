"""Small encoded data sets for tests, written straight from arrays."""

from __future__ import annotations

import dataclasses
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


def random_dataset(
    folder: Path,
    rows=(3000, 500, 700),
    cardinalities=CARDINALITIES,
    numerical=4,
    seed=0,
    click=None,
    negative_rate=1.0,
):
    """A data set with random features; ``click(numerical, categorical)`` gives each row's probability (default 0.3).

    Of the training rows without a click about the share ``negative_rate`` is kept.
    """
    rng = np.random.default_rng(seed)
    rule = NUMERIC_RULES[PreprocessConfig().numeric_rule]
    spec = FeatureSpec(numerical=numerical, cardinalities=tuple(cardinalities), numeric_rules=(rule,) * numerical)
    clicks, kept_rows = {}, {}
    for split, n in zip(SPLITS, rows, strict=True):
        x = rng.lognormal(0, 1, (n, numerical)).astype(np.float16)
        ids = (rng.random((n, len(cardinalities))) ** 2 * np.array(cardinalities)).astype(np.int32)
        label = rng.random(n) < (click(x, ids) if click else 0.3)
        clicks[split] = int(label.sum())
        draws = np.random.default_rng([seed, 1]).random(n)  # of their own: rates have all other rows in common
        kept = label | (draws < negative_rate) | (split != "train")
        kept_rows[split] = int(kept.sum())
        write_split(folder / split, spec, label[kept], x[kept], ids[kept])
    spec.write(folder / "feature_spec.yaml")
    Manifest(
        config=as_dict(PreprocessConfig(negative_rate=negative_rate)),
        source=[{"name": "day_0", "bytes": 1, "sha256": "0"}],
        rows=kept_rows,
        left_out=sum(rows) - sum(kept_rows.values()),
        clicks=clicks,
        quarantined={},
        cardinalities=list(cardinalities),
        vocabulary=digest([seed, list(cardinalities)]),
    ).write(folder)
    return EncodedDataset(folder)


def later_dataset(before: EncodedDataset, folder: Path, more=(0, 5, 40), *, day=1, **how) -> EncodedDataset:
    """Random rows of a later day, as if encoded with the vocabulary of ``before`` and so many ids more per column."""
    manifest = before.manifest
    cardinalities = [ids + new for ids, new in zip(manifest.cardinalities, more, strict=True)]
    random_dataset(folder, cardinalities=cardinalities, numerical=before.spec.numerical, seed=day, **how)
    later = Manifest.read(folder)
    dataclasses.replace(
        later,
        source=[{"name": f"day_{day}", "bytes": 1, "sha256": str(day)}],
        vocabulary=digest([manifest.vocabulary, list(more), day]) if any(more) else manifest.vocabulary,
        lineage=[*manifest.lineage, manifest.ancestor],
    ).write(folder)
    return EncodedDataset(folder)
