"""What a configuration costs, against the real model and optimizers, torch's counter, and cases done by hand."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from test_cost import counted

from dlrm_lib.backends import pick
from dlrm_lib.config import PRESETS, Config
from dlrm_lib.dataset import Batch
from dlrm_lib.features import CRITEO_TERABYTE, FeatureSpec
from dlrm_lib.lab.consequences import Machine, consequences, in_bytes, in_short, in_time, tiles
from dlrm_lib.model import DLRM, blueprint, training_cost

SPEC = FeatureSpec(numerical=5, cardinalities=(30, 7, 11))
SMALL = {
    **{"embedding_dim": 4, "bottom_mlp_sizes": "6,4", "top_mlp_sizes": "8,3,1"},
    **{"warmup_steps": 0, "decay_start_step": 0, "decay_steps": 0, "lasso_start_step": 0, "execution": "eager"},
    **{"embed_numbers": False, "linear": False, "batch_size": 2048},
}
MACHINE = Machine(
    name="by hand",
    free_memory=10**9,
    usual_precision="fp32",
    flops={"fp32": 1e9, "bf16": 4e8, "fp16": 2e9},
    layer_bandwidth=1e30,
    table_bandwidth=1e30,
    step_overhead=0.25,
)


def cost(rows: int = 1000, spec: FeatureSpec = SPEC, machine: Machine = MACHINE, **settings):
    return consequences(Config.from_preset("laptop", {**SMALL, **settings}), spec, rows, machine)


@pytest.mark.parametrize("optimizer", ["sgd", "adagrad", "rowwise_adagrad", "adam"])
@pytest.mark.parametrize(
    ("spec", "settings"),
    [
        (SPEC, {"embedding_decay": 0.0}),
        (SPEC, {"embedding_decay": 0.5, "interaction_op": "cat"}),
        (SPEC, {"hash_indices": True, "max_table_size": 10, "self_interaction": True}),
        (SPEC, {"num_indices_per_lookup": 3}),
        (SPEC, {"interaction_op": "dcn"}),
        (SPEC, {"embed_numbers": True, "linear": True, "batch_size": "none", "decay_steps": "none"}),
        (FeatureSpec(numerical=0, cardinalities=(9, 9)), {"embed_numbers": True}),
        (FeatureSpec(numerical=0, cardinalities=(9, 9)), {"embedding_dim": 2, "bottom_mlp_sizes": "2"}),
        (FeatureSpec(numerical=3, cardinalities=()), {"flag_missing": False}),
    ],
)
def test_memory_is_what_the_real_model_and_optimizer_take(optimizer, spec, settings):
    config = Config.without_idle("laptop", {**SMALL, **settings, "optimizer": optimizer})
    model, cpu = DLRM(spec, config.model), pick("cpu")
    step = cpu.training_step(model, cpu.resolved(config.training, model, 1000))
    model.train()
    lookups = (config.model.num_indices_per_lookup,) if config.model.num_indices_per_lookup > 1 else ()
    ids = torch.zeros(2, len(spec.cardinalities), *lookups, dtype=torch.int32)
    step(Batch(torch.ones(2, spec.numerical), ids, torch.ones(2)), 0.01)
    dense = [value for state in step.optimizer.dense.state.values() for value in state.values() if value is not None]
    kept = [*dense, *step.optimizer.state.values()]
    found = consequences(config, spec, 1000, MACHINE)
    assert found.mlp_parameters == sum(parameter.numel() for parameter in model.parameters())
    assert found.table_parameters == model.tables.weight.numel()
    assert found.table_bytes == model.tables.weight.nbytes
    assert found.optimizer_bytes == sum(tensor.nbytes for tensor in kept)


@pytest.mark.parametrize("settings", [{}, {"self_interaction": True}, {"interaction_op": "cat"}])
def test_flops_are_those_that_torch_counts(settings):
    model = Config.from_preset("laptop", {**SMALL, **settings}).model
    parts = training_cost(blueprint(SPEC, model))
    # Torch takes two products for the interaction's gradient, where one does; it does not see the tables' update.
    torch_s = counted(SPEC, model) - parts["interaction"].flops / 2
    assert cost(**settings).flops == torch_s + parts["embedding update"].flops


def test_nvidia_s_tables_and_layers():
    found = consequences(Config.from_preset("criteo_terabyte"), CRITEO_TERABYTE, 4_195_197_692, MACHINE)
    assert found.mlp_parameters == 2_369_921
    assert found.table_parameters == sum(CRITEO_TERABYTE.cardinalities) * 128
    assert found.steps == found.steps_per_epoch == 128_028
    assert found.optimizer_bytes == 0


@pytest.mark.parametrize(
    ("rows", "settings", "per_epoch", "steps"),
    [
        (1000, {"batch_size": 100, "epochs": 3}, 10, 30),
        (1001, {"batch_size": 100, "epochs": 3}, 11, 33),
        (1001, {"batch_size": 100, "epochs": 3, "max_steps": 12}, 11, 12),
        (1001, {"batch_size": 100, "epochs": 1, "max_steps": 12}, 11, 11),
        (50, {"batch_size": 100, "epochs": 0}, 1, 0),
    ],
)
def test_steps(rows, settings, per_epoch, steps):
    found = cost(rows, **settings)
    assert (found.steps_per_epoch, found.steps) == (per_epoch, steps)


def test_time_is_that_of_steps_and_of_arithmetic_where_memory_is_fast():
    found = cost(1000, batch_size=100, optimizer="sgd", execution="auto")
    parts = training_cost(blueprint(SPEC, Config.from_preset("laptop", SMALL).model))
    per_sample = parts["MLPs"].flops + 2 * parts["interaction"].flops + parts["embedding update"].flops
    assert found.epoch_seconds == pytest.approx(10 * (0.25 + 100 * per_sample / 1e9))
    half = cost(1000, batch_size=100, optimizer="sgd", execution="auto", precision="fp16")
    assert half.epoch_seconds - 2.5 == pytest.approx((found.epoch_seconds - 2.5) / 2)
    slow = dataclasses.replace(MACHINE, layer_bandwidth=1.0, step_overhead=0.0)
    layers = training_cost(blueprint(SPEC, Config.from_preset("laptop", SMALL).model), number_bytes=4)["MLPs"]
    assert cost(1000, machine=slow).epoch_seconds == pytest.approx(1000 * layers.bytes, rel=1e-6)


@pytest.mark.parametrize(
    ("settings", "warning"),
    [
        ({"batch_size": 1001}, "A batch of 1,001 is larger than the data: each epoch is one step of 1,000 rows."),
        ({"warmup_steps": 11}, "Training ends at step 10, within the warmup of 11: lr is never reached."),
        (
            {"decay_start_step": 2, "decay_steps": 7},
            "The decay ends at step 9 of 10: 1 of the 10 steps have a learning rate of nearly 0.",
        ),
        (
            {"decay_start_step": 8, "decay_steps": 20, "decay_power": 2.0, "lr": 4.0},
            "Training ends at step 10, long before the decay at 28: it ends with lr 3.2.",
        ),
        (
            {"lasso_start_step": 10},
            "Training ends at step 10, before interaction_lasso starts at 10.",
        ),
        ({"precision": "bf16"}, "bf16 is slower than fp32 on this machine: its products run at 0.4 times the speed."),
        ({"precision": "tf32"}, "This machine has no tf32; the time is that of fp32."),
    ],
)
def test_each_warning_and_nothing_else(settings, warning):
    assert cost(**{"batch_size": 100, "epochs": 1, **settings}).warnings == (warning,)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"batch_size": 1000},
        {"warmup_steps": 10},
        {"decay_start_step": 2, "decay_steps": 8},
        {"decay_start_step": 2, "decay_steps": 9},
        {"precision": "fp16"},
        {"precision": "fp32"},
        {"epochs": 0, "warmup_steps": 5},
    ],
)
def test_no_warning_where_nothing_is_wrong(settings):
    assert cost(**{"batch_size": 100, "epochs": 1, **settings}).warnings == ()


@pytest.mark.parametrize(
    ("machine", "settings", "advised"),
    [
        ({"fp32": 1e9, "bf16": 2.4e9}, {}, True),
        ({"fp32": 1e9, "bf16": 2.4e9}, {"precision": "bf16"}, False),
        ({"fp32": 1e9, "bf16": 1.4e9}, {}, False),
        ({"fp32": 1e9}, {}, False),
    ],
)
def test_bf16_is_recommended_where_it_was_measured_to_be_fast(machine, settings, advised):
    there = dataclasses.replace(MACHINE, flops=machine)
    expected = "bf16 is worth trying: on this machine its products run at 2.4 times the speed of fp32."
    assert cost(machine=there, **settings).advice == ((expected,) if advised else ())
    narrow = dataclasses.replace(there, layer_bandwidth=1.0)  # time goes into memory, not into products
    assert cost(machine=narrow, **settings).advice == ()
    if advised:
        assert "bf16 is worth trying" in tiles(cost(machine=there))


def test_a_training_that_does_not_fit_the_memory():
    spec = FeatureSpec(numerical=5, cardinalities=(40_000_000,))
    fits = cost(spec=spec, optimizer="sgd", batch_size=100)
    assert (fits.table_bytes, fits.warnings) == (640_000_000, ())
    (warning,) = cost(spec=spec, optimizer="adagrad", batch_size=100).warnings
    said = (
        "Training takes about 1.61 GB of memory, but only 1 GB are free: optimizer 800 MB, tables 640 MB, rest 170 MB"
    )
    assert warning.startswith(said)
    unknown = dataclasses.replace(MACHINE, free_memory=None)
    assert cost(spec=spec, optimizer="adagrad", batch_size=100, machine=unknown).warnings == ()


def test_columns_without_a_value_are_counted():
    spec = FeatureSpec(numerical=5, cardinalities=(1, 7, 1))
    (warning,) = cost(spec=spec, batch_size=100).warnings
    assert warning == "2 of 3 categorical columns (cat_0, cat_2) have one id alone: they tell the model nothing."


def test_presets_warn_of_nothing_on_their_own_data():
    """The rows that `smoke` and `laptop` generate, spread over days of which the last is held out."""
    for preset, rows in (("smoke", 45_000), ("laptop", 875_000)):
        plenty = dataclasses.replace(MACHINE, free_memory=2**40)
        assert consequences(Config.from_preset(preset), CRITEO_TERABYTE, rows, plenty).warnings == ()


def test_a_measured_machine_can_be_reckoned_with():
    machine = Machine.measure("cpu")
    assert machine.usual_precision == "fp32"
    assert "tf32" not in machine.flops
    assert {"fp32", "fp16"} <= machine.flops.keys()
    # Of any computer that runs this: 0.1 GFLOP/s to 100 TFLOP/s, 10 MB/s to 10 TB/s, 10 µs to 10 s.
    assert all(1e8 < value < 1e14 for value in machine.flops.values())
    assert 1e7 < machine.layer_bandwidth < 1e13
    assert 1e7 < machine.table_bandwidth < 1e13
    assert 1e-5 < machine.step_overhead < 10
    assert machine.free_memory is None or machine.free_memory > 2**20
    times = [consequences(Config.from_preset(p), SPEC, 10**6, machine).epoch_seconds for p in PRESETS]
    assert all(0 < seconds < 1e7 for seconds in times)


def test_measuring_leaves_the_number_of_threads_and_the_device_s_rules_alone():
    before = torch.get_num_threads(), torch.get_float32_matmul_precision()
    Machine.measure("cpu")
    assert (torch.get_num_threads(), torch.get_float32_matmul_precision()) == before


def test_tiles_show_every_figure_and_every_warning():
    found = dataclasses.replace(cost(batch_size=100), warnings=("1 < 2 & 3.",), epoch_seconds=75.2)
    shown = tiles(found)
    for text in (in_short(found.mlp_parameters), in_bytes(found.table_bytes), f"{found.steps:,}", "75 s"):
        assert f"<b>{text}</b>" in shown
    assert "1 &lt; 2 &amp; 3." in shown
    assert "#" not in shown.split("</style>")[0]  # colours are the theme's own


@pytest.mark.parametrize(
    ("text", "written"),
    [
        (in_bytes(0), "0 B"),
        (in_bytes(999.4), "999 B"),
        (in_bytes(999.6), "1 kB"),
        (in_bytes(63_600_000), "63.6 MB"),
        (in_bytes(2.5e12), "2.5 TB"),
        (in_short(29_233), "29.2 k"),
        (in_short(7), "7"),
        (in_short(4.18e9), "4.18 G"),
        (in_time(0.0123), "0.012 s"),
        (in_time(75.2), "75 s"),
        (in_time(360), "6 min"),
        (in_time(302_000), "84 h"),
    ],
)
def test_numbers_for_people(text, written):
    assert text == written
