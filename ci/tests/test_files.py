"""Files and folders are whole or absent, whenever their writer is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from dlrm_lib import files
from dlrm_lib.commands.command import refuse_existing
from dlrm_lib.errors import InputError
from dlrm_lib.files import new_file, new_folder, put_back, put_in_place, put_into
from dlrm_lib.manifest import Manifest
from dlrm_lib.places import destination, local

# Writes a folder and is killed before or after the given call of those that change names or remove.
KILLED = """
import os, shutil, signal, sys
from pathlib import Path
from dlrm_lib.files import new_folder
where, path = int(sys.argv[1]), Path(sys.argv[2])
calls = 0
def deadly(function):
    def call(*arguments, **options):
        global calls
        for _ in range(2):
            calls += 1
            if calls == where:
                os.kill(os.getpid(), signal.SIGKILL)
            if _ == 0:
                result = function(*arguments, **options)
        return result
    return call
os.replace, os.rename, os.unlink, os.rmdir = map(deadly, (os.replace, os.rename, os.unlink, os.rmdir))
with new_folder(path) as folder:
    for name in ("one", "two"):
        (folder / name).write_text("new")
print(calls)
"""


def contents(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir()}


OLD, NEW = {"one": "old", "two": "old"}, {"one": "new", "two": "new"}


def write(path: Path, text: str) -> None:
    with new_folder(path) as folder:
        for name in OLD:
            (folder / name).write_text(text)


def killed(path: Path, where: int) -> str | None:
    """What the writer printed; None if it was killed."""
    done = subprocess.run([sys.executable, "-c", KILLED, str(where), str(path)], capture_output=True, text=True)
    if done.returncode == -signal.SIGKILL:
        return None
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_a_folder_is_replaced_and_nothing_is_left(tmp_path):
    write(tmp_path / "it", "old")
    assert contents(tmp_path / "it") == OLD
    write(tmp_path / "it", "new")
    assert contents(tmp_path / "it") == NEW
    assert [path.name for path in tmp_path.iterdir()] == ["it"]


def test_whenever_its_writer_is_killed_a_whole_folder_is_there_or_comes_back(tmp_path):
    # Renamed away, renamed into place, renamed to be removed, removed file by file: before and after each call.
    write(tmp_path / "whole" / "it", "old")
    calls = int(killed(tmp_path / "whole" / "it", 0))
    assert calls >= 10
    seen = []
    for where in range(1, calls + 1):
        path = tmp_path / str(where) / "it"
        write(path, "old")
        assert killed(path, where) is None
        missing = not path.exists()
        put_back(path)
        assert contents(path) in (OLD, NEW)
        seen.append((missing, contents(path) == NEW))
        # Whoever writes next has no trouble with what is left, and what he replaces does not come back in his place.
        write(path, "new")
        assert contents(path) == NEW
        assert not path.with_name("it.replaced").exists()
    assert (True, False) in seen  # there is such a moment
    assert seen == sorted(seen, key=lambda of: of[1])  # first the old one, from some call on the new one
    assert not any(missing and new for missing, new in seen)


def test_where_the_second_renaming_fails_the_old_folder_is_back(tmp_path, monkeypatch):
    write(tmp_path / "it", "old")
    replace = os.replace

    def fails(source: Path, target: Path) -> None:
        if target == tmp_path / "it":
            raise OSError(28, "No space left on device")
        replace(source, target)

    monkeypatch.setattr(files.os, "replace", fails)
    with pytest.raises(OSError, match="No space left"):
        write(tmp_path / "it", "new")
    assert contents(tmp_path / "it") == OLD
    assert [path.name for path in tmp_path.iterdir()] == ["it"]


def test_a_reader_between_the_renamings_does_not_stop_the_writer(tmp_path, monkeypatch):
    write(tmp_path / "it", "old")
    replace, looked = os.replace, []

    def watched(source: Path, target: Path) -> None:
        if target == tmp_path / "it" and len(looked) < 2:
            put_back(tmp_path / "it")
            looked.append(contents(tmp_path / "it"))
        replace(source, target)

    monkeypatch.setattr(files.os, "replace", watched)
    write(tmp_path / "it", "new")
    assert looked == [OLD, OLD]
    assert contents(tmp_path / "it") == NEW
    assert [path.name for path in tmp_path.iterdir()] == ["it"]


def test_readers_and_the_next_command_find_what_was_moved_away(tmp_path):
    for what in (lambda: Manifest.read(tmp_path / "it"), lambda: refuse_existing(tmp_path / "it", overwrite=False)):
        write(tmp_path / "it", "old")
        (tmp_path / "it").rename(tmp_path / "it.replaced")
        with pytest.raises(InputError, match=r"holds no finished data set|is there already"):
            what()
        assert contents(tmp_path / "it") == OLD


def test_a_file_is_replaced_by_a_folder(tmp_path):
    (tmp_path / "it").write_text("old")
    write(tmp_path / "it", "new")
    assert contents(tmp_path / "it") == NEW
    assert [path.name for path in tmp_path.iterdir()] == ["it"]


@pytest.mark.parametrize("there", [True, False], ids=["link", "dangling link"])
def test_what_is_written_to_a_link_goes_where_it_leads(tmp_path, there):
    disk = tmp_path / "disk"
    if there:
        write(disk / "it", "old")
        (disk / "file").write_text("old")
    for name in ("it", "file"):
        (tmp_path / f"by way of {name}").symlink_to(disk / name)
        (tmp_path / name).symlink_to(f"by way of {name}")
    seen = []
    with new_folder(tmp_path / "it") as folder:
        seen.append(folder)
        for name in NEW:
            (folder / name).write_text("new")
    with new_file(tmp_path / "file") as file:
        seen.append(file)
        file.write_text("new")
    assert [path.parent for path in seen] == [disk, disk]  # the whole time
    assert contents(disk / "it") == NEW
    assert (disk / "file").read_text() == "new"
    assert sorted(path.name for path in disk.iterdir()) == ["file", "it"]
    assert sum(path.is_symlink() for path in tmp_path.iterdir()) == 4


def test_links_in_a_circle_lead_nowhere(tmp_path):
    (tmp_path / "a").symlink_to(tmp_path / "b")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    with pytest.raises(InputError, match=r"a/out leads nowhere.\n  found: Too many levels of symbolic links"):
        destination(tmp_path / "a" / "out")
    put_back(tmp_path / "a")


@pytest.mark.parametrize("address", ["s3://bucket/rows", "hdfs://name:8020/rows", "gs://b/c", "https://host/day_0.gz"])
def test_an_address_is_no_path(address):
    for given in (address, Path(address)):
        with pytest.raises(InputError, match=f"{address} is not a path on this machine"):
            destination(given)
    with pytest.raises(InputError, match=r"Write it as /data/raw\."):
        local("file:///data/raw")
    assert local("C:/rows") == Path("C:/rows")


# In a namespace of its own, root may mount: a disk, a folder of the same disk, and one whose name needs an escape.
MOUNTED = """
set -e
cd "$1"
mkdir disk bound 'with space' source
mount -t tmpfs tmpfs disk
mkdir disk/lost+found
mount --bind source bound
mount --bind source 'with space'
shift
exec "$@"
"""

FILL = """
from pathlib import Path
from dlrm_lib.files import cannot_be_renamed, is_mount, new_folder
for name, mounted in {"disk": True, "bound": True, "with space": True, "source": False}.items():
    path = Path(name).resolve()
    assert (is_mount(path), cannot_be_renamed(path)) == (mounted, mounted), name
