"""Chapter 06: its pictures, its explorer, and what its prose says about programs and flags."""

from __future__ import annotations

import csv
import io
import itertools
import json
import re

import numpy as np
import pytest
import torch
from ipywidgets import Widget
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.image import imread

from dlrm_lib.commands.parser import parse_arguments
from dlrm_lib.config import Config
from dlrm_lib.exercises.chapter_06 import count_compilations, pad_bags
from dlrm_lib.lab.explorers.bag import bag
from dlrm_lib.plots import AMBER, GREEN, ORANGE, gaudi
from runner.cells import tagged_source

FIVE = pad_bags([[3, 7], [7], [1, 3, 5, 8], [], [3, 5, 7]], 4, 9)


def texts(ax):
    return [text.get_text() for text in ax.texts if text.get_text()]


def test_drawings_say_that_they_are_drawings():
    (ax,) = gaudi.card().axes
    assert "Drawing" in ax.get_title(loc="left")
    titles = [ax.get_title(loc="left") for ax in gaudi.modes().axes]
    assert [title.partition(" ")[0] for title in titles] == ["Eager", "Lazy", "Compile"]
    assert all("drawn, not measured" in title for title in titles)


@pytest.mark.parametrize("way", [gaudi._eager, gaudi._lazy, gaudi._compile])
def test_timelines_are_possible(way):
    """Nobody does two things at a time, and nothing runs before the host has started it."""
    host, device = way()
    for blocks in (host, device):
        assert all(a + width <= b + 1e-9 for (a, width, _), (b, _, _) in itertools.pairwise(blocks))
    started = [start + width for start, width, name in host if name.startswith("start") or name == "mark_step"]
    assert all(run >= start for (run, _, _), start in zip(device, started, strict=True))


def test_lazy_mode_compiles_in_the_first_step_alone_and_runs_afterwards():
    host, device = gaudi._lazy()
    compiled = [start + width for start, width, name in host if name == "compile"]
    assert [name for _, _, name in host].index("compile") == 2
    assert len(compiled) == 2
    assert len(device) == 6
    assert [start for start, _, _ in device[:2]] == compiled


def test_compilations_are_drawn_from_the_first_batch_on():
    (ax,) = gaudi.compilations({"lists": [1, 2, 3], "padded": [1, 1, 1]}).axes
    assert [line.get_xydata().tolist() for line in ax.lines] == [[[1, 1], [2, 2], [3, 3]], [[1, 1], [2, 1], [3, 1]]]


def test_recordings_show_each_graph_and_what_was_compiled():
    (ax,) = gaudi.recordings({"one": [(100, True), (20, True), (100, False)], "two": [(220, True)]}).axes
    bars = [(bar.get_x(), bar.get_width(), to_hex(bar.get_facecolor())) for bar in ax.patches if bar.get_width()]
    new, known = ORANGE.lower(), GREEN.lower()
    assert bars == [(0, 100, new), (100, 20, new), (120, 100, known), (0, 220, new)]
    assert texts(ax) == ["2 of 3 compiled,\nwith 120 operators", "1 of 1 compiled,\nwith 220 operators"]


def test_coalescing_shows_the_values_and_one_bag():
    (ax,) = gaudi.coalescing(FIVE.numpy(), 9, 0).axes
    shown = [text for text in texts(ax) if text.isdigit()]
    rows = ["1", "3", "5", "7", "8", *["9"] * 15]
    source = ["0", "1", "2", "3", "4", *["5"] * 15]
    places = ["1", "3", "5", "5", "3", "5", "5", "5", "0", "1", "2", "4", "5", "5", "5", "5", "1", "2", "3", "5"]
    assert shown == [*map(str, FIVE.flatten().tolist()), *rows, *map(str, range(20)), *source, *places]
    coloured = [to_hex(patch.get_facecolor()) == AMBER.lower() for patch in ax.patches]
    ids, of_rows, of_source, of_places = np.array(coloured).reshape(4, 20)
    assert np.flatnonzero(ids).tolist() == np.flatnonzero(of_places).tolist() == [0, 1]
    assert np.flatnonzero(of_rows).tolist() == np.flatnonzero(of_source).tolist() == [1, 3]


def test_coalescing_stops_at_a_stage():
    counts = [len(gaudi.coalescing(FIVE.numpy(), 9, 0, stage).axes[0].patches) for stage in gaudi.STAGES]
    assert counts == [20, 40, 60, 80]


def test_operators_have_the_colour_of_their_list():
    (ax,) = gaudi.operators(["embedding", "linear", "relu"], ["linear"], ["embedding"]).axes
    assert texts(ax) == ["embedding", "linear", "relu"]
    assert len({patch.get_facecolor() for patch in ax.patches}) == 3
    (legend,) = ax.figure.legends
    keys = dict(zip([t.get_text() for t in legend.get_texts()], legend.get_patches(), strict=True))
    assert keys["in bf16"].get_facecolor() == ax.patches[1].get_facecolor()
    assert keys["in fp32"].get_facecolor() == ax.patches[0].get_facecolor()


