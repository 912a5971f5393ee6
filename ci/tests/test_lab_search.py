"""The lab's search: what it chooses from, the trials it makes, however it is held up, and what it finds."""

from __future__ import annotations

import itertools
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import optuna
import pandas as pd
import pytest
from encoded import random_dataset
from optuna.samplers import TPESampler
from optuna.trial import TrialState

from dlrm_lib.config import PRESETS, Config, fields
from dlrm_lib.errors import InputError
from dlrm_lib.lab import live_run, search_space
from dlrm_lib.lab.history import History
from dlrm_lib.lab.live_run import LiveRun
from dlrm_lib.lab.run import Run
from dlrm_lib.lab.search import Search
from dlrm_lib.lab.search_space import SearchSpace, changed, searchable, value_of
from dlrm_lib.locks import owned
from dlrm_lib.optim import learning_rate

# 60 steps, an evaluation every 6.
CONFIG = Config.from_preset(
    "smoke",
    {
        "embedding_dim": 4,
        "bottom_mlp_sizes": (8, 4),
        "top_mlp_sizes": (8, 1),
        "batch_size": 50,
        "test_batch_size": 250,
        "epochs": 1,
        "warmup_steps": 5,
        "decay_start_step": 30,
        "decay_steps": 25,
    },
)
FOREVER = CONFIG.override(epochs=10**6, test_freq=50)
NAMES = ("lr", "embedding_dim", "embedding_decay")
USUAL = {f.name: f.metadata["usual"] for _, f in fields()}


SHARES = USUAL["warmup_steps"]


def made(folder):
    return random_dataset(folder, click=lambda x, ids: np.where(ids[:, 0] == 1, 0.8, 0.2))


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return made(tmp_path_factory.mktemp("a search's") / "encoded")


@pytest.fixture(autouse=True)
def no_thread_is_left(monkeypatch):
    """None is left by a test, and none ends with an error that Python prints."""
    escaped = []
    monkeypatch.setattr(threading, "excepthook", lambda arguments: escaped.append(arguments.exc_value))
    yield
    if live_run._current:
        live_run._current.stop()
        live_run._current.join(20)
    assert not escaped
    assert not [thread.name for thread in threading.enumerate() if thread.name in ("search", "training")]


@pytest.fixture
def search(dataset, tmp_path):
    """Makes searches whose runs and trials are kept in one place."""

    def make(trials=3, *, config=CONFIG, names=NAMES, folder="search", dataset=dataset, **more):
        return Search(config, dataset, History(tmp_path / folder / "runs"), names, trials, tmp_path / folder, **more)

    return make


def finished(search):
    search.start()
    search.join(60)
    assert (search.state, search.failure, search.run) == ("finished", None, None)
    return search


def until(holds):
    ends = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < ends, "it never came"
        time.sleep(0.001)


def outcome(search):
    """All but the times, and the names, which count what was interrupted."""
    return search.table().drop(columns=["seconds", "run"])


# --- what it chooses from --------------------------------------------------------------------------------------------


