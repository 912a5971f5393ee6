"""A person at the workbook, for tests: JupyterLab in headless Chromium, moved by Playwright.

In a test, with the fixture ``lab`` of ``conftest.py`` (server, browser and kernels are ended however the test ends)::

    def test_it_counts(lab):
        notebook = lab.open("07_tuning_lab.ipynb", theme="dark", width=1920)
        notebook.run_to("code-12")
        notebook.page.get_by_role("button", name="Train").click()
        notebook.until("live.run.step > 0")
        notebook.screenshot("07_training")

By hand, to look at a chapter::

    python ci/tests/browser.py 07 --run-all --whole --theme dark --width 1920 --out /tmp/chapter.png
    python ci/tests/browser.py 05 --run-to code-13 --cell code-13 -p seed 7

The preset is smoke unless ``-p preset laptop`` says otherwise. Data sets are kept in ``ci/output/browser/work``, so
that a second look is quick; two looks at a time need a ``-p work_dir FOLDER`` of their own.
"""

from __future__ import annotations

import argparse
import ast
import importlib.util
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
from lab_server import LabServer
from notebook_page import HEIGHTS, Notebook

if TYPE_CHECKING:
    from playwright.sync_api import ConsoleMessage

CHECKOUT = Path(__file__).resolve().parent.parent.parent
PICTURES = CHECKOUT / "ci" / "output" / "browser"
# Errors that JupyterLab itself writes to the console and that harm nothing, with the reason.
HARMLESS = {
    "Could not restore the debugger state": "it asks a new kernel about its debugger, and the kernel is restarted",
}


def chromium() -> str | None:
    """Where Chromium is: what CHROMIUM names, or the first one on PATH."""
    named = os.environ.get("CHROMIUM")
    names = [named] if named else ["chromium", "chromium-browser", "google-chrome"]
    return next(filter(None, map(shutil.which, names)), None)


def missing() -> str | None:
    """A sentence that says what is missing to open a browser, and how it is installed."""
    if not importlib.util.find_spec("playwright"):
        return "Playwright is missing: pip install playwright (./ci/test installs it)."
    if not chromium():
        return "Chromium is missing: apt install chromium, or let CHROMIUM name the program."
    return None


def require() -> None:
    """Skips the test where a browser cannot be opened; fails it in CI, and where DLRM_BROWSER=required."""
    if sentence := missing():
        required = os.environ.get("CI") == "true" or os.environ.get("DLRM_BROWSER") == "required"
        (pytest.fail if required else pytest.skip)(sentence)


def make_pictures() -> Path:
    """Makes PICTURES and returns it, with the mark by which ./ci/run knows that it may empty ``ci/output``."""
    PICTURES.mkdir(parents=True, exist_ok=True)
    (PICTURES.parent / ".workbook-run").touch()
    return PICTURES


