"""The committed figures and the README's results are those of the records, and ``./ci/figures`` says when not."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from results.__main__ import main
from results.pictures import PICTURES
from results.section import BEGIN, END
from results.sources import Sources
from sample_records import write_records

from dlrm_lib.errors import InputError

ENDINGS = ("-dark.svg", ".png", ".svg")
ALL = dict(PICTURES)
SHOWN = ("preprocessing", "seeds", "step_speed", "throughput")  # in the section


@pytest.fixture(scope="module")
def few() -> Iterator[None]:
    """Pictures take seconds: the section's alone are drawn, which is enough to tell stale ones from others."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ALL.keys() - set(SHOWN):
            patch.delitem(PICTURES, name)
        yield


@pytest.fixture(scope="module")
def drawn(checkout, tmp_path_factory, few) -> Path:
    """A checkout of README, published results and made-up records, whose figures are drawn."""
    root = tmp_path_factory.mktemp("drawn")
    (root / "data").mkdir()
    shutil.copyfile(checkout / "data" / "published_results.csv", root / "data" / "published_results.csv")
    (root / "README.md").write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n", encoding="utf-8")
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


def test_every_figure_is_in_the_readme_and_every_record_can_be_read(checkout):
    readme = (checkout / "README.md").read_text(encoding="utf-8")
    assert [name for name in ALL if f"figures/{name}.svg" not in readme] == []
    names = {f"{name}{ending}" for name in ALL for ending in ENDINGS}
    assert {path.name for path in (checkout / "figures").glob("*.*")} == names
    assert {picture.record for picture in ALL.values()} <= Sources.read(checkout).records.keys()


def test_the_section_alone_is_replaced(drawn):
    readme = (drawn / "README.md").read_text(encoding="utf-8")
    assert readme.startswith(f"before\n{BEGIN}\n")
    assert readme.endswith(f"{END}\nafter\n")
    assert "old" not in readme.splitlines()


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
    assert capsys.readouterr().out == "".join(f"stale: {name}\n" for name in [*names, "README.md"])
    assert main([], root=checkout_copy) == 0
    readme = (checkout_copy / "README.md").read_text(encoding="utf-8")
    assert "| Polars | 1.0 |" in readme
    assert main([], root=checkout_copy) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "Nothing had changed."


def test_a_figure_that_was_edited_or_belongs_to_nothing_is_stale(checkout_copy, capsys):
    (checkout_copy / "figures" / "seeds.png").write_bytes(b"another picture")
    (checkout_copy / "figures" / "mine.svg").write_text("<svg/>", encoding="utf-8")
    assert main(["--check"], root=checkout_copy) == 1
    assert capsys.readouterr().out.splitlines()[-2:] == ["stale: mine.svg", "stale: seeds.png"]


def test_a_broken_record_and_a_readme_without_a_place_are_named(checkout_copy):
    (checkout_copy / "README.md").write_text("no marks", encoding="utf-8")
    with pytest.raises(InputError, match="results: begin"):
        main([], root=checkout_copy)
    (checkout_copy / "figures" / "records" / "cost.json").write_text("{}", encoding="utf-8")
    with pytest.raises(InputError, match=r"cost\.json lacks"):
        main([], root=checkout_copy)


def test_what_was_not_measured_is_said(checkout_copy):
    readme = checkout_copy / "README.md"
    assert "**Not measured yet**: anything on an NVIDIA GPU or an Intel Gaudi." in readme.read_text(encoding="utf-8")
    records = checkout_copy / "figures" / "records"
    shutil.copyfile(records / "cost.json", records / "gpu_speed.json")
    main([], root=checkout_copy)
    assert "anything on an Intel Gaudi." in readme.read_text(encoding="utf-8")


def test_numbers_in_the_section_are_those_of_the_records(drawn):
    text = (drawn / "README.md").read_text(encoding="utf-8")
    metrics = Sources.read(drawn).records["throughput"].metrics["models"]["nvidia"]
    best = max(p["samples_per_second"]["median"] for p in metrics if p["precision"] == "fp32")
    assert f"| NVIDIA's of 2020 | fp32 | 32,768 | **{best:,.0f}** |" in text
    seeds = Sources.read(drawn).seeds()
    assert [len(of) for system in seeds.values() for of in system.values()] == [16] * 5
    mean = sum(seeds["NVIDIA, 2020"]["fp32"]) / 16
    assert f"| NVIDIA, 2020 | fp32 | 16 | {mean:.5f} |" in text
    assert "again with `python ci/bench/stability.py`" in text
