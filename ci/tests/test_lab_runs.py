"""Runs of the tuning lab: the numbers of the command line, whatever they are held up by; threads; kept runs."""

from __future__ import annotations

import dataclasses
import errno
import itertools
import json
import os
import shlex
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from encoded import random_dataset

from dlrm_lib import runs
from dlrm_lib.backends import pick
from dlrm_lib.backends.inference import Inference
from dlrm_lib.commands.command import configuration
from dlrm_lib.commands.parser import parse_arguments
from dlrm_lib.config import PRESETS, Config
from dlrm_lib.dataset import subset
from dlrm_lib.errors import InputError
from dlrm_lib.lab import live_run, run
from dlrm_lib.lab.history import History, command, parameters, table
from dlrm_lib.lab.live_run import LiveRun
from dlrm_lib.lab.run import Run, watchable
from dlrm_lib.training import Evaluation, Progress, build, fit

# Two epochs of 125 steps: a report every 2, so that a pause is seldom at one; ten evaluations of 4 batches.
CONFIG = Config.from_preset(
    "smoke",
    {
        "dataset_subset": 0.5,
        "embedding_dim": 4,
        "bottom_mlp_sizes": (8, 4),
        "top_mlp_sizes": (8, 1),
        "batch_size": 12,
        "test_batch_size": 150,
        "epochs": 2,
        "shuffle_batch_order": True,
    },
)
FOREVER = CONFIG.override(epochs=10**6, test_freq=50)
TIMES = {"samples_per_second", "step_time", "average_samples_per_second"}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    folder = tmp_path_factory.mktemp("the lab's") / "encoded rows"
    return random_dataset(folder, click=lambda x, ids: np.where(ids[:, 0] == 1, 0.8, 0.2))


@pytest.fixture(autouse=True)
def quiet_threads(monkeypatch):
    """No thread is left behind by a test, and none ends with an error that Python prints."""
    escaped = []
    monkeypatch.setattr(threading, "excepthook", lambda arguments: escaped.append(arguments.exc_value))
    yield
    if live_run._current:
        live_run._current.stop()
        live_run._current.join(20)
    assert not escaped
    assert not training_threads()


def training_threads():
    return [thread for thread in threading.enumerate() if thread.name == "training"]


def finished(config, dataset):
    done = Run(config, dataset)
    done.train()
    assert (done.state, done.failure) == ("finished", None)
    return done


def without_times(event):
    return {name: value for name, value in vars(event).items() if name not in TIMES}


def losses(of, *, without=()):
    return {event.step: event.loss for event in of.progress if event.step not in without}


def until(holds):
    ends = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < ends, "it never came"
        time.sleep(0.001)


@pytest.fixture(scope="module")
def whole(dataset):
    """An undisturbed run."""
    return finished(CONFIG, dataset)


def same_end(paused, whole):
    assert (paused.state, paused.step, paused.failure) == ("finished", whole.step, None)
    assert paused.evaluations == whole.evaluations
    assert paused.results == whole.results
    for name, tensor in whole.training.model.state_dict().items():
        assert torch.equal(tensor, paused.training.model.state_dict()[name]), name


# --- Run -------------------------------------------------------------------------------------------------------------


def test_a_run_is_what_fit_makes_of_its_configuration(dataset, whole):
    events = list(fit(build(whole.config, subset(dataset, 0.5))))
    assert [without_times(e) for e in whole.progress] == [without_times(e) for e in events if isinstance(e, Progress)]
    assert whole.evaluations == [e for e in events if isinstance(e, Evaluation)]
    best = max(whole.evaluations, key=lambda e: e.auc)
    assert (whole.results.best, whole.results.last) == (best, whole.evaluations[-1])
    assert (whole.step, whole.steps) == (250, 250)
    assert whole.device_description == pick("auto").description
    assert len(dataset.train) == 3000, "the caller's data set is as it was"


def test_random_rows_are_trained_on_where_they_are_asked_for(dataset):
    asked = {"synthetic_dataset": True, "synthetic_dataset_rows": 400, "synthetic_dataset_table_sizes": (5, 9)}
    done = finished(CONFIG.override(**asked, num_indices_per_lookup=2, num_numerical_features=3), dataset)
    assert (done.steps, done.training.model.tables.sizes.tolist()) == (2 * 34, [5, 9])