class Lab:
    """A browser in front of a JupyterLab; a context that ends it.

    Attributes:
        complaints: Errors on the console, errors in scripts, and requests that were to leave the machine. Leaving the
            context raises them as an AssertionError.
    """

    def __init__(self, server: LabServer, pictures: Path, *, last: str | None = None) -> None:
        """Screenshots go to ``pictures``; ``last`` names those of the last sight of each notebook, taken in the end."""
        self.complaints: list[str] = []
        self._server = server
        self._pictures = pictures
        self._last = last
        self._open: list[Notebook] = []

    def __enter__(self) -> Lab:
        from playwright.sync_api import sync_playwright

        self._playwright = sync_playwright().start()
        try:
            # In a container a browser has no sandbox of its own, and little shared memory. No name but this machine's
            # is looked up: what does try to leave is found, and does not.
            arguments = ["--no-sandbox", "--disable-dev-shm-usage"]
            arguments += ["--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"]
            self._browser = self._playwright.chromium.launch(executable_path=chromium(), args=arguments)
        except BaseException:
            self._playwright.stop()
            raise
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        try:
            for number, notebook in enumerate(self._open, 1):
                if self._last and not notebook.page.is_closed():
                    notebook.screenshot(f"{self._last}-last-{number}")
        finally:
            try:
                self._browser.close()
            finally:
                self._playwright.stop()
                self._server.end_kernels()
        if self.complaints and kind is None:
            raise AssertionError("The browser complained:\n" + "\n".join(self.complaints))

    def open(self, name: str, *, theme: str = "light", width: int = 1280, **parameters: Any) -> Notebook:
        """Opens a chapter, as it is in the checkout, in a tab of its own; with a new kernel, unless it was open before.

        Args:
            name: Of a file in ``notebooks/``.
            theme: "light" or "dark".
            width: Of the window, in pixels: 1280 or 1920.
            parameters: Values for its parameters cell, besides those of the server.
        """
        ids = self._server.put(name, **parameters)
        page = self._browser.new_page(viewport={"width": width, "height": HEIGHTS[width]})
        page.context.on("request", lambda request: self._look_at(request.url))
        page.on("websocket", lambda socket: self._look_at(socket.url))
        page.on("pageerror", lambda error: self.complaints.append(f"{name}: {error.stack or error}"))
        page.on("console", lambda message: self._listen(name, message))
        address = f"{self._server.url}lab/tree/notebooks/{name}?reset&token={self._server.token}"
        notebook = Notebook(page, address, ids, self._pictures)
        self._open.append(notebook)
        notebook.load()
        notebook.look(theme, width)
        return notebook

    def _look_at(self, url: str) -> None:
        if urlsplit(url).scheme in ("http", "https", "ws", "wss") and urlsplit(url).hostname != "127.0.0.1":
            self.complaints.append(f"A request was to leave this machine: {url}")

    def _listen(self, name: str, message: ConsoleMessage) -> None:
        given_up = "widget model not found" in message.text and any(notebook.reopening for notebook in self._open)
        if message.type == "error" and not given_up and not any(known in message.text for known in HARMLESS):
            self.complaints.append(f"{name}: {message.text} ({message.location.get('url', '')})")


def main() -> None:
    parser = argparse.ArgumentParser(description="Takes screenshots of a chapter in JupyterLab.")
    parser.add_argument("notebook", help="a chapter, by its number or name")
    parser.add_argument("--run-all", action="store_true", help="run every cell first")
    parser.add_argument("--run-to", metavar="CELL", help="run the cells down to the one of this id first")
    parser.add_argument("--whole", action="store_true", help="the whole notebook, in pictures of 2,000 pixels' height")
    parser.add_argument("--cell", help="only the cell of this id, with its output")
    parser.add_argument("--theme", choices=["light", "dark"], default="light")
    parser.add_argument("--width", type=int, choices=HEIGHTS, default=1280)
    parser.add_argument("--seconds", type=float, default=600, help="how long the cells may run")
    parser.add_argument("--out", type=Path, default=PICTURES / "look.png", metavar="FILE.png")
    parser.add_argument("-p", dest="parameters", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"))
    args = parser.parse_args()
    if sentence := missing():
        parser.exit(2, sentence + "\n")
    chapters = sorted((CHECKOUT / "notebooks").glob("*.ipynb"))
    chosen = [path.name for path in chapters if args.notebook in (path.name, path.stem, path.stem[:2])]
    if not chosen:
        parser.error(f"there is no {args.notebook}; there are {', '.join(path.stem for path in chapters)}")
    parameters = {"preset": "smoke", "work_dir": str(make_pictures() / "work")}
    for name, value in args.parameters:
        try:
            parameters[name] = ast.literal_eval(value)
        except (SyntaxError, ValueError):
            parameters[name] = value

    with (
        tempfile.TemporaryDirectory() as folder,
        LabServer(Path(folder) / "lab", CHECKOUT, parameters) as server,
        Lab(server, args.out.resolve().parent) as lab,
    ):
        notebook = lab.open(chosen[0], theme=args.theme, width=args.width)
        if args.run_all:
            notebook.run_all(seconds=args.seconds)
        elif args.run_to:
            notebook.run_to(args.run_to, seconds=args.seconds)
        name = args.out.stem
        for picture in notebook.whole(name) if args.whole else [notebook.screenshot(name, cell=args.cell)]:
            print(picture)


if __name__ == "__main__":
    sys.exit(main())
