"""The training benchmark: what is timed, what is left out, and what it says of several measurements."""

from __future__ import annotations

import copy
import itertools

import pytest
import torch
from encoded import random_dataset

from dlrm_lib import clean_timing
from dlrm_lib.backends import pick
from dlrm_lib.backends.cpu.backend import Cpu
from dlrm_lib.benchmark import WARMUP_STEPS, Spread, benchmark_training
from dlrm_lib.config import Config, TrainingConfig
from dlrm_lib.errors import InputError
from dlrm_lib.model import DLRM

TRAINING = TrainingConfig(execution="eager", lr=0.1)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return random_dataset(tmp_path_factory.mktemp("data") / "encoded")


@pytest.fixture
def model(dataset):
    return DLRM(dataset.spec, Config.from_preset("smoke").model)


@pytest.fixture
def seconds_of(monkeypatch):
    """A clock that stands still but for training steps, which take as many seconds as they have rows."""

    class Clock:
        now, steps, clean = 100.0, [], itertools.repeat(True)

    class Slow:
        def __init__(self, model, config):
            self.config, self.precision = config, config.precision

        def prepare(self, batch):
            Clock.now += 1000
            return batch

        def __call__(self, batch, lr):
            assert lr == 0.0  # what is timed must not change with the number of steps
            assert len(batch.label) == self.config.batch_size
            Clock.now += len(batch.label) * (2 if self.config.precision == "bf16" else 1)
            Clock.steps.append((self.config.precision, self.config.batch_size, batch.numerical[0, 0].item()))

    def watched(work):
        began = Clock.now
        return work(), Clock.now - began, next(Clock.clean)

    Clock.steps = []
    monkeypatch.setattr(Cpu, "training_step", lambda self, model, config: Slow(model, config))
    monkeypatch.setattr(clean_timing, "watched", watched)
    return Clock


def test_a_spread_is_the_middle_and_the_ends():
    assert Spread.of([4.0, 1.0, 3.0]) == Spread(median=3.0, low=1.0, high=4.0, repeats=3)
    assert Spread.of(x for x in (2.0, 1.0)) == Spread(median=1.5, low=1.0, high=2.0, repeats=2)
    assert Spread.of([7.0]) == Spread(median=7.0, low=7.0, high=7.0, repeats=1)


def test_rates_are_rows_per_second_of_steps_alone(dataset, model, seconds_of):
    settings = {"batch_sizes": [8, 32], "precisions": ["fp32", "bf16"], "repeats": 3, "seconds": 100.0}
    speeds = benchmark_training(model, dataset.train, TRAINING, pick("cpu"), **settings)
    assert [(s.precision, s.batch_size, s.samples_per_second, s.dropped) for s in speeds] == [
        (precision, size, Spread(median=rate, low=rate, high=rate, repeats=3), 0)
        for precision, rate in (("fp32", 1.0), ("bf16", 0.5))
        for size in (8, 32)
    ]
    kinds = [(precision, size) for precision in ("fp32", "bf16") for size in (8, 32)]
    warm = [step[:2] for step in seconds_of.steps[: WARMUP_STEPS * len(kinds)]]
    assert warm == [kind for kind in kinds for _ in range(WARMUP_STEPS)]


def test_a_measurement_goes_through_different_batches(dataset, model, seconds_of):
    settings = {"batch_sizes": [16], "precisions": ["fp32"], "repeats": 1, "seconds": 16.0 * 64}
    benchmark_training(model, dataset.train, TRAINING, pick("cpu"), **settings)
    assert len({first for *_, first in seconds_of.steps[-64:]}) > 50


def test_segments_in_which_something_else_had_a_core_are_dropped(dataset, model, seconds_of):
    settings = {"batch_sizes": [8], "precisions": ["fp32"], "repeats": 2, "seconds": 1.0}
    looks = [True]  # one segment finds out how many steps make one
    seconds_of.clean = iter([*looks, False, True, False, False, False])
    (speed,) = benchmark_training(model, dataset.train, TRAINING, pick("cpu"), **settings, tries=3)
    assert (speed.samples_per_second.repeats, speed.dropped) == (1, 4)
    seconds_of.clean = iter([*looks, *[False] * 6])
    with pytest.raises(InputError, match=r"too busy[\s\S]*batches of 8: none of 6 segments"):
        benchmark_training(model, dataset.train, TRAINING, pick("cpu"), **settings, tries=3)


def test_the_wait_for_the_device_is_in_the_times(dataset, model, seconds_of):
    device = pick("cpu")

    class Slow(type(device)):
        def synchronize(self):
            seconds_of.now += 92

    settings = {"batch_sizes": [8], "precisions": ["fp32"], "repeats": 2, "seconds": 1.0, "tries": 1}
    (speed,) = benchmark_training(model, dataset.train, TRAINING, Slow(), **settings)
    assert speed.samples_per_second.median == 8 / 100


def test_real_steps_train_in_the_precision_that_is_asked_for(dataset, model):
    found, before = set(), copy.deepcopy(model.state_dict())
    model.top[0].register_forward_hook(lambda _module, _inputs, output: found.add((model.training, output.dtype)))
    model.eval()
    settings = {"batch_sizes": [8], "precisions": ["bf16", "auto"], "repeats": 1, "seconds": 0.001, "tries": 1}
    speeds = benchmark_training(model, dataset.train, TRAINING, pick("cpu"), **settings)
    assert [speed.precision for speed in speeds] == ["bf16", "fp32"]
    assert all(speed.samples_per_second.median > 0 for speed in speeds)
    assert found == {(True, torch.bfloat16), (True, torch.float32)}
    assert not model.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_a_split_without_rows_is_refused(tmp_path, model):
    empty = random_dataset(tmp_path / "encoded", rows=(0, 5, 5)).train
    with pytest.raises(InputError, match="no rows to measure with"):
        benchmark_training(model, empty, TRAINING, pick("cpu"), batch_sizes=[8], precisions=["fp32"])
