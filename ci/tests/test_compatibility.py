"""Which data sets a model or a state is used on, and what is said of those that it is not used on."""

from __future__ import annotations

import dataclasses
import re
import shutil

import numpy as np
import pytest
from encoded import random_dataset
from packed_rows import write_dataset
from safetensors.torch import load_file

from dlrm_lib.backends import pick
from dlrm_lib.columns import NumericalColumn, RawColumns
from dlrm_lib.config import Config, digest
from dlrm_lib.dataset import EncodedDataset, PackedDataset, RandomDataset
from dlrm_lib.errors import InputError
from dlrm_lib.features import FeatureSpec
from dlrm_lib.manifest import Manifest
from dlrm_lib.numeric_rules import FIXED_RULES, NUMERIC_RULES, QuantileRule
from dlrm_lib.training import (
    Results,
    build,
    identity,
    load_checkpoint,
    load_state,
    predict,
    save_checkpoint,
    save_state,
)
from dlrm_lib.training.tensor_file import open_tensors, write_tensors

DEVICE = pick("cpu")
CONFIG = Config.from_preset("smoke", {"embedding_dim": 4, "bottom_mlp_sizes": (8, 4), "top_mlp_sizes": (8, 1)})
CARDINALITIES = (3, 7, 200)
COLUMNS = ["a", "b", "c"]
THREE = NUMERIC_RULES["log_x_plus_3"]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    folder = tmp_path_factory.mktemp("encoded")
    random_dataset(folder, rows=(60, 20, 20), cardinalities=CARDINALITIES)
    return remade(folder, folder, vocabularies=COLUMNS, vocabulary=digest(COLUMNS))


@pytest.fixture(scope="module")
def kept(dataset, tmp_path_factory):
    """A model and a state that were trained on it."""
    training, folder = build(CONFIG, dataset, backend=DEVICE), tmp_path_factory.mktemp("kept")
    save_checkpoint(folder / "model.safetensors", training, metrics={})
    save_state(folder / "state.safetensors", training, Results())
    return folder / "model.safetensors", folder / "state.safetensors"


def remade(there, folder, *, rules=None, encoding=None, **manifest):
    """The data set of a folder in another one, as if it had been made with something else."""
    if folder != there:
        shutil.copytree(there, folder)
    before = Manifest.read(folder)
    if "cardinalities" in manifest or rules:
        spec = EncodedDataset(folder).spec
        rules = rules or spec.numeric_rules
        cardinalities = tuple(manifest.get("cardinalities", spec.cardinalities))
        missing = int((encoding or {}).get("separate_missing", False))
        declared = [rule.name if rule.name not in NUMERIC_RULES else None for rule in rules]
        raw = RawColumns(
            numbers=tuple(NumericalColumn(name=f"num_{i}", rule=rule) for i, rule in enumerate(declared)),
            tokens=RawColumns.unnamed(0, len(cardinalities)).tokens,
        )
        FeatureSpec(
            numerical=spec.numerical,
            cardinalities=cardinalities,
            numeric_rules=rules,
            raw_columns=raw,
            missing_id=missing,
        ).write(folder / "feature_spec.yaml")
    config = {**before.config, **(encoding or {})}
    dataclasses.replace(before, config=config, **manifest).write(folder)
    return EncodedDataset(folder)


def test_the_settings_that_change_no_meaning(dataset, kept, tmp_path):
    model, _ = load_checkpoint(kept[0], dataset)
    expected = predict(DEVICE.inference(model), dataset.test, batch_size=9)
    for name, value in (
        ("strict", True),
        ("max_bad_fraction", 0.01),
        ("order", "input"),
        ("shuffle_seed", 7),
        ("holdout_fraction", 0.2),
        ("frequency_limit", 3),  # which has kept the same values
        ("vocabulary_days", "all"),
        ("a setting of tomorrow", 1),
    ):
        other = remade(dataset.folder, tmp_path / name, encoding={name: value}, source=[], quarantined={"bad": 1})
        model, _ = load_checkpoint(kept[0], other)
        assert np.array_equal(expected, predict(DEVICE.inference(model), other.test, batch_size=9))


