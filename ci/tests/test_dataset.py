"""Reading encoded data sets, and refusing what does not fit."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace

import numpy as np
import pytest
import yaml
from encoded import CARDINALITIES, random_dataset

from dlrm_lib.dataset import EncodedDataset, ShuffledBatches, ShuffledRows
from dlrm_lib.errors import InputError
from dlrm_lib.features import FeatureSpec, category_dtype, split_rows
from dlrm_lib.manifest import Manifest
from dlrm_lib.numeric_rules import NUMERIC_RULES, LogRule
from dlrm_lib.preprocess.numbers import encode_integers


@pytest.fixture
def dataset(tmp_path):
    return random_dataset(tmp_path / "data", rows=(10, 4, 0))


def test_batches_are_the_files_rows(dataset):
    batches = list(dataset.train.batches(4))
    assert [len(b.label) for b in batches] == [4, 4, 2]
    raw = np.fromfile(dataset.folder / "train" / "numerical.bin", np.float16).reshape(10, 4).astype(np.float32)
    assert np.array_equal(np.concatenate([b.numerical.numpy() for b in batches]), raw)
    for j, dtype in enumerate(["int8", "int8", "int16", "int32"]):
        column = np.fromfile(dataset.folder / "train" / f"cat_{j}.bin", dtype)
        assert np.array_equal(np.concatenate([b.categorical[:, j].numpy() for b in batches]), column)
    assert [t.dtype.__str__() for t in batches[0]] == ["torch.float32", "torch.int32", "torch.float32"]


@pytest.mark.parametrize("rule", ["log_x_plus_2", "log_x_plus_3"])
def test_a_data_set_says_what_stands_for_a_missing_number(dataset, rule):
    """Its specification does; that of an earlier version does not, and there the manifest's configuration does."""
    config = {**dataset.manifest.config, "numeric_rule": rule}
    replace(dataset.manifest, config=config).write(dataset.folder)
    path = dataset.folder / "feature_spec.yaml"
    replace(dataset.spec, numeric_rules=(NUMERIC_RULES[rule],) * 4).write(path)
    document = yaml.safe_load(path.read_text())
    missing = encode_integers(np.zeros((1, 1), np.int64), np.ones((1, 1), bool), rule)
    assert EncodedDataset(dataset.folder).spec.missing_numbers == (missing.item(),) * dataset.spec.numerical
    for name in document["channel_spec"]["numerical"]:
        del document["feature_spec"][name]["numeric_rule"]
    path.write_text(yaml.safe_dump(document))
    earlier = EncodedDataset(dataset.folder).spec
    assert earlier == replace(dataset.spec, numeric_rules=(NUMERIC_RULES[rule],) * 4)
    assert earlier.missing_numbers == (missing.item(),) * dataset.spec.numerical


def test_a_spec_of_another_numeric_rule_is_refused(dataset):
    other = replace(dataset.spec, numeric_rules=(*dataset.spec.numeric_rules[:3], NUMERIC_RULES["log_x_plus_3"]))
    other.write(dataset.folder / "feature_spec.yaml")
    with pytest.raises(InputError, match=r"does not fit the manifest[\s\S]*log_x_plus_3"):
        EncodedDataset(dataset.folder)


def test_batches_can_be_reordered_and_resumed(dataset):
    straight = [b.numerical for b in dataset.train.batches(4)]
    order = np.array([2, 0, 1])
    mixed = [b.numerical for b in dataset.train.batches(4, order, start=1)]
    assert [m.tolist() for m in mixed] == [straight[0].tolist(), straight[1].tolist()]


@pytest.mark.parametrize(("cardinality", "dtype"), [(1, "int8"), (126, "int8"), (127, "int16"), (32_766, "int16")])
def test_small_types(cardinality, dtype):
    assert category_dtype(cardinality) == dtype


def test_large_types():
    assert category_dtype(32_767) == "int32"
    with pytest.raises(InputError, match="31 bits"):
        category_dtype(2**31 - 1)


@pytest.mark.parametrize(
    ("rows", "held_out", "expected"), [(0, 0, (0, 0, 0)), (9, 0, (9, 0, 0)), (9, 1, (8, 0, 1)), (9, 5, (4, 2, 3))]
)
def test_the_held_out_rows_are_halved_in_the_order_of_time(rows, held_out, expected):
    assert list(split_rows(rows, held_out).items()) == list(zip(("train", "test", "validation"), expected, strict=True))


