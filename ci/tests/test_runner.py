"""The headless runner, on small workbooks made here."""

from __future__ import annotations

import base64
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from dlrm_lib.config import SyntheticConfig
from dlrm_lib.errors import InputError
from dlrm_lib.synthetic import generate
from runner import plan
from runner.__main__ import main

PARAMETERS = (
    'preset = "laptop"\ndevice = "auto"\nseed = 1\nwork_dir = "x"\nraw = None\nfeature_spec = None\n'
    "headless = False\noverrides = {}"
)
PNG = base64.b64encode(b"\x89PNG stands for a picture").decode()


@pytest.fixture
def workbook(tmp_path):
    """A folder that looks like a checkout to the runner; call it with a name and code cells to add a notebook."""

    class Workbook:
        root = tmp_path
        output = tmp_path / "ci" / "output"

        def add(
            self, name: str, *sources: str, parameters: str | None = PARAMETERS, metadata: dict | None = None
        ) -> None:
            cells = [new_markdown_cell(f"# Title of {name}")]
            if parameters is not None:
                cells.append(new_code_cell(parameters, metadata={"tags": ["parameters"]}))
            cells += [new_code_cell(textwrap.dedent(source)) for source in sources]
            folder = tmp_path / "notebooks"
            folder.mkdir(exist_ok=True)
            nbformat.write(new_notebook(cells=cells, metadata=metadata or {}), folder / f"{name}.ipynb")

        def run(self, *arguments: str) -> int:
            return main(arguments, root=tmp_path)

        def executed(self, name: str) -> nbformat.NotebookNode:
            return nbformat.read(self.output / "notebooks" / f"{name}.ipynb", as_version=4)

        def printed(self, name: str) -> str:
            outputs = [o for cell in self.executed(name).cells for o in cell.get("outputs", [])]
            return "".join(o.text for o in outputs if o.output_type == "stream" and o.name == "stdout")

    return Workbook()


SHOW = "print(preset, device, seed, work_dir, raw, feature_spec, headless, overrides, sep='|')"


def test_a_run_executes_in_order_on_one_chain_and_writes_everything(workbook, capsys):
    workbook.add("01_second", "from pathlib import Path\nprint((Path(work_dir) / 'made').read_text())")
    workbook.add(
        "00_first",
        "from pathlib import Path\nPath(work_dir).mkdir()\n_ = (Path(work_dir) / 'made').write_text('by the first')",
        f"from IPython.display import Image\nimport base64\nImage(base64.b64decode('{PNG}'), format='png')",
        "import sys\nprint('careful', file=sys.stderr)",
        SHOW,
    )
    workbook.add("notes", "this is not executed")
    stale = workbook.output / "html_of_an_older_run.html"
    stale.parent.mkdir(parents=True)
    (workbook.output / ".workbook-run").touch()
    stale.touch()

    assert workbook.run() == 0

    said = capsys.readouterr().out
    assert workbook.printed("01_second") == "by the first\n"
    work = workbook.output / "work"
    assert workbook.printed("00_first") == f"smoke|auto|1|{work}|None|None|True|{{}}\n"
    assert said.index("00_first: started") < said.index("00_first: ok after") < said.index("01_second: started")
    assert "00_first, cell 5: careful" in said
    assert "together" in said
    assert "2 ok" in said
    assert "\x1b" not in said
    assert (workbook.output / "figures" / "00_first_1.png").read_bytes() == base64.b64decode(PNG)
    assert PNG in (workbook.output / "00_first.html").read_text()
    index = (workbook.output / "index.html").read_text()
    for link in ("00_first.html", "01_second.html", "notebooks/01_second.ipynb", "figures/00_first_1.png"):
        assert f"'{link}'" in index
        assert (workbook.output / link).exists()
    assert "Title of 00_first" in index
    assert not stale.exists()