def test_bins_that_were_learned_from_other_rows(dataset, tmp_path):
    bins = QuantileRule(edges=(1.0, 2.0, 5.0))
    rules = (*dataset.spec.numeric_rules[:2], bins, FIXED_RULES["signed_log"])
    then = remade(dataset.folder, tmp_path / "then", rules=rules)
    training = build(CONFIG, then, backend=DEVICE)
    kept = tmp_path / "model.safetensors", tmp_path / "state.safetensors"
    save_checkpoint(kept[0], training, metrics={})
    save_state(kept[1], training, Results())
    model, _ = load_checkpoint(kept[0], then)
    assert model.spec.numeric_rules == rules  # as the file has them, in JSON
    load_state(kept[1], CONFIG, then, DEVICE)
    other = remade(then.folder, tmp_path / "other", rules=(*rules[:2], QuantileRule(edges=(1.0, 2.0, 6.0)), rules[3]))
    found = "numeric_rule of num_2: quantile, with other bins than then"
    refused(kept, other, "another meaning", found, "Use the data set it was trained on, or train again.")
    other = remade(then.folder, tmp_path / "log", rules=(*rules[:3], FIXED_RULES["log"]))
    found = "numeric_rule of num_3: signed_log then, log now"
    refused(kept, other, "another meaning", found, "Use the data set it was trained on, or train again.")
    assert identity(then) != identity(other)


def test_columns_that_there_were_not(kept, tmp_path):
    for numerical, cardinalities, found in (
        (5, CARDINALITIES, "numerical columns: 4 then, 5 now"),
        (0, CARDINALITIES, "numerical columns: 4 then, 0 now"),
        (4, (*CARDINALITIES, 9), "categorical columns: 3 then, 4 now"),
        (4, (), "categorical columns: 3 then, 0 now"),
    ):
        folder = tmp_path / f"{numerical}-{len(cardinalities)}"
        random_dataset(folder, rows=(60, 20, 20), numerical=numerical, cardinalities=cardinalities)
        other = remade(folder, folder, vocabulary=digest(COLUMNS), vocabularies=COLUMNS)
        refused(kept, other, "another meaning", found, "Use the data set it was trained on, or train again.")


@pytest.mark.parametrize(
    ("changed", "found", "remedy"),
    [
        (
            {"encoding": {"numeric_rule": "log_x_plus_3"}, "rules": (THREE,) * 4},
            "numeric_rule: log_x_plus_2 then, log_x_plus_3 now",
            "Encode the rows with --numeric_rule log_x_plus_2, or train again.",
        ),
        (
            {"cardinalities": [3, 8, 200], "vocabularies": ["a", "B", "c"]},
            "cat_1: 7 ids then, 8 now",
            "Encode the rows with the vocabulary of its data set (preprocess --vocabulary), or train again.",
        ),
        (
            {"cardinalities": [3, 7, 199], "vocabularies": ["a", "b", "C"], "encoding": {"frequency_limit": "15,2:9"}},
            "cat_2: 200 ids then, 199 now (frequency_limit: 15 then, 15,2:9 now)",
            "Encode the rows with --frequency_limit 15, or train again.",
        ),
        (
            {"vocabularies": ["a", "b", "C"], "encoding": {"vocabulary_days": "all"}},
            "cat_2: ids stand for other values than then (vocabulary_days: training then, all now)",
            "Encode the rows with --vocabulary_days training, or train again.",
        ),
        (
            {"cardinalities": [4, 8, 201], "vocabularies": ["A", "B", "C"], "encoding": {"separate_missing": True}},
            "cat_0: 3 ids then, 4 now (separate_missing: false then, true now)",
            "Encode the rows with --separate_missing false, or train again.",
        ),
        (  # a setting that is not the only difference would mend nothing
            {"vocabularies": ["A", "b", "C"], "encoding": {"vocabulary_days": "all"}, "source": []},
            "cat_0: ids stand for other values than then",
            "Encode the rows with the vocabulary of its data set (preprocess --vocabulary), or train again.",
        ),
        (
            {"vocabularies": ["a", "c", "b"]},
            "cat_1: ids stand for other values than then",
            "Encode the rows with the vocabulary of its data set (preprocess --vocabulary), or train again.",
        ),
        (
            {"vocabularies": [], "vocabulary": "of an earlier version"},
            "the vocabulary: ids stand for other values than then",
            "Encode the rows with the vocabulary of its data set (preprocess --vocabulary), or train again.",
        ),
    ],
)
def test_another_meaning_is_refused_by_column_or_setting(dataset, kept, tmp_path, changed, found, remedy):
    changed = {"vocabulary": digest(changed.get("vocabularies", COLUMNS)), **changed}
    other = remade(dataset.folder, tmp_path / "other", **changed)
    refused(kept, other, "another meaning", found, remedy)
    assert identity(other) != identity(dataset)


