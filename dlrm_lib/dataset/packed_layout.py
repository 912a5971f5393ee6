"""Data sets as NVIDIA's DLRM of 2020 reads them: one file of packed rows per split.

``train_data.bin``, ``test_data.bin`` and perhaps ``validation_data.bin`` hold int32 rows [label, N float32 by their
bits, M ids]. ``model_size.json`` holds the greatest id of each categorical column, in the order of the columns.
(NVIDIA/DeepLearningExamples at 15807b36, ``PyTorch/Recommendation/DLRM``.)
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from dlrm_lib.config import digest
from dlrm_lib.dataset.file_split import FileSplit
from dlrm_lib.dataset.split import Dataset
from dlrm_lib.errors import InputError
from dlrm_lib.features import SPLITS, FeatureSpec
from dlrm_lib.manifest import Manifest

SIZES = "model_size.json"
_SAMPLE = 1024


class PackedSplit(FileSplit):
    """The rows of one file, memory-mapped.

    Attributes:
        fields: int32 [rows, 1 + N + M].
        label: int32 [rows], a view of them.
        numerical: float32 [rows, N], a view.
        categorical: M arrays of int32 [rows], views.
    """

    _remedy = f"Use the {SIZES} that belongs to these files, and set --num_numerical_features to what they hold."

    def __init__(self, path: Path, name: str, spec: FeatureSpec, fields: np.ndarray) -> None:
        super().__init__(path, name, spec, len(fields))
        self.fields = fields
        self.label = fields[:, 0]
        self.numerical = fields[:, 1 : 1 + spec.numerical].view(np.float32)
        self.categorical = list(fields[:, 1 + spec.numerical :].T)

    @classmethod
    def open(cls, path: Path, name: str, spec: FeatureSpec) -> PackedSplit:
        """Maps a file; none is an empty split.

        Raises:
            InputError: its size is no whole number of rows.
        """
        size, width = path.stat().st_size if path.exists() else 0, 1 + spec.numerical + len(spec.cardinalities)
        if size % (4 * width):
            raise InputError(
                f"{path} does not hold whole rows of {width} fields (1 label, {spec.numerical} numbers, "
                f"{len(spec.cardinalities)} ids).",
                found=f"{size:,} bytes, which leaves {size % (4 * width)} of {4 * width}",
                remedy="Set --num_numerical_features to what the rows hold, or copy the file again.",
                fields=("num_numerical_features",),
            )
        fields = np.memmap(path, "int32", "r").reshape(-1, width) if size else np.empty((0, width), np.int32)
        return cls(path, name, spec, np.asarray(fields))

    def first(self, rows: int) -> PackedSplit:
        return type(self)(self.folder, self.name, self.spec, self.fields[:rows])

    def _fill(
        self, rows: slice | np.ndarray, numerical: np.ndarray, categorical: np.ndarray, label: np.ndarray
    ) -> None:
        fields = self.fields[rows] if isinstance(rows, slice) else np.take(self.fields, rows, axis=0)
        label[:] = fields[:, 0]
        numerical.view(np.int32)[:] = fields[:, 1 : 1 + self.spec.numerical]
        categorical[:] = fields[:, 1 + self.spec.numerical :]

    def _place(self, part: str, column: int) -> tuple[Path, str]:
        field = {"label": 0, "numerical": 1, "categorical": 1 + self.spec.numerical}[part] + column
        return self.folder, f", field {field}"


class PackedDataset(Dataset):
    """A data set of packed rows.

    The layout has no manifest, so one is made up for checkpoints to compare. Its ``vocabulary`` is a hash of the
    columns' sizes and of the ids in the first 1,024 training rows. Encoding the same rows again in another way, or
    with ids given in another order, changes it as a rule; so does another order of the training rows, although the ids
    mean the same. It cannot tell what happened to ids that are not among those, and clicks are not counted.
    """

    def __init__(self, folder: str | Path, *, numerical: int = 13) -> None:
        """Opens ``folder``, whose rows hold so many numbers each: the files do not say, and a wrong number that
        divides them as well is noticed only by the values.

        Raises:
            InputError: a file is missing or does not fit the others.
        """
        self.folder = Path(folder)
        self.spec = FeatureSpec(numerical=numerical, cardinalities=_cardinalities(self.folder / SIZES))
        paths = {name: self.folder / f"{name}_data.bin" for name in SPLITS}
        for name in ("train", "test"):
            if not paths[name].exists():
                raise InputError(f"{paths[name]} does not exist.", remedy=f"It belongs beside {SIZES}.")
        splits = {name: PackedSplit.open(path, name, self.spec) for name, path in paths.items()}
        self.train, self.validation, self.test = splits.values()
        sample = np.ascontiguousarray(self.train.fields[:_SAMPLE, 1 + numerical :])
        self.manifest = Manifest(
            # Called records, as training states of earlier versions have its hash.
            config={"layout": "records", "numerical": numerical},
            source=[{"name": p.name, "bytes": p.stat().st_size, "sha256": None} for p in paths.values() if p.exists()],
            rows={name: len(split) for name, split in splits.items()},
            clicks={},
            quarantined={},
            cardinalities=list(self.spec.cardinalities),
            vocabulary=digest([self.spec.cardinalities, sample.astype("<i4").tobytes().hex()]),
        )


def _cardinalities(path: Path) -> tuple[int, ...]:
    """Ids per column: one more than the greatest, as ids start from 0."""
    try:
        greatest = list(json.loads(path.read_text(encoding="utf-8")).values())
        if any(type(value) is not int or not 0 <= value < 2**31 - 1 for value in greatest):
            raise ValueError(f"not ids: {greatest}")
    except OSError as error:
        raise InputError(f"{path} cannot be read.", found=error.strerror) from None
    except (AttributeError, ValueError) as error:
        raise InputError(
            f"{path} does not hold the greatest id of each categorical column.",
            found=f"{type(error).__name__}: {error}",
            remedy='It looks like {"_c14": 7912888, "_c15": 33822}, one entry for each column, in their order.',
        ) from None
    return tuple(value + 1 for value in greatest)
