"""Data sets on disk and out of thin air, and batches read from them in any order, checked, ahead of their use."""

from dlrm_lib.dataset.batch import Batch
from dlrm_lib.dataset.encoded import EncodedDataset
from dlrm_lib.dataset.opening import open_dataset, random_dataset, refuse_bags, subset
from dlrm_lib.dataset.order import InOrder, Order, ShuffledBatches, ShuffledRows
from dlrm_lib.dataset.packed_layout import PackedDataset
from dlrm_lib.dataset.random_rows import RandomDataset
from dlrm_lib.dataset.read_ahead import read_ahead
from dlrm_lib.dataset.split import Dataset, Split
from dlrm_lib.dataset.vocabulary import Vocabulary

__all__ = [
    "Batch",
    "Dataset",
    "EncodedDataset",
    "InOrder",
    "Order",
    "PackedDataset",
    "RandomDataset",
    "ShuffledBatches",
    "ShuffledRows",
    "Split",
    "Vocabulary",
    "open_dataset",
    "random_dataset",
    "read_ahead",
    "refuse_bags",
    "subset",
]
