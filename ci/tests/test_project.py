"""The files around the code: pins, conda, notebooks in git, style."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
import set_up
import strip_notebooks
import yaml
from nbformat.v4 import new_code_cell, new_notebook, new_output
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from runner import plan

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


@pytest.fixture(scope="module")
def project(checkout):
    return tomllib.loads((checkout / "pyproject.toml").read_text())["project"]


def _constraints(checkout: Path) -> list[Requirement]:
    lines = (checkout / "ci" / "constraints.txt").read_text().splitlines()
    return [Requirement(line) for line in lines if line and not line.startswith("#")]


def test_every_dependency_is_pinned_within_its_range(checkout, project):
    asked_for = [*project["dependencies"], *(r for extra in project["optional-dependencies"].values() for r in extra)]
    for requirement in map(Requirement, asked_for):
        pins = [p for p in _constraints(checkout) if canonicalize_name(p.name) == canonicalize_name(requirement.name)]
        assert pins, f"{requirement.name} has no pin"
        for pin in pins:
            (version,) = (s.version for s in pin.specifier)
            assert str(pin.specifier) == f"=={version}"
            assert requirement.specifier.contains(version), f"{pin} is outside {requirement}"


def test_the_tests_run_with_the_pinned_versions(checkout):
    for pin in _constraints(checkout):
        if pin.marker is None or pin.marker.evaluate():
            try:
                installed = importlib.metadata.version(pin.name)
            except importlib.metadata.PackageNotFoundError:
                continue  # Some packages belong to another system.
            assert pin.specifier.contains(installed), f"{pin.name} {installed} is installed, {pin} is pinned"


def test_environment_yml_asks_for_what_pyproject_does(checkout, project):
    environment = yaml.safe_load((checkout / "environment.yml").read_text())
    conda = [line for line in environment["dependencies"] if isinstance(line, str)]
    (pip,) = (line["pip"] for line in environment["dependencies"] if isinstance(line, dict))
    (python,) = (line.split("=")[1] for line in conda if line.startswith("python="))
    assert Requirement("python" + project["requires-python"]).specifier.contains(python)
    assert "openjdk=17" in conda
    assert pip == ["-c ci/constraints.txt", f"-e .[{set_up.EXTRAS}]"]
    assert sorted(set_up.EXTRAS.split(",")) == sorted(project["optional-dependencies"])


def test_the_console_script_is_the_command_line(project):
    done = subprocess.run(
        [Path(sys.executable).with_name("dlrm"), "runs", "x"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr.startswith("No run is called x.")
    assert project["scripts"] == {"dlrm": "dlrm_lib.__main__:main"}


def test_stripping_keeps_the_work_and_drops_the_traces():
    outputs = [new_output("stream", text="hello")]
    cell = new_code_cell("1", outputs=outputs, execution_count=3, metadata={"tags": ["parameters"], "scrolled": True})
    nb = new_notebook(
        cells=[cell],
        metadata={"dlrm": {"seconds": {"smoke": 9}}, "language_info": {"name": "python", "version": "3.9"}},
    )
    stripped = nbformat.reads(strip_notebooks.strip(nbformat.writes(nb)), as_version=4)
    (after,) = stripped.cells
    assert (after.source, after.id, after.outputs, after.execution_count) == ("1", cell.id, [], None)
    assert after.metadata == {"tags": ["parameters"]}
    assert stripped.metadata.language_info == {"name": "python"}
    assert stripped.metadata.dlrm.seconds.smoke == 9


def test_checking_names_the_notebook_and_changes_nothing(tmp_path, capsys):
    path = tmp_path / "00_a.ipynb"
    nb = new_notebook(cells=[new_code_cell("1", outputs=[new_output("stream", text="hello")])])
    nbformat.write(nb, path)
    before = path.read_text()
    assert strip_notebooks.main(["--check", str(path)]) == 1
    assert str(path) in capsys.readouterr().out
    assert path.read_text() == before
    assert strip_notebooks.main([str(path)]) == 1
    assert strip_notebooks.main(["--check", str(path)]) == 0


def test_notebooks_in_git_are_stripped_and_follow_the_convention(checkout):
    paths = plan.discover(checkout / "notebooks")
    assert paths
    assert strip_notebooks.main(["--check", *map(str, paths)]) == 0
    assert [plan.read(path).name for path in paths] == [path.stem for path in paths]


def test_each_notebook_prepares_the_process_once(checkout):
    for path in plan.discover(checkout / "notebooks"):
        lines = [line for cell in nbformat.read(path, as_version=4).cells for line in cell.source.splitlines()]
        assert [line.partition("  #")[0] for line in lines].count("prepare(config)") == 1, path.name


@pytest.mark.parametrize("arguments", [["check"], ["format", "--check"]])
def test_style(checkout, arguments):
    command = [sys.executable, "-m", "ruff", arguments[0], "--no-cache", *arguments[1:], "."]
    done = subprocess.run(command, cwd=checkout, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.slow
def test_types(checkout):
    # What was found before is kept in .mypy_cache, so that only the first run takes long.
    done = subprocess.run([sys.executable, "-m", "mypy"], cwd=checkout, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_hooks_are_local(checkout):
    config = yaml.safe_load((checkout / ".pre-commit-config.yaml").read_text())
    assert [repo["repo"] for repo in config["repos"]] == ["local"]


def test_nothing_of_this_machine_is_in_the_project(checkout):
    # The checkout's own place and the home folder: neither means anything to anybody else.
    places = [str(place) + "/" for place in (checkout, Path.home()) if place != Path("/")]
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=checkout, capture_output=True, text=True, check=True).stdout
    for path in filter(Path.is_file, (checkout / name for name in listed.splitlines())):
        text = path.read_text(encoding="utf-8", errors="ignore")
        assert not any(place in text for place in places), path