def test_the_spec_survives_the_file(tmp_path):
    path = tmp_path / "feature_spec.yaml"
    another = LogRule(name="another", shift=7, missing_number=0.1)
    rules = (*NUMERIC_RULES.values(), another)
    for spec in (
        FeatureSpec(numerical=3, cardinalities=(5, 70_000)),
        FeatureSpec(numerical=3, cardinalities=(5,), numeric_rules=rules),
        FeatureSpec(numerical=0, cardinalities=(5,)),
        FeatureSpec(numerical=1, cardinalities=(), numeric_rules=(another,)),
    ):
        spec.write(path)
        assert FeatureSpec.read(path) == FeatureSpec.read(path, another) == spec
    assert FeatureSpec(numerical=3, cardinalities=(5,), numeric_rules=rules).missing_numbers == (0.693359375, 0.0, 0.1)
    assert FeatureSpec(numerical=2, cardinalities=(5,), numeric_rules=(another,) * 2).missing_numbers == (0.1, 0.1)
    with pytest.raises(ValueError, match="1 numeric rules for 2 columns"):
        FeatureSpec(numerical=2, cardinalities=(5,), numeric_rules=(another,))


def test_the_spec_is_what_nvidia_s_loader_takes(tmp_path):
    """It takes these four parts and no other, two splits, and of each feature its type and cardinality."""
    FeatureSpec(numerical=2, cardinalities=(5, 70_000)).write(tmp_path / "feature_spec.yaml")
    document = yaml.safe_load((tmp_path / "feature_spec.yaml").read_text())
    assert set(document) == {"feature_spec", "source_spec", "channel_spec", "metadata"}
    assert set(document["source_spec"]) == {"train", "test"}
    channels = document["channel_spec"]
    assert set(channels) == {"numerical", "categorical", "label"}
    assert sorted(document["feature_spec"]) == sorted(itertools.chain(*channels.values()))
    assert {np.dtype(document["feature_spec"][name]["dtype"]) for name in channels["numerical"]} == {np.dtype("f2")}
    assert [document["feature_spec"][name]["cardinality"] for name in channels["categorical"]] == [5, 70_000]


@pytest.mark.parametrize("entry", [3, {"name": "log_x_plus_2"}, {"name": "x", "shift": "two", "missing_number": 0}])
def test_a_numeric_rule_that_is_none_is_refused(tmp_path, entry):
    path = tmp_path / "feature_spec.yaml"
    FeatureSpec(numerical=1, cardinalities=(5,)).write(path)
    document = yaml.safe_load(path.read_text())
    document["feature_spec"]["num_0"]["numeric_rule"] = entry
    path.write_text(yaml.safe_dump(document))
    with pytest.raises(InputError, match="is not a feature specification"):
        FeatureSpec.read(path)


@pytest.mark.parametrize(("column", "value"), [(0, 3), (1, -1), (3, 40_000)])
def test_an_id_outside_the_vocabulary_is_named(dataset, column, value):
    path = dataset.folder / "train" / f"cat_{column}.bin"
    ids = np.fromfile(path, dataset.spec.category_dtypes[column])
    ids[7] = value
    ids.tofile(path)
    with pytest.raises(InputError) as caught:
        list(EncodedDataset(dataset.folder).train.batches(4))
    text = str(caught.value)
    assert f"cat_{column}.bin, row 7" in text
    assert f"found: {value} (ids go from 0 to {CARDINALITIES[column] - 1})" in text


@pytest.mark.parametrize("order", [None, np.array([2, 0, 1]), ShuffledBatches(0, 0), ShuffledRows(0, 0)])
@pytest.mark.parametrize("value", [2, 255])
def test_a_label_that_is_no_label_is_named(dataset, order, value):
    path = dataset.folder / "train" / "label.bin"
    labels = np.fromfile(path, np.uint8)
    labels[8] = value
    labels.tofile(path)
    with pytest.raises(InputError, match=rf"label\.bin, row 8: the label is not 0 or 1\.\n  found: {value}\n"):
        list(EncodedDataset(dataset.folder).train.batches(4, order))


def test_bad_values_pass_only_where_they_are_let_through(dataset):
    path = dataset.folder / "train" / "cat_0.bin"
    ids = np.fromfile(path, np.int8)
    ids[7] = -1
    ids.tofile(path)
    train = EncodedDataset(dataset.folder).train
    batches = train.batches(4)
    next(batches)
    with pytest.raises(InputError):
        next(batches)
    assert [b.categorical[:, 0].tolist() for b in train.batches(10, check=False)] == [ids.tolist()]


def test_its_first_rows_alone(dataset):
    part = dataset.train.first(5)
    assert (len(part), part.name, part.folder, part.steps(4)) == (5, "train", dataset.train.folder, 2)
    ((whole,), (first,)) = (list(split.batches(10)) for split in (dataset.train, part))
    assert [tensor[:5].tolist() for tensor in whole] == [tensor.tolist() for tensor in first]


