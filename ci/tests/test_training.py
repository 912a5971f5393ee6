"""The training loop, the schedule, evaluation and checkpoints."""

from __future__ import annotations

import dataclasses
import threading

import numpy as np
import pytest
import torch
from encoded import random_dataset
from sklearn.metrics import log_loss, roc_auc_score

from dlrm_lib.backends import pick
from dlrm_lib.config import Config, TrainingConfig
from dlrm_lib.errors import InputError
from dlrm_lib.features import FeatureSpec
from dlrm_lib.model import DLRM
from dlrm_lib.optim import learning_rate
from dlrm_lib.training import Evaluation, Progress, build, evaluate, fit, predict

SETTINGS = {"batch_size": 256, "epochs": 1, "optimizer": "sgd", "lr": 0.5, "warmup_steps": 2, "print_freq": 3}
CONFIG = Config.from_preset("smoke", SETTINGS)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return random_dataset(tmp_path_factory.mktemp("encoded"), click=lambda x, ids: np.where(ids[:, 0] == 1, 0.8, 0.2))


def new(dataset, backend=None, **overrides):
    return build(CONFIG.override(**overrides), dataset, backend=backend or pick("cpu"))


def train(dataset, **overrides):
    training = new(dataset, **overrides)
    return training, list(fit(training))


def test_published_learning_rates():
    # NVIDIA's log of its 2020 release: peak 28, 6400 steps of warmup, decay from 64,000 over 80,000 steps.
    config = Config.from_preset("criteo_terabyte").training
    published = {200: 0.8794, 400: 1.7544, 600: 2.6294, 2200: 9.6294}
    assert {step: round(learning_rate(step, config), 4) for step in published} == published
    assert learning_rate(6399, config) == learning_rate(63_999, config) == 28.0
    assert learning_rate(63_999 + 40_000, config) == pytest.approx(28 / 4)
    assert learning_rate(200_000, config) == 1e-7


def test_warmup_factor_starts_higher():
    config = TrainingConfig(lr=8.0, warmup_steps=4, warmup_factor=1)
    assert [learning_rate(step, config) for step in range(5)] == pytest.approx([5, 6, 7, 8, 8])
    assert learning_rate(0, TrainingConfig(lr=8.0, warmup_steps=0)) == 8.0


def test_the_decay_follows_the_warmup_when_no_start_is_given():
    config = TrainingConfig(lr=1.0, warmup_steps=10, decay_steps=10)
    assert learning_rate(9, config) == 1.0
    assert learning_rate(14, config) == pytest.approx(0.25)


def test_the_power_of_the_decay():
    config = Config().override(lr=0.5, warmup_steps=0, decay_start_step=4, decay_steps=10, decay_power=3).training
    rates = [learning_rate(step, config) for step in range(14)]
    assert rates == pytest.approx([0.5] * 4 + [0.5 * (left / 10) ** 3 for left in range(9, 0, -1)] + [1e-7])


def test_events_count_every_step_and_row(dataset):
    _, events = train(dataset, epochs=2)
    progress = [e for e in events if isinstance(e, Progress)]
    evaluations = [e for e in events if isinstance(e, Evaluation)]
    per_epoch = 12  # 3,000 rows: eleven batches of 256 and one of 184
    assert [e.step for e in progress] == [3, 6, 9, 12, 15, 18, 21, 24]
    assert [e.step for e in evaluations] == [per_epoch, 2 * per_epoch]
    assert {e.steps for e in progress} == {24}
    assert [e.epoch for e in progress] == [0] * 4 + [1] * 4
    assert all(e.split == "validation" and e.rows == 500 for e in evaluations)


def evaluated_at(dataset, **overrides):
    return [e.step for e in train(dataset, **overrides)[1] if isinstance(e, Evaluation)]


def test_evaluations_begin_after_test_after_epochs(dataset):
    # NVIDIA's condition at step k of 12 in an epoch, from 1 on: k % test_freq == 0 and (k - 1) / 12 >= test_after.
    assert evaluated_at(dataset, epochs=2, test_freq=4) == [4, 8, 12, 16, 20, 24]
    assert evaluated_at(dataset, epochs=2, test_freq=4, test_after=0.5) == [8, 12, 16, 20, 24]
    assert evaluated_at(dataset, epochs=2, test_freq=4, test_after=1) == [16, 20, 24]
    assert evaluated_at(dataset, epochs=2, test_freq=4, test_after=1.25) == [16, 20, 24]
    assert evaluated_at(dataset, epochs=2, test_freq=4, test_after=1.26) == [20, 24]
    assert evaluated_at(dataset, epochs=2, test_freq=7, test_after=9) == [24]  # what a run ends with is always said


