"""Kept runs: what a command leaves without ``--log_path``, how it ended, and that no two runs write to one place."""

from __future__ import annotations

import csv
import dataclasses
import itertools
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from encoded import random_dataset

from dlrm_lib import training
from dlrm_lib.__main__ import main
from dlrm_lib.config import Config, as_dict
from dlrm_lib.dataset import EncodedDataset
from dlrm_lib.lab.history import History
from dlrm_lib.lab.run import Run
from dlrm_lib.locks import owned
from dlrm_lib.runs import Log, kept_runs, new_run
from dlrm_lib.training import load_checkpoint, loop, state_path

SMALL = ["train", "--preset=smoke", "--batch_size=64", "--dataset=rows"]


# The least that a run says of itself.
CONFIG = {"given": {"preset": "smoke"}, "resolved": None, "asked": {}}
ABOUT = {"kind": "train", "command": "", "dataset": None, "rows": {"train": 1}, "device": "", "steps": 1}


@pytest.fixture
def work(tmp_path, monkeypatch):
    """A folder to work in, with a data set in ``rows``."""
    random_dataset(tmp_path / "rows", rows=(640, 100, 100), click=lambda x, ids: np.where(ids[:, 0] == 1, 0.8, 0.2))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def only_run(runs: str = "runs"):
    (run,), unreadable = kept_runs(Path(runs))
    assert unreadable == []
    return run


def log_of(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "log.json").read_text().splitlines()]


def test_a_training_is_kept_with_all_that_tells_of_it(work, capsys):
    assert main([*SMALL, "--epochs=2", "--test_freq=5", "--print_freq=2", "--lr=0.02"]) == 0
    (folder,) = (work / "runs").iterdir()
    assert re.fullmatch(r"20\d{6}-\d{6}-[0-9a-f]{6}", folder.name)
    assert capsys.readouterr().out.splitlines()[-1] == f"run: runs/{folder.name}"
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "curve.csv", "log.json", "summary.json"]
    assert sorted(path.name for path in work.iterdir()) == ["rows", "runs"]

    log, summary = log_of(folder), json.loads((folder / "summary.json").read_text())
    validation = [line for line in log if line.get("split") == "validation"]
    best = max(validation, key=lambda line: line["auc"])
    assert len(validation) == 4
    for name, line in (("best", best), ("last", validation[-1])):
        assert summary[name] == {key: value for key, value in line.items() if key != "what"}
    (tested,) = (line for line in log if line.get("split") == "test")
    assert list(summary["test"].values()) == [{k: v for k, v in tested.items() if k not in ("what", "model")}]
    assert (summary["state"], summary["failure"], summary["step"], summary["steps"]) == ("finished", None, 20, 20)
    assert summary["rows"] == {"train": 640, "validation": 100, "test": 100}
    assert {"python", "torch"} <= summary["versions"].keys()

    config = json.loads((folder / "config.json").read_text())
    assert config["resolved"] == log[0]["config"]
    assert config["given"]["training"]["lr"] == 0.02
    assert config["given"]["training"]["device"] == "auto" != config["resolved"]["training"]["device"]

    curve = list(csv.DictReader((folder / "curve.csv").read_text().splitlines()))
    losses = {line["step"]: line["loss"] for line in log if line["what"] == "progress"}
    assert {int(row["step"]): float(row["training_loss"]) for row in curve} == losses
    aucs = {line["step"]: line["auc"] for line in validation}
    assert {int(row["step"]): float(row["validation_auc"]) for row in curve if row["validation_auc"]} == aucs


def test_a_log_that_is_named_is_all_that_is_written(work):
    assert main([*SMALL, "--max_steps=1", "--log_path=log.json"]) == 0
    assert sorted(path.name for path in work.iterdir()) == ["log.json", "rows"]


def test_commands_of_one_folder_leave_each_other_s_logs(work, capsys):
    assert main([*SMALL, "--max_steps=3", "--save_checkpoint_path=m.safetensors"]) == 0
    before = (only_run().folder / "log.json").read_bytes()
    load = ["--preset=smoke", "--dataset=rows", "--load_checkpoint_path=m.safetensors"]
    assert main(["test", *load]) == 0
    assert main(["inference_benchmark", *load, "--inference_benchmark_steps=1"]) == 0
    trained, tested, measured = kept_runs(Path("runs"))[0]
    assert [run.about["kind"] for run in (trained, tested, measured)] == ["train", "test", "inference_benchmark"]
    assert (trained.folder / "log.json").read_bytes() == before
    assert tested.tested == {**trained.tested, "step": 0}
    assert measured.tested is None
    capsys.readouterr()
    assert main(["runs"]) == 0
    head, *lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == [run.id for run in (trained, tested, measured)]
    auc = f"{trained.tested['auc']:.4f}"
    assert [auc in line for line in lines] == [True, True, False]
    assert "best AUC" in head