def test_failures_are_told_in_a_few_lines_and_do_not_stop_the_others(workbook, capsys):
    workbook.add("00_fails", "1 + 1", "def f(x):\n    return 1 / x\nbefore = 2\nf(0)", "print('not reached')")
    workbook.add("01_is_no_python", "x = 1\ny = = 2")
    workbook.add("02_dies", "import os\nos._exit(9)")
    workbook.add("03_runs_nothing")
    workbook.add(
        "04_takes_too_long",
        "import time\nprint('begun')",
        "time.sleep(60)",
        metadata={"dlrm": {"seconds": {"smoke": 4}}},
    )
    workbook.add(
        "05_refuses", "from dlrm_lib.errors import InputError\nraise InputError('Bad.', found=3, remedy='Do.')"
    )
    workbook.add("06_is_good", "print('fine')")

    started = time.monotonic()
    assert workbook.run() == 1

    said = capsys.readouterr().out
    table = said[said.index("notebook  ") :]
    assert "FAILED 00_fails, cell 4, line 2: return 1 / x\n  ZeroDivisionError: division by zero\n" in table
    assert "FAILED 01_is_no_python, cell 3, line 2: y = = 2\n  SyntaxError" in table
    assert "FAILED 02_dies, cell 3: import os\n  Kernel died" in table
    assert "FAILED 03_runs_nothing, it ran no code cell" in table
    assert "FAILED 04_takes_too_long, cell 4: time.sleep(60)\n  over its budget of 4 s" in table
    assert time.monotonic() - started < 55  # The kernel was ended, not waited for.
    assert "InputError: Bad.\n    found: 3\n    remedy: Do.\n" in table
    assert "6 of 7 FAILED" in table
    assert workbook.printed("06_is_good") == "fine\n"
    # What had run is kept, with a mark where it stopped.
    assert workbook.printed("04_takes_too_long") == "begun\n"
    assert "over its budget" in (workbook.output / "04_takes_too_long.html").read_text()
    partial = workbook.executed("00_fails")
    assert "not reached" not in workbook.printed("00_fails")
    assert any("papermill-error-cell-tag" in cell.metadata.get("tags", []) for cell in partial.cells)
    assert "ZeroDivisionError" in (workbook.output / "index.html").read_text()


