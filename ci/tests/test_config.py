"""The configuration: presets, overrides from notebooks and shells, and sentences for bad values."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import itertools
import math
import pickle

import pytest

from dlrm_lib import settings
from dlrm_lib.config import (
    PRESETS,
    Config,
    PreprocessConfig,
    TrainingConfig,
    as_dict,
    data,
    digest,
    fields,
    model,
    training,
    whole,
)
from dlrm_lib.errors import InputError


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_is_valid_and_says_its_name(preset):
    assert Config.from_preset(preset).preset == preset


def test_the_terabyte_preset_is_what_nvidia_published():
    config = Config.from_preset("criteo_terabyte")
    expected = {
        "batch_size": 32768,
        "test_batch_size": 32768,
        "lr": 28.0,
        "warmup_steps": 6400,
        "warmup_factor": 0,
        "decay_start_step": 64000,
        "decay_steps": 80000,
        "epochs": 1,
        "seed": 12345,
        "print_freq": 200,
        "shuffle_batch_order": False,
        "optimizer": "sgd",
    }
    assert {name: getattr(config.training, name) for name in expected} == expected
    assert config.model.top_mlp_sizes == (1024, 1024, 512, 256, 1)
    assert (config.model.standardise, config.training.embedding_decay) == (False, 0.0)
    assert (config.preprocess.vocabulary_days, config.preprocess.numeric_rule) == ("all", "log_x_plus_3")


def test_setting_names_are_unique_over_the_sections():
    names = [f.name for _, f in fields()]
    assert len(names) == len(set(names))
    assert all(f.metadata["help"] for _, f in fields())


@pytest.mark.parametrize(
    ("name", "given", "value"),
    [
        ("lr", "0.25", 0.25),
        ("lr", 3, 3.0),
        ("batch_size", "64", 64),
        ("batch_size", 64.0, 64),
        ("max_steps", "none", None),
        ("max_steps", "7", 7),
        ("bottom_mlp_sizes", "8,16", (8, 16)),
        ("bottom_mlp_sizes", [8, 16], (8, 16)),
        ("shuffle_batch_order", "true", True),
        ("shuffle_batch_order", False, False),
        ("order", "input", "input"),
        ("loss_scale", "dynamic", "dynamic"),
        ("loss_scale", "1024", 1024.0),
        ("loss_scale", 128, 128.0),
        ("dataset_subset", "1", 1.0),
        ("dataset_subset", None, None),
        ("synthetic_dataset_table_sizes", "7", (7,)),
        ("self_interaction", "True", True),
        ("standardise", "false", False),
        ("embedding_decay", "2", 2.0),
    ],
)
def test_a_value_means_the_same_from_a_shell_and_from_a_notebook(name, given, value):
    config = Config.from_preset("smoke", {name: given})
    found = {f.name: getattr(getattr(config, section), f.name) for section, f in fields()}[name]
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        ({"learning_rate": 1}, r"no such setting[\s\S]*found: learning_rate"),
        ({"lr": "fast"}, r"--lr takes a finite number[\s\S]*found: fast"),
        ({"lr": float("inf")}, r"--lr takes a finite number[\s\S]*found: inf"),
        ({"batch_size": float("inf")}, r"--batch_size takes a whole number[\s\S]*found: inf"),
        ({"lr": -1}, r"--lr must be at least 0[\s\S]*found: -1"),
        ({"lr": "nan"}, r"--lr takes a finite number[\s\S]*found: nan"),
        ({"lr": None}, "--lr takes a finite number"),
        ({"batch_size": 2.5}, r"--batch_size takes a whole number[\s\S]*found: 2.5"),
        ({"batch_size": True}, "--batch_size takes a whole number"),
        ({"batch_size": 0}, "--batch_size must be at least 1"),
        ({"holdout_fraction": 1}, "--holdout_fraction must be below 1"),
        ({"top_mlp_sizes": "8;1"}, "--top_mlp_sizes takes whole numbers separated by commas"),
        ({"top_mlp_sizes": []}, "--top_mlp_sizes must be at least one number"),
        ({"top_mlp_sizes": "0,1"}, "--top_mlp_sizes must be at least 1"),
        ({"top_mlp_sizes": "8,2"}, "top MLP must end in one number"),
        ({"bottom_mlp_sizes": "8,8"}, "bottom MLP must end in a vector as long as an embedding"),
        ({"order": "random"}, r"--order must be one of shuffled, input[\s\S]*found: random"),
        ({"shuffle_batch_order": "perhaps"}, "--shuffle_batch_order takes true or false"),
        ({"loss_scale": "static"}, r"--loss_scale takes a finite number or dynamic[\s\S]*found: static"),
        ({"loss_scale": 0}, "--loss_scale must be above 0"),
        ({"loss_scale": None}, "--loss_scale takes a finite number or dynamic"),
        ({"dataset_subset": 0}, r"--dataset_subset must be above 0[\s\S]*found: 0"),
        ({"dataset_subset": 1.01}, "--dataset_subset must be at most 1"),
        ({"max_table_size": 5}, "--max_table_size needs --hash_indices"),
        ({"max_table_size": 0, "hash_indices": True}, "--max_table_size must be at least 1"),
        ({"shuffle_batch_order": True, "shuffle_rows": True}, "--shuffle_rows and --shuffle_batch_order exclude"),
        ({"synthetic_dataset_table_sizes": "5,0"}, "--synthetic_dataset_table_sizes must be at least 1"),
        ({"test_after": -0.5}, "--test_after must be at least 0"),
        ({"standardise": "scaled"}, "--standardise takes true or false"),
        ({"embedding_decay": -0.1}, "--embedding_decay must be at least 0"),
        ({"embedding_decay": None}, "--embedding_decay takes a finite number"),
    ],
)
def test_bad_values_get_a_sentence_that_names_them(overrides, sentence):
    with pytest.raises(InputError, match=sentence) as caught:
        Config.from_preset("smoke", overrides)
    assert len(str(caught.value).splitlines()) <= 3
    known = {f.name for _, f in fields()}
    assert set(caught.value.fields) <= known
    assert set(caught.value.fields) & set(overrides) or not known & set(overrides)


@pytest.mark.parametrize("module", [settings, data, model, training, whole])
def test_every_error_about_settings_says_which(module):
    calls = [node for node in ast.walk(ast.parse(inspect.getsource(module))) if isinstance(node, ast.Call)]
    errors = [call for call in calls if getattr(call.func, "id", None) == "InputError"]
    silent = [call for call in errors if "fields" not in {keyword.arg for keyword in call.keywords}]
    assert errors
    assert all(call.args[0].value.startswith("There is no such") for call in silent)


def test_an_error_keeps_its_fields_on_the_way_from_another_process():
    error = pickle.loads(pickle.dumps(InputError("what", found=1, fields=("lr", "seed"))))
    assert (str(error), error.fields) == ("what\n  found: 1", ("lr", "seed"))


def test_an_unknown_preset_is_named():
    with pytest.raises(InputError, match=r"no such preset[\s\S]*found: medium[\s\S]*smoke, laptop"):
        Config.from_preset("medium")


def test_an_override_changes_its_section_alone():
    before = Config.from_preset("laptop")
    after = before.override(lr=0.125, frequency_limit=3)
    assert (after.training.lr, after.preprocess.frequency_limit) == (0.125, 3)
    assert after.model == before.model
    assert dataclasses.replace(after.training, lr=before.training.lr) == before.training


def test_a_digest_depends_on_every_value_and_on_nothing_else():
    config = as_dict(Config.from_preset("smoke"))
    variants = [config, {**config, "preset": "x"}, {**config, "model": {**config["model"], "embedding_dim": 8}}]
    for a, b in itertools.combinations(variants, 2):
        assert digest(a) != digest(b)
    assert digest(config) == digest(dict(reversed(config.items())))


def test_a_configuration_is_the_same_after_json():
    config = Config.from_preset("criteo_terabyte", {"loss_scale": "dynamic", "dataset_subset": 0.25})
    sections = [value for value in as_dict(config).values() if isinstance(value, dict)]
    again = Config.from_preset("criteo_terabyte", {name: value for of in sections for name, value in of.items()})
    assert again == config


def test_tables_may_be_smaller_where_ids_are_hashed():
    model = Config.from_preset("laptop", {"max_table_size": 5, "hash_indices": True}).model
    assert (model.max_table_size, model.hash_indices) == (5, True)


def test_flags_repeat_a_configuration_from_its_preset():
    config = Config.from_preset(
        "smoke", {"lr": 0.5, "top_mlp_sizes": [8, 1], "shuffle_batch_order": True, "order": "input"}
    )
    assert config.flags(["model", "training"]) == [
        "--preset=smoke",
        "--top_mlp_sizes=8,1",
        "--lr=0.5",
        "--shuffle_batch_order",
    ]
    assert Config.from_preset("laptop").flags(["training"]) == ["--preset=laptop"]


@pytest.mark.parametrize(
    ("rows", "batch_size"),
    [(0, 1), (1, 1), (4126, 32), (9001, 64), (100_000, 256), (875_000, 1024), (40_000_000, 8192)],
)
def test_the_rows_decide_what_is_left_open(rows, batch_size):
    left_open = Config.from_preset("laptop", {"batch_size": "none", "decay_steps": "none"})
    assert (left_open.training.batch_size, left_open.training.decay_steps) == (None, None)
    config = left_open.for_rows(rows).training
    assert config.batch_size == batch_size
    assert config.decay_steps == max(0, config.epochs * math.ceil(rows / batch_size) - config.decay_start_step)
    assert config.for_rows(7) == config
    changed = {"batch_size", "decay_steps"}
    before = dataclasses.asdict(left_open.training)
    assert {name for name, value in dataclasses.asdict(config).items() if value != before[name]} == changed


def test_a_decay_to_the_last_step_follows_the_warmup_and_ends_where_training_does():
    config = TrainingConfig(batch_size=10, epochs=4, warmup_steps=5, decay_steps=None)
    assert config.for_rows(95).decay_steps == 35
    assert dataclasses.replace(config, max_steps=12).for_rows(95).decay_steps == 7
    assert dataclasses.replace(config, max_steps=3).for_rows(95).decay_steps == 0
    given = TrainingConfig(batch_size=10, decay_steps=4)
    assert given.for_rows(95) == given


@pytest.mark.parametrize(("rows", "limit"), [(0, 2), (10_000, 2), (140_000, 6), (875_000, 15), (40_000_000, 15)])
def test_the_frequency_limit_grows_with_the_root_of_the_rows(rows, limit):
    left_open = Config.from_preset("laptop", {"frequency_limit": "none"}).preprocess
    assert left_open.frequency_limit is None
    assert left_open.for_rows(rows).frequency_limit == limit
    assert PreprocessConfig(frequency_limit="7,3:1").for_rows(rows).frequency_limit == "7,3:1"


NEEDING = {f.name: f.metadata["needs"] for _, f in fields() if f.metadata["needs"]}
# A value of each that is not its default, and what it needs beside it.
WORKING = {
    "self_interaction": (True, {"interaction_op": "dot"}),
    "cross_layers": (2, {"interaction_op": "dcn"}),
    "cross_rank": (8, {"interaction_op": "dcn"}),
    "embedding_epsilon": (1e-4, {"optimizer": "adagrad"}),
    "embedding_decay": (0.5, {"optimizer": "adam"}),
    "interaction_lasso": (0.1, {"optimizer": "adam", "interaction_op": "dot"}),
    "lasso_start_step": (5, {"optimizer": "adam", "interaction_op": "dot", "interaction_lasso": 0.1}),
}
OTHERWISE = {"interaction_op": "cat", "optimizer": "sgd", "interaction_lasso": 0.0}


def value(config, name):
    (found,) = (getattr(getattr(config, section), name) for section, f in fields() if f.name == name)
    return found


@pytest.mark.parametrize("name", NEEDING)
def test_an_option_that_would_do_nothing_is_refused_by_name(name):
    chosen, beside = WORKING[name]
    assert value(Config().override(**{name: chosen}, **beside), name) == chosen
    for needed in NEEDING[name]:
        without = {**beside, needed: OTHERWISE[needed]}
        if without.get("interaction_op") == "cat" or without.get("optimizer") == "sgd":
            without.pop("interaction_lasso", None)  # it would be the one to be refused
        with pytest.raises(InputError, match=rf"^--{name} needs .*--{needed}.*: it would do nothing\.") as error:
            Config().override(**{name: chosen}, **without)
        assert f"found: {name} " in str(error.value)


@pytest.mark.parametrize("name", NEEDING)
def test_what_a_preset_sets_falls_away_with_what_it_needs(name):
    chosen, beside = WORKING[name]
    config = Config().override(**{name: chosen}, **beside)
    for needed in NEEDING[name]:
        changed = config.override(**{needed: OTHERWISE[needed]})
        assert value(changed, name) == next(f.default for _, f in fields() if f.name == name)
        assert value(changed, needed) == OTHERWISE[needed]


def test_every_option_that_needs_another_is_tried():
    assert WORKING.keys() == NEEDING.keys()
    sgd = Config.from_preset("laptop", {"optimizer": "sgd"}).training
    assert (sgd.embedding_decay, sgd.interaction_lasso, sgd.lasso_start_step, sgd.embedding_epsilon) == (0, 0, 0, None)
    old = Config.without_idle("laptop", {"optimizer": "sgd", "embedding_decay": 1.0, "lasso_start_step": 432})
    assert old == Config.from_preset("laptop", {"optimizer": "sgd"})