@pytest.fixture(autouse=True, scope="module")
def _far():
    """Learning rates that make some trials fail."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(search_space, "_NEAR", 1e9)
        yield


def test_every_setting_that_says_what_is_worth_trying_can_be_searched():
    for section, f in fields():
        worth = f.metadata["usual"] or f.metadata["choices"] or isinstance(f.default, bool)
        assert (f.name in searchable()) == (bool(worth) and section in ("model", "training")), f.name
    assert {"lr", "batch_size", "optimizer", "standardise"} < set(searchable())


def test_the_space_is_what_the_fields_say():
    names = ("lr", "embedding_dim", "interaction_op", "standardise")
    space = SearchSpace(CONFIG, reversed(names))
    assert space.names == ("embedding_dim", "standardise", "interaction_op", "lr"), "in the configuration's order"
    lr = space.distributions["lr"]
    assert (lr.low, lr.high, lr.log) == (*USUAL["lr"], True)
    assert space.distributions["interaction_op"].choices == ("dot", "cat", "dcn")
    assert set(space.distributions["standardise"].choices) == {False, True}
    place = space.distributions["embedding_dim"]
    assert [space.values({"embedding_dim": i})["embedding_dim"] for i in range(place.low, place.high + 1)] == [
        *USUAL["embedding_dim"]
    ]
    assert space.values({"lr": 0.0123456, "standardise": True}) == {"lr": 0.0123, "standardise": True}
    assert space.values(space.place()) == {name: value_of(CONFIG, name) for name in names}


@pytest.mark.parametrize(
    ("name", "own", "rows"),
    [
        ("batch_size", 50, (50, *(2**power for power in range(6, 17)))),
        ("batch_size", 128, tuple(2**power for power in range(6, 17))),
        ("decay_start_step", None, (None, *SHARES)),
        ("warmup_steps", 0.25, (0, 0.02, 0.05, 0.1, 0.2, 0.25, *SHARES[5:])),
        ("warmup_steps", 30, (*SHARES, 30)),
    ],
)
def test_a_value_that_is_not_usual_is_added_in_its_place(name, own, rows):
    space = SearchSpace(Config.from_preset("laptop", {name: own}), [name])
    place = space.distributions[name]
    assert tuple(space.values({name: i})[name] for i in range(place.low, place.high + 1)) == rows
    assert rows[space.place()[name]] == own


@pytest.mark.parametrize(
    ("own", "low", "high", "place"),
    [
        (0.01, 1e-3, 0.3, 0.01),
        (0.1, 1e-1 / 30, 3.0, 0.1),
        (28.0, 28 / 30, 28.0, 28.0),
        (1e-5, 1e-5, 3e-4, 1e-5),
        (0.0, 1e-3, 10.0, 1e-3),
    ],
)
def test_a_range_lies_around_the_own_value(own, low, high, place, monkeypatch):
    monkeypatch.setattr(search_space, "_NEAR", 30.0)
    space = SearchSpace(Config.from_preset("laptop", {"lr": own}), ["lr"])
    assert (space.distributions["lr"].low, space.distributions["lr"].high) == pytest.approx((low, high))
    assert space.place() == {"lr": place}


@pytest.mark.parametrize("names", [(), ("lr", "seed"), ("bottom_mlp_sizes",), ("frequency_limit",), ("no_such",)])
def test_what_cannot_be_searched_is_refused(search, names):
    with pytest.raises(InputError, match="worth trying") as error:
        search(names=names)
    assert f"found: {names[-1] if names else 'none'}" in str(error.value)


@pytest.mark.parametrize("preset", sorted(PRESETS))
def test_nothing_changed_changes_nothing(dataset, preset):
    config = Config.from_preset(preset)
    assert changed(config, {name: value_of(config, name) for name in searchable()}, dataset.train) == config
    for name in searchable():
        assert changed(config, {name: value_of(config, name)}, dataset.train) == config


def test_the_bottom_ends_in_the_embedding_dim(dataset):
    found = changed(CONFIG, {"embedding_dim": 64}, dataset.train)
    assert found == CONFIG.override(embedding_dim=64, bottom_mlp_sizes=(8, 64))


@pytest.mark.parametrize("values", [{"batch_size": 10}, {"epochs": 5}, {"batch_size": 25, "epochs": 2}])
@pytest.mark.parametrize("start", [None, 30])
def test_the_schedule_keeps_its_shares_of_a_longer_training(dataset, values, start):
    config = CONFIG.override(decay_start_step=start, optimizer="adam", interaction_lasso=0.1, lasso_start_step=12)
    found = changed(config, values, dataset.train)
    rows = len(dataset.train)
    times = found.training.steps(rows) // config.training.steps(rows)
    assert times in (4, 5)
    rates = [learning_rate(step, config.training) for step in range(60)]
    assert [learning_rate(times * step + times - 1, found.training) for step in range(60)] == pytest.approx(rates)
    assert found.training.lasso_start_step == 12 * times


def test_the_schedule_of_a_shorter_training_keeps_its_parts(dataset):
    found = changed(CONFIG, {"batch_size": 3000}, dataset.train).training
    assert (found.warmup_steps, found.decay_start_step, found.decay_steps) == (1, 1, 1)
    found = changed(CONFIG.override(warmup_steps=0, decay_steps=0), {"batch_size": 3000}, dataset.train).training
    assert (found.warmup_steps, found.decay_steps) == (0, 0), "what there is none of does not come"


@pytest.mark.parametrize("start", [None, 30])
@pytest.mark.parametrize("warmup", [0, 20, 40, 50, 500])
def test_a_longer_warmup_moves_the_start_of_the_decay_not_its_end(dataset, start, warmup):
    config = CONFIG.override(decay_start_step=start)
    end = 30 if start is None else 55
    found = changed(config, {"warmup_steps": warmup}, dataset.train).training
    begins = found.warmup_steps if found.decay_start_step is None else found.decay_start_step
    assert (found.warmup_steps, found.decay_start_step) == (warmup, None if start is None else max(start, warmup))
    assert found.decay_steps == max(1, end - begins)


def test_a_longer_warmup_moves_the_start_of_a_decay_in_shares_too(dataset):
    config = CONFIG.override(batch_size=50, epochs=2, warmup_steps=0.1, decay_start_step=0.2, decay_steps=0.5)
    steps = config.training.steps(len(dataset.train))
    kept = changed(config, {"warmup_steps": 0.2}, dataset.train).training
    assert (kept.decay_start_step, kept.decay_steps) == (0.2, 0.5)
    moved = changed(config, {"warmup_steps": 0.6}, dataset.train).training
    assert (moved.decay_start_step, moved.decay_steps) == (round(0.6 * steps), round(0.7 * steps) - round(0.6 * steps))
    left_open = changed(config.override(decay_steps=None), {"warmup_steps": 0.6}, dataset.train).training
    assert (left_open.decay_start_step, left_open.decay_steps) == (round(0.6 * steps), None)


def test_what_is_searched_itself_follows_nothing(dataset):
    values = {"batch_size": 10, "warmup_steps": 7, "decay_start_step": 8, "decay_steps": 9}
    found = changed(CONFIG, values, dataset.train)
    assert {name: value_of(found, name) for name in values} == values


def test_a_value_that_would_do_nothing_beside_the_others_is_as_good_as_none(dataset):
    config = CONFIG.override(optimizer="adam", interaction_lasso=0.1, lasso_start_step=12)
    found = changed(config, {"optimizer": "sgd", "embedding_decay": 0.5, "batch_size": 10}, dataset.train)
    assert found == changed(config.override(optimizer="sgd"), {"batch_size": 10}, dataset.train)


def test_a_contradiction_is_an_error(dataset):
    with pytest.raises(InputError, match="must not start before the warmup ends"):
        changed(CONFIG, {"decay_start_step": 0}, dataset.train)


# --- the trials ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def whole(dataset, tmp_path_factory):
    """An undisturbed search, long enough to give trials up."""
    folder = tmp_path_factory.mktemp("whole")
    done = Search(CONFIG, dataset, History(folder / "runs"), NAMES, 14, folder, seed=3)
    return finished(done)


def records(search):
    """The kept run of each trial in the order of the table; None without one."""
    kept = {run.name: run for run in search._history.runs()}
    return [kept.get(name) for name in search.table()["run"]]


def test_the_first_trial_is_the_configuration_as_it_stands(dataset, whole):
    alone = Run(CONFIG, dataset)
    alone.train()
    first = whole.table().loc[1]
    assert {name: first[name] for name in NAMES} == {name: value_of(CONFIG, name) for name in NAMES}
    assert (first["AUC"], first["state"]) == (alone.results.best.auc, "finished")
    assert records(whole)[0].asked == CONFIG
    assert first["AUC"] <= whole.best.best.auc
    for trial in whole._study.trials:  # the sampler learns from the values that were trained with
        assert whole._space.values(trial.params) == trial.user_attrs["values"]


def test_trials_are_runs_of_their_values(dataset, whole):
    table, kept = whole.table(), records(whole)
    assert list(table.index) == list(range(1, 15))
    assert set(table["state"]) == {"finished", "pruned", "failed"}, "else this search shows too little"
    for (_, line), run in zip(table.iterrows(), kept, strict=True):
        dim = int(line["embedding_dim"])
        values = {"embedding_dim": dim, "bottom_mlp_sizes": (8, dim)}
        assert run.asked == CONFIG.override(lr=line["lr"], embedding_decay=line["embedding_decay"], **values)
        assert run.state == {"pruned": "stopped"}.get(line["state"], line["state"])
        assert line["seconds"] == run.seconds
        assert line["AUC"] == max(e.auc for e in run.evaluations) if run.evaluations else np.isnan(line["AUC"])
    failed = table[table["state"] == "failed"]
    assert failed["why"].str.contains("loss").all()
    assert table[table["state"] != "failed"]["why"].isna().all()


def test_a_trial_is_given_up_where_the_median_of_the_finished_ones_is_better(whole):
    before, given_up = [], 0
    for run in records(whole):
        curve = {e.step * 10 // run.steps: e.auc for e in run.evaluations}
        below = [
            tenth
            for tenth in curve
            if tenth >= 3
            and len(before) >= 5
            and max(auc for at, auc in curve.items() if at <= tenth) < statistics.median(c[tenth] for c in before)
        ]
        if run.state == "finished":
            assert not [tenth for tenth in below if tenth < 10]
            before.append(curve)
        elif run.state == "stopped":
            assert below == [max(curve)]
            given_up += 1
    assert given_up


def test_the_best_is_what_the_records_say(whole):
    runs = [run for run in whole._history.runs() if run.state == "finished"]
    best = max(runs, key=lambda run: run.best.auc)
    assert whole.best == best
    assert whole.best_config == best.asked
    assert whole.best.best.auc == whole.table()["AUC"].max()


def test_the_same_seed_makes_the_same_trials_another_one_others(whole, search):
    again = finished(search(14, seed=3))
    pd.testing.assert_frame_equal(outcome(again), outcome(whole))
    other = search(4, seed=4)
    assert other.path != again.path
    finished(other)
    assert list(other.table()["lr"][1:]) != list(again.table()["lr"][1:4])


def test_nothing_of_the_trials_is_left_out_of_the_budget(search):
    tried = finished(search(4))
    more = search(6)
    assert (more.path, more.done, more.state) == (tried.path, 4, "new")
    pd.testing.assert_frame_equal(more.table(), tried.table())
    finished(more)
    assert more.done == 6
    less = search(5)
    assert (less.state, less.best) == ("finished", more.best)
    less.start()
    assert not less.alive


# --- held up ---------------------------------------------------------------------------------------------------------


def test_stopped_again_and_again_it_makes_the_trials_that_it_would_have_made(whole, search):
    stops = iter([(0, 20), (1, 40), (6, 1), (9, 59)])

    def told(it):
        if place and it.run and it.run.state == "running" and (it.done, it.run.step) >= place[0]:
            place.pop()
            it.stop()

    for stop in stops:
        place = [stop]
        held_up = search(14, seed=3, on_event=told)
        held_up.start()
        held_up.join(60)
        assert (held_up.state, held_up.failure, held_up.run) == ("stopped", None, None)
        assert held_up.done < 14
    done = held_up.done
    held_up.start()  # the same one can go on, too
    held_up.join(60)
    assert (held_up.state, held_up.done) == ("finished", 14)
    assert done > 8
    pd.testing.assert_frame_equal(outcome(held_up), outcome(whole))
    assert held_up.best_config == whole.best_config


KILLED = """
import os, sys
from pathlib import Path
import dlrm_lib.lab.history, dlrm_lib.lab.live_run
assert "optuna" not in sys.modules, "only a search needs it"
sys.path.insert(0, sys.argv[1])
import test_lab_search as tests
tests.search_space._NEAR = 1e9
from dlrm_lib.dataset import EncodedDataset
folder = Path(sys.argv[3])
def told(search):
    if search.done == 2 and search.run and search.run.step > 20:
        os._exit(7)
