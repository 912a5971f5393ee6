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
from dlrm_lib.optim import misfits


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
        ({"warmup_steps": 1.5}, r"--warmup_steps takes a whole number, or a share below 1[\s\S]*found: 1.5"),
        ({"warmup_steps": "a quarter"}, "--warmup_steps takes a whole number, or a share"),
        ({"warmup_steps": True}, "--warmup_steps takes a whole number, or a share"),
        ({"warmup_steps": float("nan")}, "--warmup_steps takes a whole number, or a share"),
        ({"decay_steps": -0.1}, "--decay_steps takes a whole number, or a share"),
        ({"decay_steps": -1}, "--decay_steps must be at least 0"),
        ({"linear": "some"}, "--linear takes true or false"),
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
    left_open = Config().override(batch_size="none", decay_steps="none", epochs=2, linear="none", lr=0.5)
    assert (left_open.training.batch_size, left_open.training.decay_steps, left_open.model.linear) == (None, None, None)
    config = left_open.for_rows(rows)
    assert config.training.batch_size == batch_size
    assert config.training.decay_steps == max(0, 2 * math.ceil(rows / batch_size) - 100)
    assert config.for_rows(7) == config
    changed = {"batch_size", "decay_steps"}
    before = dataclasses.asdict(left_open.training)
    assert {name for name, value in dataclasses.asdict(config.training).items() if value != before[name]} == changed


# What the presets come to: frequency limit, batch, all steps, warmup, start and steps of the decay, start of the lasso,
# and whether the model has what few rows need. The rows are those trained on; own ones are marked.
RESOLVED = [
    ("smoke", 5_000, 15, 256, 80, 4, 8, 72, 0, False),
    ("smoke", 45_000, 15, 1_024, 176, 10, 18, 158, 0, False),  # own
    ("smoke", 875_000, 15, 8_192, 428, 24, 43, 385, 0, False),
    ("smoke", 50_000_000, 15, 32_768, 6_104, 336, 610, 5_494, 0, False),
    ("laptop", 5_000, 2, 32, 628, 158, 158, 475, 158, True),
    ("laptop", 16_000, 2, 64, 1_000, 252, 252, 757, 252, True),
    ("laptop", 87_500, 5, 256, 1_368, 345, 345, 1_036, 345, True),
    ("laptop", 262_500, 8, 512, 2_052, 518, 518, 1_553, 518, True),
    ("laptop", 499_999, 11, 512, 3_908, 986, 986, 2_958, 986, True),
    ("laptop", 500_000, 11, 1_024, 1_956, 493, 493, 1_481, 493, False),
    ("laptop", 875_000, 15, 2_048, 1_712, 432, 432, 1_296, 432, False),  # own
    ("laptop", 3_500_000, 15, 4_096, 3_420, 863, 863, 2_589, 863, False),
    ("laptop", 50_000_000, 15, 16_384, 12_208, 3_080, 3_080, 9_241, 3_080, False),
    ("criteo_kaggle", 5_000, 2, 32, 471, 22, 22, 449, 0, True),
    ("criteo_kaggle", 9_001, 2, 64, 423, 20, 20, 403, 0, True),
    ("criteo_kaggle", 87_500, 5, 256, 1_026, 49, 49, 977, 0, True),
    ("criteo_kaggle", 3_500_000, 15, 2_048, 5_127, 243, 243, 4_884, 0, True),
    ("criteo_kaggle", 50_000_000, 15, 8_192, 18_312, 866, 866, 17_446, 0, True),
    ("criteo_terabyte", 5_000, 15, 32_768, 1, 6_400, 64_000, 80_000, 0, False),
    ("criteo_terabyte", 50_000_000, 15, 32_768, 1_526, 6_400, 64_000, 80_000, 0, False),
    ("gaudi_medium", 5_000, 15, 512, 10, 0, 0, 0, 0, False),
    ("gaudi_medium", 1_024_000, 15, 512, 2_000, 0, 0, 0, 0, False),  # own
    ("gaudi_medium", 50_000_000, 15, 512, 97_657, 0, 0, 0, 0, False),
]


