"""The tuning lab without a browser: what its buttons do, what it keeps and shows, and that one run trains at a time."""

from __future__ import annotations

import dataclasses
import json
import shlex
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import nbformat
import pytest
from encoded import random_dataset
from ipywidgets import Widget
from ipywidgets.widgets.widget import _instances
from matplotlib.figure import Figure

from dlrm_lib.config import Config
from dlrm_lib.lab.bench import Bench
from dlrm_lib.lab.curves import Curves
from dlrm_lib.lab.history import History, command, parameters
from dlrm_lib.lab.run import Run
from dlrm_lib.lab.tuning import tuning_lab
from dlrm_lib.workspace import Workspace

SETTINGS = {"batch_size": 64, "epochs": 2, "embedding_dim": 4, "bottom_mlp_sizes": (8, 4), "top_mlp_sizes": (8, 1)}
SETTINGS |= {"execution": "eager", "warmup_steps": 2, "decay_steps": 0, "decay_start_step": None}
LONG = SETTINGS | {"epochs": 1000, "test_freq": 10_000}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return random_dataset(tmp_path_factory.mktemp("lab") / "encoded", click=lambda x, ids: 0.1 + 0.5 * (ids[:, 0] == 1))


@pytest.fixture
def bench(dataset, tmp_path):
    yield (bench := Bench(Config.from_preset("smoke", SETTINGS), dataset, History(tmp_path / "lab")))
    if bench.training.live:
        bench.training.live.stop()
        bench.training.live.join()


def until(holds, seconds=20.0):
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it did not come to this"
        time.sleep(0.01)


def threads():
    return [thread for thread in threading.enumerate() if thread.name in ("training", "search")]


def button_states(panel):
    return [not button.disabled for button in (panel.train, panel.pause, panel.stop)]


def test_a_run_is_shown_kept_and_gives_the_numbers_of_a_plain_loop(bench, dataset, tmp_path):
    training = bench.training
    assert button_states(training) == [True, False, False]
    training.train.click()
    training.live.join()
    (kept,) = bench.runs.runs
    assert kept.state == "finished"
    assert button_states(training) == [True, False, False]
    assert "finished" in training._words.value
    assert f"{kept.best.auc:.5f}" in training._words.value
    assert bench.runs.table.df["best AUC"].tolist() == [round(kept.best.auc, 5)]

    plain = Run(bench.form.config, dataset)
    plain.train()
    assert [e.loss for e in kept.progress] == [e.loss for e in plain.progress]
    assert list(kept.evaluations) == plain.evaluations
    (drawn,) = bench.curves.runs
    assert drawn["name"] == kept.name
    assert drawn["steps"] == [e.step for e in plain.progress]
    assert drawn["loss"] == [e.loss for e in plain.progress]
    assert drawn["speed"] == [e.samples_per_second for e in kept.progress]
    assert drawn["tested"] == [e.step for e in plain.evaluations]
    assert drawn["log_loss"] == [e.log_loss for e in plain.evaluations]
    assert drawn["auc"] == [e.auc for e in plain.evaluations]


def test_pause_resume_and_stop(bench):
    training = bench.training
    bench.form.show(bench.form.config.override(**LONG))
    training.train.click()
    run = training.live.run
    until(lambda: run.step > 5)
    assert button_states(training) == [False, True, True]
    training.pause.click()
    until(lambda: run.state == "paused" and training.pause.description == "Resume")
    step = run.step
    time.sleep(0.1)
    assert run.step == step
    assert button_states(training) == [False, True, True]
    training.pause.click()
    until(lambda: run.step > step + 5)
    until(lambda: training.pause.description == "Pause")
    training.stop.click()
    training.live.join()
    assert run.state == "stopped"
    assert button_states(training) == [True, False, False]
    assert [kept.state for kept in bench.runs.runs] == ["stopped"]
    assert bench.runs.runs[0].step == run.step
    assert threads() == []


def test_a_wrong_setting_cannot_be_trained_until_it_is_mended(bench):
    bottom = bench.form.fields["bottom_mlp_sizes"].entry
    before = bench._price.value
    bottom.value = "8,x"
    assert button_states(bench.training) == [False, False, False]
    assert bench.search.start.disabled
    assert bench._price.value == before
    bottom.value = "16,4"
    assert button_states(bench.training) == [True, False, False]
    assert not bench.search.start.disabled
    assert bench._price.value != before