def test_a_run_leaves_nothing_changed_in_git(workbook, checkout, tmp_path):
    workbook.add("00_a", "print(1)")
    shutil.copy(checkout / ".gitignore", tmp_path)
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b"]
    for command in (["init", "-q"], ["add", "."], ["commit", "-qm", "a"]):
        subprocess.run([*git, *command], cwd=tmp_path, check=True)
    assert workbook.run() == 0
    assert (workbook.output / "index.html").exists()
    status = subprocess.run([*git, "status", "--porcelain"], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert status.stdout == ""


def test_options_reach_the_notebook(workbook, tmp_path):
    raw = tmp_path / "rows.tsv"
    raw.write_text("1\t7\ta\n")
    workbook.add("00_shows", SHOW)

    columns = tmp_path / "columns.yaml"
    columns.write_text("channel_spec: {numerical: [price], categorical: [shop]}")

    arguments = ["-p", "seed", "7", "-p", "overrides", "{lr: 0.5, top_mlp_sizes: [8, 1]}", "--alone"]
    assert workbook.run(*arguments, "--raw", str(raw), "--feature_spec", str(columns)) == 0

    work = workbook.output / "work" / "00_shows"
    expected = f"criteo_kaggle|auto|7|{work}|{raw}|{columns}|True|{{'lr': 0.5, 'top_mlp_sizes': [8, 1]}}\n"
    assert workbook.printed("00_shows") == expected


def test_a_work_folder_of_ones_own_is_kept(workbook, monkeypatch):
    workbook.add("00_looks", "from pathlib import Path\nprint(*sorted(p.name for p in Path(work_dir).iterdir()))")
    mine = workbook.output / "work"
    mine.mkdir(parents=True)
    (workbook.output / ".workbook-run").touch()
    (mine / "precious").touch()
    monkeypatch.chdir(workbook.output)
    assert workbook.run("--work-dir", "work", "--preset", "laptop") == 0
    assert workbook.printed("00_looks") == "precious\n"


def test_a_persons_own_settings_do_not_reach_the_notebooks(workbook, tmp_path, monkeypatch):
    startup = tmp_path / "ipython" / "profile_default" / "startup"
    startup.mkdir(parents=True)
    (startup / "00.py").write_text("mine = 1")
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    workbook.add("00_looks", "import os, sys\nprint('mine' in globals(), 'PYTHONPATH' in os.environ, sys.prefix)")
    assert workbook.run() == 0
    assert workbook.printed("00_looks") == f"False False {sys.prefix}\n"
    assert os.environ["IPYTHONDIR"] == str(tmp_path / "ipython")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--preset", "tiny"], "no such preset.\n  found: tiny"),
        (["--raw", "nowhere"], "--raw names no file or folder.\n  found: nowhere"),
        (["--raw", "notebooks/00_good.ipynb"], "00_good.ipynb holds no row.\n  found: .* bytes in 00_good.ipynb: JSON"),
        (["7"], "no such notebook.\n  found: 7\n  remedy: There are: 00_good, 01_good."),
        (
            ["-p", "speed", "3"],
            "00_good.ipynb has no parameter of this name.\n  found: speed\n  remedy: .* device, seed",
        ),
        (["-p", "preset", "smoke"], "Use --preset"),
        (["-p", "feature_spec", "a.yaml"], "Use --feature_spec"),
        (["--feature_spec", "a.yaml"], "--feature_spec describes the rows of --raw"),
        (["--raw", ".", "--feature_spec", "a.yaml"], "a.yaml cannot be read.\n  found: No such file"),
        (["-p", "seed", "[1"], "-p seed takes a YAML value"),
        (["-p", "seed", "one"], "--seed takes a whole number"),
        (["-p", "overrides", "3"], "-p overrides takes settings by name"),
        (["-p", "overrides", "{rate: 3}"], "no such setting.\n  found: rate"),
        (["--output", "notebooks"], "--output must name a new folder"),
    ],
)
def test_bad_arguments_are_refused_before_anything_runs(workbook, monkeypatch, arguments, message):
    workbook.add("00_good", "1")
    workbook.add("01_good", "1")
    monkeypatch.chdir(workbook.root)
    with pytest.raises(InputError, match=message):
        workbook.run(*arguments)
    assert not workbook.output.exists()


@pytest.mark.parametrize(
    ("parameters", "metadata", "message"),
    [
        (None, {}, "01_bad.ipynb needs exactly one code cell tagged `parameters`"),
        ('preset = "smoke"', {}, "01_bad.ipynb must assign device, seed, work_dir, raw, headless, overrides"),
        ("preset = ", {}, "01_bad.ipynb is not Python: line 1"),
        (PARAMETERS, {"dlrm": {"seconds": 60}}, "time budget in the metadata of 01_bad.ipynb"),
    ],
)
def test_a_notebook_that_breaks_the_convention_is_refused(workbook, parameters, metadata, message):
    workbook.add("00_good", "1")
    workbook.add("01_bad", "1", parameters=parameters, metadata=metadata)
    with pytest.raises(InputError, match=message):
        workbook.run()
    assert not workbook.output.exists()


def test_a_workbook_without_notebooks_is_refused(workbook):
    with pytest.raises(InputError, match="no notebooks"):
        workbook.run()


def test_two_runs_do_not_write_into_one_folder(workbook):
    workbook.add("00_runs_the_runner", "1")
    workbook.output.mkdir(parents=True)
    holder = "import fcntl, sys\nf = open(sys.argv[1], 'w')\nfcntl.flock(f, 2)\nprint('held', flush=True)\ninput()"
    marker = str(workbook.output / ".workbook-run")
    command = [sys.executable, "-c", holder, marker]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "held\n"
        with pytest.raises(InputError, match="Another run"):
            workbook.run()
        other.communicate("\n")


def test_notebooks_are_discovered_in_order_and_chosen_by_number_or_name(workbook):
    for name in ("10_c", "02_b", "01_a", "draft", "1_x"):
        workbook.add(name)
    found = plan.discover(workbook.root / "notebooks")
    assert [p.stem for p in found] == ["01_a", "02_b", "10_c"]
    assert plan.select(found, []) == found
    assert plan.select(found, ["10", "1"]) == [found[0], found[2]]
    assert plan.select(found, ["02_b", "2"]) == [found[1]]