@pytest.mark.parametrize(
    ("preset", "rows", "limit", "batch_size", "steps", "warmup", "start", "decay", "lasso", "few"), RESOLVED
)
def test_what_a_preset_comes_to_on_so_many_rows(
    preset, rows, limit, batch_size, steps, warmup, start, decay, lasso, few
):
    config = Config.from_preset(preset)
    training = config.training.resolved(rows, device="cpu", precision="fp32", execution="eager")
    assert (config.preprocess.for_rows(rows).frequency_limit, training.batch_size) == (limit, batch_size)
    assert training.steps(rows) == steps
    schedule = (training.warmup_steps, training.decay_start_step, training.decay_steps, training.lasso_start_step)
    assert schedule == (warmup, start, decay, lasso)
    assert {type(value) for value in schedule} == {int}
    model = config.for_rows(rows).model
    assert (model.embed_numbers, model.linear) == (few, few)


def test_every_preset_is_in_the_table():
    assert {preset for preset, *_ in RESOLVED} == PRESETS.keys()


@pytest.mark.parametrize("preset", ["smoke", "laptop", "criteo_kaggle", "gaudi_medium"])
@pytest.mark.parametrize("rows", [2, 9, 100, 5_000, 16_000, 875_000, 50_000_000])
def test_no_schedule_that_follows_from_the_rows_misses_them(preset, rows):
    training = Config.from_preset(preset).for_rows(rows).training
    assert list(misfits(training, training.steps(rows))) == []


def test_a_share_is_of_all_steps_that_are_taken():
    config = TrainingConfig(batch_size=10, epochs=4, warmup_steps=0.25, decay_start_step=0.5, decay_steps=0.3)
    for changed, found in (({}, (10, 20, 12)), ({"max_steps": 20}, (5, 10, 6)), ({"max_steps": 1}, (1, 1, 1))):
        of = dataclasses.replace(config, **changed).for_rows(95)
        assert (of.warmup_steps, of.decay_start_step, of.decay_steps) == found
    absolute = TrainingConfig(warmup_steps=1, decay_start_step=1, decay_steps=0).for_rows(95)
    assert (absolute.warmup_steps, absolute.decay_start_step, absolute.decay_steps) == (1, 1, 0)


@pytest.mark.parametrize(
    ("values", "contradict"),
    [
        ({"warmup_steps": 0.5, "decay_start_step": 0.4}, True),
        ({"warmup_steps": 0.5, "decay_start_step": 0}, True),
        ({"warmup_steps": 0.5, "decay_start_step": 0.5}, False),
        ({"warmup_steps": 0.5, "decay_start_step": 19}, False),  # the decay starts at 20, half of 40
        ({"warmup_steps": 21, "decay_start_step": 0.5}, False),  # at 21
        ({"warmup_steps": 20, "decay_start_step": 0.5}, False),
        ({"warmup_steps": 0, "decay_start_step": 0.5}, False),
    ],
)
def test_a_decay_does_not_start_before_the_warmup_ends(values, contradict):
    def make():
        return TrainingConfig(batch_size=10, epochs=4, decay_steps=5, **values)

    if contradict:
        with pytest.raises(InputError, match="must not start before the warmup ends"):
            make()
    else:
        of = make().for_rows(95)
        assert of.decay_start_step >= of.warmup_steps


@pytest.mark.parametrize(("given", "found"), [("0.5", 0.5), (0.5, 0.5), ("3", 3), (3.0, 3), (1.0, 1), ("0", 0)])
def test_steps_may_be_given_as_a_share(given, found):
    steps = Config.from_preset("laptop", {"warmup_steps": given}).training.warmup_steps
    assert (steps, type(steps)) == (found, type(found))


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
    "batch_factor": (0.5, {"batch_size": None}),
    "lasso_start_step": (5, {"optimizer": "adam", "interaction_op": "dot", "interaction_lasso": 0.1}),
}
OTHERWISE = {"batch_size": 8, "interaction_op": "cat", "optimizer": "sgd", "interaction_lasso": 0.0}


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
