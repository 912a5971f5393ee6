"""Data sets in the layout of NVIDIA's DLRM of 2020."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from encoded import random_dataset
from packed_rows import CARDINALITIES, random_rows, write_dataset, write_packed

from dlrm_lib.backends import pick
from dlrm_lib.config import Config
from dlrm_lib.dataset import EncodedDataset, PackedDataset, ShuffledRows, open_dataset
from dlrm_lib.errors import InputError
from dlrm_lib.training import build, fit


@pytest.fixture
def folder(tmp_path):
    write_dataset(tmp_path / "data")
    return tmp_path / "data"


def opened(folder, **options):
    return open_dataset(folder, num_numerical_features=4, **options)


def as_rows(batches):
    return [
        [label, *numbers, *ids]
        for b in batches
        for label, numbers, ids in zip(b.label.tolist(), b.numerical.tolist(), b.categorical.tolist(), strict=True)
    ]


def test_batches_are_the_rows(tmp_path):
    content = write_dataset(tmp_path / "data", rows=(50, 9, 20))
    dataset = opened(tmp_path / "data")
    assert isinstance(dataset, PackedDataset)
    assert dataset.spec.numerical == 4
    assert dataset.spec.cardinalities == CARDINALITIES
    for name in ("train", "validation", "test"):
        split = getattr(dataset, name)
        assert split.name == name
        batches = list(split.batches(8))
        assert as_rows(batches) == content[name]
        assert {(b.numerical.dtype, b.categorical.dtype, b.label.dtype) for b in batches} == {
            (torch.float32, torch.int32, torch.float32)
        }
        assert all(tensor.is_contiguous() for batch in batches for tensor in batch)
        shuffled = as_rows(split.batches(8, ShuffledRows(1, 0)))
        assert shuffled != content[name]
        assert sorted(shuffled) == sorted(content[name])
        assert [list(row) for row in zip(split.label, *split.numerical.T, *split.categorical, strict=True)] == (
            content[name]
        )


def test_nothing_is_copied_before_a_batch_asks(folder):
    train = opened(folder).train
    for view in (train.label, train.numerical, *train.categorical):
        assert np.shares_memory(view, train.fields)


def test_no_validation_file_is_an_empty_split(folder):
    validation = opened(folder).validation
    assert len(validation) == validation.steps(8) == 0
    assert list(validation.batches(8)) == []


def test_a_model_trains_on_it(folder):
    dataset = opened(folder)
    config = Config.from_preset("smoke", {"batch_size": 8, "epochs": 1})
    events = list(fit(build(config, dataset, backend=pick("cpu"))))
    assert events[-1].step == 7


@pytest.mark.parametrize("name", ["train", "test"])
def test_a_missing_file_is_named(folder, name):
    (folder / f"{name}_data.bin").unlink()
    with pytest.raises(InputError, match=rf"{name}_data\.bin does not exist"):
        opened(folder)


def test_a_truncated_file_is_named(folder):
    path = folder / "test_data.bin"
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(InputError, match=r"test_data\.bin does not hold whole rows of 9 fields \(1 label, 4 numb"):
        opened(folder)


def test_another_number_of_numbers_is_refused(folder):
    with pytest.raises(InputError, match=r"11 fields[\s\S]*1,800 bytes, which leaves 40 of 44[\s\S]*--num_numerical"):
        open_dataset(folder, num_numerical_features=6)


@pytest.mark.parametrize(
    "text", ["{", "[3, 7]", '{"_c14": -1}', '{"_c14": 2.5}', '{"_c14": true}', '{"_c14": 2147483647}', "3"]
)
def test_sizes_that_are_none_are_refused(folder, text):
    (folder / "model_size.json").write_text(text)
    with pytest.raises(InputError, match=r"model_size\.json does not hold the greatest id"):
        opened(folder)


def test_a_folder_of_neither_layout_is_refused(tmp_path):
    with pytest.raises(InputError, match="holds no finished data set"):
        open_dataset(tmp_path)
    with pytest.raises(InputError, match=r"model_size\.json cannot be read"):
        PackedDataset(tmp_path)


def test_our_own_layout_is_opened_too(tmp_path):
    random_dataset(tmp_path / "data")
    assert isinstance(open_dataset(tmp_path / "data"), EncodedDataset)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        (0, 2, r"field 0: the label is not 0 or 1\.\n  found: 2\n"),
        (0, -1, r"field 0: the label is not 0 or 1\.\n  found: -1\n"),
        (3, float("nan"), r"field 3: the number is not finite\.\n  found: nan"),
        (1, float("inf"), r"field 1: the number is not finite\.\n  found: inf"),
        (4, float("-inf"), r"field 4: the number is not finite\.\n  found: -inf"),
        (5, 3, r"field 5: the id is outside the column's vocabulary\.\n  found: 3 \(ids go from 0 to 2\)"),
        (8, -1, r"field 8: the id is outside the column's vocabulary\.\n  found: -1 \(ids go from 0 to 39999\)"),
    ],
)
@pytest.mark.parametrize("order", [None, ShuffledRows(3, 0)])
def test_bad_values_are_named(folder, field, value, message, order):
    rows = random_rows(50)
    rows[37][field] = value
    write_packed(folder / "train_data.bin", rows)
    with pytest.raises(InputError, match=r"train_data\.bin, row 37, " + message):
        list(opened(folder).train.batches(8, order))


def test_the_manifest_knows_the_encoding(tmp_path, folder):
    one = opened(folder).manifest
    assert one.rows == {"train": 50, "validation": 0, "test": 20}
    assert one.cardinalities == list(CARDINALITIES)
    assert opened(folder).manifest.hashes == one.hashes
    # The same sizes with other ids for the same rows: made by other counts of ties, say.
    rows = random_rows(50)
    rows[11][6] = (rows[11][6] + 1) % 7
    write_packed(folder / "train_data.bin", rows)
    assert opened(folder).manifest.vocabulary != one.vocabulary
    write_packed(folder / "train_data.bin", random_rows(50))
    assert opened(folder).manifest.vocabulary == one.vocabulary
    sizes = json.loads((folder / "model_size.json").read_text())
    (folder / "model_size.json").write_text(json.dumps({**sizes, "_c14": 3}))
    assert opened(folder).manifest.vocabulary != one.vocabulary
    write_dataset(tmp_path / "more test rows", rows=(50, 0, 21))
    more = opened(tmp_path / "more test rows").manifest
    assert more.hashes["vocabulary"] == one.hashes["vocabulary"]
    assert more.hashes["split"] != one.hashes["split"]


@pytest.mark.parametrize(("share", "rows"), [(1, 50), (0.5, 25), (0.01, 1), (0.33, 17)])
def test_a_subset_is_the_first_training_rows(folder, share, rows):
    whole, part = opened(folder), opened(folder, dataset_subset=share)
    assert len(part.train) == rows
    assert as_rows(part.train.batches(8)) == as_rows(whole.train.batches(8))[:rows]
    assert len(part.test) == 20
    assert part.manifest == whole.manifest


@pytest.mark.parametrize("share", [0, -0.5, 1.5, float("nan")])
def test_a_subset_must_be_a_share(folder, share):
    with pytest.raises(InputError, match="--dataset_subset must be above 0 and at most 1"):
        opened(folder, dataset_subset=share)