def fails(*_: object, **__: object) -> None:
    raise ArithmeticError("a batch that does not add up")


@pytest.mark.parametrize(
    ("flags", "code", "state", "failure"),
    [
        (["--lr=1e30", "--warmup_steps=0", "--optimizer=sgd"], 3, "diverged", "The loss is"),
        (["--save_checkpoint_path=rows/train/label.bin/m"], 2, None, "is no place for a file"),
        (["--runs_dir=rows/manifest.json"], 2, None, "The run cannot be kept in rows/manifest.json."),
        (["--max_steps=3"], 1, "failed", "ArithmeticError: a batch that does not add up"),
    ],
)
def test_what_ends_otherwise_is_kept_as_what_it_was(work, monkeypatch, capsys, flags, code, state, failure):
    if code == 1:
        monkeypatch.setattr(loop, "evaluate", fails)
        with pytest.raises(ArithmeticError):
            main([*SMALL, *flags])
    else:
        assert main([*SMALL, *flags]) == code
    if state is None:  # refused before it began
        assert failure in capsys.readouterr().err
        assert [path.name for path in work.iterdir()] == ["rows"]
        return
    run = only_run()
    assert run.about["state"] == state
    assert run.about["failure"].startswith(failure)
    capsys.readouterr()
    assert main(["runs", run.id]) == 0
    assert failure in capsys.readouterr().out


def test_a_resumed_run_keeps_the_best_of_before(work):
    # The rate is zero, so that all evaluations are equal and the first is the best.
    line = [*SMALL, "--lr=0", "--test_freq=2", "--save_checkpoint_path=m.safetensors"]
    assert main([*line, "--max_steps=4"]) == 0
    assert main([*line, "--max_steps=8", "--resume"]) == 0
    first, second = kept_runs(Path("runs"))[0]
    assert (first.about["best"]["step"], second.about["best"]["step"], second.about["last"]["step"]) == (2, 2, 8)


def test_runs_are_compared_by_what_differs(work, capsys):
    for flags in (["--lr=0.02"], ["--lr=0.03", "--bottom_mlp_sizes=8,16"]):
        assert main([*SMALL, "--max_steps=2", *flags]) == 0
    first, second = kept_runs(Path("runs"))[0]
    capsys.readouterr()
    assert main(["runs", second.name, first.id]) == 0
    text = capsys.readouterr().out
    found = {line[:18].strip(): line[18:].split() for line in text.splitlines()}
    assert found[""] == [second.id, first.id]
    assert {name: found[name] for name in found if name.startswith("--")} == {
        "--bottom_mlp_sizes": ["8,16", "64,32,16"],
        "--lr": ["0.03", "0.02"],
    }
    assert found["best AUC"] == [f"{run.about['best']['auc']:.4f}" for run in (second, first)]


