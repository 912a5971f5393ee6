"""Chapters in a real browser, as a person uses them; and the harness itself: what it must notice, and that it ends."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import browser
import psutil
import pytest
from browser import Lab
from lab_server import LabServer, with_parameters

from runner.__main__ import _fresh

if TYPE_CHECKING:
    from playwright.sync_api import Locator

SLIDER = "_.children[0].children[0].value"  # in the last output: an explorer's controls, then its picture
PICTURE = "__import__('hashlib').sha256(_.children[1].value).hexdigest()"


def shown(image: Locator) -> str:
    """SHA-256 of the picture that the browser has."""
    return image.evaluate(
        "async image => [...new Uint8Array(await crypto.subtle.digest('SHA-256',"
        "await (await fetch(image.src)).arrayBuffer()))].map(byte => byte.toString(16).padStart(2, '0')).join('')"
    )


def ended(process: psutil.Process) -> bool:
    try:
        return process.status() == psutil.STATUS_ZOMBIE  # in a container nobody may take notice of the end
    except psutil.NoSuchProcess:
        return True


def test_the_first_chapter_opens_and_runs(lab):
    notebook = lab.open("00_start_here.ipynb")
    notebook.run_to("code-13")
    doctor = notebook.cell("code-06").locator(".jp-OutputArea")
    notebook.until(lambda: "torch " in doctor.text_content())  # out of sight by now, perhaps
    assert notebook.kernel("len(dataset.train)") > 10_000
    for theme, width in (("light", 1280), ("dark", 1920)):
        notebook.look(theme, width)
        assert notebook.screenshot(f"00-{theme}-{width}").stat().st_size > 10_000


def test_the_frequency_limit_moves_with_its_slider(lab):
    notebook = lab.open("02_spark_preprocessing.ipynb", theme="dark")
    notebook.run_to("code-21")
    cell = notebook.cell("code-21")
    slider, readout, image = map(cell.locator, ("[role=slider]", ".widget-readout", "img.widget-image"))
    limits, limit = notebook.kernel("limits"), notebook.kernel("limit")
    assert notebook.kernel(SLIDER) == limit
    before = shown(image)
    assert before == notebook.kernel(PICTURE)

    after = limits[limits.index(limit) + 3]
    for _ in range(3):
        slider.press("ArrowRight")
    notebook.until(f"{SLIDER} == {after}")
    notebook.until(lambda: readout.text_content() == f"{after:,}")
    notebook.until(lambda: shown(image) == notebook.kernel(PICTURE) != before)
    notebook.screenshot("02-frequency-limit", cell="code-21")

    slider.press("Home")
    notebook.until(f"{SLIDER} == {limits[0]}")
    notebook.until(lambda: shown(image) == notebook.kernel(PICTURE))


def test_what_a_notebook_can_be_asked(lab, lab_server):
    notebook = lab.open("00_start_here.ipynb", seed=7)
    notebook.run_cell("code-03")
    here = str(lab_server.folder / "notebooks")
    assert notebook.kernel("import os; here = os.getcwd(); (here, preset, seed)") == [here, "smoke", 7]
    with pytest.raises(AssertionError, match="in the kernel: ZeroDivisionError: division by zero"):
        notebook.kernel("1 / 0")
    with pytest.raises(AssertionError, match=r"Not within 0\.5 s: 1 > 2"):
        notebook.until("1 > 2", seconds=0.5)
    with pytest.raises(TimeoutError, match=r"Not done after 0\.5 s"):
        notebook.kernel("__import__('time').sleep(2)", seconds=0.5)

    notebook.load()
    assert notebook.kernel("'here' in globals()")
    notebook.restart_kernel()
    assert not notebook.kernel("'here' in globals()")
    with pytest.raises(AssertionError, match="code-04: NameError"):
        notebook.run_cell("code-04")


@pytest.mark.slow
def test_complaints_fail_and_everything_is_ended(checkout, tmp_path):
    browser.require()
    before = set(psutil.Process().children(recursive=True))
    started = []

    def misbehave():
        with (
            LabServer(tmp_path / "lab", checkout, {"preset": "smoke"}) as server,
            Lab(server, tmp_path / "pictures", last="sight") as lab,
        ):
            notebook = lab.open("00_start_here.ipynb")
            assert lab.complaints == []
            notebook.page.evaluate("console.error('a broken widget')")
            notebook.page.evaluate("setTimeout(() => { throw new Error('a broken script') })")
            notebook.page.evaluate("fetch('http://example.org/font').catch(() => 0)")
            notebook.page.evaluate("new WebSocket('ws://example.org/live')")
            notebook.until(lambda: "ws://example.org" in str(lab.complaints) and "broken script" in str(lab.complaints))
            notebook.kernel("import subprocess; subprocess.Popen(['sleep', '1000']).pid")
            started.extend(set(psutil.Process().children(recursive=True)) - before)

    with pytest.raises(AssertionError, match="The browser complained") as told:
        misbehave()
    for complaint in ("a broken widget", "a broken script", "http://example.org/font", "ws://example.org/live"):
        assert complaint in str(told.value)
    assert (tmp_path / "pictures" / "sight-last-1.png").exists()
    assert len(started) > 5  # the server, a kernel and its child, Playwright, the browser and its parts
    end = time.monotonic() + 10
    while not all(map(ended, started)):
        assert time.monotonic() < end, started
        time.sleep(0.1)


def test_parameters_are_changed_where_they_stand():
    source = 'a = "é"; b = 2  # é\nc = {}  # what\n'
    assert with_parameters(source, {"b": "x", "c": None}) == "a = \"é\"; b = 'x'  # é\nc = None  # what\n"
    with pytest.raises(ValueError, match="There is no parameter d; there are a, b, c"):
        with_parameters(source, {"d": 1})


@pytest.mark.parametrize(
    ("environment", "outcome"),
    [
        ({}, pytest.skip.Exception),
        ({"CI": "true"}, pytest.fail.Exception),
        ({"DLRM_BROWSER": "required"}, pytest.fail.Exception),
    ],
)
def test_without_chromium_tests_are_skipped_but_fail_in_ci(monkeypatch, environment, outcome):
    for name in ("CI", "DLRM_BROWSER", "CHROMIUM"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PATH", "/nowhere")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(outcome, match="Chromium is missing: apt install chromium"):
        browser.require()
    monkeypatch.setitem(sys.modules, "playwright", None)
    with pytest.raises(outcome, match="Playwright is missing: pip install playwright"):
        browser.require()


def test_the_folder_of_pictures_is_one_that_a_run_may_empty(monkeypatch, tmp_path):
    monkeypatch.setattr(browser, "PICTURES", tmp_path / "output" / "browser")
    assert browser.make_pictures().is_dir()
    with _fresh(tmp_path / "output", keep=None):
        assert not browser.PICTURES.exists()


def test_chromium_is_the_one_that_is_named_or_found(monkeypatch, tmp_path):
    for name in ("chromium-browser", "google-chrome", "mine"):
        shutil.copy(shutil.which("true"), tmp_path / name)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("CHROMIUM", "")
    assert browser.chromium() == str(tmp_path / "chromium-browser")
    monkeypatch.setenv("CHROMIUM", str(tmp_path / "mine"))
    assert browser.chromium() == str(tmp_path / "mine")
    monkeypatch.setenv("CHROMIUM", str(tmp_path / "gone"))
    assert browser.chromium() is None


@pytest.mark.parametrize(
    ("there", "apt", "sentence"),
    [
        (["google-chrome"], "exit 0", None),
        ([], "exit 0", None),
        ([], "exit 1", "Debian's chromium could not be installed: the tests in a browser will fail."),
    ],
)
def test_ci_installs_chromium_where_there_is_none(checkout, tmp_path, there, apt, sentence):
    """.ci/run in a folder with nothing to run, and with commands that only say what they were asked."""
    programs, asked = tmp_path / "bin", tmp_path / "asked"
    programs.mkdir()
    scripts = {"apt-get": f'echo "$@" >> {asked}; {apt}', "sudo": 'shift; exec "$@"', "git": "exit 0"}
    scripts |= {"java": "echo jdk.incubator.vector@17", **dict.fromkeys(there, "exit 0")}
    for name, script in scripts.items():
        (programs / name).write_text(f"#!{shutil.which('sh')}\n{script}\n")
    for name in ("dirname", "grep", "id", "mktemp", "rm", "tail", "tee"):
        (programs / name).symlink_to(shutil.which(name))
    for name in (".ci/run", "ci/run", "ci/test"):
        (tmp_path / "checkout" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "checkout" / name).write_text("exit 0\n")
    shutil.copy(checkout / ".ci" / "run", tmp_path / "checkout" / ".ci" / "run")
    for path in (*programs.iterdir(), *tmp_path.glob("checkout/ci/*")):
        path.chmod(0o755)
    environment = {name: value for name, value in os.environ.items() if name not in ("CHROMIUM", "JAVA_HOME")}
    environment["PATH"] = str(programs)
    command = [shutil.which("bash"), str(tmp_path / "checkout" / ".ci" / "run")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert asked.exists() == (not there)
    assert done.stderr.splitlines() == ([sentence] if sentence else [])
    if not there and not sentence:
        assert asked.read_text().splitlines() == ["-qq update", "-qq install -y --no-install-recommends chromium"]
