"""A workspace builds what is missing or stale, and nothing else."""

from __future__ import annotations

import shutil

import pytest

from dlrm_lib.config import Config
from dlrm_lib.errors import InputError
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