def test_budget_is_what_the_notebook_asks_for_or_what_the_preset_grants(workbook):
    workbook.add("00_a", metadata={"dlrm": {"seconds": {"smoke": 7}}})
    notebook = plan.read(plan.discover(workbook.root / "notebooks")[0])
    assert notebook.title == "Title of 00_a"
    assert (notebook.budget("smoke"), notebook.budget("laptop")) == (7, 3600)


def test_an_interrupted_run_ends_its_kernel_and_does_not_look_finished(workbook, checkout, tmp_path):
    workbook.add("00_waits", "import os, time\nopen('pid', 'w').write(str(os.getpid()))\ntime.sleep(60)")
    code = "import sys, pathlib, runner.__main__ as m\nm.main([], root=pathlib.Path(sys.argv[1]))"
    environment = {**os.environ, "PYTHONPATH": str(checkout / "ci")}
    command = [sys.executable, "-c", code, str(tmp_path)]
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as run:
        pid_file = tmp_path / "notebooks" / "pid"
        _wait_until(lambda: pid_file.exists() and pid_file.read_text())
        run.send_signal(signal.SIGINT)
        assert "KeyboardInterrupt" in run.communicate(timeout=30)[1]
    _wait_until(lambda: not Path(f"/proc/{pid_file.read_text()}").exists())
    assert not (workbook.output / "index.html").exists()


def test_the_command_says_bad_input_in_one_block_and_exits_2(checkout):
    environment = {**os.environ, "PYTHONPATH": str(checkout / "ci")}
    for arguments in (["--preset", "tiny"], ["--nonsense"], ["--timeout", "0"]):
        command = [sys.executable, "-m", "runner", *arguments]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 2, done
        assert "./ci/run: " in done.stderr
        assert "Traceback" not in done.stderr


def chapters_that_read_rows(checkout):
    asks = re.compile(r"\bspace\.(raw|encoded)\(\)")
    return [path.stem for path in plan.discover(checkout / "notebooks") if asks.search(path.read_text("utf-8"))]


