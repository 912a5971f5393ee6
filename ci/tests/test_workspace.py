"""A workspace builds what is missing or stale, and nothing else."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from encoded import random_dataset

from dlrm_lib.config import Config
from dlrm_lib.errors import InputError
from dlrm_lib.files import sha256
from dlrm_lib.workspace import Workspace

CONFIG = Config.from_preset("smoke", {"rows": 3000, "days": 2})


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("workspace")
    Workspace(folder, CONFIG).encoded()
    return folder


def stamps(folder):
    return {
        path.name: path.stat().st_mtime_ns for path in (folder / "raw" / "day_0", folder / "encoded" / "manifest.json")
    }


def test_what_is_there_is_used(folder, capsys):
    before = stamps(folder)
    space = Workspace(folder, CONFIG)
    assert len(space.encoded().train) == 1500
    assert space.ceiling()["test"]["rows"] == 750
    assert stamps(folder) == before
    assert capsys.readouterr().out == ""


def test_what_was_made_with_other_settings_is_made_again(folder, tmp_path, capsys):
    shutil.copytree(folder, tmp_path / "work")
    encoded = Workspace(tmp_path / "work", CONFIG.override(order="input")).encoded()
    assert encoded.manifest.config["order"] == "input"
    assert "generating" not in capsys.readouterr().out
    encoded = Workspace(tmp_path / "work", CONFIG.override(rows=2000)).encoded()
    assert len(encoded.train) == 1000
    assert "generating 2,000 synthetic rows" in capsys.readouterr().out


@pytest.fixture
def copy(folder, tmp_path):
    """A workspace to spoil, whose files have stood there for an hour."""
    shutil.copytree(folder, tmp_path / "work")
    for path in (tmp_path / "work" / "raw").iterdir():
        age(path)
    return tmp_path / "work"


def age(path):
    os.utime(path, (path.stat().st_atime, path.stat().st_mtime - 3600))


def swap_two_rows(path):
    """Other rows in the same number of bytes; the time of the last change is that of before."""
    before, lines = path.stat(), path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([lines[1], lines[0], *lines[2:]]))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)


def spoil_version(raw, _):
    change(raw / "ceiling.json", version=0)


def spoil_seed(raw, _):
    change(raw / "ceiling.json", config={"rows": 3000, "days": 2, "data_seed": 1})


def forget_files(raw, _):
    change(raw / "ceiling.json", files=None)


def spoil_rows(raw, _):
    swap_two_rows(raw / "day_0")


def cut_rows(raw, _):
    os.truncate(raw / "day_1", 1000)


def remove_a_day(raw, _):
    (raw / "day_0").unlink()


def add_a_day(raw, _):
    shutil.copy(raw / "day_1", raw / "day_2")


def spoil_ceiling(raw, _):
    (raw / "ceiling.json").write_text("{")


def a_new_generator(_, monkeypatch):
    monkeypatch.setattr("dlrm_lib.synthetic.version", 99)


def change(path, **values):
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


SPOILERS = (
    *(spoil_version, spoil_seed, forget_files, spoil_rows, cut_rows, remove_a_day, add_a_day, spoil_ceiling),
    a_new_generator,
)


@pytest.mark.parametrize(("spoil", "hashes_known"), [*((spoil, True) for spoil in SPOILERS), (spoil_rows, False)])
def test_generated_rows_that_are_not_today_s_are_generated_again(
    copy, folder, monkeypatch, capsys, spoil, hashes_known
):
    monkeypatch.setattr("dlrm_lib.workspace.usable_cores", lambda: 1)  # starting processes takes longer than the rows
    space = Workspace(copy, CONFIG)
    if hashes_known:
        settle(monkeypatch)
        space.raw()
        assert json.loads((copy / "raw.json").read_text()).keys() == {str(copy / "raw" / f"day_{d}") for d in (0, 1)}
    spoil(copy / "raw", monkeypatch)
    space.raw()
    assert capsys.readouterr().out.count("generating") == 1
    for day in ("day_0", "day_1"):
        assert (copy / "raw" / day).read_bytes() == (folder / "raw" / day).read_bytes()
    assert sorted(path.name for path in (copy / "raw").iterdir()) == ["ceiling.json", "day_0", "day_1"]
    space.raw()
    assert capsys.readouterr().out == ""


def settle(monkeypatch):
    """From now on it is an hour later than files think, for what asks the clock."""
    now = time.time_ns
    monkeypatch.setattr("dlrm_lib.workspace.time", SimpleNamespace(time_ns=lambda: now() + 3600 * 10**9))


def test_real_rows_that_have_changed_are_encoded_again(folder, tmp_path, monkeypatch, capsys):
    settle(monkeypatch)
    raw = shutil.copy(folder / "raw" / "day_0", tmp_path / "rows")
    space = Workspace(tmp_path / "work", CONFIG, raw=raw)
    before = space.encoded().manifest
    for _ in range(2):  # the second time its hash is known
        assert space.encoded().manifest == before
    capsys.readouterr()
    swap_two_rows(tmp_path / "rows")
    after = space.encoded().manifest
    assert "encoding" in capsys.readouterr().out
    assert after.source[0]["sha256"] == hashlib.sha256((tmp_path / "rows").read_bytes()).hexdigest()
    assert after.source != before.source
    os.utime(tmp_path / "rows")  # touched, or copied: the same rows
    assert space.encoded().manifest == after
    assert capsys.readouterr().out == ""


def test_a_file_is_hashed_again_only_where_it_may_have_changed(folder, tmp_path, monkeypatch):
    hashed = []
    monkeypatch.setattr("dlrm_lib.workspace.sha256", lambda path: hashed.append(path) or sha256(path))
    raw = Path(shutil.copy(folder / "raw" / "day_0", tmp_path / "rows"))
    space = Workspace(tmp_path / "work", CONFIG, raw=raw)
    space.folder.mkdir()
    for _ in range(2):  # written a moment ago: it could change once more within one tick of the clock
        space._contents({"raw": raw})
    assert hashed == [raw] * 2
    settle(monkeypatch)
    for _ in range(3):
        assert space._contents({"raw": raw})[0]["sha256"] == sha256(raw)
    assert hashed == [raw] * 3
    os.utime(raw)
    space._contents({"raw": raw})
    assert hashed == [raw] * 4
    (space.folder / "raw.json").write_text("{")
    space._contents({"raw": raw})
    assert hashed == [raw] * 5


def test_a_frequency_limit_left_open_is_that_of_the_rows(tmp_path, capsys):
    space = Workspace(tmp_path, CONFIG.override(frequency_limit="none"))
    encoded = space.encoded()
    assert encoded.manifest.config["frequency_limit"] == 2
    assert "generating" in capsys.readouterr().out
    assert space.encoded().manifest == encoded.manifest
    assert capsys.readouterr().out == ""
    given = Workspace(tmp_path / "given", CONFIG.override(frequency_limit=2))
    given.encoded()
    assert given.ceiling() == space.ceiling()


def test_real_rows_have_no_ceiling_and_stay_where_they_are(folder, tmp_path):
    space = Workspace(tmp_path / "work", CONFIG, raw=folder / "raw" / "day_1")
    assert space.ceiling() is None
    assert len(space.encoded().train) == 1350
    assert sorted(path.name for path in (tmp_path / "work").iterdir()) == ["encoded"]


def test_missing_real_rows_are_named(tmp_path):
    with pytest.raises(InputError, match=r"rows\.tsv does not exist"):
        Workspace(tmp_path, CONFIG, raw=tmp_path / "rows.tsv").encoded()


def spec(folder, numerical, categorical):
    """A feature specification that names so many columns."""
    names = {"numerical": [f"n{i}" for i in range(numerical)], "categorical": [f"c{j}" for j in range(categorical)]}
    path = folder / f"spec_{numerical}_{categorical}.yaml"
    path.write_text(json.dumps({"channel_spec": names}))  # JSON is YAML
    return path


def test_rows_with_other_columns_are_encoded_as_their_specification_says(tmp_path, capsys):
    raw = tmp_path / "rows.tsv"
    raw.write_text("".join(f"{i % 2}\t{i}\t{i % 3}\n" for i in range(40)))
    for numerical, categorical in ((0, 2), (1, 1)):  # the second reading of the same file is another data set
        space = Workspace(tmp_path / "work", CONFIG, raw, spec(tmp_path, numerical, categorical))
        encoded = space.encoded()
        assert (encoded.spec.numerical, len(encoded.spec.cardinalities)) == (numerical, categorical)
        assert capsys.readouterr().out.count("encoding") == 1
        space.encoded()
        assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("raw", "text", "message"),
    [
        (None, "channel_spec: {numerical: [a]}", "synthetic rows have Criteo's columns.*spec.yaml.*Set `raw`"),
        ("rows", "columns: 3", "spec.yaml is not a feature specification"),
        ("rows", None, "spec.yaml cannot be read"),
    ],
)
def test_a_specification_that_cannot_hold_is_refused(tmp_path, raw, text, message):
    path = tmp_path / "spec.yaml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(InputError, match=f"(?s){message}"):
        Workspace(tmp_path / "work", CONFIG, raw, path)


def of_a_person(folder, monkeypatch, **columns):
    """A workspace of real rows that are encoded as ``random_dataset`` makes them."""
    raw = folder / "mine.tsv"
    raw.touch()
    space = Workspace(folder / "work", Config.from_preset("criteo_kaggle"), raw, spec(folder, 4, 2))
    monkeypatch.setattr(space, "encoded", lambda: random_dataset(folder / "encoded", cardinalities=(3, 7), **columns))
    return space


def clicks_in(*splits):
    """Chances of clicks by which the splits named have some, and the others none; made in the order of the splits."""
    chances = iter([0.5 if split in splits else 0.0 for split in ("train", "validation", "test")])
    return lambda numbers, ids: np.full(len(ids), next(chances))


@pytest.mark.parametrize(
    ("rows", "clicked", "message"),
    [
        ((8, 1, 0), ("train",), "leaves 8 training rows, and what follows needs 100"),
        ((99, 50, 50), ("train", "validation", "test"), "leaves 99 training rows, and what follows needs 100"),
        ((100, 50, 0), ("train", "validation"), "leaves no test rows: a model cannot be judged"),
        ((100, 0, 50), ("train", "test"), "leaves no validation rows: a model cannot be judged"),
        ((100, 50, 40), ("train", "validation"), "leaves 40 test rows, all without a click: a model cannot be judged"),
        ((100, 60, 40), ("train", "test"), "leaves 60 validation rows, all without a click: a model cannot"),
        ((120, 60, 40), ("validation", "test"), "leaves 120 training rows, all without a click: a model cannot"),
    ],
)
def test_where_rows_cannot_show_a_training_synthetic_ones_do_and_it_is_said(
    tmp_path, monkeypatch, capsys, rows, clicked, message
):
    space = of_a_person(tmp_path, monkeypatch, rows=rows, click=clicks_in(*clicked))
    other = space.or_synthetic(training=True)
    assert other.synthetic
    assert (other.folder, other.columns) == (tmp_path / "work" / "synthetic", Workspace(tmp_path, CONFIG).columns)
    assert other.config == space.config.override(rows=60_000, days=4)
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith(f"mine.tsv {message}")
    assert second == "This chapter goes on with 60,000 synthetic rows instead."
    assert space.or_synthetic() is space  # what needs no training stays with the rows


def test_all_clicked_is_one_class_too(tmp_path, monkeypatch, capsys):
    of_a_person(tmp_path, monkeypatch, rows=(200, 60, 40), click=lambda x, ids: 1.0).or_synthetic(training=True)
    assert "leaves 200 training rows, all clicked" in capsys.readouterr().out


def test_rows_that_show_it_stay(tmp_path, monkeypatch, capsys):
    space = of_a_person(tmp_path, monkeypatch, rows=(100, 60, 40))
    assert space.or_synthetic(training=True, numbers=4, tokens=2) is space
    assert Workspace(tmp_path, CONFIG).or_synthetic(training=True, numbers=99).synthetic
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("needs", "message"),
    [
        ({"numbers": 5}, "mine.tsv has 4 columns of integers, and what follows needs 5"),
        ({"tokens": 3}, "mine.tsv has 2 columns of tokens, and what follows needs 3"),
    ],
)
def test_columns_that_are_missing_are_named(tmp_path, monkeypatch, capsys, needs, message):
    assert of_a_person(tmp_path, monkeypatch).or_synthetic(**needs).synthetic
    assert message in capsys.readouterr().out
