"""The README and the pages beside it: something runs each command of an `sh` block, and each link leads somewhere."""

from __future__ import annotations

import ast
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from encoded import random_dataset
from nbformat.v4 import new_code_cell

from dlrm_lib.__main__ import main
from runner import plan
from runner.__main__ import main as run_workbook

# What is added to a command so that it is over in seconds; later flags win.
SMALLER = {
    "python -m dlrm_lib doctor": [],
    "python -m dlrm_lib generate": ["--rows", "3000", "--days", "3"],
    "python -m dlrm_lib preprocess": [],
    "python -m dlrm_lib train": ["--max_steps", "1"],
    "python -m dlrm_lib test": [],
    "python -m dlrm_lib runs": [],
    "python -m dlrm_lib inference_benchmark": ["--inference_benchmark_steps", "2"],
    "./ci/run --raw": ["--preset", "smoke", "--output", "output", "00"],
    "./ci/run --preset": ["00"],  # these two on chapters that are cut short: see ``cut_workbook``
    "./ci/run": [],
    "./ci/test": ["--collect-only", "-q", "ci/tests/test_runner.py"],
}
# What cannot be run from a test, and where it is proved.
PROVED_ELSEWHERE = {
    "source .venv/bin/activate": "the test runs every command with .venv/bin, which is what activating does",
    "./ci/lab": "test_set_up.py opens it",
    "./ci/figures": "test_figures.py draws with it, and lets it compare",
    ".venv/bin/pre-commit": "test_project.py runs what the hooks run",
    "python -m dlrm_lib preprocess --input data/log.csv": "test_inputs.py reads such a file with these flags",
    "python -m dlrm_lib download": "test_download.py fetches from servers of its own",
    "python -m dlrm_lib train --preset gaudi_medium --device hpu": "test_habana_flags.py runs it on a processor",
    "python ci/bench/": "test_bench_*.py run the benches",
    "python ci/tests/browser.py": "test_browser.py drives the same browser",
}


def pages(checkout: Path) -> list[Path]:
    """In the order in which a reader meets them."""
    first = [checkout / "README.md", checkout / "data" / "README.md", *sorted((checkout / "docs").glob("*.md"))]
    return [*first, *sorted({*checkout.glob("*.md")} - {*first})]


def commands(checkout: Path) -> list[str]:
    """The lines of all `sh` blocks, each once."""
    blocks = "".join(block for page in pages(checkout) for block in code_blocks(page, "sh"))
    words = [shlex.split(line, comments=True) for line in blocks.replace("\\\n", " ").splitlines()]
    return list(dict.fromkeys(" ".join(line).replace(".venv/bin/python", "python") for line in words if line))


def code_blocks(page: Path, language: str) -> list[str]:
    text = page.read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)


def known(command: str) -> str:
    """The longest entry of the two tables above that the command begins with."""
    return max((k for k in (*SMALLER, *PROVED_ELSEWHERE) if command.startswith(k)), key=len, default="")


def test_every_command_is_run_by_something(checkout):
    found = commands(checkout)
    assert {"./ci/run", "./ci/test", "./ci/lab"} <= set(found)
    assert [command for command in found if not known(command)] == []
    assert {*SMALLER, *PROVED_ELSEWHERE} == {known(command) for command in found}
    for page in pages(checkout):
        languages = re.findall(r"^```(.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)[::2]
        assert {*languages} <= {"sh", "python", "yaml", "text"}, f"{page}: commands belong into sh blocks"


def test_the_readme_fits_its_reader_and_leads_to_every_page(checkout):
    text = (checkout / "README.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 200
    for page in pages(checkout)[1:]:
        assert f"]({page.relative_to(checkout)})" in text


def prose(page: Path) -> str:
    """A page without its blocks of code; of a notebook, its Markdown cells."""
    if page.suffix == ".ipynb":
        cells = json.loads(page.read_text(encoding="utf-8"))["cells"]
        return "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    return re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)


def headings(page: Path) -> set[str]:
    """As links spell them."""
    return {
        re.sub(r"[^\w -]", "", line).lower().replace(" ", "-") for line in re.findall(r"^#+ (.*)$", prose(page), re.M)
    }


def test_every_link_leads_somewhere(checkout):
    seen = 0
    for page in (*pages(checkout), *sorted((checkout / "notebooks").glob("*.ipynb"))):
        text = prose(page)
        for link in re.findall(r"""(?:\]\(|src="|srcset=")([^)"\s]+)""", text):
            if re.match(r"[a-z]+:", link):
                continue
            path, _, heading = link.partition("#")
            target = (page.parent / path) if path else page
            assert target.resolve().is_relative_to(checkout), f"{page}: {link}"
            assert target.exists(), f"{page}: {link}"
            assert not heading or heading in headings(target), f"{page}: {link}"
            seen += 1
    assert seen > 60


def test_the_tuning_lab_of_the_docs_opens(checkout, tmp_path, monkeypatch):
    random_dataset(tmp_path / "data" / "encoded")
    monkeypatch.chdir(tmp_path)
    ((page, block),) = [(page, block) for page in pages(checkout) for block in code_blocks(page, "python")]
    *statements, last = ast.parse(block).body
    names: dict = {}
    exec(compile(ast.Module(statements, []), page, "exec"), names)
    lab = eval(compile(ast.Expression(last.value), page, "eval"), names)
    assert lab.form.config.preset == "laptop"


def cut_workbook(checkout: Path, root: Path) -> Path:
    """The chapters, each cut to its title, its parameters and a cell that says what they are."""
    for path in plan.discover(checkout / "notebooks"):
        notebook = nbformat.read(path, as_version=4)
        tagged = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
        notebook.cells = [notebook.cells[0], *tagged, new_code_cell("print(preset, raw)")]
        (root / "notebooks").mkdir(parents=True, exist_ok=True)
        nbformat.write(notebook, root / "notebooks" / path.name)
    return root


@pytest.mark.slow
def test_the_commands_run_in_their_order(checkout, tmp_path, monkeypatch, capfd):
    by_ci = (checkout / ".ci" / "run").read_text()
    chapters = cut_workbook(checkout, tmp_path / "cut")
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    monkeypatch.chdir(tmp_path)
    as_processes = 0
    for command in commands(checkout):
        if known(command) in PROVED_ELSEWHERE:
            continue
        if re.search(rf"^{re.escape(command)}( --all)?( |$)", by_ci, flags=re.MULTILINE):
            continue  # .ci/run itself runs it, whole.
        program, *words = [*shlex.split(command), *SMALLER[known(command)]]
        if program == "python" and as_processes:  # one of its lines in a process of its own proves what that adds
            code = main(words[2:])
        elif known(command) in ("./ci/run", "./ci/run --preset"):
            code = run_workbook(words, root=chapters)
        else:
            line = [re.sub(r"^\./", f"{checkout}/", program), *words]
            code = subprocess.run(line, env=environment, check=False).returncode
            as_processes += program == "python"
        assert code == 0, (command, *capfd.readouterr())
    assert as_processes
