"""The committed figures and the pages of results are those of the records, and ``./ci/figures`` says when not."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from results.__main__ import main
from results.pictures import PICTURES
from results.section import BEGIN, END, section
from results.sources import Sources
from sample_records import write_records

from dlrm_lib.errors import InputError

ENDINGS = ("-dark.svg", ".png", ".svg")
ALL = dict(PICTURES)
SHOWN = ("day_by_day", "preprocessing", "seeds", "step_speed", "throughput")  # in the section
PAGES = ("README.md", "docs/results.md")


@pytest.fixture(scope="module")
def few() -> Iterator[None]:
    """Pictures take seconds: the section's alone are drawn, which is enough to tell stale ones from others."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ALL.keys() - set(SHOWN):
            patch.delitem(PICTURES, name)
        yield


@pytest.fixture(scope="module")
def drawn(checkout, tmp_path_factory, few) -> Path:
    """A checkout of the two pages, published results and made-up records, whose figures are drawn."""
    root = tmp_path_factory.mktemp("drawn")
    (root / "data").mkdir()
    shutil.copyfile(checkout / "data" / "published_results.csv", root / "data" / "published_results.csv")
    (root / "docs").mkdir()
    for page in PAGES:
        (root / page).write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n", encoding="utf-8")
    write_records(checkout, root / "figures" / "records")
    assert main([], root=root) == 0
    return root


@pytest.fixture
def checkout_copy(drawn, tmp_path) -> Path:
    """A copy to change."""
    return shutil.copytree(drawn, tmp_path / "copy")


def change(path: Path, edit) -> None:
    record = json.loads(path.read_text(encoding="utf-8"))
    edit(record["metrics"])
    path.write_text(json.dumps(record), encoding="utf-8")


def test_what_is_committed_is_what_the_records_say(checkout):
    # In a process of its own: the bytes must not depend on what else was drawn or imported.
    command = [sys.executable, "-m", "results", "--check"]
    done = subprocess.run(command, cwd=checkout / "ci", capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, ""), f"{done.stdout}Run ./ci/figures."


def test_every_figure_is_shown_and_every_record_can_be_read(checkout):
    readme, results = ((checkout / page).read_text(encoding="utf-8") for page in PAGES)
    assert '="figures/ladder.svg"' in readme
    shown = set(re.findall(r"""["(]\.\./figures/(\w+)\.svg[")]""", results))
    assert shown | {"ladder"} == ALL.keys()
    names = {f"{name}{ending}" for name in ALL for ending in ENDINGS}
    assert {path.name for path in (checkout / "figures").glob("*.*")} == names
    assert {picture.record for picture in ALL.values()} <= Sources.read(checkout).records.keys()


@pytest.mark.parametrize("page", PAGES)
def test_the_section_alone_is_replaced(page, drawn):
    text = (drawn / page).read_text(encoding="utf-8")
    assert text.startswith(f"before\n{BEGIN}\n")
    assert text.endswith(f"{END}\nafter\n")
    assert "old" not in text.splitlines()


def test_the_readme_has_in_short_what_the_results_have(drawn):
    digest, results = ((drawn / page).read_text(encoding="utf-8") for page in PAGES)
    numbers = re.findall(r"^\|.*0\.\d{4}.*\|$", digest, re.MULTILINE)
    assert len(numbers) == 7  # the ladder
    assert [row for row in numbers if row not in results] == []
    assert all(f"figures/{name}.svg" in digest for name in ("step_speed", "preprocessing"))


def test_another_number_makes_what_shows_it_stale(checkout_copy, capsys):
    assert main(["--check"], root=checkout_copy) == 0
    records = checkout_copy / "figures" / "records"
    change(records / "stability.json", lambda m: m["runs"][0]["test_last"].update(auc=0.7))
    nvidia = 4  # the point with the largest batch
    change(
        records / "throughput.json",
        lambda m: m["models"]["nvidia"][nvidia]["samples_per_second"].update(median=8800.0),
    )
    change(records / "preprocess.json", lambda m: m["runs_s"].update(polars=[1.0, 1.0, 1.0]))
    capsys.readouterr()
    assert main(["--check"], root=checkout_copy) == 1
    names = [f"{name}{ending}" for name in ("preprocessing", "seeds", "throughput") for ending in ENDINGS]
    assert capsys.readouterr().out == "".join(f"stale: {name}\n" for name in [*names, "docs/results.md"])
    assert main([], root=checkout_copy) == 0
    assert "| Polars | 1.0 |" in (checkout_copy / "docs" / "results.md").read_text(encoding="utf-8")
    assert main([], root=checkout_copy) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "Nothing had changed."


def test_a_figure_that_was_edited_or_belongs_to_nothing_is_stale(checkout_copy, capsys):
    (checkout_copy / "figures" / "seeds.png").write_bytes(b"another picture")
    (checkout_copy / "figures" / "mine.svg").write_text("<svg/>", encoding="utf-8")
    assert main(["--check"], root=checkout_copy) == 1
    assert capsys.readouterr().out.splitlines()[-2:] == ["stale: mine.svg", "stale: seeds.png"]


@pytest.mark.parametrize("page", PAGES)
def test_a_broken_record_and_a_page_without_a_place_are_named(page, checkout_copy):
    (checkout_copy / page).write_text("no marks", encoding="utf-8")
    with pytest.raises(InputError, match=f"{page} lacks <!-- results: begin"):
        main([], root=checkout_copy)
    (checkout_copy / "figures" / "records" / "cost.json").write_text("{}", encoding="utf-8")
    with pytest.raises(InputError, match=r"cost\.json lacks"):
        main([], root=checkout_copy)


def test_what_was_not_measured_is_said(checkout_copy):
    pages = [checkout_copy / page for page in PAGES]
    for page in pages:
        assert "**Not measured yet**: anything on an NVIDIA GPU or an Intel Gaudi." in page.read_text(encoding="utf-8")
    records = checkout_copy / "figures" / "records"
    shutil.copyfile(records / "cost.json", records / "gpu_speed.json")
    main([], root=checkout_copy)
    for page in pages:
        assert "anything on an Intel Gaudi." in page.read_text(encoding="utf-8")


def test_a_rung_that_the_record_of_the_ladder_lacks_is_named_in_the_table(checkout_copy):
    record = checkout_copy / "figures" / "records" / "ladder.json"
    for found, said in ({"DLRM_with_dcn_auc": 0.76543}, "0.7654"), ({}, "not measured yet"):
        change(record, lambda metrics: metrics.pop("DLRM_with_dcn_auc", None))
        change(record, lambda metrics, found=found: metrics.update(found))
        assert f"| DLRM with dcn | {said} |" in section(Sources.read(checkout_copy))


def test_numbers_in_the_section_are_those_of_the_records(drawn):
    text = (drawn / "docs" / "results.md").read_text(encoding="utf-8")
    metrics = Sources.read(drawn).records["throughput"].metrics["models"]["nvidia"]
    best = max(p["samples_per_second"]["median"] for p in metrics if p["precision"] == "fp32")
    assert f"| NVIDIA's of 2020 | fp32 | 32,768 | **{best:,.0f}** |" in text
    seeds = Sources.read(drawn).seeds()
    assert [len(of) for system in seeds.values() for of in system.values()] == [16] * 5
    mean = sum(seeds["NVIDIA, 2020"]["fp32"]) / 16
    assert f"| NVIDIA, 2020 | fp32 | 16 | {mean:.5f} |" in text
    assert "again with `python ci/bench/stability.py`" in text
