"""The doctor: what it finds, and what it says when something is missing."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from types import SimpleNamespace

import pytest

from dlrm_lib import doctor
from dlrm_lib.__main__ import main
from dlrm_lib.doctor import Finding, examine, report
from dlrm_lib.errors import InputError


def test_this_machine_is_ready():
    findings = {f.name: f for f in examine()}
    assert {"Python", "processor", "memory", "free disk", "torch", "pyspark", "Java"} <= set(findings)
    assert all(f.fine for f in findings.values() if f.needed)


def test_remedies_are_shown_where_they_are_needed_only():
    text = report(
        [
            Finding(name="here", fine=True, found="version 3", remedy="install it"),
            Finding(name="gone", fine=False, found="none", remedy="install that"),
            Finding(name="extra", fine=False, found="none", needed=False, remedy="do without"),
        ]
    )
    assert [line.split() for line in text.splitlines()] == [
        ["here", "ok", "version", "3"],
        ["gone", "MISSING", "none", "(install", "that)"],
        ["extra", "-", "none", "(do", "without)"],
    ]


@pytest.mark.parametrize(("times", "advised"), [(2.2, True), (0.4, False)])
def test_bf16_is_recommended_where_it_was_measured_to_be_fast(monkeypatch, times, advised):
    machine = SimpleNamespace(times_fp32=lambda precision: {"bf16": times}[precision])
    monkeypatch.setattr("dlrm_lib.backends.cpu.backend.bf16_units", lambda: "AVX-512")
    monkeypatch.setattr("dlrm_lib.lab.machine.Machine.measure", lambda device: machine)
    (finding,) = (f for f in examine() if f.name == "bf16")
    assert finding.fine
    assert finding.found.startswith(f"AVX-512, products {times} times as fast as in fp32")
    assert ("--precision bf16" in finding.found) == advised


def test_what_is_missing_exits_2_by_name(monkeypatch, capsys):
    def no_java():
        raise InputError("Spark needs Java 17 or 21.", remedy="Install a JDK.")

    monkeypatch.setattr("dlrm_lib.preprocess.java.find_java", no_java)
    assert main(["doctor"]) == 2
    printed = capsys.readouterr()
    assert "Install a JDK." in printed.out
    assert "found: Java" in printed.err


def test_a_missing_package_is_found(monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "jupyterlab" else find(name))
    finding = next(f for f in doctor.examine() if f.name == "jupyterlab")
    assert (finding.fine, finding.found) == (False, "not installed")
    assert "pip install" in finding.remedy


def without(package: str, command: str) -> subprocess.CompletedProcess:
    """Runs a command where a package cannot be found."""
    code = """
import importlib.util, sys
package, find = sys.argv[1], importlib.util.find_spec
importlib.util.find_spec = lambda name, *more: None if name == package else find(name, *more)
sys.modules[package] = None
from dlrm_lib.__main__ import main
sys.exit(main(sys.argv[2:]))
"""
    return subprocess.run([sys.executable, "-c", code, package, command], capture_output=True, text=True, timeout=120)


def test_it_runs_without_torch():
    done = without("torch", "doctor")
    assert done.returncode == 2, done.stderr
    lines = {line.split("  ")[0]: line for line in done.stdout.splitlines()}
    assert re.search(r"MISSING +not installed +\(pip install torch\)", lines["torch"])
    assert "cannot be told without torch" in lines["NVIDIA GPU"]
    assert lines["Python"].split()[1] == "ok"
    assert "found: torch\n" in done.stderr


@pytest.mark.parametrize(("package", "command"), [("yaml", "doctor"), ("torch", "train")])
def test_a_command_names_the_package_that_it_cannot_do_without(package, command):
    done = without(package, command)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"The package {package} is not installed.\n  remedy: ")
    assert len(done.stderr.splitlines()) == 2