search = tests.Search(tests.CONFIG, EncodedDataset(sys.argv[2]), tests.History(folder / "runs"), tests.NAMES, 5, folder,
                      seed=3, on_event=told)
search.start()
search.join(60)
"""


def test_a_process_that_is_killed_leaves_what_it_had(dataset, whole, search, tmp_path):
    command = [sys.executable, "-c", KILLED, str(Path(__file__).parent), str(dataset.folder), str(tmp_path / "search")]
    assert subprocess.run(command, timeout=120).returncode == 7
    after = search(5, seed=3)
    assert (after.done, list(after.table()["state"])) == (2, ["finished", "finished", "running"])
    with after.path.open("ab") as file:
        file.write(b'{"op_code":5,"wor')  # the line that it was writing
    after = finished(search(5, seed=3))
    pd.testing.assert_frame_equal(outcome(after), outcome(whole)[:5])
    assert after.best.best.auc == whole.table()["AUC"][:5].max()


def test_a_line_that_the_disk_had_no_room_for_does_not_spoil_the_rest(whole, search):
    full = search(3, seed=3, on_event=lambda it: it.done == 1 and it.stop())
    full.start()
    full.join(60)
    with full.path.open("ab") as file:
        file.write(b'{"op_code":5,"wor')
    full._on_event = lambda it: None
    finished(full)
    pd.testing.assert_frame_equal(outcome(search(3, seed=3)), outcome(whole)[:3])


def test_stop_is_quick_and_what_was_trained_is_kept(search):
    endless = search(config=FOREVER)
    endless.start()
    until(lambda: endless.run and endless.run.evaluations)
    assert (endless.state, endless.alive, endless.done) == ("running", True, 0)
    assert list(endless.table()["state"]) == ["running"]
    endless.start()  # under way already
    endless.stop()
    endless.join(30)
    assert (endless.state, endless.done, endless.best, endless.best_config) == ("stopped", 0, None, FOREVER)
    assert endless.table().empty
    assert [run.state for run in endless._history.runs()] == ["stopped"]


def test_stopped_before_it_has_begun(search):
    early = search()
    early.stop()
    early.join()
    assert (early.state, early.alive) == ("new", False)
    finished(early)


def test_a_search_ends_a_live_run(dataset, search):
    live = LiveRun(Run(FOREVER, dataset))
    live.start()
    until(lambda: live.run.step)
    live.pause()
    endless = search(config=FOREVER)
    endless.start()
    assert (live.run.state, live.alive, endless.alive) == ("stopped", False, True)


def test_a_live_run_ends_a_search(dataset, search):
    endless = search(config=FOREVER)
    endless.start()
    until(lambda: endless.run and endless.run.step)
    live = LiveRun(Run(FOREVER, dataset))
    live.start()
    assert (endless.state, endless.alive, live.alive) == ("stopped", False, True)


def test_the_same_search_made_again_ends_the_first_and_goes_on(search):
    second = search(4, seed=3)
    first = search(4, seed=3, on_event=lambda it: it.run and it.done == 1 and it.run.step > 20 and time.sleep(0.01))
    first.start()
    until(lambda: first.done == 1 and first.run and first.run.step > 20)
    second.start()
    assert (first.state, first.alive, first.done) == ("stopped", False, 1)
    second.join(60)
    assert (second.state, second.done, first.done) == ("finished", 4, 4)
    assert first.best == second.best


def test_another_process_is_left_alone(search):
    mine = search()
    with owned(mine.path, remedy=""):
        mine.start()
        mine.join(30)
    assert (mine.state, mine.done) == ("failed", 0)
    assert mine.failure.startswith(f"Another run is writing to {mine.path}.")
    finished(mine)
    assert mine.failure is None


# --- what goes wrong -------------------------------------------------------------------------------------------------


def test_what_the_configuration_refuses_counts_and_says_why(search):
    done = finished(search(8, names=["decay_start_step"]))
    table = done.table()
    refused = table[table["state"] == "refused"]
    assert set(refused["decay_start_step"]) == {0}
    assert set(refused["why"]) == {"The decay must not start before the warmup ends."}
    assert refused[["AUC", "run"]].isna().all(axis=None)
    assert done.done == 8


def test_values_tried_before_are_not_trained_again(search):
    done = finished(search(12, names=["interaction_op", "standardise"]))
    table = done.table()
    assert len(table) == 12
    tried = table.groupby(["interaction_op", "standardise"])
    assert (tried[["AUC", "run", "state"]].nunique() == 1).all(axis=None)
    assert len(done._history.runs()) == len(tried) <= 6
    assert table["seconds"].count() == len(tried)


def test_a_machine_that_cannot_begin_ends_the_search_with_the_reason(search):
    done = search(config=CONFIG.override(device="hpu"))
    done.start()
    done.join(30)
    assert (done.state, done.done) == ("failed", 0)
    assert done.failure.startswith("No Intel Gaudi")


def test_a_later_trial_that_cannot_begin_counts_and_says_why(search):
    table = finished(search(12, names=["device"])).table()
    absent = table[table["device"] == "hpu"]
    assert len(absent)
    assert set(absent["state"]) == {"failed"}
    assert set(absent["why"]) == {"No Intel Gaudi can be used here."}
    assert absent["run"].isna().all()


def test_a_first_trial_that_diverges_does_not_end_it(search):
    done = finished(search(4, config=CONFIG.override(lr=9.0), names=["lr"]))
    assert done.table()["state"][1] == "failed"
    assert done.done == 4


def test_a_listener_that_fails_ends_it_with_the_reason(search):
    def told(it):
        if it.done == 1:
            raise RuntimeError("no more")

    done = search(on_event=told)
    done.start()
    done.join(30)
    assert (done.state, done.failure, done.done) == ("failed", "RuntimeError: no more", 1)


def test_what_cannot_be_kept_ends_it_with_the_reason(search, tmp_path):
    done = search()
    (tmp_path / "search" / "runs").write_text("a file in the way")
    done.start()
    done.join(30)
    assert (done.state, done.done) == ("failed", 0)
    assert done.failure.startswith("The run cannot be kept in")


@pytest.mark.parametrize(
    ("rows", "config", "found"),
    [
        pytest.param((300, 0, 70), CONFIG, "6 steps, 0 validation rows, 0 kinds", id="no validation rows"),
        pytest.param((300, 50, 70), CONFIG.override(epochs=0), "0 steps, 50 validation rows", id="no training"),
    ],
)
def test_nothing_to_judge_by_is_refused(search, tmp_path, rows, config, found):
    with pytest.raises(InputError, match="needs an AUC") as error:
        search(dataset=random_dataset(tmp_path / "encoded", rows=rows), config=config)
    assert found in str(error.value)


def test_one_class_is_refused(search, tmp_path):
    with pytest.raises(InputError, match="1 kinds of labels"):
        search(dataset=random_dataset(tmp_path / "encoded", click=lambda x, ids: np.zeros(len(x))))


def test_no_budget_is_refused(search):
    with pytest.raises(InputError, match="at least one trial"):
        search(0)


def test_a_file_that_is_none_of_ours_is_named(search, tmp_path):
    path = search().path
    for text in ("no JSON\nat all\n", '{"op_code": 0}\n', "[]\n"):
        path.write_text(text)
        with pytest.raises(InputError, match="cannot be read as the trials") as error:
            search()
        assert path.name in str(error.value)
    (tmp_path / "in the way").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        search(folder="in the way")


# --- what is told ----------------------------------------------------------------------------------------------------


def test_importances_find_what_decides(search):
    asked = search()
    assert asked.importances() is None
    asked._study.sampler = TPESampler(seed=0)
    rng = np.random.default_rng(0)
    for number in range(20):
        trial = asked._study.ask(asked._space.distributions)
        decided = abs(np.log10(trial.params["lr"]) + 1)
        about = {
            "state": "pruned" if number % 3 == 2 else "finished",
            "auc": 0.7 - 0.02 * decided + 0.0002 * rng.random(),
        }
        asked._tell(trial, TrialState.COMPLETE, **about)
        assert (asked.importances() is None) == (number < 7)
    found = asked.importances()
    assert sum(found.values()) == pytest.approx(1)
    assert next(iter(found)) == "lr"
    assert found["lr"] > 0.6


def test_importances_of_equals_are_none(search):
    asked = search()
    for _ in range(10):
        trial = asked._study.ask(asked._space.distributions)
        asked._tell(trial, TrialState.COMPLETE, state="finished", auc=0.5)
    assert asked.importances() is None


def test_it_is_told_of_every_run_and_change(search):
    seen = []
    told = search(3, on_event=lambda it: seen.append((it.done, it.state, it.run and it.run.state)))
    finished(told)
    assert [key for key, _ in itertools.groupby(seen, key=lambda one: one[0])] == [0, 1, 2, 3]
    assert seen[0] == (0, "running", "running")
    assert (1, "running", None) in seen
    assert seen[-1] == (3, "finished", None)


def test_optuna_says_nothing_here_and_speaks_elsewhere(search, capfd):
    optuna.logging.set_verbosity(optuna.logging.INFO)
    finished(search(2))
    assert capfd.readouterr() == ("", "")
    assert optuna.logging.get_verbosity() == optuna.logging.INFO


def test_what_is_left_open_stays_open(dataset):
    config = Config.from_preset("criteo_kaggle")
    longer = changed(config, {"epochs": 6}, dataset.train).training
    assert (longer.batch_size, longer.decay_steps, longer.decay_start_step) == (None, None, None)
    assert longer.warmup_steps == config.training.warmup_steps == 0.0473
    assert changed(config, {"batch_size": 8}, dataset.train).training.decay_steps is None