def test_the_first_steps_are_left_out_of_the_average_speed(dataset):
    _, events = train(dataset, benchmark_warmup_steps=4)
    progress = [e for e in events if isinstance(e, Progress)]
    assert [e.step for e in progress] == [3, 4, 6, 9, 12]
    assert [e.average_samples_per_second is None for e in progress] == [True, True, False, False, False]
    measured = progress[2:]
    rows = [2 * 256, 3 * 256, 2 * 256 + 184]
    seconds = sum(n / e.samples_per_second for n, e in zip(rows, measured, strict=True))
    assert progress[-1].average_samples_per_second == pytest.approx(sum(rows) / seconds)
    assert measured[0].average_samples_per_second == pytest.approx(measured[0].samples_per_second)


def test_the_loss_of_an_interval_is_the_mean_over_its_steps(dataset):
    each = [e.loss for e in train(dataset, print_freq=1)[1] if isinstance(e, Progress)]
    threes = [e.loss for e in train(dataset)[1] if isinstance(e, Progress)]
    assert threes == pytest.approx(np.reshape(each, (4, 3)).mean(1))


def test_the_learning_rates_of_the_schedule_are_used(dataset):
    changed = {"warmup_steps": 3, "decay_start_step": 5, "decay_steps": 20, "print_freq": 1}
    progress = [e for e in train(dataset, **changed)[1] if isinstance(e, Progress)]
    config = CONFIG.override(**changed).training
    assert [e.lr for e in progress] == [learning_rate(step, config) for step in range(12)]


def test_what_is_left_open_follows_from_the_training_rows(dataset):
    left_open = {
        "batch_size": None,
        "decay_steps": None,
        "decay_start_step": None,
        "warmup_steps": 3,
        "epochs": 2,
        "print_freq": 1,
    }
    given = {**left_open, "batch_size": 32, "decay_steps": 2 * 94 - 3}  # 3,000 rows
    training, events = train(dataset, **left_open)
    other, others = train(dataset, **given)
    rates = [[e.lr for e in of if isinstance(e, Progress)] for of in (events, others)]
    assert rates[0] == rates[1]
    assert len(rates[0]) == 2 * 94
    assert torch.equal(training.model.tables.weight, other.model.tables.weight)
    settings = training.settings
    assert (settings.batch_size, settings.decay_start_step, settings.decay_steps) == (32, 3, 2 * 94 - 3)
    assert (settings.test_freq, settings.device, settings.precision, settings.execution) == (94, "cpu", "fp32", "eager")


def test_only_what_is_resolved_is_trained_by():
    cpu, model = pick("cpu"), DLRM(FeatureSpec(numerical=1, cardinalities=(3,)), CONFIG.model)
    open_model = dataclasses.replace(CONFIG.model, linear=None)
    with pytest.raises(ValueError, match="left open"):
        DLRM(model.spec, open_model)
    with pytest.raises(TypeError, match="A step takes resolved settings"):
        cpu.training_step(model, CONFIG.training)
    resolved = cpu.resolved(CONFIG.training, model, 100)
    for name in ("batch_size", "decay_steps", "decay_start_step", "test_freq"):
        with pytest.raises(ValueError, match=f"{name} is left open"):
            dataclasses.replace(resolved, **{name: None})
    for name in ("device", "precision", "execution"):
        with pytest.raises(ValueError, match=f"{name} is left open"):
            dataclasses.replace(resolved, **{name: "auto"})
    for name in ("warmup_steps", "decay_start_step", "decay_steps", "lasso_start_step"):
        with pytest.raises(ValueError, match=f"{name} is still a share"):
            dataclasses.replace(resolved, **{"decay_start_step": 1000, name: 0.5})


def test_shares_and_settings_left_open_are_those_of_the_steps_and_rows(dataset):
    # 3,000 rows, 12 steps a pass.
    shares = {"warmup_steps": 0.25, "decay_start_step": 0.5, "decay_steps": 0.3, "linear": None, "embed_numbers": None}
    steps = {"warmup_steps": 6, "decay_start_step": 12, "decay_steps": 7, "linear": True, "embed_numbers": True}
    (one, events), (other, others) = (train(dataset, epochs=2, print_freq=1, **of) for of in (shares, steps))
    assert [e.lr for e in events if isinstance(e, Progress)] == [e.lr for e in others if isinstance(e, Progress)]
    assert torch.equal(one.model.tables.weight, other.model.tables.weight)
    assert one.config == other.config


def test_it_learns_what_can_be_learned(dataset):
    training, _ = train(dataset, epochs=4)
    result = evaluate(training.inference, dataset.test, batch_size=100)
    ideal = np.where(dataset.test.categorical[0] == 1, 0.8, 0.2)
    label = np.asarray(dataset.test.label)
    assert result.auc > roc_auc_score(label, ideal) - 0.03
    assert result.log_loss < result.base_log_loss - 0.05