def test_speeds_stand_beside_each_other_or_say_why_not():
    (ax,) = gaudi.speeds({"theirs": 20_000.0}, {"fp32": 400.0, "bf16": "not run"}, 5e8).axes
    assert [bar.get_width() for bar in ax.patches] == [20_000.0, 400.0, 0.0]
    assert texts(ax) == ["20,000 (10 TFLOP/s)", "400 (0.2 TFLOP/s)", "not run"]


def pixels(png):
    return imread(io.BytesIO(png), format="png")[..., :3]


def test_the_explorer_shows_what_a_new_figure_would():
    controls, picture = bag(FIVE, 9, 2).children
    of_bag, of_stage = controls.children
    for chosen, stage in ((4, "places"), (4, "rows"), (0, "bags")):
        of_bag.value, of_stage.value = chosen, stage
        png = io.BytesIO()
        gaudi.coalescing(FIVE.numpy(), 9, chosen, stage).savefig(png, format="png", dpi="figure")
        assert np.abs(pixels(picture.value) - pixels(png.getvalue())).max() < 0.02
    assert (of_bag.min, of_bag.max) == (0, 4)


def test_headless_is_a_picture_and_makes_no_widget(monkeypatch):
    monkeypatch.setattr(Widget, "__init__", lambda *_, **__: pytest.fail("a widget was made"))
    assert isinstance(bag(FIVE, 9, headless=True), Figure)


def test_habanas_figures_are_not_among_those_of_another_network(checkout):
    with (checkout / "data" / "published_results.csv").open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["system"].startswith("Habana")]
    assert {row["precision"]: float(row["value"]) for row in rows} == {"bf16": 36957, "fp32": 20197}
    assert {row["metric"] for row in rows} == {"training throughput, Medium"}


@pytest.fixture(scope="module")
def notebook(checkout):
    return checkout / "notebooks" / "06_bf16_on_gaudi.ipynb"


@pytest.fixture(scope="module")
def model_of_lazy_mode(notebook):
    """What the chapter's cells define; they run as they stand."""
    names = {"seed": 12345}
    exec(compile(tagged_source(notebook, "lazy_model"), notebook.name, "exec"), names)
    return names


def test_marks_in_their_places_make_two_programs_and_others_more_or_longer_ones(model_of_lazy_mode):
    names = model_of_lazy_mode
    runs = {
        name: names["graphs"](names["StandIn"], names["StandIn"](marks), loss_every=4)
        for name, marks in {"all": lambda call: True, "none": lambda call: False, "third": lambda c: c % 3 == 0}.items()
    }
    compiled = {name: [operators for operators, new in run if new] for name, run in runs.items()}
    assert len(compiled["all"]) == 2
    assert min(len(compiled["none"]), len(compiled["third"])) >= 2
    assert sum(compiled["none"]) > 4 * sum(compiled["all"])
    assert len(compiled["third"]) > 2
    assert len({sum(operators for operators, _ in run) for run in runs.values()}) == 1
    assert [operators for operators, _ in runs["all"]] == compiled["all"] * 10


def test_the_usual_step_is_a_new_program_nearly_every_time(model_of_lazy_mode):
    names = model_of_lazy_mode
    run = names["graphs"](names["Cpu"], names["StandIn"]())
    assert len(run) == 10
    assert sum(new for _, new in run) >= 8


def test_the_recorder_and_the_exercise_count_alike(model_of_lazy_mode):
    recorder, calls = model_of_lazy_mode["Recorder"](), []
    for size in (2, 3, 2, 0, 3):
        with recorder:
            for _ in range(size):
                torch.ones(2) + 1
        recorder.cut()
        calls += ["add"] * size + ["mark_step"]
    assert sum(new for _, new in recorder.ran) == count_compilations(calls) == 2


def test_the_environment_comes_before_torch(notebook):
    cells = [cell for cell in json.loads(notebook.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == "code"]
    sources = ["".join(cell["source"]) for cell in cells]
    prepared = next(i for i, source in enumerate(sources) if "environment.prepare(" in source)
    imports = [line for source in sources[: prepared + 1] for line in source.splitlines() if "import " in line]
    assert imports == [  # none of which imports torch: test_process.py executes them
        "from dlrm_lib.backends.gaudi import environment",
        "from dlrm_lib.config import Config",
        "from dlrm_lib.process import prepare",
    ]


def test_every_flag_of_today_is_there(notebook):
    text = "".join("".join(cell["source"]) for cell in json.loads(notebook.read_text(encoding="utf-8"))["cells"])
    rows = [row.split("|") for row in re.findall(r"^\|.*--.*\|$", text, re.M) if not row.startswith("|---")]
    assert len(rows) > 8
    flags = {flag for _, _, today, _ in rows for flag in re.findall(r"--(\w+)", today)}
    known = vars(parse_arguments(["train", "--preset=gaudi_medium"]))
    assert flags - set(known) == set()


@pytest.mark.parametrize("execution", ["eager", "lazy", "compile"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_published_demos_are_commands(execution, precision):
    demo = Config.from_preset("gaudi_medium", {"device": "hpu", "execution": execution, "precision": precision})
    words = demo.flags(["data", "model", "training"])
    arguments = parse_arguments(["train", *words])
    assert len(words) == 4
    assert (arguments.preset, arguments.device) == ("gaudi_medium", "hpu")
    assert (arguments.execution, arguments.precision) == (execution, precision)
