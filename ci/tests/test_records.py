"""Records come back as they were written, say where they come from, and broken ones are named."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest
from matplotlib.image import imread

from dlrm_lib import plots
from dlrm_lib.errors import InputError
from dlrm_lib.records import Record, hardware, read_record, versions, write_record

CPU = {"cpu": "Intel(R) Xeon(R) CPU E5-2690 v4 @ 2.60GHz", "cores": 2, "memory_gib": 23.6, "system": "Linux"}


def record(**parts) -> Record:
    usual = {"what": "speed", "config": {}, "hardware": CPU, "versions": {"torch": "2.13.0+cpu"}, "command": "measure"}
    return Record(**{**usual, "date": "2026-01-02T03:04:05+00:00", "metrics": {"x": 1}, **parts})


def test_a_record_comes_back_as_it_was_written(tmp_path):
    path = tmp_path / "speed.json"
    write_record(path, what="speed", config={"repeats": 3}, metrics={"samples_per_second": [1.5, 2.5]}, command="go")
    found = read_record(path)
    assert (found.what, found.config, found.command) == ("speed", {"repeats": 3}, "go")
    assert found.metrics == {"samples_per_second": [1.5, 2.5]}
    assert (found.hardware, found.versions) == (hardware(), versions())
    assert found.here


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda r: r.pop("hardware"), r"speed\.json lacks hardware"),
        (lambda r: r.pop("command"), r"speed\.json lacks command"),
        (lambda r: r.update(speed=3), r"speed\.json has an unknown part, speed"),
        (lambda r: r.update(metrics=[1, 2]), r"metrics of the record .* is no JSON object"),
        (lambda r: r.update(what=7), r"what of the record .* is no text"),
        (lambda r: r.update(date="yesterday"), r"date of the record .* is not in ISO 8601"),
        (lambda r: r["hardware"].pop("cores"), r"hardware of the record .* lacks cores"),
    ],
)
def test_a_record_that_lacks_something_is_named(tmp_path, change, message):
    path = tmp_path / "speed.json"
    write_record(path, what="speed", config={}, metrics={}, command="go")
    document = json.loads(path.read_text(encoding="utf-8"))
    change(document)
    path.write_text(json.dumps(document), encoding="utf-8")
    with pytest.raises(InputError, match=message):
        read_record(path)


@pytest.mark.parametrize(("content", "message"), [("{", "is not JSON"), ("[1]", "is no JSON object")])
def test_a_file_that_is_no_record_is_named(tmp_path, content, message):
    path = tmp_path / "speed.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(InputError, match=message):
        read_record(path)
    with pytest.raises(InputError, match="cannot be read"):
        read_record(tmp_path / "absent.json")


@pytest.mark.parametrize(
    ("machine", "label"),
    [
        (CPU, "2 cores, Intel Xeon E5-2690 v4, 24 GiB"),
        ({"cpu": "x86_64", "cores": 1}, "1 core, x86_64"),
        ({**CPU, "cores": 16, "gpu": "NVIDIA H100"}, "NVIDIA H100, 16 cores"),
    ],
)
def test_the_machine_in_a_few_words(machine, label):
    assert record(hardware=machine).machine == label
    assert record(hardware=machine).origin == f"{label} · torch 2.13.0 · 2026-01-02"


def test_another_machine_is_not_this_one():
    this = hardware()
    assert record(hardware={**this, "cores": this["cores"] + 5}).here
    for part, other in (("cpu", "another"), ("memory_gib", 1.0), ("system", "another"), ("gpu", "another")):
        assert not record(hardware={**this, part: other}).here


@pytest.mark.parametrize("kept", [False, True])
def test_a_figure_says_where_its_numbers_come_from(kept):
    def text(machine):
        figure, _ = plots.axes("title", "x", "y")
        height = figure.get_figheight()
        plots.measured_on(figure, record(hardware=machine), beside="theirs: published", kept=kept)
        assert figure.get_figheight() > height
        return figure.texts[-1].get_text()

    here, there = text(hardware()), text(CPU | {"cpu": "another"})
    assert here.startswith("Measured on ")
    assert here.endswith(". theirs: published")
    assert ("not on this machine" in there) == (not kept)
    assert "not on this machine" not in here


def test_names_at_the_ends_of_lines_do_not_cover_each_other():
    figure, ax = plots.axes("title", "x", "y")
    for name, end in (("low", 1.0), ("middle", 1.01), ("high", 1.02), ("far", 5.0)):
        ax.plot([0, 1, 2], [0.0, end, end if name != "far" else np.nan], label=name)
    plots.label_lines(ax)
    figure.draw_without_rendering()
    boxes = {text.get_text(): text.get_window_extent() for text in ax.texts}
    order = [boxes[name] for name in ("low", "middle", "high")]
    assert all(below.y1 <= above.y0 + 0.5 for below, above in itertools.pairwise(order))
    assert boxes["far"].x0 < boxes["low"].x0  # its last point with a number is the second one


def test_a_saved_figure_has_a_light_and_a_dark_drawing_of_the_same_bytes_each_time(tmp_path):
    def draw(name):
        figure, ax = plots.axes("title", "x", "y")
        ax.plot([0, 1], [0, 1], color=plots.BLUE)
        plots.save(figure, tmp_path / name)
        return [(tmp_path / f"{name}{ending}").read_bytes() for ending in (".svg", "-dark.svg", ".png")]

    light, dark, png = first = draw("one")
    assert draw("two") == first
    assert b"#ffffff" in light
    assert b"#ffffff" not in dark
    assert plots.BLUE.lower().encode() in light
    assert plots.BLUE.lower().encode() not in dark
    assert light.count(b"<path") == dark.count(b"<path")
    assert imread(tmp_path / "one.png").shape[1] == pytest.approx(1660, abs=1)
    assert b"Software" not in png