def test_the_same_seed_gives_the_same_numbers_and_another_does_not(dataset):
    first, _ = train(dataset, shuffle_batch_order=True)
    again, _ = train(dataset, shuffle_batch_order=True)
    other, _ = train(dataset, shuffle_batch_order=True, seed=5)
    for name, tensor in first.model.state_dict().items():
        assert torch.equal(tensor, again.model.state_dict()[name])
    assert not torch.equal(first.model.tables.weight, other.model.tables.weight)


@pytest.mark.parametrize(
    "overrides", [{}, {"epochs": 3}, {"epochs": 0}, {"epochs": 3, "max_steps": 20}, {"max_steps": 50}]
)
def test_the_steps_in_all_are_known_before(dataset, overrides):
    training, events = train(dataset, **overrides)
    known = CONFIG.override(**overrides).training.steps(len(dataset.train))
    assert known == training.steps
    assert {e.steps for e in events if isinstance(e, Progress)} == ({known} if known else set())
    assert not events or events[-1].step == known


def test_training_stops_early(dataset):
    _, events = train(dataset, max_steps=5)
    assert [e.step for e in events if isinstance(e, Progress)] == [3, 5]
    _, events = train(dataset, epochs=9, test_freq=6, auc_threshold=0.55)
    assert 6 <= events[-1].step < 9 * 12
    assert events[-1].auc >= 0.55
    loop = fit(new(dataset))
    next(loop)
    loop.close()


def test_abandoning_training_leaves_out_the_evaluation(dataset):
    training, asked = new(dataset, test_freq=4, test_batch_size=100), []

    def abandon():
        asked.append(training.step.done)
        return training.step.done == 8  # where an evaluation is due

    events = list(fit(training, abandon=abandon))
    assert [e.step for e in events if isinstance(e, Progress)] == [3, 4, 6, 8]
    assert [e.step for e in events if isinstance(e, Evaluation)] == [4]
    assert asked == [1, 2, 3, *[4] * 6, 5, 6, 7, 8]  # behind step 4, and behind each of five batches of its evaluation


def test_abandoning_an_evaluation_ends_training_amid_it(dataset):
    answers, threads = iter([False] * 5 + [True]), threading.active_count()
    backend = pick("cpu")
    backend.readers = 1
    training = new(dataset, backend, test_freq=4, test_batch_size=100)
    loop = fit(training, abandon=lambda: next(answers))
    assert [(type(e), e.step) for e in loop] == [(Progress, 3), (Progress, 4)]
    assert next(answers, None) is None, "asked once it has said yes"
    assert training.model.training
    assert threading.active_count() == threads
    assert evaluate(training.inference, dataset.test, batch_size=100, abandon=lambda: True) is None


def test_evaluation_equals_sklearn(dataset):
    training, _ = train(dataset)
    result = evaluate(training.inference, dataset.test, batch_size=64, step=7)
    probability = predict(training.inference, dataset.test, batch_size=1000)
    label = np.asarray(dataset.test.label)
    assert result.auc == pytest.approx(roc_auc_score(label, probability), abs=1e-12)
    assert result.log_loss == pytest.approx(log_loss(label, probability), abs=1e-9)
    assert (result.step, result.rows, result.split) == (7, 700, "test")


def test_leaving_the_loop_leaves_no_thread(dataset):
    before, backend = threading.active_count(), pick("cpu")
    backend.readers = 1
    loop = fit(new(dataset, backend))
    next(loop)
    assert threading.active_count() > before  # the reader is ahead
    loop.close()
    assert threading.active_count() == before


def test_bad_rows_stop_the_training_by_name(tmp_path):
    data = random_dataset(tmp_path)
    data.train.categorical[1] = np.array(data.train.categorical[1])
    data.train.categorical[1][2000] = 7
    loop = fit(new(data, print_freq=1))
    with pytest.raises(InputError, match=r"train.cat_1\.bin, row 2,000: the id is outside"):
        list(loop)


def test_a_warmup_into_the_decay_is_refused(dataset):
    with pytest.raises(InputError, match="before the warmup ends"):
        train(dataset, warmup_steps=5, decay_start_step=3, decay_steps=2)


def test_empty_splits_are_named(tmp_path):
    empty = random_dataset(tmp_path / "a", rows=(0, 10, 10))
    with pytest.raises(InputError, match="no rows to train on"):
        new(empty)
    no_test = random_dataset(tmp_path / "b", rows=(10, 0, 0))
    with pytest.raises(InputError, match="no rows to evaluate on"):
        evaluate(new(no_test).inference, no_test.test, batch_size=5)
    assert [type(e) for e in fit(new(no_test))] == [Progress]