def test_it_is_told_of_every_event_and_every_change(dataset):
    seen = []
    watched = Run(CONFIG.override(epochs=1), dataset)
    assert (watched.state, watched.step, watched.steps, watched.seconds) == ("new", 0, 125, 0.0)
    assert (watched.device_description, watched.training, watched.samples_per_second) == (None, None, None)
    watched.train(on_event=lambda it: seen.append((it.state, len(it.progress), len(it.evaluations))))
    events = len(watched.progress) + len(watched.evaluations)
    assert seen[0] == ("running", 0, 0)
    assert seen[-1] == ("finished", len(watched.progress), len(watched.evaluations))
    assert [a + b for _, a, b in seen] == [0, *range(1, events + 1), events]


@pytest.mark.parametrize(
    "places",
    [
        pytest.param([1], id="behind the first step"),
        pytest.param([101], id="between two reports"),
        pytest.param([50], id="where an evaluation is due"),
        pytest.param([125], id="at the end of an epoch"),
        pytest.param([249, 250], id="at the last steps"),
        pytest.param([7, 8, 77, 200], id="again and again"),
    ],
)
def test_pauses_change_no_bit(dataset, whole, places):
    paused = Run(CONFIG, dataset)
    for place in places:
        paused.train(stop=lambda place=place: paused.step == place)
        assert (paused.state, paused.step) == ("finished" if place == 250 else "paused", place)
        assert [e.step for e in paused.evaluations] == [e.step for e in whole.evaluations if e.step <= place]
    paused.train()
    same_end(paused, whole)
    # The loss is the mean since the report before, so that a pause splits one mean in two; all others are the same.
    split = {place + place % 2 for place in places} | set(places)
    assert losses(paused, without=split) == losses(whole, without=split)


def test_a_pause_at_the_end_is_the_end(dataset):
    config = CONFIG.override(auc_threshold=0.1, test_freq=40)
    paused = Run(config, dataset)
    paused.train(stop=lambda: paused.step == 40)
    assert (paused.state, paused.results.last.step) == ("finished", 40)


def test_time_stands_still_in_a_pause(dataset, monkeypatch):
    ticks = itertools.count()
    monkeypatch.setattr(run, "time", SimpleNamespace(perf_counter=lambda: next(ticks)))
    paused = Run(CONFIG, dataset)
    paused.train(stop=lambda: paused.step == 101)
    before = paused.seconds
    assert before == paused.seconds > 0
    ticks = itertools.count(10**6)
    told = []
    paused.train(on_event=lambda it: told.append(it.seconds))
    assert told[0] == before + 1
    assert told == sorted(set(told))
    assert paused.seconds == told[-1] < 1000


def test_the_speed_is_that_of_all_its_steps(dataset):
    paused = Run(CONFIG.override(benchmark_warmup_steps=20), dataset)
    paused.train(stop=lambda: paused.step in (19, 101))
    assert paused.samples_per_second is None
    while not paused.over:
        paused.train(stop=lambda: paused.step == 101)
    steps = [0, *(event.step for event in paused.progress)]
    measured = [
        (e.samples_per_second * e.step_time * (b - a), e.step_time * (b - a))
        for e, (a, b) in zip(paused.progress, itertools.pairwise(steps), strict=True)
        if e.step > 20
    ]
    rows, seconds = map(sum, zip(*measured, strict=True))
    assert rows == pytest.approx(230 * 12)
    assert paused.samples_per_second == pytest.approx(rows / seconds)
    assert paused.seconds > seconds


def test_the_speed_of_a_run_is_that_of_the_command_line(whole):
    assert whole.samples_per_second == pytest.approx(whole.progress[-1].average_samples_per_second)


def test_abandoned_is_for_good(dataset):
    left = Run(CONFIG, dataset)
    left.train(abandon=lambda: left.step == 75)  # where an evaluation is due
    assert (left.state, left.step, left.progress[-1].step) == ("stopped", 75, 75)
    assert [e.step for e in left.evaluations] == [25, 50]
    states = []
    left.train(on_event=lambda it: states.append(it.state))
    assert (left.step, states) == (75, [])
    never = Run(CONFIG, dataset)
    never.train(abandon=lambda: True)
    assert (never.state, never.step, never.progress) == ("stopped", 0, [])