def test_a_rule_of_one_column(dataset, kept, tmp_path):
    def half(about):
        about["numeric_rules"][2] = dataclasses.asdict(THREE)

    path = forged(kept[0], tmp_path, half)
    with pytest.raises(InputError, match="numeric_rule of num_2: log_x_plus_3 then, log_x_plus_2 now"):
        load_checkpoint(path, dataset)


def test_bags_of_random_rows(tmp_path):
    spec = FeatureSpec(numerical=2, cardinalities=(5, 9))
    single, bags = (RandomDataset(spec, train_rows=64, test_rows=8, indices_per_lookup=most) for most in (1, 3))
    for data, other, most, remedy in ((single, bags, 1, "3 now"), (bags, single, 3, "1 now")):
        training = build(CONFIG.override(num_indices_per_lookup=most), data, backend=DEVICE)
        save_checkpoint(tmp_path / "m.safetensors", training, metrics={})
        load_checkpoint(tmp_path / "m.safetensors", data)
        with pytest.raises(InputError, match=f"num_indices_per_lookup: {most} then, {remedy}"):
            load_checkpoint(tmp_path / "m.safetensors", other)
        old = forged(tmp_path / "m.safetensors", tmp_path, lambda about: about.pop("indices_per_lookup"))
        with pytest.raises(InputError, match="num_indices_per_lookup"):
            load_checkpoint(old, other)
    random = RandomDataset(FeatureSpec(numerical=4, cardinalities=CARDINALITIES))
    build_on = random_dataset(tmp_path / "encoded", rows=(60, 20, 20), cardinalities=CARDINALITIES)
    save_checkpoint(tmp_path / "e.safetensors", build(CONFIG, build_on, backend=DEVICE), metrics={})
    with pytest.raises(InputError, match=r"numeric_rule: [\s\S]*remedy: Use the data set it was trained on, or train"):
        load_checkpoint(tmp_path / "e.safetensors", random)  # which nobody can encode
    zipf = RandomDataset(spec, train_rows=64, test_rows=8, indices_per_lookup=3, ids="zipf", fixed=True, seed=4)
    load_checkpoint(tmp_path / "m.safetensors", zipf)


def test_packed_rows_say_that_their_ids_can_be_told_by_the_first_rows_alone(tmp_path):
    write_dataset(tmp_path / "packed", rows=(50, 0, 20))
    training = build(CONFIG, PackedDataset(tmp_path / "packed", numerical=4), backend=DEVICE)
    save_checkpoint(tmp_path / "m.safetensors", training, metrics={})
    write_dataset(tmp_path / "more", rows=(50, 10, 30))  # the same training rows
    load_checkpoint(tmp_path / "m.safetensors", PackedDataset(tmp_path / "more", numerical=4))
    write_dataset(tmp_path / "others", rows=(40, 0, 20))
    with pytest.raises(InputError, match="other ids in the first training rows than then; packed rows have no"):
        load_checkpoint(tmp_path / "m.safetensors", PackedDataset(tmp_path / "others", numerical=4))
    write_dataset(tmp_path / "five", rows=(50, 0, 20), numerical=5)
    with pytest.raises(InputError, match="numerical columns: 4 then, 5 now"):
        load_checkpoint(tmp_path / "m.safetensors", PackedDataset(tmp_path / "five", numerical=5))


