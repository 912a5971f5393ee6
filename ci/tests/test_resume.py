"""A run that is stopped at any step and resumed ends in the same bits as one that was never stopped."""

from __future__ import annotations

import dataclasses
import itertools
import os
import re
import signal

import numpy as np
import pytest
import torch
from encoded import random_dataset
from safetensors.torch import load_file

from dlrm_lib.__main__ import main
from dlrm_lib.backends import pick
from dlrm_lib.backends.cpu.backend import bf16_units
from dlrm_lib.config import Config, ModelConfig, TrainingConfig
from dlrm_lib.dataset import open_dataset
from dlrm_lib.errors import InputError, TrainingDiverged
from dlrm_lib.optim import LossScale, course, misfits
from dlrm_lib.training import (
    Evaluation,
    Progress,
    Results,
    SaveClock,
    StateDue,
    build,
    fit,
    load_state,
    save_state,
    state_path,
    stop_on_interrupt,
)

DEVICE = pick("cpu")
# Two epochs of five steps, the fifth with fewer rows; warmup and decay; evaluations at 3, 6, 9 and 10.
BASE = Config.from_preset(
    "smoke",
    {
        "standardise": True,
        "flag_missing": True,
        "embed_numbers": True,
        "linear": True,
        "embedding_dim": 4,
        "bottom_mlp_sizes": (8, 4),
        "top_mlp_sizes": (8, 1),
        "batch_size": 30,
        "epochs": 2,
        "embedding_decay": 0.5,
        "interaction_lasso": 0.1,
        "lr": 0.05,
        "warmup_steps": 3,
        "decay_start_step": 5,
        "decay_steps": 8,
        "test_freq": 3,
        "print_freq": 1,
    },
)
STEPS = 10
TIMES = ("samples_per_second", "step_time", "average_samples_per_second")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return random_dataset(tmp_path_factory.mktemp("encoded"), rows=(130, 60, 20), cardinalities=(3, 50, 200))


def start(config, dataset):
    training = build(config, dataset, backend=DEVICE)
    scale = training.step.loss_scale
    if scale and scale.dynamic:
        scale.scale.fill_(2.0**21)  # gradients overflow at first, and later not
    return training, Results()


def go_on(training, results, stop_after=None):
    """What comes of the rest of a run: its events without times, and a random number drawn by the consumer at each."""
    seen = []
    for event in fit(training, stop=lambda: training.step.done == stop_after):
        if isinstance(event, Evaluation):
            seen.append((event, results.add(event), torch.rand(()).item()))
        else:
            facts = {name: value for name, value in vars(event).items() if name not in TIMES}
            seen.append((facts, torch.rand(()).item()))
    return seen


def bits(training):
    of_step = {f"step.{name}": tensor for name, tensor in training.step.state_dict().items()}
    tensors = {**training.model.state_dict(), **of_step}
    return {name: tensor.clone().numpy().tobytes() for name, tensor in tensors.items()}


ORDERS = ({}, {"shuffle_batch_order": True}, {"shuffle_rows": True})
FP32 = [{"optimizer": o, **order} for o in ("sgd", "adagrad", "rowwise_adagrad", "adam") for order in ORDERS]
REDUCED = [
    {"optimizer": optimizer, "shuffle_rows": True, "precision": precision, "loss_scale": scale}
    for optimizer in ("sgd", "adam")
    for precision, scale in (("bf16", 8192), ("fp16", 8192), ("fp16", "dynamic"))
]
COMPILED = [{"optimizer": optimizer, "execution": "compile"} for optimizer in ("sgd", "adagrad")]
WITHOUT = [{"optimizer": optimizer, "standardise": False, "embedding_decay": 0.0} for optimizer in ("sgd", "adam")]


