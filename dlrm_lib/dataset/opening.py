"""From a folder to a data set, whichever layout it has."""

from __future__ import annotations

import math
from pathlib import Path

from dlrm_lib.dataset.encoded import EncodedDataset
from dlrm_lib.dataset.record_layout import SIZES, RecordDataset
from dlrm_lib.dataset.split import Dataset
from dlrm_lib.errors import InputError
from dlrm_lib.manifest import MANIFEST


def open_dataset(
    folder: str | Path, *, num_numerical_features: int = 13, dataset_subset: float | None = None
) -> Dataset:
    """Opens a folder that ``preprocess`` wrote, or one in the layout of NVIDIA's DLRM of 2020.

    Args:
        folder: The data set.
        num_numerical_features: Numbers in each record of the layout of 2020, which does not say; the other one does.
        dataset_subset: Train on this share of the training rows only: on the first ones.

    Raises:
        InputError: no data set, files that do not fit each other, or a share outside (0, 1].
    """
    if dataset_subset is not None and not 0 < dataset_subset <= 1:
        raise InputError(
            "--dataset_subset must be above 0 and at most 1.",
            found=dataset_subset,
            remedy="0.1 means the first tenth of the training rows.",
        )
    folder = Path(folder)
    dataset: Dataset
    if (folder / SIZES).exists() and not (folder / MANIFEST).exists():
        dataset = RecordDataset(folder, numerical=num_numerical_features)
    else:
        dataset = EncodedDataset(folder)
    if dataset_subset is not None:
        dataset.train = dataset.train.first(math.ceil(len(dataset.train) * dataset_subset))
    return dataset