def test_abandoned_amid_an_evaluation(dataset):
    asked_at = []
    left = Run(CONFIG, dataset)

    def abandon():
        asked_at.append(left.step)
        return asked_at.count(25) == 3  # behind step 25, and behind the first and the second of its four batches

    left.train(abandon=abandon)
    assert (left.state, left.step, left.evaluations) == ("stopped", 25, [])
    assert left.training.model.training, "a model is left as it was found"


def test_interrupted_in_the_callers_thread(dataset):
    def told(it):
        if it.step:
            raise KeyboardInterrupt

    left = Run(CONFIG, dataset)
    with pytest.raises(KeyboardInterrupt):
        left.train(on_event=told)
    assert (left.state, left.failure) == ("stopped", None)


FAILURES = {
    "device": ({"device": "cpu", "execution": "graph"}, "CUDA graphs need an NVIDIA GPU."),
    "bags": ({"num_indices_per_lookup": 2}, "--num_indices_per_lookup needs --synthetic_dataset"),
    "diverged": ({"lr": 1e30, "optimizer": "sgd", "warmup_steps": 0}, "The loss is "),
}


@pytest.mark.parametrize("kind", FAILURES)
def test_what_goes_wrong_is_told_not_raised(dataset, kind):
    overrides, text = FAILURES[kind]
    failed, states = Run(CONFIG.override(**overrides), dataset), []
    failed.train(on_event=lambda it: states.append(it.state))
    assert (failed.state, states[-1]) == ("failed", "failed")
    assert failed.failure.startswith(text)
    assert "remedy" in failed.failure
    failed.train()
    assert failed.state == "failed"


def test_bad_rows_are_named(tmp_path):
    data = random_dataset(tmp_path)
    data.train.categorical[1] = np.array(data.train.categorical[1])
    data.train.categorical[1][300] = 7
    failed = Run(CONFIG.override(shuffle_batch_order=False, standardise=False), data)
    failed.train()
    assert (failed.state, failed.step) == ("failed", 25)
    assert "cat_1.bin, row 300: the id is outside" in failed.failure


def test_an_error_that_nobody_expects_keeps_its_type(dataset, monkeypatch):
    for error, failure in (
        (IndexError("no such table"), "IndexError: no such table"),
        (MemoryError("for the tables"), "There is not enough memory to go on"),  # which is no fault of the program
    ):
        monkeypatch.setattr(run, "fit", lambda *a, error=error, **k: (_ for _ in ()).throw(error))
        failed = Run(CONFIG, dataset)
        failed.train()
        assert failed.state == "failed"
        assert failed.failure.startswith(failure)


@pytest.mark.parametrize(
    ("overrides", "print_freq", "test_freq"),
    [
        ({}, 10, 100),  # 1,000 steps
        ({"print_freq": 7}, 7, 100),  # never less often than asked
        ({"print_freq": 70}, 10, 100),
        ({"test_freq": 333}, 10, 333),  # a person's word
        ({"max_steps": 55}, 1, 6),
        ({"epochs": 30}, 10, 250),  # after each epoch is often enough
        ({"epochs": 30, "max_steps": 600}, 6, 60),
        ({"epochs": 0}, 1, 1),
    ],
)
def test_reports_come_often_enough_for_a_curve(dataset, overrides, print_freq, test_freq):
    config = Config.from_preset("smoke", {"batch_size": 12, **overrides})
    found = watchable(config, dataset.train).training
    assert (found.print_freq, found.test_freq) == (print_freq, test_freq)
    assert watchable(watchable(config, dataset.train), dataset.train).training == found


# --- LiveRun ---------------------------------------------------------------------------------------------------------


def started(config, dataset, on_event=lambda it: None):
    live = LiveRun(Run(config, dataset), on_event)
    live.start()
    return live


def test_a_live_run_that_is_paused_gives_the_same_bits(dataset, whole):
    told_in = set()

    def told(it):
        told_in.add(threading.current_thread().name)
        if it.progress and it.progress[-1].step == 100:
            live.pause()

    live = started(CONFIG, dataset, told)
    until(lambda: live.run.state == "paused")
    assert (live.run.step, live.alive, told_in) == (101, True, {"training"})
    live.resume()
    live.join(30)
    assert not live.alive
    same_end(live.run, whole)
    assert losses(live.run, without={101, 102}) == losses(whole, without={102})


