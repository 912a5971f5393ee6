"""A chapter that is open in JupyterLab, and what a person does with it."""

from __future__ import annotations

import ast
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

HEIGHTS = {1280: 800, 1920: 1080}
"""Width of the window → its height, in pixels."""
_PANEL = ".jp-NotebookPanel:not(.lm-mod-hidden)"


class Notebook:
    """An open chapter, which ``browser.Lab.open`` makes.

    Attributes:
        page: Playwright's: ``notebook.page.get_by_role("button", name="Stop").click()``.
        reopening: Whether ``reopen`` is at work, which makes good what the page may complain of meanwhile.
    """

    def __init__(self, page: Page, address: str, ids: list[str], pictures: Path) -> None:
        """``ids`` are those of its cells, in order; screenshots go to ``pictures``."""
        self.page, self.reopening = page, False
        self._address = address
        self._ids = ids
        self._pictures = pictures

    def load(self) -> None:
        """Loads the page. The second time it is the tab, closed and opened again: what was saved, the same kernel."""
        self.page.goto(self._address)
        self.page.locator("#jupyterlab-splash").wait_for(state="detached", timeout=60_000)
        self.page.locator(f"{_PANEL} .jp-Notebook .jp-Cell").first.wait_for(timeout=60_000)
        self._do("await panel.context.ready; await panel.sessionContext.ready", seconds=60)

    def reopen(self, shows: Locator) -> None:
        """Loads the page again, until it shows this. Raises a TimeoutError if it does not.

        JupyterLab looks for a widget for two seconds, and gives up for good if the kernel's answer comes amid the last
        look. What a person does then, load the page once more, is done here as well.
        """
        given_up = self.page.get_by_text("Error displaying widget: model not found")
        self.reopening = True
        try:
            for _ in range(3):
                self.load()
                shows.or_(given_up).first.wait_for(timeout=60_000)
                if shows.count():
                    return
        finally:
            self.reopening = False
        raise TimeoutError(f"JupyterLab gave up three times on {shows}")

    def run_all(self, *, seconds: float = 120) -> None:
        """Run > Run All Cells. Raises an AssertionError if a cell raised, a TimeoutError if it takes longer."""
        self._run("notebook:run-all-cells", 0, seconds)

    def run_to(self, cell: str, *, seconds: float = 120) -> None:
        """Runs every cell down to the one of this id, and that one."""
        if cell == self._ids[-1]:
            self.run_all(seconds=seconds)
        else:
            self._run("notebook:run-all-above", self._ids.index(cell) + 1, seconds)

    def run_cell(self, cell: str, *, seconds: float = 120) -> None:
        """Runs the cell of this id alone."""
        self._run("notebook:run-cell", self._ids.index(cell), seconds)

    def restart_kernel(self) -> None:
        """Kernel > Restart Kernel, with no question asked."""
        self._do("await panel.sessionContext.session.kernel.restart()", seconds=60)

    def kernel(self, code: str, *, seconds: float = 60) -> Any:
        """Runs code in the notebook's kernel and returns the value of its last expression, which JSON must know."""
        *statements, last = ast.parse(code).body
        expression = ast.unparse(last) if isinstance(last, ast.Expr) else "None"
        before = ast.unparse(ast.Module(statements if isinstance(last, ast.Expr) else [*statements, last], []))
        reply = self._do(
            "const kernel = panel.sessionContext.session.kernel;"
            "const user_expressions = {value: `__import__('json').dumps(${given[1]})`};"
            "const request = {code: given[0], store_history: false, allow_stdin: false, user_expressions};"
            "return (await kernel.requestExecute(request).done).content",
            [before, expression],
            seconds=seconds,
        )
        answer = reply["user_expressions"]["value"] if reply["status"] == "ok" else reply
        if answer["status"] != "ok":
            raise AssertionError(f"{code!r} in the kernel: {answer['ename']}: {answer['evalue']}")
        return json.loads(ast.literal_eval(answer["data"]["text/plain"]))

    def until(self, what: str | Callable[[], bool], *, seconds: float = 20) -> float:
        """Waits until an expression is true in the kernel, or a function is here; returns after how many seconds."""
        start = time.monotonic()
        while not (self.kernel(f"bool({what})") if isinstance(what, str) else what()):
            if time.monotonic() - start > seconds:
                raise AssertionError(f"Not within {seconds:g} s: {what}")
            self.page.wait_for_timeout(50)
        return time.monotonic() - start

    def cell(self, cell: str) -> Locator:
        """The cell of this id, with its output: ``notebook.cell("code-13").locator("img")``."""
        return self.page.locator(f"{_PANEL} .jp-Notebook .jp-Cell").nth(self._ids.index(cell))

    def look(self, theme: str, width: int) -> None:
        """Makes what is open light or dark, and the window 1280 or 1920 pixels wide."""
        self.page.set_viewport_size({"width": width, "height": HEIGHTS[width]})
        name = {"light": "JupyterLab Light", "dark": "JupyterLab Dark"}[theme]
        self._do("await jupyterapp.commands.execute('apputils:change-theme', {theme: given})", name)
        self.page.locator(f"body[data-jp-theme-name='{name}']").wait_for(state="attached")

    def screenshot(self, name: str, *, cell: str | None = None) -> Path:
        """Keeps the window as it is, or one whole cell, as ``name``.png in the folder of pictures."""
        path = self._pictures / f"{name}.png"
        if cell:
            before, height = self.page.viewport_size, self.cell(cell).bounding_box()["height"]
            # A cell must be in the window as a whole: the rest of the page does not scroll with it.
            self.page.set_viewport_size({"width": before["width"], "height": max(before["height"], int(height) + 250)})
            self.cell(cell).screenshot(path=path)
            self.page.set_viewport_size(before)
        else:
            self.page.screenshot(path=path)
        return path

    def whole(self, name: str, height: int = 2000) -> list[Path]:
        """Keeps the notebook from top to end, as ``name``-1.png, ``name``-2.png and so on, each ``height`` pixels."""
        before = self.page.viewport_size
        self.page.set_viewport_size({"width": before["width"], "height": height + 200})
        # Cells get their true height when they are first in sight: once through the notebook, and again.
        for keep in (False, True):
            paths, top, end = [], 0, 1
            while top < end:
                end, view = self._do(
                    "const outer = panel.node.querySelector('.jp-WindowedPanel-outer'); outer.scrollTop = given;"
                    "const view = outer.getBoundingClientRect();"
                    "const last = [...outer.querySelectorAll('.jp-Cell')].at(-1).getBoundingClientRect();"
                    "return [last.bottom - view.top + outer.scrollTop, view.toJSON()]",
                    top,
                )
                self.page.wait_for_timeout(150)
                if keep:
                    paths.append(self._pictures / f"{name}-{len(paths) + 1}.png")
                    clip = {side: view[side] for side in ("x", "y", "width")}
                    self.page.screenshot(path=paths[-1], clip=clip | {"height": min(view["height"], end - top)})
                top += view["height"]
        self.page.set_viewport_size(before)
        return paths

    def _run(self, command: str, active: int, seconds: float) -> None:
        self._do(
            "panel.content.activeCellIndex = given[1]; panel.content.deselectAll();"
            "await jupyterapp.commands.execute(given[0])",
            [command, active],
            seconds=seconds,
        )
        errors = self._do(
            "return [...panel.content.model.cells].flatMap(cell => (cell.sharedModel.outputs ?? [])"
            ".filter(o => o.output_type == 'error').map(o => `${cell.id}: ${o.ename}: ${o.evalue}`))"
        )
        assert not errors, "\n".join(errors)

    def _do(self, script: str, given: Any = None, *, seconds: float = 30) -> Any:
        """Runs JavaScript that knows the notebook as ``panel``; Playwright would wait for it without end."""
        from playwright.sync_api import Error

        late = "the time was up"
        try:
            return self.page.evaluate(
                f"given => {{ const panel = jupyterapp.shell.currentWidget; return Promise.race(["
                f"(async () => {{ {script} }})(),"
                f"new Promise((_, refuse) => setTimeout(() => refuse(new Error('{late}')), {1000 * seconds}))]) }}",
                given,
            )
        except Error as error:
            if late in error.message:
                raise TimeoutError(f"Not done after {seconds:g} s: {given if given else script}") from None
            raise