@pytest.mark.filterwarnings("ignore:Training runs slower")  # where there is no compiler
@pytest.mark.parametrize(
    "changed", FP32 + REDUCED + COMPILED + WITHOUT, ids=lambda changed: "-".join(map(str, changed.values()))
)
def test_stopped_at_every_step(dataset, tmp_path, monkeypatch, changed):
    monkeypatch.setattr(LossScale, "growth_interval", 3)
    config = BASE.override(**changed)
    if changed.get("precision") == "bf16" and not bf16_units():
        pytest.skip("this CPU has no bf16")
    training, results = start(config, dataset)
    whole = go_on(training, results)
    expected, best, random_state = bits(training), results, torch.get_rng_state()
    assert [e[0].step for e in whole if isinstance(e[0], Evaluation)] == [3, 6, 9, 10]
    assert ("standardise.mean" in expected) == (changed not in WITHOUT)
    assert ("step.sparse.seen" in expected) == (config.training.optimizer == "adam" and changed not in WITHOUT)
    if changed.get("loss_scale") == "dynamic":
        scales = [e[0]["loss_scale"] for e in whole if isinstance(e[0], dict)]
        assert 0 < training.step.skipped < STEPS
        assert any(later > earlier for earlier, later in itertools.pairwise(scales))

    for stop_after in range(1, STEPS):
        training, results = start(config, dataset)
        before = go_on(training, results, stop_after)
        save_state(tmp_path / "x.safetensors", training, results)
        torch.rand(7)  # another process would be somewhere else
        training, results = load_state(tmp_path / "x.safetensors", config, dataset, DEVICE)
        assert training.step.done == stop_after
        after = go_on(training, results)
        assert before + after == whole
        assert bits(training) == expected
        assert (results, torch.equal(torch.get_rng_state(), random_state)) == (best, True)


def test_resumed_at_every_step_of_the_same_run(dataset, tmp_path):
    config, path = BASE.override(optimizer="adam", shuffle_rows=True), tmp_path / "x.safetensors"
    training, results = start(config, dataset)
    whole, expected = go_on(training, results), bits(training)
    training, results = start(config, dataset)
    pieces = []
    while training.step.done < STEPS:
        pieces += go_on(training, results, training.step.done + 1)
        save_state(path, training, results)
        training, results = load_state(path, config, dataset, DEVICE)
    assert pieces == whole
    assert bits(training) == expected
    assert go_on(training, results) == []  # nothing is left to do


@pytest.mark.parametrize("due", [1, 2, 3, 5, 7, 10])  # 3 and 5 end in an evaluation and in an epoch, 10 in both
def test_a_state_that_was_due_amid_an_epoch_goes_on_in_the_same_bits(dataset, tmp_path, due):
    config, path = BASE.override(shuffle_rows=True, print_freq=4), tmp_path / "x.safetensors"
    training, results = start(config, dataset)
    go_on(training, results)
    expected, best = bits(training), results

    training, results = start(config, dataset)
    kinds, before, after = [], [], []
    for event in fit(training, state_due=lambda: training.step.done == due):
        kinds.append((event.step, type(event)))
        if isinstance(event, StateDue):
            save_state(path, training, results)
            before = [*after]
            continue
        if isinstance(event, Evaluation):
            results.add(event)
        after.append({name: value for name, value in vars(event).items() if name not in TIMES})
    assert [kind for step, kind in kinds if step == due][-1] is StateDue
    assert [kind for _, kind in kinds].count(StateDue) == 1
    assert (bits(training), results) == (expected, best)  # whoever writes changes nothing

    training, results = load_state(path, config, dataset, DEVICE)
    for event in fit(training):
        if isinstance(event, Evaluation):
            results.add(event)
        before.append({name: value for name, value in vars(event).items() if name not in TIMES})
    assert before == after
    assert (bits(training), results) == (expected, best)


def test_a_spoilt_state_is_never_due(dataset):
    training, _ = start(BASE.override(print_freq=100, test_freq=100), dataset)

    def spoil():
        training.model.tables.weight[-1] = float("nan")  # of an id that comes too seldom to be in a loss
        return training.step.done == 2

    with pytest.raises(TrainingDiverged, match="after step 2"):
        list(fit(training, state_due=spoil))


@pytest.mark.parametrize(
    ("minutes", "writing", "times"),
    [
        (10, 3, [600, 1203, 1806]),
        (10, 30, [600, 1230, 1860]),
        (10, 90, [600, 2490, 4380]),  # 20 times 90 seconds pass between two
        (0.01, 2, [0.6, 42.6, 84.6]),
    ],
)
def test_states_are_due_by_the_clock_and_take_a_twentieth_of_the_time_at_most(minutes, writing, times):
    now = 0.0
    clock = SaveClock(minutes, lambda: now)
    for due in times:
        now = due - 0.001
        assert not clock.due()
        now = due + 0.0
        assert clock.due()
        with clock.saving():
            now += writing
    with pytest.raises(InputError), clock.saving():
        raise InputError("The disk is full.")
    assert not clock.due()  # it is not tried again at every step