def test_a_new_live_run_ends_the_one_before(dataset):
    first = started(FOREVER, dataset)
    until(lambda: first.run.step)
    first.start()  # a run starts once
    assert len(training_threads()) == 1
    second = started(FOREVER, dataset)
    assert (first.run.state, first.alive, second.alive) == ("stopped", False, True)
    until(lambda: second.run.step)
    assert len(training_threads()) == 1
    second.stop()
    second.join(30)
    assert second.run.state == "stopped"


def test_a_paused_live_run_is_ended_by_the_next_one(dataset):
    first = started(FOREVER, dataset)
    first.pause()
    until(lambda: first.run.state == "paused")
    second = started(FOREVER, dataset)
    assert (first.run.state, len(training_threads())) == ("stopped", 1)
    second.stop()


def test_paused_then_stopped(dataset):
    live = started(FOREVER, dataset)
    live.pause()
    until(lambda: live.run.state == "paused")
    step = live.run.step
    live.stop()
    live.join(30)
    assert (live.run.state, live.alive, live.run.step) == ("stopped", False, step)


def test_stopped_amid_an_evaluation(dataset, monkeypatch):
    amid, go = threading.Event(), threading.Event()
    forward = Inference.__call__

    def slow(self, *inputs):  # only evaluations go through it
        amid.set()
        assert go.wait(30)
        return forward(self, *inputs)

    monkeypatch.setattr(Inference, "__call__", slow)
    live = started(FOREVER, dataset)
    assert amid.wait(30)
    live.stop()
    go.set()
    live.join(30)
    assert (live.run.state, live.run.step, live.run.evaluations) == ("stopped", 50, [])


def test_a_pause_waits_for_the_evaluation(dataset, monkeypatch):
    amid, go = threading.Event(), threading.Event()
    forward = Inference.__call__

    def slow(self, *inputs):
        amid.set()
        assert go.wait(30)
        return forward(self, *inputs)

    monkeypatch.setattr(Inference, "__call__", slow)
    live = started(FOREVER, dataset)
    assert amid.wait(30)
    live.pause()
    go.set()
    until(lambda: live.run.state == "paused")
    assert [e.step for e in live.run.evaluations] == [50]
    live.stop()


def test_nothing_changes_a_run_that_is_over(dataset, whole):
    live = started(CONFIG, dataset)
    live.join(30)
    for method in (live.resume, live.pause, live.stop, live.start, live.resume):
        method()
        assert (live.run.state, live.alive) == ("finished", False)
    same_end(live.run, whole)


def test_stopped_before_it_has_started(dataset):
    live = LiveRun(Run(FOREVER, dataset))
    for method in (live.pause, live.resume, live.join):
        method()
    live.stop()
    live.start()
    live.join(30)
    assert (live.run.state, live.run.step) == ("stopped", 0)


def test_a_pause_that_comes_as_training_ends_keeps_no_thread(dataset):
    live = LiveRun(Run(CONFIG, dataset), lambda it: live.pause() if it.state == "finished" else None)
    live.start()
    live.join(30)
    assert (live.run.state, live.alive) == ("finished", False)


@pytest.mark.parametrize("kind", FAILURES)
def test_a_live_run_fails_in_silence(dataset, kind, capfd):
    overrides, text = FAILURES[kind]
    live = started(CONFIG.override(**overrides), dataset)
    live.join(30)
    assert (live.run.state, live.alive) == ("failed", False)
    assert live.run.failure.startswith(text)
    assert "Traceback" not in capfd.readouterr().err


@pytest.mark.parametrize("when", ["running", "finished"])
def test_a_listener_that_breaks_fails_the_run(dataset, when):
    def told(it):
        if it.state == when:
            raise ZeroDivisionError("a listener's mistake")

    live = started(CONFIG, dataset, told)
    live.join(30)
    assert (live.run.state, live.run.failure) == ("failed", "ZeroDivisionError: a listener's mistake")


def test_the_first_reason_stays(dataset):
    def told(it):
        if it.state == "failed":
            raise ZeroDivisionError("a listener's mistake")

    live = started(CONFIG.override(**FAILURES["diverged"][0]), dataset, told)
    live.join(30)
    assert live.run.failure.startswith("The loss is ")


_ENDS_AMID_A_RUN = """
import sys, time
from pathlib import Path
from encoded import random_dataset
from dlrm_lib.config import Config
from dlrm_lib.lab.live_run import LiveRun
from dlrm_lib.lab.run import Run

def told(run):
    if run.over:
        print(run.state, flush=True)

live = LiveRun(Run(Config.from_preset("smoke", {"epochs": 10**6}), random_dataset(Path(sys.argv[1]))), told)
live.start()
while live.run.step < 5:
    time.sleep(0.01)
if sys.argv[2] == "paused":
    live.pause()
    while live.run.state != "paused":
        time.sleep(0.01)
"""