for name in ("disk", "bound"):
    (Path(name) / "older").mkdir()
    for text in ("old", "new"):
        with new_folder(Path(name)) as folder:
            assert folder.parent == Path(name).resolve()
            for file in ("one", "two"):
                (folder / file).write_text(text)
    found = {path.name: path.read_text() for path in Path(name).iterdir() if path.name != "lost+found"}
    assert found == {"one": "new", "two": "new"}, found
    try:
        with new_folder(Path(name)) as folder:
            (folder / "one").write_text("half")
            raise KeyboardInterrupt
    except KeyboardInterrupt:
        assert {path.name: path.read_text() for path in Path(name).iterdir() if path.name != "lost+found"} == found
print("filled")
"""


def in_a_namespace_with_mounts(folder: Path, script: str, *arguments: str) -> str:
    """What a script printed that ran in ``folder`` beside the mount points ``disk``, ``bound`` and ``with space``."""
    if subprocess.run(["unshare", "-rm", "true"], capture_output=True).returncode:
        pytest.skip("no file system can be mounted here")
    command = ["unshare", "-rm", "sh", "-c", MOUNTED, "sh", str(folder), sys.executable, "-c", script, *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_mount_point_is_filled_from_within(tmp_path):
    assert in_a_namespace_with_mounts(tmp_path, FILL) == "filled\n"


def test_into_a_place_that_stays_the_last_entry_comes_last_and_a_kill_is_gone_on_with(tmp_path, monkeypatch):
    replace = os.replace
    for moves in range(4):
        new, place = tmp_path / f"new {moves}", tmp_path / str(moves)
        for folder, text in ((new, "new"), (place, "old")):
            folder.mkdir()
            for name in ("a", "manifest", "z"):
                (folder / name).write_text(text)
        (place / "notes").write_text("mine")
        left = [None] * moves

        def stops(source: Path, target: Path, left: list = left) -> None:
            if not left:
                raise KeyboardInterrupt
            left.pop()
            replace(source, target)

        with monkeypatch.context() as patch:
            patch.setattr(files.os, "replace", stops)
            if moves < 3:
                with pytest.raises(KeyboardInterrupt):
                    put_into(new, place, last="manifest")
                assert not (place / "manifest").exists()
        if new.exists():
            put_into(new, place, last="manifest")
        assert contents(place) == {"a": "new", "manifest": "new", "z": "new", "notes": "mine"}
        assert not new.exists()


def leave_half(path: Path, error: type[BaseException]) -> None:
    with new_folder(path) as folder:
        (folder / "one").write_text("half")
        raise error


def leave_half_a_file(path: Path, error: type[BaseException]) -> None:
    with new_file(path) as file:
        file.write_text("half")
        raise error


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_what_is_not_finished_is_removed(tmp_path, error):
    write(tmp_path / "it", "old")
    (tmp_path / "file").write_text("old")
    with pytest.raises(error):
        leave_half(tmp_path / "it", error)
    with pytest.raises(error):
        leave_half_a_file(tmp_path / "file", error)
    assert contents(tmp_path / "it") == OLD
    assert (tmp_path / "file").read_text() == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "it"]


def test_a_folder_that_is_not_there_replaces_nothing(tmp_path):
    write(tmp_path / "it", "old")
    with pytest.raises(FileNotFoundError):
        put_in_place(tmp_path / "absent", tmp_path / "it")
    assert contents(tmp_path / "it") == OLD