def test_a_run_of_one_epoch_that_is_killed_goes_on_from_the_last_state(dataset, tmp_path, monkeypatch):
    def run(name, *flags):
        paths = [f"--save_checkpoint_path={tmp_path / name}.safetensors", f"--log_path={tmp_path / name}.json"]
        small = ["--preset=smoke", "--batch_size=13", "--epochs=1", "--shuffle_rows", "--save_every=0.00001"]
        return main(["train", *small, f"--dataset={dataset.folder}", *paths, *flags])

    class Killed(BaseException):
        """Nothing in the program catches it."""

    def killed(path, training, results):
        save_state(path, training, results)
        if training.step.done == 2:
            raise Killed

    monkeypatch.setattr(SaveClock, "due", lambda clock: True)
    assert run("whole") == 0
    with monkeypatch.context() as patched:
        patched.setattr("dlrm_lib.training.save_state", killed)
        with pytest.raises(Killed):
            run("part")
    assert not (tmp_path / "part.safetensors").exists()  # no evaluation yet
    assert run("part", "--resume") == 0
    whole, part = (load_file(tmp_path / f"{name}.safetensors") for name in ("whole", "part"))
    assert {name: tensor.numpy().tobytes() for name, tensor in whole.items()} == {
        name: tensor.numpy().tobytes() for name, tensor in part.items()
    }


def test_a_state_that_cannot_be_written_amid_an_epoch_ends_no_training(dataset, tmp_path, monkeypatch, capsys):
    written = []

    def full(path, training, results):
        if training.step.done == 2:
            raise InputError(f"{path} could not be written.", found="No space left on device", remedy="Make room.")
        written.append(training.step.done)

    monkeypatch.setattr("dlrm_lib.training.save_state", full)
    monkeypatch.setattr(SaveClock, "due", lambda clock: True)
    small = ["--preset=smoke", "--batch_size=50", "--epochs=1", f"--dataset={dataset.folder}"]
    place = [f"--save_checkpoint_path={tmp_path / 'm.safetensors'}", f"--log_path={tmp_path / 'log.json'}"]
    assert main(["train", *small, *place]) == 0
    assert written == [1, 3]
    error = capsys.readouterr().err
    assert re.search(r"m\.state\.safetensors could not be written[\s\S]*No space left[\s\S]*Training goes on", error)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--save_every=0", "--save_checkpoint_path=m"], "--save_every: minutes above 0, such as 10 or 0.5, not '0'"),
        (["--save_every=-3", "--save_checkpoint_path=m"], "not '-3'"),
        (["--save_every=often", "--save_checkpoint_path=m"], "not 'often'"),
        (["--save_every=nan", "--save_checkpoint_path=m"], "not 'nan'"),
        (["--save_every=5"], "--save_every needs --save_checkpoint_path"),
    ],
)
def test_bad_times_of_saving(dataset, tmp_path, monkeypatch, capsys, flags, message):
    monkeypatch.chdir(tmp_path)
    assert main(["train", "--preset=smoke", f"--dataset={dataset.folder}", *flags]) == 2
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_longer_run_may_be_made_of_a_finished_one(dataset, tmp_path):
    training, results = start(BASE, dataset)
    go_on(training, results)
    expected = bits(training)
    training, results = start(BASE.override(epochs=1, print_freq=4, test_freq=None), dataset)
    go_on(training, results)
    save_state(tmp_path / "x.safetensors", training, results)
    training, results = load_state(tmp_path / "x.safetensors", BASE, dataset, DEVICE)
    go_on(training, results)
    assert bits(training) == expected


SHARES = {"warmup_steps": 0.3, "decay_start_step": 0.5, "decay_steps": None, "lasso_start_step": 0.2, "linear": None}


def test_a_longer_run_stretches_what_are_shares_of_it(dataset, tmp_path):
    path, shares = tmp_path / "x.safetensors", BASE.override(**SHARES)
    training, results = start(shares, dataset)
    go_on(training, results)
    save_state(path, training, results)
    assert load_state(path, shares, dataset, DEVICE)[0].settings.warmup_steps == 3  # of ten
    training, results = load_state(path, shares.override(epochs=4), dataset, DEVICE)
    found = training.settings
    schedule = (found.warmup_steps, found.decay_start_step, found.decay_steps, found.lasso_start_step)
    assert schedule == (6, 10, 10, 4)  # of twenty
    rates = [event[0]["lr"] for event in go_on(training, results) if isinstance(event[0], dict)]
    assert rates[:-1] == pytest.approx([0.05 * (left / 10) ** 2 for left in range(9, 0, -1)])
    assert training.step.done == 20