def test_curves_are_drawn(work, capsys):
    assert main(["runs", "--plot"]) == 2
    assert "no training with an evaluation" in capsys.readouterr().err
    assert main([*SMALL, "--epochs=1"]) == 0
    assert main(["runs", "--plot"]) == 0
    assert (work / "runs" / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert main(["runs"]) == 0  # the picture is no run
    assert capsys.readouterr().err == ""


def test_names_of_no_run_and_of_several(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["runs"]) == 0
    assert capsys.readouterr().out == "No run is kept in runs.\n"
    for id in ("aaaaaa", "aabbbb"):
        with new_run(Path("runs"), config=CONFIG, **ABOUT) as run:
            run.log({"what": "result", "remarks": ["no better than a constant"]})
        run.folder.rename(f"runs/20261129-120000-{id}")
    assert main(["runs", "aaa"]) == 0
    assert "\naaaaaa: no better than a constant\n" in capsys.readouterr().out
    for name, sentence in (("b", "No run is called b."), ("aa", "Several runs are called aa.")):
        assert main(["runs", name]) == 2
        assert capsys.readouterr().err.splitlines()[:2] == [sentence, "  found: aaaaaa, aabbbb"]


def test_the_lab_and_the_command_line_have_one_history(work, capsys):
    assert main([*SMALL, "--epochs=1", "--test_freq=4"]) == 0
    ours = Run(Config.from_preset("smoke", {"batch_size": 64, "epochs": 1}), EncodedDataset(work / "rows"))
    ours.train()
    history = History("runs")
    kept = history.keep(ours)
    lab, line = history.runs()
    assert lab == kept
    log = log_of(work / "runs" / line.name)
    assert [dataclasses.asdict(event) for event in line.progress] == [
        {key: value for key, value in of.items() if key != "what"} for of in log if of["what"] == "progress"
    ]
    assert [event.step for event in line.evaluations] == [4, 8, 10]
    assert (line.state, line.config.training.batch_size, line.asked) == ("finished", 64, line.config)
    capsys.readouterr()
    assert main(["runs"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [text.split()[0] for text in lines[1:]] == [name[-6:] for name in (line.name, lab.name)]
    assert f"{lab.best.auc:.4f}" in lines[2]
    resolved = json.loads((work / "runs" / lab.name / "config.json").read_text())["resolved"]
    assert resolved == as_dict(ours.training.config)


# --- places ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("taken", "flags", "remedy"),
    [
        ("m.safetensors", ["--save_checkpoint_path=m.safetensors"], "--save_checkpoint_path"),
        ("m.safetensors", ["--save_checkpoint_path=m.safetensors", "--resume"], "--save_checkpoint_path"),
        # Another model's file, but the same training state beside it; and a model in the place of a state.
        ("m.state.safetensors", ["--save_checkpoint_path=m.bin"], "--save_checkpoint_path"),
        ("m.state.safetensors", ["--save_checkpoint_path=m.state.safetensors"], "--save_checkpoint_path"),
        ("m.safetensors", ["--save_checkpoint_path=safetensors", "--output_dir=link/m."], None),
        ("m.safetensors", ["--save_checkpoint_path=m.safetensors", "--output_dir=link"], "--save_checkpoint_path"),
        ("log.json", ["--log_path=link/log.json"], "--log_path"),
    ],
)
def test_two_trainings_do_not_write_to_one_place(work, capsys, taken, flags, remedy):
    (work / "link").symlink_to(work)
    if remedy is None:
        assert main([*SMALL, "--max_steps=1", *flags]) == 0
        return
    before = sorted(path.name for path in work.iterdir())
    with owned(work / taken, remedy=""):
        assert main([*SMALL, "--max_steps=1", *flags]) == 2
    what, found, last = capsys.readouterr().err.splitlines()
    assert re.fullmatch(r"Another run is writing to .*\.", what)
    assert re.match(r"  found: this process, since 20\d\d-\d\d-\d\d \d\d:\d\d:\d\d UTC: python ", found)
    assert last == f"  remedy: Wait until it is done, or name another {remedy}."
    assert sorted(path.name for path in work.iterdir()) == before


def test_two_generators_do_not_write_to_one_folder(tmp_path, capsys):
    with owned(tmp_path / "raw", remedy=""):
        assert main(["generate", "--rows=40", "--days=2", "--workers=1", f"--output={tmp_path / 'raw'}"]) == 2
    assert capsys.readouterr().err.startswith(f"Another run is writing to {tmp_path / 'raw'}.\n  found: this process")
    assert list(tmp_path.iterdir()) == []


def test_the_log_is_no_other_file_of_the_run(work, capsys):
    for log in ("m.safetensors", "m.state.safetensors", "rows/../m.safetensors"):
        assert main([*SMALL, "--save_checkpoint_path=m.safetensors", f"--log_path={log}"]) == 2
        assert "--log_path is the file of the model" in capsys.readouterr().err
    assert [path.name for path in work.iterdir()] == ["rows"]


@pytest.mark.parametrize("best", ["second", "last"])
@pytest.mark.parametrize("gone", [False, True])
def test_a_model_that_is_not_this_run_s_is_not_taken_for_it(work, monkeypatch, capsys, best, gone):
    # Behind the third and last evaluation something that looks for no lock puts another run's model in the place.
    assert main([*SMALL, "--max_steps=1", "--save_checkpoint_path=other.safetensors"]) == 0
    capsys.readouterr()
    aucs, evaluate = iter((0.6, 0.9, 0.7) if best == "second" else (0.6, 0.7, 0.9)), loop.evaluate
    monkeypatch.setattr(loop, "evaluate", lambda *a, **k: dataclasses.replace(evaluate(*a, **k), auc=next(aucs)))
    calls, save_state = itertools.count(1), training.save_state

    def save(*arguments):
        save_state(*arguments)
        if next(calls) == 3:
            Path("m.safetensors").unlink() if gone else os.replace("other.safetensors", "m.safetensors")

    monkeypatch.setattr(training, "save_state", save)
    line = [*SMALL, "--max_steps=9", "--test_freq=3", "--save_checkpoint_path=m.safetensors", "--runs_dir=second"]
    assert main(line) == 2
    printed = capsys.readouterr()
    assert printed.err.startswith("m.safetensors is not the model of this run any more.\n  found: ")
    assert "best model: test" not in printed.out
    assert "saved" not in printed.out
    run = only_run("second")
    assert (run.about["state"], run.about["best"]["step"]) == ("failed", 6 if best == "second" else 9)
    assert list(run.about["test"]) == ["last" if best == "second" else "best and last"]
    assert run.about["result"]["best_auc"] == 0.9


@pytest.mark.parametrize("launcher", ["WORLD_SIZE", "OMPI_COMM_WORLD_SIZE", "PMI_SIZE"])
@pytest.mark.parametrize("command", ["train", "test", "inference_benchmark", "preprocess", "generate"])
def test_one_of_several_processes_is_refused(command, launcher, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(launcher, "2")
    assert main([command]) == 2
    assert re.search(rf"runs as one process[\s\S]*found: {launcher}=2[\s\S]*env -u {launcher}", capsys.readouterr().err)
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setenv(launcher, "1")
    assert main(["train"]) == 2
    assert "data/encoded does not exist" in capsys.readouterr().err


# --- output that is lost ---------------------------------------------------------------------------------------------


def dlrm(*words: str, **options) -> subprocess.Popen:
    return subprocess.Popen([sys.executable, "-m", "dlrm_lib", *words], text=True, **options)


def test_a_terminal_that_goes_leaves_the_state_and_the_results(work):
    long = [*SMALL, "--epochs=100000", "--test_freq=1000000", "--save_checkpoint_path=m.safetensors"]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    run = dlrm(*long, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment)
    assert run.stdout.readline().startswith("Epoch:[0/100000] [10/")
    assert only_run().about["state"] == "running"
    run.stdout.close()
    run.stderr.close()
    while len((log := only_run()).lines("progress")) < 20:  # it trains on, with nobody to tell
        assert run.poll() is None
    for number in (signal.SIGHUP, signal.SIGHUP, signal.SIGTERM):
        run.send_signal(number)
    assert run.wait(60) == 130
    assert only_run().about["state"] == "interrupted"
    assert state_path(work / "m.safetensors").exists()
    done = only_run().about["step"]
    assert done >= 200
    assert main([*long, f"--max_steps={done + 10}", "--resume"]) == 0
    last = log_of(kept_runs(Path("runs"))[0][1].folder)
    assert (last[0]["step"], last[-1]["best_step"]) == (done, done + 10)
    assert log.folder.exists()
    model, _ = load_checkpoint(work / "m.safetensors", EncodedDataset(work / "rows"))
    assert model is not None


WRITER = """
import sys
from pathlib import Path
import test_runs as tests
with tests.new_run(Path("runs"), config=tests.CONFIG, **tests.ABOUT) as run:
    for auc in (0.6, 0.8, 0.7):
        run.log({"what": "evaluation", "split": "validation", "step": 1, "auc": auc, "log_loss": 0.5})
    print("under way", flush=True)
    input()
"""


def test_a_killed_run_says_so_and_what_it_had_reached(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    with subprocess.Popen(
        [sys.executable, "-c", WRITER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as writer:
        assert writer.stdout.readline() == "under way\n"
        with (only_run().folder / "log.json").open("a") as log:
            log.write('{"what": "evaluation", "split": "valida')  # cut off by the end
        assert (only_run().about["state"], only_run().about["best"]["auc"]) == ("running", 0.8)
        writer.kill()
    run = only_run()
    assert (run.about["state"], run.about["best"]["auc"], run.about["last"]["auc"]) == ("killed", 0.8, 0.7)
    assert 0 <= run.about["seconds"] < 60


def test_no_stdout_ends_a_command(tmp_path):
    for closed in ("exec >&-", "exec >/dev/full", "exec 2>&- >&-", "exec > >(exec true); sleep 0.2"):
        line = f"{closed}; {sys.executable} -m dlrm_lib runs; echo $? >code"
        done = subprocess.run(["bash", "-c", line], cwd=tmp_path, stderr=subprocess.PIPE, text=True, check=False)
        assert (tmp_path / "code").read_text() == "0\n"
        lost = "stdout is lost from here on: No space left on device. The work goes on.\n"
        assert done.stderr == (lost if "full" in closed else "")


@pytest.mark.parametrize("words", [["runs", "--runs_dir=é"], ["preprocess", "--help"], ["runs", "é"]])
def test_an_ascii_terminal_is_told_everything(words, tmp_path):
    environment = {**os.environ, "LC_ALL": "C", "PYTHONIOENCODING": "ascii"}
    with dlrm(*words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=tmp_path, env=environment) as run:
        out, error = run.communicate()
    assert run.returncode == (2 if words[1] == "é" else 0)
    assert out or error
    if "é" in words[1]:
        assert r"\xe9" in out + error


def test_a_log_on_a_full_disk_ends_nothing(tmp_path):
    log = Log(Path("/dev/full"), append=True)
    with pytest.warns(UserWarning, match="/dev/full lacks lines from here on"):
        log({"what": "progress", "step": 1})
    log({"what": "progress", "step": 2})  # told once: a second warning would be an error
