"""Set-up of the environment, and the commands that do it first."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
import set_up


def _checkout_to_set_up(tmp_path: Path) -> Path:
    (tmp_path / "ci").mkdir()
    (tmp_path / "pyproject.toml").write_text("one")
    (tmp_path / "ci" / "constraints.txt").write_text("two")
    return tmp_path


class _Commands:
    """Stands in for running commands: makes the interpreter that `python -m venv` would, remembers what was asked."""

    def __init__(self, root: Path, venv: str = ".venv") -> None:
        self.root = root
        self.venv = venv
        self.asked: list[str] = []

    def __call__(self, command: list[str], sentence: str) -> None:
        self.asked.append("venv --clear" if "--clear" in command else "venv" if "venv" in command else "pip")
        if "venv" in command:
            python = self.root / self.venv / "bin" / "python"
            python.parent.mkdir(parents=True, exist_ok=True)
            python.touch()
            python.chmod(0o755)


def test_set_up_runs_once_and_again_when_something_changed(tmp_path):
    root = _checkout_to_set_up(tmp_path)
    run = _Commands(root)
    assert set_up.set_up(root, run=run)
    assert run.asked == ["venv", "pip"]
    assert not set_up.set_up(root, run=run)
    (root / "ci" / "constraints.txt").write_text("three")
    assert set_up.set_up(root, run=run)
    assert run.asked == ["venv", "pip", "pip"]
    # A virtual environment has its place baked in, so one that was moved is made anew.
    moved = root.rename(root.with_name(root.name + "-moved"))
    run.root = moved
    assert set_up.set_up(moved, run=run)
    assert run.asked == ["venv", "pip", "pip", "venv --clear", "pip"]


def test_the_environment_of_spark_4_has_pins_of_its_own(tmp_path):
    root = _checkout_to_set_up(tmp_path)
    (root / "ci" / "spark4.txt").write_text("one")
    run = _Commands(root, ".venv-spark4")
    assert set_up.set_up_spark_4(root, run=run)
    (root / "ci" / "constraints.txt").write_text("three")
    assert not set_up.set_up_spark_4(root, run=run)
    (root / "ci" / "spark4.txt").write_text("two")
    assert set_up.set_up_spark_4(root, run=run)
    assert run.asked == ["venv", "pip", "pip"]
    assert not (root / ".venv").exists()


@pytest.mark.parametrize("interrupted_at", ["venv", "pip"])
def test_set_up_that_was_interrupted_is_done_again(tmp_path, interrupted_at):
    root = _checkout_to_set_up(tmp_path)
    run = _Commands(root)

    def interrupted(command, sentence):
        if interrupted_at in command:
            raise KeyboardInterrupt
        run(command, sentence)

    with pytest.raises(KeyboardInterrupt):
        set_up.set_up(root, run=interrupted)
    assert set_up.set_up(root, run=run)
    assert not set_up.set_up(root, run=run)


def test_two_set_ups_at_once_do_the_work_once(tmp_path, checkout):
    root = _checkout_to_set_up(tmp_path)
    code = (
        "import sys, time, pathlib, set_up, test_set_up\n"
        "root = pathlib.Path(sys.argv[1])\n"
        "commands = test_set_up._Commands(root)\n"
        "print(set_up.set_up(root, run=lambda *a: (time.sleep(0.5), commands(*a))))\n"
    )
    environment = {**os.environ, "PYTHONPATH": f"{checkout / 'ci'}:{checkout / 'ci' / 'tests'}"}
    command = [sys.executable, "-c", code, str(root)]
    both = [
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        for _ in range(2)
    ]
    assert sorted(process.communicate(timeout=60)[0] for process in both) == ["False\n", "True\n"]


@pytest.mark.parametrize(
    ("script", "sentence"),
    [
        ('#!/bin/sh\necho "3.8 False"\n', 'needs Python 3.10 or newer, and ".*" is 3.8. Name another'),
        ("#!/bin/sh\nexit 1\n", 'needs Python 3.10 or newer, and ".*" does not run.'),
    ],
)
@pytest.mark.parametrize("name", ["run", "test", "lab"])
def test_an_unfit_python_gives_one_clear_sentence(checkout, tmp_path, name, script, sentence):
    python = tmp_path / "python"
    python.write_text(script)
    python.chmod(0o755)
    command = [str(checkout / "ci" / name)]
    environment = {**os.environ, "PYTHON": str(python)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert re.search(sentence, done.stderr)
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.slow
def test_lab_opens_jupyterlab_on_the_first_chapter(checkout, tmp_path):
    folders = ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR")
    environment = {**os.environ, **{name: str(tmp_path / name) for name in folders}}
    command = ["./ci/lab", "--no-browser", "--allow-root", "--ServerApp.port=0", "--IdentityProvider.token=t"]
    log = tmp_path / "log"
    with log.open("w") as stderr, subprocess.Popen(command, cwd=checkout, env=environment, stderr=stderr) as lab:
        try:
            end = time.monotonic() + 60
            while not (page := re.search(r"(http://127.0.0.1:\d+)/lab/tree/(\S+)\?token", log.read_text())):
                assert time.monotonic() < end, log.read_text()
                time.sleep(0.2)
            assert page.group(2) == "notebooks/00_start_here.ipynb"
            url = f"{page.group(1)}/api/contents/{page.group(2)}?content=0&token=t"
            while True:  # on a busy machine it says where it listens a moment before it does
                try:
                    with urllib.request.urlopen(url, timeout=30) as answer:
                        assert json.load(answer)["type"] == "notebook"
                    break
                except urllib.error.URLError:
                    assert time.monotonic() < end, log.read_text()
                    time.sleep(0.2)
        finally:
            lab.terminate()