def test_a_longer_run_obeys_a_number_of_steps_and_says_what_becomes_of_the_rest(dataset, tmp_path):
    path = tmp_path / "x.safetensors"
    training, results = start(BASE, dataset)  # its decay ends at step 13 of 10
    go_on(training, results)
    save_state(path, training, results)
    training, _ = load_state(path, BASE.override(epochs=4), dataset, DEVICE)
    assert (training.settings.decay_start_step, training.settings.decay_steps) == (5, 8)
    assert list(misfits(training.settings, 20, 10)) == [
        "The decay ends at step 13 of 20: 7 of the 10 steps left have a learning rate of nearly 0."
    ]
    assert course(training.settings, 20, 10) == (
        "The learning rate goes on at 0.00313 after step 10 and ends at 1e-07 in step 20."
    )


def test_another_share_is_another_run(dataset, tmp_path):
    path, shares = tmp_path / "x.safetensors", BASE.override(**SHARES)
    save_state(path, *start(shares, dataset))
    for name, value, then, now in (("warmup_steps", 0.4, 3, 4), ("decay_steps", 0.1, 5, 1)):
        changed = shares.override(**{name: value}, epochs=4)
        with pytest.raises(InputError, match=rf"^--{name} has changed[\s\S]*{then} then, {now} now[\s\S]*{then}"):
            load_state(path, changed, dataset, DEVICE)
    load_state(path, shares.override(warmup_steps=3, decay_steps=5), dataset, DEVICE)


MAY_CHANGE = {
    "test_batch_size": 7,
    "epochs": 5,
    "max_steps": 8,
    "print_freq": 50,
    "test_freq": 2,
    "test_after": 0.5,
    "auc_threshold": 0.9,
    "benchmark_warmup_steps": 3,
    "device": "cpu",
    "execution": "auto",
}
MUST_NOT = {
    "batch_size": 31,
    "optimizer": "rowwise_adagrad",
    "embedding_epsilon": 1e-3,
    "embedding_decay": 0.25,
    "interaction_lasso": 0.5,
    "lasso_start_step": 1,
    "lr": 0.06,
    "warmup_factor": 1,
    "warmup_steps": 4,
    "decay_start_step": 6,
    "decay_steps": 9,
    "decay_power": 1.0,
    "precision": "bf16",
    "preload_batches": 2,
    "loss_scale": "dynamic",
    "shuffle_batch_order": True,
    "shuffle_rows": True,
    "seed": 1,
    "deterministic": True,
    "top_mlp_sizes": (9, 1),
    "standardise": False,
    "flag_missing": False,
    "embed_numbers": False,
    "linear": False,
    "embedding_init": 0.5,
    "interaction_op": "cat",
    "self_interaction": True,
    "num_indices_per_lookup": 2,
    "hash_indices": True,
}


@pytest.fixture(scope="module")
def kept(dataset, tmp_path_factory):
    path = tmp_path_factory.mktemp("state") / "x.safetensors"
    save_state(path, *start(BASE, dataset))
    return path


def test_every_setting_is_in_one_of_the_two_lists():
    both = {f.name for section in (ModelConfig, TrainingConfig) for f in dataclasses.fields(section)}
    together = {
        "embedding_dim",
        "bottom_mlp_sizes",
        "max_table_size",
        "batch_factor",
        "cross_layers",
        "cross_rank",
    }  # change with others only: below
    assert MAY_CHANGE.keys() | MUST_NOT.keys() | together == both


@pytest.mark.parametrize("name", MAY_CHANGE)
def test_what_may_change(dataset, kept, name):
    load_state(kept, BASE.override(**{name: MAY_CHANGE[name]}), dataset, DEVICE)


@pytest.mark.parametrize("name", MUST_NOT)
def test_what_would_be_another_run_is_refused_by_name(dataset, kept, name):
    config = BASE.override(**{name: MUST_NOT[name]})
    with pytest.raises(InputError, match=rf"^--{name} has changed") as error:
        load_state(kept, config, dataset, DEVICE)
    section = "training" if hasattr(BASE.training, name) else "model"
    then, now = (getattr(getattr(build(c, dataset).config, section), name) for c in (BASE, config))
    shown = str(error.value).splitlines()[1].replace("[", "(").replace("]", ")")
    assert f"{then} then, {now} now" in shown


def test_settings_that_change_together_are_refused_too(dataset, kept):
    for changed in (
        {"embedding_dim": 8, "bottom_mlp_sizes": (8, 8)},
        {"max_table_size": 9, "hash_indices": True},
        {"batch_size": None, "batch_factor": 3.0},
        {"interaction_op": "dcn", "cross_layers": 2, "cross_rank": 5},
    ):
        with pytest.raises(InputError, match="has changed"):
            load_state(kept, BASE.override(**changed), dataset, DEVICE)


