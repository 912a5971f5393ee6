"""Random rows that come from no file: for measuring speed."""

from __future__ import annotations

import functools
import threading
from pathlib import Path

import numpy as np
import torch

from dlrm_lib.config import digest
from dlrm_lib.dataset.batch import Batch
from dlrm_lib.dataset.split import Dataset, Split
from dlrm_lib.features import SPLITS, FeatureSpec
from dlrm_lib.manifest import Manifest

_POOL_BYTES = 2**26


class RandomSplit(Split):
    """Any number of rows drawn from a pool of some thousands to hundreds of thousands, which they repeat in order.

    The pool takes 64 MiB at most. Batches of consecutive rows are parts of it, not copies: do not write into them.
    """

    def __init__(
        self, name: str, spec: FeatureSpec, rows: int, *, indices_per_lookup: int, fixed: bool, ids: str, seed: int
    ) -> None:
        super().__init__(Path("random rows") / name, name, spec, rows)
        self.indices_per_lookup, self.fixed, self.ids, self.seed = indices_per_lookup, fixed, ids, seed
        self._lock = threading.Lock()

    def first(self, rows: int) -> RandomSplit:
        return type(self)(
            self.name,
            self.spec,
            min(rows, self.rows),
            indices_per_lookup=self.indices_per_lookup,
            fixed=self.fixed,
            ids=self.ids,
            seed=self.seed,
        )

    @property
    def label(self) -> np.ndarray:
        """bool [rows], made on demand."""
        return np.resize(self._shared_pool()[2].astype(bool), self.rows) if self.rows else np.empty(0, bool)

    @functools.cached_property
    def pool_rows(self) -> int:
        """Rows in the pool: a power of two, so that batches of such a size never straddle its end."""
        row_bytes = 4 * (1 + self.spec.numerical + len(self.spec.cardinalities) * self.indices_per_lookup)
        return 2 ** max(0, (_POOL_BYTES // row_bytes).bit_length() - 1)

    def _shared_pool(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        with self._lock:
            return self._pool

    @functools.cached_property
    def _pool(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """float32 [P, N] in [0, 1), int32 [P, M] or [P, M, L], float32 [P]."""
        rng, rows = np.random.default_rng([self.seed, SPLITS.index(self.name)]), self.pool_rows
        lookups = (self.indices_per_lookup,) if self.indices_per_lookup > 1 else ()
        ids = np.empty((rows, len(self.spec.cardinalities), *lookups), np.int32)
        for column, cardinality in enumerate(self.spec.cardinalities):
            if self.ids == "zipf":
                # The inverse of a distribution function: id k comes up about as often as 1 / (k + 1).
                draw = (cardinality + 1.0) ** rng.random((rows, *lookups)) - 1
                ids[:, column] = np.minimum(draw.astype(np.int32), cardinality - 1)
            else:
                ids[:, column] = rng.integers(cardinality, size=(rows, *lookups), dtype=np.int32)
            if lookups and not self.fixed:
                _shorten(ids[:, column], cardinality, rng)
        numerical = rng.random((rows, self.spec.numerical), np.float32)
        return numerical, ids, rng.integers(2, size=rows).astype(np.float32)

    def gather(self, rows: slice | np.ndarray, *, check: bool = True) -> Batch:
        """As of any split; there is nothing to check."""
        pool = self._shared_pool()
        if isinstance(rows, slice):
            start, length = rows.start % self.pool_rows, rows.stop - rows.start
            if start + length <= self.pool_rows:
                return Batch(*(torch.from_numpy(part[start : start + length]) for part in pool))
            rows = np.arange(rows.start, rows.stop)
        return Batch(*(torch.from_numpy(np.take(part, rows % self.pool_rows, axis=0)) for part in pool))


def _shorten(bags: np.ndarray, padding: int, rng: np.random.Generator) -> None:
    """Leaves 1 to L ids in each bag of int32 [P, L], ascending, and each id once; the rest becomes ``padding``.

    As in Habana's generator, a bag has fewer ids than were drawn for it where some are equal.
    """
    length = bags.shape[1]
    drawn = rng.integers(1, length + 1, size=(len(bags), 1))
    bags[np.arange(length) >= drawn] = padding
    bags.sort(axis=1)
    bags[:, 1:][bags[:, 1:] == bags[:, :-1]] = padding
    bags.sort(axis=1)


class RandomDataset(Dataset):
    """Random numbers, ids and labels: the data set of ``--synthetic_dataset``.

    NVIDIA's trainer repeats one batch; here rows repeat after hundreds of thousands, so that embedding rows are not
    found in a cache only because the batch before had them too.
    """

    held_bytes = 2 * _POOL_BYTES  # of the rows to train on, and of those to test on

    def __init__(
        self,
        spec: FeatureSpec,
        *,
        train_rows: int = 4 * 10**9,
        validation_rows: int = 0,
        test_rows: int = 100 * 10**6,
        indices_per_lookup: int = 1,
        fixed: bool = False,
        ids: str = "uniform",
        seed: int = 0,
    ) -> None:
        """Sizes by default as NVIDIA's; nothing is drawn before the first batch.

        Args:
            spec: The columns.
            train_rows: Rows in ``train``.
            validation_rows: Rows in ``validation``.
            test_rows: Rows in ``test``.
            indices_per_lookup: L, the most ids of each feature in each row; above 1, batches hold int32 [B, M, L], bags
                that are padded with the column's cardinality.
            fixed: Every bag has L ids, which may be equal; else 1 to L different ones.
            ids: ``uniform``, or ``zipf``: id k about as often as 1 / (k + 1), as in click logs.
            seed: Of the values.
        """
        if ids not in ("uniform", "zipf"):
            raise ValueError(f"ids must be uniform or zipf, not {ids}")
        self.folder = Path("random rows")
        self.spec = spec
        rows = dict(zip(SPLITS, (train_rows, validation_rows, test_rows), strict=True))
        self.train, self.validation, self.test = (
            RandomSplit(name, spec, rows[name], indices_per_lookup=indices_per_lookup, fixed=fixed, ids=ids, seed=seed)
            for name in SPLITS
        )
        config = {"layout": "random", "numerical": spec.numerical, "indices_per_lookup": indices_per_lookup, "ids": ids}
        config |= {"fixed": fixed} if indices_per_lookup > 1 else {}
        self.manifest = Manifest(
            config=config,
            source=[{"name": "random", "bytes": 0, "sha256": None, "seed": seed}],
            rows=rows,
            clicks={},
            quarantined={},
            cardinalities=list(spec.cardinalities),
            vocabulary=digest(["random", list(spec.cardinalities)]),
        )