@pytest.mark.parametrize("how", ["running", "paused"])
def test_the_interpreter_ends_with_a_live_run(tmp_path, how):
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    arguments = [sys.executable, "-c", _ENDS_AMID_A_RUN, str(tmp_path), how]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=60, env=environment)
    assert (done.returncode, done.stdout, done.stderr) == (0, "stopped\n", "")


# --- History ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def kept(tmp_path):
    return History(tmp_path / "runs")


def test_the_command_line_of_a_kept_run_repeats_it(whole, kept, tmp_path):
    one = kept.keep(whole)
    line = command(one, whole.dataset.folder)
    assert json.loads((kept.folder / one.name / "summary.json").read_text())["command"] == line
    environment = {**os.environ, "PATH": os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))}
    log = tmp_path / "log.json"
    done = subprocess.run(f"{line} --log_path {log}", shell=True, capture_output=True, text=True, env=environment)
    assert (done.returncode, done.stderr) == (0, "")
    written = [json.loads(text) for text in log.read_text().splitlines()]
    progress, evaluations, (result,) = (lines_of(written, what) for what in ("progress", "evaluation", "result"))
    assert progress == [without_times(e) for e in whole.progress]
    assert evaluations == [dataclasses.asdict(e) for e in whole.evaluations]
    assert (result["best_auc"], result["best_step"]) == (whole.results.best.auc, whole.results.best.step)


def lines_of(log, what):
    """The lines of one kind without their times, and without the evaluations of the test split."""
    found = ({k: v for k, v in line.items() if k not in {"what", *TIMES}} for line in log if line["what"] == what)
    return [line for line in found if "model" not in line]


CHANGED = {
    "laptop": {},
    "smoke": {"seed": 7, "device": "cpu", "standardise": False, "shuffle_rows": True, "lr": 1e-5, "test_freq": 3},
    "criteo_kaggle": {"top_mlp_sizes": (8, 4, 1), "embedding_epsilon": 1e-7, "hash_indices": True, "rows": 5},
    "criteo_terabyte": {"precision": "fp16", "loss_scale": "dynamic", "frequency_limit": "15,3:5", "max_steps": 1},
    "gaudi_medium": {"dataset_subset": 0.125, "max_table_size": 100, "hash_indices": True, "synthetic_dataset": False},
}


@pytest.mark.parametrize("preset", CHANGED)
def test_a_kept_run_says_all_that_repeats_it(preset, dataset, kept):
    given = Config.from_preset(preset, CHANGED[preset])
    new = Run(given, dataset)
    one = kept.keep(new)
    assert (one.config, one.asked) == (new.config, given)
    words = shlex.split(command(one, "an 'odd' folder"))
    assert words[:4] == ["python", "-m", "dlrm_lib", "train"]
    arguments = parse_arguments(words[3:])
    assert str(arguments.dataset) == "an 'odd' folder"
    repeated = configuration(arguments)
    for section in ("data", "model", "training"):
        assert getattr(repeated, section) == getattr(new.config, section)
    chosen = yaml.safe_load(parameters(one))
    assert (chosen["preset"], chosen["headless"]) == (preset, True)
    overrides = {**chosen["overrides"], "seed": chosen["seed"], "device": chosen["device"]}
    assert Config.from_preset(chosen["preset"], overrides) == new.config
    assert not {"seed", "device"} & chosen["overrides"].keys()


def test_every_preset_is_repeated_by_a_test():
    assert CHANGED.keys() == PRESETS.keys()


def test_a_kept_run_is_read_back_to_the_bit(whole, kept):
    one = kept.keep(whole)
    assert kept.runs() == [one]
    assert (one.state, one.failure, one.step, one.steps) == ("finished", None, 250, 250)
    assert (list(one.progress), list(one.evaluations)) == (whole.progress, whole.evaluations)
    assert (one.best, one.last) == (whole.results.best, whole.results.last)
    assert (one.seconds, one.samples_per_second) == (whole.seconds, whole.samples_per_second)
    assert (one.device, one.date[:2]) == (whole.device_description, "20")