def test_the_price_is_that_of_the_rows_that_are_trained_on(bench, dataset):
    steps = len(dataset.train) // 64 + 1
    assert f"<b>{2 * steps}</b>" in bench._price.value
    bench.form.show(bench.form.config.override(dataset_subset=0.5))
    assert f"<b>{2 * (len(dataset.train) // 128 + 1)}</b>" in bench._price.value
    bench.form.show(Config.from_preset("gaudi_medium"))
    assert "<b>768 MB</b>" in bench._price.value  # 3,000,000 rows of 64 numbers
    assert "<b>2,000</b>" in bench._price.value


def test_what_goes_wrong_is_said_and_the_lab_goes_on(bench):
    good = bench.form.config
    bench.form.show(good.override(lr=1e30, epochs=20, print_freq=1))
    bench.training.train.click()
    bench.training.live.join()
    assert bench.training.live.run.state == "failed"
    assert 'role="alert"' in bench.training._failure.value
    assert "Lower --lr" in bench.training._failure.value
    assert button_states(bench.training) == [True, False, False]
    bench.form.show(good)
    bench.training.train.click()
    bench.training.live.join()
    assert bench.training._failure.value == ""
    assert [run.state for run in bench.runs.runs] == ["finished", "failed"]


def test_a_device_that_is_not_there_is_said_in_the_panel(bench):
    bench.form.show(bench.form.config.override(device="hpu"))
    bench.training.train.click()
    bench.training.live.join()
    assert "No Intel Gaudi can be used here." in bench.training._failure.value
    assert bench.runs.runs == []  # nothing was trained


def test_a_new_lab_ends_the_training_of_the_one_before(bench, dataset):
    bench.form.show(bench.form.config.override(**LONG))
    bench.training.train.click()
    run = bench.training.live.run
    until(lambda: run.step > 5)
    again = Bench(bench.form.config, dataset, bench._history)
    assert run.state == "stopped"
    assert threads() == []
    assert [kept.state for kept in again.runs.runs] == ["stopped"]


def test_only_the_lab_of_the_same_cell_is_replaced(bench, dataset, monkeypatch):
    shell = SimpleNamespace(parent_header={"metadata": {}})  # a front end that does not say which cell it is
    monkeypatch.setattr("dlrm_lib.lab.bench.get_ipython", lambda: shell)

    def lab(cell):
        shell.parent_header["metadata"]["cellId"] = cell
        return Bench(bench.form.config, dataset, bench._history)

    first, nowhere, second = lab("one"), lab(None), lab("two")
    made = len(_instances)
    again = lab("one")
    assert len(_instances) == made  # all of the first are gone, layouts and styles too
    assert first.comm is None
    assert all(other.comm is not None for other in (bench, nowhere, second, again))
    again.training.train.click()
    until(lambda: again.runs.runs)  # it still trains and keeps


def test_chosen_runs_are_laid_over_each_other_and_can_be_restored(bench, dataset):
    base = bench.form.config
    for seed in (1, 2, 3):
        bench.form.show(base.override(seed=seed))
        bench.training.train.click()
        bench.training.live.join()
    assert [run.config.training.seed for run in bench.runs.runs] == [3, 2, 1]
    bench.runs.table.selected_rows = [1, 2]
    third, second, first = (run.name for run in bench.runs.runs)
    assert [run["name"] for run in bench.curves.runs] == [third, second, first]
    assert bench.runs.restore.disabled
    assert bench.runs._repeat.value == ""

    bench.runs.table.selected_rows = [2]
    assert "--seed=1" in bench.runs._repeat.value
    assert "seed: 1" in bench.runs._repeat.value
    bench.runs.restore.click()
    assert bench.form.config == base.override(seed=1)
    bench.form.show(base.override(seed=4))
    bench.training.train.click()
    bench.training.live.join()
    assert [run.name for run in bench.runs.chosen] == [first]  # the same line, one place further down
    bench.runs.table.selected_rows = []
    assert [run["name"] for run in bench.curves.runs] == [bench.runs.runs[0].name]


def test_a_run_that_cannot_be_read_is_named(bench):
    (bench._history.folder / "20261129-120000-abcdef").mkdir(parents=True)
    bench.runs.refresh()
    assert "20261129-120000-abcdef is no kept run" in bench.runs._notes.value


def test_a_search_finds_is_shown_and_gives_its_settings(bench):
    panel = bench.search
    panel.names.value = ("lr", "optimizer")
    panel.trials.value = 4
    panel.start.click()
    assert panel.start.disabled
    assert not panel.stop.disabled
    panel.search.join()
    assert panel.search.state == "finished"
    assert panel.stop.disabled
    assert not panel.start.disabled
    best = max((run for run in bench.runs.runs if run.state == "finished"), key=lambda run: run.best.auc)
    assert f"{best.best.auc:.5f}" in panel._words.value
    assert panel._found.value.count("<tr>") == 1 + 4
    panel.take.click()
    assert bench.form.config.training.lr == best.config.training.lr
    assert bench.form.config.training.optimizer == best.config.training.optimizer
    assert threads() == []


