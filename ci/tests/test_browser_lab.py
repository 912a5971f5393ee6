"""The tuning lab in a real browser, used as a person uses it."""

from __future__ import annotations

import time

import pytest

CHAPTER, CELL = "07_tuning_lab.ipynb", "the-lab"
BENCH = "lab = [o for o in Out.values() if type(o).__name__ == 'Bench'][-1]"
THREADS = "[t.name for t in __import__('threading').enumerate() if t.name in ('training', 'search')]"
WIDGETS = "len(__import__('ipywidgets').widgets.widget._instances)"


class Panel:
    """The lab on the screen."""

    def __init__(self, notebook) -> None:
        self.notebook, self.box = notebook, notebook.page.locator(".dlrm-lab")
        self.box.wait_for()
        notebook.kernel(BENCH)  # as a test asks for it

    def button(self, name):
        return self.box.locator(f"button.jupyter-button:has-text('{name}')").first

    def field(self, name):
        return self.box.locator(f".dlrm-field-{name}")

    def type(self, name, text):
        self.field(name).locator("input[type=text]").fill(text)
        self.field(name).locator("input[type=text]").press("Enter")

    def says(self, text):
        return text in self.box.locator(".dlrm-training").inner_text()

    def until(self, holds, seconds=20):
        return self.notebook.until(holds, seconds=seconds)

    def lines(self):
        """The number of points of each line that is drawn."""
        return self.box.locator(".dlrm-curves polyline").evaluate_all("lines => lines.map(line => line.points.length)")

    def runs(self):
        return self.box.locator(".dlrm-runs table.dataTable tbody tr:not(:has(.dt-empty))")


@pytest.fixture
def panel(lab):
    notebook = lab.open(CHAPTER)
    notebook.run_to(CELL, seconds=240)
    return Panel(notebook)


def test_a_person_tunes(panel):
    notebook = panel.notebook
    # What a change costs is said before anything is trained.
    before = panel.box.locator(".dlrm-tiles").inner_text()
    panel.field("batch_size").get_by_role("slider").press("ArrowLeft")
    notebook.until("lab.form.config.training.batch_size == 512")
    panel.until(lambda: panel.box.locator(".dlrm-tiles").inner_text() != before)
    panel.field("batch_size").get_by_role("slider").press("ArrowRight")

    # A wrong value is said beside its field, and cannot be trained.
    panel.type("bottom_mlp_sizes", "64,x,16")
    panel.field("bottom_mlp_sizes").get_by_role("alert").wait_for()
    assert "--bottom_mlp_sizes takes whole numbers" in panel.field("bottom_mlp_sizes").inner_text()
    panel.until(lambda: panel.button("Train").is_disabled())
    notebook.screenshot("07-wrong", cell=CELL)
    panel.type("bottom_mlp_sizes", "64,32,16")
    panel.until(lambda: panel.button("Train").is_enabled())

    # A run to its end.
    panel.button("Train").click()
    panel.until(lambda: panel.says("finished"), 60)
    panel.until(lambda: panel.runs().count() >= 1)

    # A long one: its curve grows, it waits, goes on, and stops.
    panel.type("epochs", "400")
    panel.button("Train").click()
    panel.until(lambda: panel.says("running") and max(panel.lines(), default=0) >= 1)
    points = max(panel.lines())
    panel.until(lambda: max(panel.lines()) > points)
    panel.button("Pause").click()
    panel.until(lambda: panel.says("paused"))
    step = notebook.kernel("lab.training.live.run.step")
    notebook.page.wait_for_timeout(300)
    assert notebook.kernel("lab.training.live.run.step") == step
    panel.button("Resume").click()
    notebook.until(f"lab.training.live.run.step > {step}")
    notebook.screenshot("07-training", cell=CELL)
    clicked = time.monotonic()
    panel.button("Stop").click()
    panel.until(lambda: panel.says("stopped"), 10)
    print(f"Stop was seen in the page after {time.monotonic() - clicked:.2f} s")
    notebook.until(f"{THREADS} == []")  # it is the thread itself that says so, as the last thing it does

    # Two runs side by side, and the settings of one again.
    first, second = panel.runs().nth(0), panel.runs().nth(1)
    second.click()
    panel.until(lambda: panel.box.locator(".dlrm-curves .legend b").count() == 2)
    first.click()
    notebook.until("len(lab.runs.chosen) == 2")
    panel.box.locator(".dlrm-curves svg").hover()
    panel.until(lambda: "rows/s" in panel.box.locator(".dlrm-curves .legend").inner_text())
    for theme, width in (("light", 1280), ("dark", 1280), ("light", 1920), ("dark", 1920)):
        notebook.look(theme, width)
        notebook.page.wait_for_timeout(500)
        notebook.screenshot(f"07-{theme}-{width}", cell=CELL)
    first.click()
    notebook.until("len(lab.runs.chosen) == 1")
    panel.button("Take these settings").click()
    notebook.until("lab.form.config.training.epochs != 400")
    assert panel.field("epochs").locator("input[type=text]").input_value() != "400"


def test_no_training_is_left_behind(panel):
    notebook = panel.notebook
    widgets = notebook.kernel(WIDGETS)
    for _ in range(2):
        panel.type("epochs", "400")
        panel.button("Train").click()
        notebook.until("lab.training.live and lab.training.live.run.step > 3")
        notebook.kernel("before = lab.training.live")
        notebook.run_cell(CELL)
        notebook.kernel(BENCH)
        notebook.until("before.run.state == 'stopped'")
        assert notebook.kernel(THREADS) == []
        notebook.until("lab.training.live is None")
        assert notebook.kernel(WIDGETS) == widgets  # nor are widgets: each would make the page slower to open again

    # The page is closed while a run trains: it goes on, is there when the page is opened again, and can be stopped.
    panel.type("epochs", "400")
    panel.button("Train").click()
    notebook.until("lab.training.live and lab.training.live.run.step > 3")
    notebook.page.keyboard.press("Control+s")
    notebook.page.wait_for_timeout(1000)
    notebook.reopen(panel.box)
    assert notebook.kernel(THREADS) == ["training"]
    panel.box.scroll_into_view_if_needed()
    panel.until(lambda: max(panel.lines(), default=0) > 1)
    points = max(panel.lines())
    panel.until(lambda: max(panel.lines()) > points)
    notebook.run_cell(CELL)
    notebook.kernel(BENCH)
    assert notebook.kernel(THREADS) == []
    assert Panel(notebook).runs().count() >= 3

    panel.type("epochs", "400")
    panel.button("Train").click()
    notebook.until("lab.training.live and lab.training.live.run.step > 3")
    notebook.restart_kernel()
    assert notebook.kernel(THREADS) == []


def test_a_search_runs_in_the_background(panel):
    notebook = panel.notebook
    panel.box.get_by_role("tab", name="Search").click()
    notebook.kernel("lab.search.trials.value = 3")
    panel.button("Search").click()
    notebook.until("lab.search.search and lab.search.search.state == 'finished'", seconds=120)
    panel.until(lambda: "3 of 3 trials" in panel.box.inner_text())
    notebook.screenshot("07-search", cell=CELL)
    panel.button("Take the best settings").click()
    notebook.until("lab.form.config == lab.search.search.best_config")