@pytest.mark.parametrize(
    ("changed", "found", "remedy"),
    [
        ({"encoding": {"order": "input"}}, "order: shuffled then, input now", "with --order shuffled"),
        ({"encoding": {"shuffle_seed": 7}}, "shuffle_seed: 0 then, 7 now", "with --shuffle_seed 0"),
        (
            {"source": [{"name": "day_0", "bytes": 1, "sha256": "1"}]},
            "day_0: not what it held then",
            "Use the data set as it was",
        ),
        ({"source": []}, "raw files: 1 then, 0 now", "Use the data set as it was"),
    ],
)
def test_a_run_goes_on_with_its_own_rows_only(dataset, kept, tmp_path, changed, found, remedy):
    other = remade(dataset.folder, tmp_path / "other", **changed)
    load_checkpoint(kept[0], other)
    with pytest.raises(InputError, match=f"other rows[\\s\\S]*{found}[\\s\\S]*{remedy}"):
        load_state(kept[1], CONFIG, other, DEVICE)
    assert identity(other) != identity(dataset)


def test_another_share_held_out_is_named(kept, tmp_path):
    random_dataset(tmp_path, rows=(50, 25, 25), cardinalities=CARDINALITIES)
    same = {"vocabulary": digest(COLUMNS), "vocabularies": COLUMNS}
    other = remade(tmp_path, tmp_path, encoding={"holdout_fraction": 0.5}, **same)
    with pytest.raises(InputError, match=r"holdout_fraction: 0.1 then, 0.5 now\n.*--holdout_fraction 0.1"):
        load_state(kept[1], CONFIG, other, DEVICE)


def test_a_run_goes_on_where_only_names_or_strictness_have_changed(dataset, kept, tmp_path):
    for number, changed in enumerate(
        (
            {"encoding": {"strict": True, "max_bad_fraction": 0.5}},
            {"source": [{"name": "renamed", "bytes": 1, "sha256": "0"}]},
            {"encoding": {"holdout_fraction": 0.11}},  # of several days, the last is held out whatever it says
        )
    ):
        other = remade(dataset.folder, tmp_path / str(number), **changed)
        load_state(kept[1], CONFIG, other, DEVICE)
        assert identity(other) == identity(dataset)


def test_where_rows_are_in_the_order_of_the_input_no_seed_counts(dataset, tmp_path):
    first, second = (
        remade(dataset.folder, tmp_path / str(seed), encoding={"order": "input", "shuffle_seed": seed})
        for seed in (0, 1)
    )
    save_state(tmp_path / "s.safetensors", build(CONFIG, first, backend=DEVICE), Results())
    load_state(tmp_path / "s.safetensors", CONFIG, second, DEVICE)
    assert identity(first) == identity(second)


def test_what_an_earlier_version_wrote_is_judged_by_what_it_kept(dataset, kept, tmp_path):
    def earlier(about):
        for name in ("encoding", "source", "rows", "vocabularies", "indices_per_lookup"):
            del about[name]

    (tmp_path / "old").mkdir()
    model, state = (forged(path, tmp_path / "old", earlier) for path in kept)
    strict = remade(dataset.folder, tmp_path / "strict", encoding={"strict": True})
    load_checkpoint(model, strict)
    load_state(state, CONFIG, dataset, DEVICE)
    with pytest.raises(InputError, match="another config, by a hash"):
        load_state(state, CONFIG, strict, DEVICE)
    other = remade(dataset.folder, tmp_path / "other", vocabulary="another")
    with pytest.raises(InputError, match="the vocabulary: ids stand for other values"):
        load_checkpoint(model, other)


def forged(path, folder, change):
    """The file with other facts, all checksums right."""
    with open_tensors(path) as file:
        about = file.about
    change(about)
    write_tensors(folder / path.name, load_file(path), about)
    return folder / path.name


def refused(kept, other, kind, found, remedy):
    for load in (lambda: load_checkpoint(kept[0], other), lambda: load_state(kept[1], CONFIG, other, DEVICE)):
        with pytest.raises(InputError) as error:
            load()
        first, second, third = str(error.value).splitlines()
        assert re.search(rf"safetensors was trained on inputs of {kind} than those of .*{other.folder.name}\.$", first)
        assert (second, third) == (f"  found: {found}", f"  remedy: {remedy}")