def test_stopped_and_failed_runs_are_kept_newest_first(dataset, kept):
    assert kept.runs() == []
    failed = Run(CONFIG.override(device="hpu"), dataset)
    failed.train()
    kept.keep(failed)
    stopped = Run(CONFIG, dataset)
    stopped.train(abandon=lambda: stopped.step == 30)
    kept.keep(stopped)
    newest, oldest = kept.runs()
    assert (newest.state, newest.step, newest.last.step) == ("stopped", 30, 25)
    assert (oldest.state, oldest.device, oldest.best, oldest.progress) == ("failed", None, None, ())
    assert oldest.failure == failed.failure


def test_runs_of_one_moment_get_names_of_their_own(dataset, kept):
    new = Run(CONFIG, dataset)
    others = [History(kept.folder) for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        names = [one.name for one in pool.map(lambda number: others[number % 4].keep(new), range(20))]
    assert len(set(names)) == 20
    assert {one.name for one in kept.runs()} == set(names)
    last = kept.keep(new)
    assert kept.runs()[0] == last


def test_runs_that_cannot_be_read_are_named(whole, kept):
    good = kept.keep(whole)
    bad = {
        "summary.json": ("", "{", "[]", '{"state": "finished"}'),
        "config.json": ('{"given": 3}', None),
    }
    broken = []
    for file, texts in bad.items():
        for text in texts:
            broken.append(folder := kept.folder / kept.keep(whole).name)
            (folder / file).unlink() if text is None else (folder / file).write_text(text)
    broken.append(folder := kept.folder / kept.keep(whole).name)
    config = (folder / "config.json").read_text()
    (folder / "config.json").write_text(config.replace('"interaction_op"', '"of_another_version"'))
    for name in ("checkpoint.json", "20261129-notes"):
        (kept.folder / name).write_text("not ours")
    for _ in range(2):
        assert kept.runs() == [good]
        assert {Path(sentence.split(" is no ")[0]) for sentence in kept.unreadable} == {*broken}
    assert any("There is no such setting." in sentence for sentence in kept.unreadable)


def test_what_cannot_be_kept_leaves_nothing(whole, kept, monkeypatch, tmp_path):
    def full(*a, **k):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(runs, "write_text", full)
    with pytest.raises(InputError, match="cannot be kept") as error:
        kept.keep(whole)
    assert "found: No space left on device" in str(error.value)
    assert list(kept.folder.iterdir()) == []
    (tmp_path / "a file").write_text("")
    with pytest.raises(InputError, match="a file"):
        History(tmp_path / "a file").keep(whole)


def test_the_table_tells_runs_apart_and_sorts(dataset, whole, kept):
    empty = table([])
    failed = Run(CONFIG.override(device="hpu"), dataset)
    failed.train()
    other = finished(CONFIG.override(epochs=1, top_mlp_sizes=(4, 1), standardise=False, seed=5), dataset)
    first, second, third = (kept.keep(one).name for one in (whole, failed, other))
    found = table(kept.runs())
    assert list(found.columns) == list(empty.columns)
    assert list(found.index) == [third, second, first]
    sizes = "dataset_subset 0.5; embedding_dim 4; bottom_mlp_sizes 8,4; top_mlp_sizes"
    assert found.loc[first, "settings"] == (
        f"smoke; {sizes} 8,1; batch_size 12; test_batch_size 150; epochs 2; shuffle_batch_order true"
    )
    assert found.loc[third, "settings"].startswith(f"smoke; {sizes} 4,1; standardise false; batch_size 12;")
    assert "seed 5" in found.loc[third, "settings"]
    line, best, last = found.loc[first], whole.results.best, whole.results.last
    assert (line["best AUC"], line["at step"], line["last AUC"]) == (best.auc, best.step, last.auc)
    assert (line["last log loss"], line["rows/s"]) == (last.log_loss, whole.samples_per_second)
    assert (line["seconds"], line["device"], line["state"]) == (whole.seconds, whole.device_description, "finished")
    assert found.loc[second, ["best AUC", "at step", "rows/s", "device"]].isna().all()
    for frame in (found, empty):
        assert all(map(pd.api.types.is_numeric_dtype, frame.dtypes[2:8]))
    by_quality = sorted((whole, other), key=lambda one: -one.results.best.auc)
    assert list(found.sort_values("best AUC", ascending=False)["best AUC"][:2]) == [
        one.results.best.auc for one in by_quality
    ]