def test_other_rows_are_refused(dataset, kept, tmp_path):
    for seed, rows, what in ((1, (130, 60, 20), "other values"), (0, (131, 60, 20), "train rows: 130 then, 131 now")):
        other = random_dataset(tmp_path / what, rows=rows, cardinalities=(3, 50, 200), seed=seed)
        with pytest.raises(InputError, match=what):
            load_state(kept, BASE, other, DEVICE)
    with pytest.raises(InputError, match=r"other rows[\s\S]*training rows: 130 then, 65 now[\s\S]*--dataset_subset"):
        load_state(kept, BASE, open_dataset(dataset.folder, dataset_subset=0.5), DEVICE)


SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def test_an_interrupt_waits_for_the_end_of_the_step(dataset):
    handlers = [signal.getsignal(number) for number in SIGNALS]
    for number in SIGNALS:
        training, _ = start(BASE, dataset)
        step, torn = training.step, []

        def interrupted(batch, lr, number=number, step=step, torn=torn):
            loss = type(step).__call__(step, batch, lr)
            if step.done % 4 == 0:
                os.kill(os.getpid(), number)
                torn.append(step.done)
            return loss

        training.step = _Spy(step, interrupted)
        with stop_on_interrupt() as stop:
            events = list(fit(training, stop=stop.is_set))
            assert stop.is_set()
            assert events[-1].step == torn[-1] == step.done
            for again in (signal.SIGTERM, signal.SIGHUP):  # a closed terminal sends both
                os.kill(os.getpid(), again)
            with pytest.raises(KeyboardInterrupt):
                os.kill(os.getpid(), signal.SIGINT)
    assert [signal.getsignal(number) for number in SIGNALS] == handlers


def test_a_hang_up_that_is_ignored_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stop_on_interrupt() as stop:
            os.kill(os.getpid(), signal.SIGHUP)
            assert not stop.is_set()
    finally:
        signal.signal(signal.SIGHUP, before)


class _Spy:
    """A step that does something more when it is called."""

    def __init__(self, step, call):
        self._step, self._call = step, call

    def __getattr__(self, name):
        return getattr(self._step, name)

    def __call__(self, batch, lr):
        return self._call(batch, lr)


@pytest.mark.parametrize("order", ORDERS, ids=("in order", "batches", "rows"))
def test_each_epoch_sees_every_row_once_in_an_order_of_its_own(tmp_path, order):
    # The ids of the only column are the row numbers.
    dataset = random_dataset(tmp_path, rows=(130, 0, 0), cardinalities=(130,))
    dataset.train.categorical[0] = np.arange(130)
    config = BASE.override(**order)
    training, _ = start(config, dataset)
    step, seen = training.step, []

    def see(batch, lr):
        seen.append(batch.categorical[:, 0].tolist())
        return step(batch, lr)

    training.step = _Spy(step, see)
    list(fit(training))
    assert sorted(map(len, seen)) == [10, 10] + [30] * 8
    first, second = (list(itertools.chain(*seen[at : at + 5])) for at in (0, 5))
    assert sorted(first) == sorted(second) == list(range(130))
    assert (first == list(range(130))) == (not order)
    assert (first == second) == (not order)
    consecutive = all(batch == list(range(batch[0], batch[0] + len(batch))) for batch in seen)
    assert consecutive == ("shuffle_rows" not in order)


def test_the_state_lies_beside_the_checkpoint(tmp_path):
    assert state_path(tmp_path / "runs" / "model.safetensors") == tmp_path / "runs" / "model.state.safetensors"


def test_results_know_the_best_and_the_last():
    def evaluation(step, auc, loss=0.5):
        return Evaluation(
            step=step,
            split="validation",
            auc=auc,
            auc_error=None,
            log_loss=loss,
            base_log_loss=0.6,
            normalised_entropy=None,
            calibration=None,
            rows=1,
        )

    results = Results()
    assert [results.add(evaluation(i, auc)) for i, auc in enumerate((0.5, 0.7, 0.7, 0.6))] == [True, True, False, False]
    assert (results.best.step, results.last.step) == (1, 3)
    one_class = Results()
    assert [one_class.add(evaluation(i, None, loss)) for i, loss in enumerate((0.5, 0.4, 0.6))] == [True, True, False]


def test_progress_after_a_resume_counts_from_the_start_of_the_run(dataset, kept):
    training, _ = load_state(kept, BASE, dataset, DEVICE)
    assert [e.step for e in fit(training) if isinstance(e, Progress)] == [*range(1, 11)]