@pytest.mark.parametrize(("numerical", "cardinalities"), [(0, (3, 7)), (2, ())])
def test_either_kind_of_column_may_be_absent(tmp_path, numerical, cardinalities):
    train = random_dataset(tmp_path / "data", (9, 0, 0), cardinalities, numerical).train
    for order in (None, ShuffledRows(0, 0)):
        shapes = [(tuple(b.numerical.shape), tuple(b.categorical.shape)) for b in train.batches(5, order)]
        assert shapes == [((rows, numerical), (rows, len(cardinalities))) for rows in (5, 4)]


def test_a_number_that_is_not_finite_is_named(dataset):
    path = dataset.folder / "validation" / "numerical.bin"
    values = np.fromfile(path, np.float16)
    values[4 * 3 + 2] = np.inf
    values.tofile(path)
    with pytest.raises(InputError, match=r"numerical\.bin, row 3, column num_2[\s\S]*found: inf"):
        list(EncodedDataset(dataset.folder).validation.batches(3))


def test_unfinished_or_foreign_folders_are_refused(dataset, tmp_path):
    with pytest.raises(InputError, match="nowhere does not exist"):
        EncodedDataset(tmp_path / "nowhere")
    (dataset.folder / "manifest.json").unlink()
    with pytest.raises(InputError, match="no finished data set"):
        EncodedDataset(dataset.folder)


def test_a_truncated_or_missing_file_is_named(dataset):
    path = dataset.folder / "train" / "cat_3.bin"
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(InputError, match=r"cat_3\.bin does not fit the manifest[\s\S]*36 bytes instead of 40"):
        EncodedDataset(dataset.folder)
    path.unlink()
    with pytest.raises(InputError, match=r"cat_3\.bin does not fit the manifest[\s\S]*no such file"):
        EncodedDataset(dataset.folder)


def test_an_edited_manifest_is_refused(dataset):
    path = dataset.folder / "manifest.json"
    document = json.loads(path.read_text())
    document["config"]["frequency_limit"] = 3
    path.write_text(json.dumps(document))
    with pytest.raises(InputError, match="was changed after it was written"):
        Manifest.read(dataset.folder)
    path.write_text("{")
    with pytest.raises(InputError, match="cannot be read"):
        Manifest.read(dataset.folder)


def test_a_manifest_keeps_its_lineage_and_earlier_ones_have_none(dataset):
    path = dataset.folder / "manifest.json"
    assert dataset.manifest.lineage == []
    later = replace(dataset.manifest, lineage=[dataset.manifest.ancestor])
    later.write(dataset.folder)
    assert Manifest.read(dataset.folder) == later
    assert json.loads(path.read_text())["lineage"] == [
        {
            name: getattr(dataset.manifest, name)
            for name in ("vocabulary", "vocabularies", "cardinalities", "source", "rows")
        }
    ]
    document = json.loads(path.read_text())
    del document["lineage"]
    path.write_text(json.dumps(document))
    assert Manifest.read(dataset.folder) == dataset.manifest


def test_where_missing_tokens_have_an_id_the_spec_and_the_manifest_say_so(dataset):
    path = dataset.folder / "feature_spec.yaml"
    assert "missing_id" not in path.read_text()
    replace(dataset.spec, missing_id=1).write(path)
    assert all(yaml.safe_load(path.read_text())["feature_spec"][f"cat_{j}.bin"]["missing_id"] == 1 for j in range(4))
    with pytest.raises(InputError, match=r"does not fit the manifest[\s\S]*missing_id 1"):
        EncodedDataset(dataset.folder)
    config = {**dataset.manifest.config, "separate_missing": True}
    manifest = replace(dataset.manifest, config=config)
    manifest.write(dataset.folder)
    assert EncodedDataset(dataset.folder).spec.missing_id == 1
    # Two ids are those of the columns that have no value: they tell missing ones from others.
    none_kept = replace(manifest, cardinalities=[2, 3, 2, 9])
    assert "2 of 4 categorical columns (cat_0, cat_2) tell the model no more than whether" in none_kept.about_limits()
    assert replace(none_kept, config=dataset.manifest.config).about_limits() is None


def test_a_spec_of_other_tables_is_refused(dataset):
    FeatureSpec(numerical=4, cardinalities=(3, 7, 200, 41_000)).write(dataset.folder / "feature_spec.yaml")
    with pytest.raises(InputError, match="does not fit the manifest"):
        EncodedDataset(dataset.folder)
    (dataset.folder / "feature_spec.yaml").write_text("a: [")
    with pytest.raises(InputError, match="is not a feature specification"):
        EncodedDataset(dataset.folder)
