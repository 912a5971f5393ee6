"""A place has one owner at a time: whoever else comes is told who it is, and no owner outlives its process."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from dlrm_lib.errors import InputError
from dlrm_lib.locks import PlaceIsTaken, is_owned, owned

OWNER = """
import sys
from pathlib import Path
from dlrm_lib.locks import owned
with owned(Path(sys.argv[1]), remedy=""):
    print("mine", flush=True)
    input()
"""


@contextmanager
def another_process(place: Path) -> Iterator[subprocess.Popen]:
    """Owns the place until its input ends, or it is killed."""
    command = [sys.executable, "-c", OWNER, str(place)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "mine\n"
        yield process


def mine(place: Path) -> None:
    with owned(place, remedy="Choose another."):
        assert is_owned(place)


@pytest.mark.parametrize("kind", ["nothing yet", "file", "folder"])
def test_the_owner_is_named_and_goes_with_its_process(tmp_path, kind):
    place = tmp_path / "place"
    if kind != "nothing yet":
        place.touch() if kind == "file" else place.mkdir()
    with another_process(place) as process:
        with pytest.raises(PlaceIsTaken) as refused:
            mine(place)
        what, found, remedy = str(refused.value).splitlines()
        assert what == f"Another run is writing to {place}."
        assert re.fullmatch(rf"  found: process {process.pid}, since 20[-0-9: ]+ UTC: python -c .*", found, re.DOTALL)
        assert remedy == "  remedy: Choose another."
        assert is_owned(place)
        process.kill()
        process.wait()
        assert not is_owned(place)
        mine(place)  # what the killed one has left is in nobody's way
    assert not is_owned(place)
    assert {path.name for path in tmp_path.iterdir()} <= {"place"}


def test_one_place_has_one_owner_by_whichever_name(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "disk")
    (tmp_path / "dangling").symlink_to(tmp_path / "disk" / "model")
    others = [tmp_path / "link" / "model", tmp_path / "disk" / ".." / "link" / "model", tmp_path / "dangling"]
    with owned(tmp_path / "disk" / "model", remedy=""):
        for other in others:
            with pytest.raises(PlaceIsTaken, match="this process"):
                mine(other)
        mine(tmp_path / "model")
        mine(tmp_path / "disk" / "other")


def test_folders_on_the_way_are_made_and_stay_only_if_something_was_put_there(tmp_path):
    mine(tmp_path / "a" / "b" / "model")
    assert list(tmp_path.iterdir()) == []
    with owned(tmp_path / "a" / "b" / "model", remedy=""):
        (tmp_path / "a" / "log").touch()
    assert sorted(tmp_path.rglob("*")) == [tmp_path / "a", tmp_path / "a" / "log"]


def test_a_folder_that_is_replaced_stays_owned(tmp_path):
    (tmp_path / "data").mkdir()
    with owned(tmp_path / "data", remedy=""):
        (tmp_path / "data").rmdir()
        (tmp_path / "new").mkdir()
        os.replace(tmp_path / "new", tmp_path / "data")
        with pytest.raises(PlaceIsTaken):
            mine(tmp_path / "data")


def test_never_two_at_once(tmp_path):
    # Each owner removes the lock that the others wait for, so that they meet in every order.
    inside, most, times = 0, 0, 0
    counting = threading.Lock()

    def work() -> None:
        nonlocal inside, most, times
        while times < 300:
            try:
                with owned(tmp_path / "place", remedy=""):
                    with counting:
                        inside, times = inside + 1, times + 1
                        most = max(most, inside)
                    with counting:
                        inside -= 1
            except PlaceIsTaken:
                pass

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (most, inside) == (1, 0)
    assert list(tmp_path.iterdir()) == []


def test_devices_have_no_owner():
    with owned(Path("/dev/null"), remedy=""):
        mine_too = owned(Path("/dev/null"), remedy="")
        with mine_too:
            assert not Path("/dev/.null.lock").exists()


def test_a_mount_point_is_locked_itself(tmp_path, monkeypatch):
    # A volume that containers share: what stands beside it is each container's own.
    volume = tmp_path / "volume"
    volume.mkdir()
    monkeypatch.setattr(os.path, "ismount", lambda path: path == volume)
    with owned(volume, remedy=""):
        assert list(tmp_path.rglob("*")) == [volume]
        with pytest.raises(PlaceIsTaken):
            mine(volume)
    with owned(volume, remedy=""):
        pass


def test_where_nothing_can_be_locked_a_warning_says_so(tmp_path, monkeypatch):
    def refuse(*_: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr("fcntl.flock", refuse)
    ran = []
    with pytest.warns(UserWarning, match="nothing can be locked"), owned(tmp_path / "place", remedy=""):
        ran.append(True)
    with pytest.warns(UserWarning, match="nothing can be locked"), owned(tmp_path / ("a" * 255), remedy=""):
        ran.append(True)
    assert ran == [True, True]
    assert list(tmp_path.iterdir()) == []


def test_it_is_refused_as_bad_input_is():
    assert issubclass(PlaceIsTaken, InputError)
