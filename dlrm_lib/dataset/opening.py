"""From a folder to a data set, whichever layout it has."""

from __future__ import annotations

import copy
import math
from pathlib import Path

from dlrm_lib.config import Config
from dlrm_lib.dataset.encoded import EncodedDataset
from dlrm_lib.dataset.packed_layout import SIZES, PackedDataset
from dlrm_lib.dataset.random_rows import RandomDataset
from dlrm_lib.dataset.split import Dataset
from dlrm_lib.errors import InputError
from dlrm_lib.features import FeatureSpec
from dlrm_lib.manifest import MANIFEST


def open_dataset(
    folder: str | Path, *, num_numerical_features: int = 13, dataset_subset: float | None = None
) -> Dataset:
    """Opens a folder that ``preprocess`` wrote, or one in the layout of NVIDIA's DLRM of 2020.

    Args:
        folder: The data set.
        num_numerical_features: Numbers in each row of the layout of 2020, which does not say; the other one does.
        dataset_subset: Train on this share of the training rows only: on the first ones.

    Raises:
        InputError: no data set, files that do not fit each other, or a share outside (0, 1].
    """
    if dataset_subset is not None and not 0 < dataset_subset <= 1:
        raise InputError(
            "--dataset_subset must be above 0 and at most 1.",
            found=dataset_subset,
            remedy="0.1 means the first tenth of the training rows.",
            fields=("dataset_subset",),
        )
    folder = Path(folder)
    dataset: Dataset
    if (folder / SIZES).exists() and not (folder / MANIFEST).exists():
        dataset = PackedDataset(folder, numerical=num_numerical_features)
    else:
        dataset = EncodedDataset(folder)
    return subset(dataset, dataset_subset)


def subset(dataset: Dataset, share: float | None) -> Dataset:
    """The data set with this share of its training rows only, the first ones; None: with all of them."""
    if share is None:
        return dataset
    part = copy.copy(dataset)
    part.train = dataset.train.first(math.ceil(len(dataset.train) * share))
    return part


def random_dataset(config: Config) -> RandomDataset:
    """The random rows that ``synthetic_dataset`` asks for."""
    data = config.data
    return RandomDataset(
        FeatureSpec(numerical=data.num_numerical_features, cardinalities=data.synthetic_dataset_table_sizes),
        train_rows=data.synthetic_dataset_rows,
        indices_per_lookup=config.model.num_indices_per_lookup,
        fixed=data.num_indices_per_lookup_fixed,
        seed=config.training.seed,
    )


def refuse_bags(config: Config) -> None:
    """Raises InputError where a configuration wants more ids per feature than a data set has."""
    if config.model.num_indices_per_lookup > 1:
        raise InputError(
            "--num_indices_per_lookup needs --synthetic_dataset: a data set says itself how many ids a row may have.",
            found=config.model.num_indices_per_lookup,
            remedy="Leave it out, or add --synthetic_dataset.",
            fields=("num_indices_per_lookup", "synthetic_dataset"),
        )