def test_every_chapter_finds_or_builds_its_rows_in_a_workspace(checkout):
    """``test_workspace.py`` shows that it builds what is missing, here no chapter looks past it."""
    for path in plan.discover(checkout / "notebooks"):
        code = [cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
        uses = [line for source in code for line in source.splitlines() if "work_dir" in line]
        assert [line.partition(" = ")[0] for line in uses][:1] == ["work_dir"], path.name
        assert [line for line in uses[1:] if "Workspace(work_dir, config, raw, feature_spec)" not in line] == [], (
            path.name
        )
        assert len(uses) == 2, path.name
    assert {"00_start_here", "04_training_and_auc", "08_results"} < set(chapters_that_read_rows(checkout))


@pytest.mark.slow
def test_a_chapter_alone_builds_what_it_does_not_find(tmp_path):
    """One that needs raw rows, one that needs encoded ones; few of them, since building does not depend on how many."""
    few = "{rows: 6000, days: 2, max_steps: 20}"
    assert main(["01", "03", "--alone", "-p", "overrides", few, "--output", str(tmp_path / "output")]) == 0


@pytest.fixture(scope="module")
def rows_of_a_person(request, tmp_path_factory):
    """Arguments for real ones, where there are any: those of which fewest were clicked, 28 of the 1,000 judge a model.

    Else for synthetic ones without their integers, as many a log has none.
    """
    if os.environ.get("DLRM_REAL_ROWS"):
        return ["--raw", str(request.getfixturevalue("real_rows") / "terabyte_day0_10k.tsv")]
    folder = tmp_path_factory.mktemp("rows")
    generate(folder / "raw", SyntheticConfig(rows=6000, days=2))
    for day in (folder / "raw").glob("day_*"):
        fields = [line.split("\t") for line in day.read_text().splitlines()]
        day.write_text("".join("\t".join([label, *others[13:]]) + "\n" for label, *others in fields))
    return ["--raw", str(folder / "raw"), "--feature_spec", str(columns_file(folder, 0, 26))]


def columns_file(folder, integers, tokens):
    """The specification of rows with so many columns."""
    path = folder / "columns.yaml"
    numerical, categorical = [f"n{i}" for i in range(integers)], [f"c{j}" for j in range(tokens)]
    path.write_text(f"channel_spec: {{numerical: {numerical}, categorical: {categorical}}}")
    return path


@pytest.mark.slow
def test_each_chapter_needs_nothing_of_another_but_the_same_rows(tmp_path, rows_of_a_person, checkout):
    """Each in a work folder of its own, which holds at most what the first chapter encoded from rows of a person.

    Where these lack what a chapter shows, it makes synthetic ones, of which few are enough here.
    """
    rows = [*rows_of_a_person, "-p", "overrides", "{epochs: 1, rows: 6000, days: 2}"]

    def fails(chapter):
        folder = tmp_path / chapter
        return main([chapter, *rows, "--work-dir", str(folder / "work"), "--output", str(folder / "output")])

    first, *others = chapters_that_read_rows(checkout)
    assert not fails(first)
    for chapter in others:
        shutil.copytree(tmp_path / first / "work" / "encoded", tmp_path / chapter / "work" / "encoded")
    assert [chapter for chapter in others if fails(chapter)] == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "chapter"),
    [("kaggle_train_first10k.tsv", "01"), ("kaggle_train_4584.tsv", "04")],
    ids=["reading", "training"],
)
def test_chapters_whose_claims_hang_on_the_rows_run_on_kaggles(tmp_path, real_rows, name, chapter):
    """Other fields are empty than in the Terabyte's, other values frequent; the shorter file has the smallest batch."""
    assert main([chapter, "--raw", str(real_rows / name), "--output", str(tmp_path / "output")]) == 0


def poor_rows(folder, *, rows, integers, tokens, last_click):
    """Arguments for rows of which none is clicked from the number ``last_click`` on."""
    draw, raw = random.Random(rows), folder / "mine.tsv"
    with raw.open("w") as file:
        for row in range(rows):
            label = int(row < last_click and draw.random() < 0.3)
            fields = [draw.randrange(100) for _ in range(integers)] + [
                f"{draw.randrange(9):08x}" for _ in range(tokens)
            ]
            print(label, *fields, sep="\t", file=file)
    return ["--raw", str(raw), "--feature_spec", str(columns_file(folder, integers, tokens))]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("chapter", "rows", "says"),
    [
        ("00", {"rows": 9, "integers": 2, "tokens": 3, "last_click": 5}, ["test AUC undefined", "0 rows"]),
        (
            "01",
            {"rows": 500, "integers": 0, "tokens": 4, "last_click": 0},
            ["The later rows are all clicked, or none is"],
        ),
        (
            "02",
            {"rows": 9, "integers": 0, "tokens": 3, "last_click": 5},
            ["these 9 are repeated", "Two pipelines, the same bytes.", "there are no test rows to compare with"],
        ),
        (
            "07",
            {"rows": 600, "integers": 1, "tokens": 4, "last_click": 570},
            ["30 validation rows, all without a click"],
        ),
    ],
)
def test_a_chapter_says_what_rows_cannot_show_and_goes_on(tmp_path, capsys, chapter, rows, says):
    few = "{epochs: 1, rows: 6000, days: 2}"
    arguments = [*poor_rows(tmp_path, **rows), "-p", "overrides", few, "--output", str(tmp_path / "output")]
    assert main([chapter, "--preset", "smoke", *arguments]) == 0
    assert "stderr" not in capsys.readouterr().out
    (executed,) = (tmp_path / "output" / "notebooks").glob("*.ipynb")
    outputs = [o for cell in nbformat.read(executed, as_version=4).cells for o in cell.get("outputs", [])]
    printed = "".join(o.text for o in outputs if o.output_type == "stream")
    assert [sentence for sentence in says if sentence not in printed] == []


def _wait_until(holds, seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.1)
