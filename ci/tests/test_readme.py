"""Each command in the `sh` blocks of the README is run here in a small form, or word for word by .ci/run."""

from __future__ import annotations

import ast
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from encoded import random_dataset

# What is added to a command so that it is over in seconds; later flags win.
SMALLER = {
    "python -m dlrm_lib doctor": [],
    "python -m dlrm_lib generate": ["--rows", "6000", "--days", "3"],
    "python -m dlrm_lib preprocess": [],
    "python -m dlrm_lib train": ["--max_steps", "5"],
    "python -m dlrm_lib test": [],
    "python -m dlrm_lib inference_benchmark": ["--inference_benchmark_steps", "5"],
    "./ci/run": ["--preset", "smoke", "-p", "overrides", "{rows: 6000, days: 2, max_steps: 20}", "--output", "output"],
    "./ci/test": ["--collect-only", "-q"],
}
# What cannot be run from a test, and where it is proved.
PROVED_ELSEWHERE = {
    "source .venv/bin/activate": "the test has .venv/bin on its PATH, which is what activating does",
    "git clone": "continuous integration starts in a fresh clone",
    "cd ": "continuous integration starts in a fresh clone",
    "./ci/lab": "test_set_up.py opens it",
    ".venv/bin/pre-commit": "test_project.py runs what the hooks run",
    "python -m dlrm_lib train --preset gaudi_medium --device hpu": "test_habana_flags.py runs it on a processor",
}


def _readme_commands(checkout: Path) -> list[str]:
    text = (checkout / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```sh\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    return [" ".join(shlex.split(line, comments=True)) for line in lines if shlex.split(line, comments=True)]


def test_every_readme_command_is_run_by_something(checkout):
    commands = _readme_commands(checkout)
    assert {"./ci/run", "./ci/test", "./ci/lab"} <= set(commands)
    assert not re.search(r"^```(bash|shell|console)", (checkout / "README.md").read_text(), flags=re.MULTILINE)
    for command in commands:
        assert any(command.startswith(known) for known in (*SMALLER, *PROVED_ELSEWHERE)), command


def test_the_tuning_lab_of_the_readme_opens(checkout, tmp_path, monkeypatch):
    random_dataset(tmp_path / "data" / "encoded")
    monkeypatch.chdir(tmp_path)
    (block,) = re.findall(r"^```python\n(.*?)^```", (checkout / "README.md").read_text(), re.DOTALL | re.MULTILINE)
    *statements, last = ast.parse(block).body
    names: dict = {}
    exec(compile(ast.Module(statements, []), "README.md", "exec"), names)
    lab = eval(compile(ast.Expression(last.value), "README.md", "eval"), names)
    assert lab.form.config.preset == "laptop"


def test_every_link_of_the_readme_leads_somewhere(checkout):
    text = (checkout / "README.md").read_text(encoding="utf-8")
    headings = {re.sub(r"[^\w -]", "", line).lower().replace(" ", "-") for line in re.findall(r"^#+ (.*)$", text, re.M)}
    links = [link for link in re.findall(r"\]\(([^)]+)\)", text) if "://" not in link]
    assert len(links) > 10
    for link in links:
        path, _, heading = link.partition("#")
        assert (checkout / path).exists() if path else heading in headings, link


@pytest.mark.slow
def test_the_readme_commands_run_in_their_order(checkout, tmp_path):
    by_ci = (checkout / ".ci" / "run").read_text()
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    for command in _readme_commands(checkout):
        if any(command.startswith(known) for known in PROVED_ELSEWHERE):
            continue
        if re.search(rf"^{re.escape(command)}( --all)?( |$)", by_ci, flags=re.MULTILINE):
            continue  # .ci/run itself runs it, whole.
        (added,) = (arguments for known, arguments in SMALLER.items() if command.startswith(known))
        words = [*shlex.split(command), *added]
        if words[0] == "./ci/run" and not any(re.fullmatch(r"\d\d", word) for word in words):
            words.insert(1, "00")
        words[0] = re.sub(r"^\./", f"{checkout}/", words[0])
        done = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{shlex.join(words)}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