def test_a_search_is_stopped_by_its_button_and_by_a_run(bench):
    panel = bench.search
    bench.form.show(bench.form.config.override(**LONG))
    for stop in (panel.stop.click, bench.training.train.click):
        panel.start.click()
        until(lambda: panel.search.run and panel.search.run.step > 5)
        stop()
        panel.search.join(10)
        assert panel.search.state == "stopped"
    assert len(threads()) == 1
    bench.training.stop.click()


def test_a_search_that_cannot_be_says_why(bench):
    bench.search.names.value = ()
    bench.search.start.click()
    assert "A search needs settings" in bench.search._words.value
    assert bench.search.stop.disabled


def test_curves_grow_and_have_colours_of_their_own(dataset):
    run, curves, points = Run(Config.from_preset("smoke", SETTINGS), dataset), Curves(), []

    def told(run):
        curves.show({"a": run})
        points.append(len(curves.runs[0]["loss"]))

    run.train(on_event=told)
    assert points == sorted(points)
    assert points[-1] == len(run.progress) > points[0] == 0
    curves.show({name: run for name in "abcdef"})
    assert len({drawn["color"] for drawn in curves.runs}) == 6
    curves.show({})
    assert curves.runs == []


def test_headless_trains_once_keeps_the_run_and_makes_no_widget(dataset, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(Widget, "__init__", lambda *_, **__: pytest.fail("a widget was made"))
    config = Config.from_preset("smoke", SETTINGS)
    assert isinstance(tuning_lab(config, dataset, tmp_path / "lab", headless=True), Figure)
    (kept,) = History(tmp_path / "lab").runs()
    assert (kept.state, kept.asked) == ("finished", config)
    assert capsys.readouterr().out.startswith("finished after")
    summary = json.loads((tmp_path / "lab" / kept.name / "summary.json").read_text())
    assert summary["last"] == dataclasses.asdict(kept.last)


@pytest.mark.slow
def test_widgets_papermill_and_the_command_line_give_the_same_numbers(checkout, tmp_path):
    config = Config.from_preset("smoke", {"lr": 0.02, "seed": 7, "batch_size": 512, "top_mlp_sizes": (32, 1)})
    dataset = Workspace(tmp_path / "work", config).encoded()
    bench = Bench(config, dataset, History(tmp_path / "lab"))
    bench.training.train.click()
    bench.training.live.join()
    (kept,) = bench.runs.runs

    # The notebook down to the lab, as papermill runs it with the parameters that the lab gives.
    notebook = nbformat.read(checkout / "notebooks" / "07_tuning_lab.ipynb", as_version=4)
    last = next(at for at, cell in enumerate(notebook.cells) if cell.id == "the-lab")
    notebook.cells = notebook.cells[: last + 1]
    nbformat.write(notebook, tmp_path / "07.ipynb")
    papermill = [sys.executable, "-m", "papermill", "07.ipynb", "out.ipynb", "--no-progress-bar", "--log-level=ERROR"]
    given = ["-y", parameters(kept), "-p", "work_dir", str(tmp_path / "work")]
    subprocess.run([*papermill, *given], cwd=tmp_path, check=True, timeout=300)
    repeated = next(run for run in History(tmp_path / "work" / "runs" / "lab").runs() if run.state == "finished")
    rows = len(dataset.train)  # of which the chapter shows what follows from them
    assert repeated.config == kept.config.for_rows(rows)
    assert [e.loss for e in repeated.progress] == [e.loss for e in kept.progress]
    assert repeated.evaluations == kept.evaluations
    executed = nbformat.read(tmp_path / "out.ipynb", as_version=4)
    assert "widgets" not in executed.metadata
    outputs = [output for cell in executed.cells for output in cell.get("outputs", ())]
    assert not any("widget" in mime for output in outputs for mime in output.get("data", ()))

    # And the command line that it gives.
    line = shlex.split(command(kept, dataset.folder))
    subprocess.run([sys.executable, *line[1:], f"--log_path={tmp_path / 'log'}"], cwd=tmp_path, check=True, timeout=300)
    log = [json.loads(one) for one in (tmp_path / "log").read_text().splitlines()]
    assert [one["loss"] for one in log if one["what"] == "progress"] == [e.loss for e in kept.progress]
    tested = [one["auc"] for one in log if one["what"] == "evaluation" and one["split"] == "validation"]
    assert tested == [e.auc for e in kept.evaluations]
    (result,) = (one for one in log if one["what"] == "result")
    assert (result["best_auc"], result["last_auc"]) == (kept.best.auc, kept.last.auc)
