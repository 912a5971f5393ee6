"""The recipes for Criteo's whole logs: commands that parse, and needs that follow from rows and rates."""

from __future__ import annotations

import shlex
from types import SimpleNamespace

import pytest

from dlrm_lib.commands.parser import parse_arguments
from dlrm_lib.config import PRESETS, Config
from dlrm_lib.full_scale import CLICK_LOGS, Rates, recipe

RATES = Rates(preprocessing=1000.0, training=100.0, inference=500.0)
KAGGLE, TERABYTE = CLICK_LOGS


@pytest.mark.parametrize("log", CLICK_LOGS, ids=lambda log: log.name)
def test_every_command_parses_and_each_reads_what_the_one_before_wrote(log):
    stages = {stage.name: stage for stage in recipe(log, RATES, cores=2)}
    assert list(stages) == ["download", "preprocess", "train", "test"]
    parsed = {name: parse_arguments(shlex.split(of.command)[3:]) for name, of in stages.items()}
    assert str(parsed["preprocess"].input).startswith(str(parsed["download"].output))
    assert parsed["train"].dataset == parsed["test"].dataset == parsed["preprocess"].output
    assert parsed["test"].load_checkpoint_path == parsed["train"].save_checkpoint_path
    assert {parsed["preprocess"].preset, parsed["train"].preset} == {log.preset} <= PRESETS.keys()


def test_the_rows_are_those_that_are_published():
    assert KAGGLE.rows == 45_840_617
    assert KAGGLE.held_out_rows == int(KAGGLE.rows * Config.from_preset("criteo_kaggle").preprocess.holdout_fraction)
    assert TERABYTE.rows == 4_373_472_329
    # NVIDIA's log counts 128,028 steps of 32,768 rows in a pass, the last one partly filled.
    assert -(-TERABYTE.training_rows // 32_768) == 128_028


def test_time_is_rows_over_rates():
    _, preprocess, train, test = recipe(TERABYTE, RATES, cores=2)
    assert preprocess.seconds == TERABYTE.rows / 1000
    assert test.seconds == TERABYTE.held_out_rows // 2 / 500
    assert train.seconds == pytest.approx(TERABYTE.training_rows / 100 + test.seconds)
    kaggle, epochs = recipe(KAGGLE, RATES, cores=2)[2], Config.from_preset("criteo_kaggle").training.epochs
    assert kaggle.seconds == pytest.approx(epochs * (KAGGLE.training_rows / 100 + KAGGLE.held_out_rows // 2 / 500))


def test_rates_come_from_the_point_with_the_preset_s_batch_size():
    def points(*speeds):
        return [{"precision": p, "batch_size": size, "samples_per_second": {"median": of}} for p, size, of in speeds]

    def record(**metrics):
        return SimpleNamespace(metrics=metrics)

    speeds = {"nvidia": points(("fp32", 128, 5.0), ("fp32", 32_768, 9.0), ("bf16", 32_768, 99.0)), "laptop": []}
    latencies = [{"precision": p, "samples_per_second": of} for p, of in (("fp32", 7.0), ("fp32", 8.0), ("bf16", 99.0))]
    records = {
        "preprocess_scaling": record(marginal_rows_per_s=3.0),
        "throughput": record(models=speeds),
        "inference": record(models={"nvidia": latencies}),
    }
    assert Rates.measured(records, TERABYTE) == Rates(preprocessing=3.0, training=9.0, inference=8.0)


def test_disk_and_memory_are_those_of_the_columns_and_the_tables():
    download, preprocess, train, _ = recipe(TERABYTE, RATES, cores=2)
    encoded = TERABYTE.rows * (1 + 13 * 2 + 26 * 4)
    assert preprocess.disk_bytes == 3 * encoded + 8 * TERABYTE.rows
    assert 0.36e12 < download.disk_bytes < 0.5e12
    assert train.memory_bytes == 32_709_138 * 128 * 4  # SGD keeps nothing but the tables
    assert recipe(TERABYTE, RATES, cores=8)[1].memory_bytes > preprocess.memory_bytes
