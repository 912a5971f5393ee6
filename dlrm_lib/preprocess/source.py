"""Raw files: which ones a source has, in time order, and which day each is of."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from dlrm_lib.errors import InputError
from dlrm_lib.files import contents, put_back
from dlrm_lib.places import local
from dlrm_lib.preprocess.text import is_compressed, opened

_DAY = re.compile(r"day_(0|[1-9][0-9]*)(?:\.parquet|(?:\.csv|\.tsv)?(?:\.gz|\.zst)?)")
_DATED = re.compile(r"([A-Za-z_]+)=([0-9]{4}-[0-9]{2}-[0-9]{2})")  # a folder, as Hive and Spark partition by date
_PART = re.compile(r"(?:part|data)?[-._]?[0-9]+(?:[-._].*)?\.parquet")  # what Spark, Dask, DuckDB … write side by side
_ALMOST = re.compile(r"day[^a-z0-9]*[0-9]|^day[_-]|\.partial-|^[A-Za-z_]+=[0-9]", re.IGNORECASE)
_QUIET = re.compile(
    r"^[._]|^(README|LICEN[CS]E)|\.(md5|sha1|sha256|crc)$|^(?!.*day[^a-z0-9]*[0-9]).*\.(md|json|ya?ml)$", re.IGNORECASE
)
_UNFINISHED = re.compile(r"\.(part|partial|download|crdownload|filepart|aria2|te?mp)$", re.IGNORECASE)
_OF_A_PROCESS = re.compile(r"/dev/(stdin$|fd/)|/proc/")  # another process has another one at that path


def source_files(source: Path, *, allow_empty_days: bool = False, later: bool = False) -> list[Path]:
    """The raw files of a source, in time order; arguments and errors are those of ``source_days``."""
    days = source_days(source, allow_empty_days=allow_empty_days, later=later)
    return [path for paths in days.values() for path in paths]


def source_days(source: Path, *, allow_empty_days: bool = False, later: bool = False) -> dict[str, list[Path]]:
    """The days of a source in time order: the name of each, and its raw files in time order.

    Beside day files, what is hidden (``.`` or ``_`` in front, as Spark and Hadoop have it) or tells of the data
    (README, LICENSE, ``*.md``, ``*.json``, ``*.yaml``, checksums) is ignored. A name that is almost that of a day is
    refused: nobody means such a file to be left out.

    Args:
        source: A folder with ``day_0`` ... ``day_{n-1}``, with an ending for Parquet, CSV, TSV, gzip or Zstandard; or
            with folders of files by date, as ``day=2015-02-15``; or with the parts of one Parquet table; or one file.
        allow_empty_days: Whether a day may be a file without any text.
        later: Whether the first day may have another number than 0: the days before it were encoded already.

    Raises:
        InputError: nothing there, no day files, a day missing or there twice, almost one, or empty, or what is no file
            or cannot be read.
    """
    local(source)
    put_back(source)
    if source.is_dir():
        days = _days(source, later=later)
    elif os.path.lexists(source):
        days = {source.name: [source]}
    else:
        raise InputError(
            f"{source} does not exist.", remedy="Give a folder with day_0, day_1, … or one file of raw rows."
        )
    for name, paths in days.items():
        for path in paths:
            _check_file(path)
        if len(days) > 1 and not allow_empty_days and all(map(_is_empty, paths)):
            raise empty_day(name, f"{sum(path.stat().st_size for path in paths)} bytes", list(days), source)
    return days


def file_names(days: Mapping[str, Sequence[Path]]) -> list[str]:
    """What the files of a source are called where they are named: with their folder, where a day has several."""
    return [path.name if path.name == day else f"{day}/{path.name}" for day, paths in days.items() for path in paths]


def unread(source: Path) -> list[str]:
    """The names beside the day files of a folder that are neither read nor ignored without a word."""
    if not source.is_dir():
        return []
    entries = [path for path in contents(source) if not _QUIET.search(path.name)]
    read = {
        path if path.parent == source else path.parent for paths in _days(source, later=True).values() for path in paths
    }
    return [path.name for path in entries if path not in read]


def empty_day(day: str, found: str, days: Sequence[str], source: Path) -> InputError:
    """The error of a day without rows; what it would mean to go on depends on its place among the days."""
    without, flags = "its rows", "--allow_empty_days"
    if day == days[-1]:
        without, flags = "any rows to validate and test on", f"{flags} --allow_empty_splits"
    return InputError(
        f"{source / day} holds no rows.",
        found=found,
        remedy=f"Fetch that day again, or go on without {without}: {flags}.",
    )


def _check_file(path: Path) -> None:
    """Refuses what is no file, or cannot be read by several tasks and again by a run that goes on."""
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            raise InputError(
                f"{path} is a folder, and a day is one file.",
                found=", ".join(entry.name for entry in contents(path)[:5]) or "an empty folder",
                remedy="Put one file of rows in its place, such as all of its files joined with cat.",
            )
        if not stat.S_ISREG(mode) or _OF_A_PROCESS.match(str(path.absolute())):
            raise InputError(
                f"{path} is no file on a disk, and rows are read from several places at once.",
                found="a pipe" if stat.S_ISFIFO(mode) else "a device or a handle of a process",
                remedy="Write the rows to a file first (COMMAND > rows.tsv), and give that file.",
            )
        path.open("rb").close()
    except OSError as error:
        remedy = "Mend the link." if path.is_symlink() else "Check its permissions."
        raise InputError(f"{path} cannot be read.", found=error.strerror, remedy=remedy) from None


def _is_empty(path: Path) -> bool:
    if not is_compressed(path):
        return path.stat().st_size == 0
    try:
        with opened(path) as (file, _):
            return not file.read(1)
    except InputError:
        return False  # damaged: the task that reads it says so


def _days(folder: Path, *, later: bool) -> dict[str, list[Path]]:
    try:
        names = [path.name for path in contents(folder)]
    except OSError as error:
        raise InputError(f"{folder} cannot be read.", found=error.strerror, remedy="Check its permissions.") from None
    dated = [name for name in names if _DATED.fullmatch(name) and (folder / name).is_dir()]
    days = _numbered(folder, names)
    for name in names:
        if not (_DAY.fullmatch(name) or _QUIET.search(name) or name in dated) and _ALMOST.search(name):
            raise _almost_a_day(folder / name, days)
    if dated:
        kinds = {name.partition("=")[0]: name for name in [*dated, *(path.name for path in days.values())]}
        if len(kinds) > 1:
            found = " and ".join(sorted(kinds.values())[:2])
            raise InputError(f"{folder} has days of two kinds.", found=found, remedy="Give a folder with one kind.")
        return {name: _in_order(folder / name) for name in sorted(dated)}
    if not days:
        if parts := [name for name in names if _PART.fullmatch(name)]:
            return {folder.absolute().name: [folder / name for name in sorted(parts, key=_by_number)]}
        raise InputError(
            f"{folder} has no day files.",
            found=", ".join(names[:5]) + (", …" if len(names) > 5 else "") if names else "an empty folder",
            remedy="Name the files day_0, day_1, … (or day_0.gz, day_0.parquet, …) in time order, or give one file.",
        )
    missing = [f"day_{day}" for day in range(min(days) if later else 0, max(days)) if day not in days]
    if missing:
        raise InputError(
            f"{folder} lacks {', '.join(missing[:5])}{', …' if len(missing) > 5 else ''}.",
            found=f"{len(days)} day files, the last is {days[max(days)].name}",
            remedy=f"Days are numbered {'' if later else 'from 0 '}without gaps: add the missing ones, or rename the "
            "others.",
        )
    return {path.name: [path] for _, path in sorted(days.items())}


def _numbered(folder: Path, names: Iterable[str]) -> dict[int, Path]:
    days: dict[int, Path] = {}
    for name in names:
        if match := _DAY.fullmatch(name):
            day = int(match[1])
            if day in days:
                raise InputError(
                    f"{folder} has day {day} twice.",
                    found=f"{days[day].name} and {name}",
                    remedy="Move one of them away.",
                )
            days[day] = folder / name
    return days


def _in_order(folder: Path) -> list[Path]:
    """The files of a day, in the order of their names; numbers in them count as such."""
    paths = [path for path in contents(folder) if not _QUIET.search(path.name)]
    if not paths:
        raise InputError(f"{folder} holds no files.", remedy="Fetch that day again, or move it out of the folder.")
    for path in paths:
        if _UNFINISHED.search(path.name):
            raise _almost_a_day(path, {})
    return sorted(paths, key=lambda path: _by_number(path.name))


def _by_number(name: str) -> list[tuple[str, int]]:
    return [(text, int(digits or -1)) for text, digits in re.findall(r"([^0-9]*)([0-9]*)", name)]


def _almost_a_day(path: Path, days: Mapping[int, Path]) -> InputError:
    """The error of a name that is almost that of a day, with what can be done about it beside the others."""
    found = f"{len(days)} day files beside it" + (f", the last is {days[max(days)].name}" if days else "")
    number = re.search(r"[0-9]+", path.name)
    day = int(number[0]) if number else -1
    if "=" in path.name:
        remedy = "Name a folder of a day like day=2015-02-15, or move it out of the folder."
    elif path.is_dir() or _UNFINISHED.search(path.name):
        found = "what unfinished downloads and runs leave"
        remedy = "Finish what makes it, or move it out of the folder."
    elif day not in days and 0 <= day <= max(days, default=-1) + 1:
        ending = re.search(r"(?:\.parquet|(?:\.csv|\.tsv)?(?:\.gz|\.zst)?)$", path.name)
        remedy = f"Rename it to day_{day}{ending and ending[0]}, or move it out of the folder."
    else:
        remedy = "Move it out of the folder, or give it the number of the next day."
    return InputError(f"{path} would not be read: it is not named like a day.", found=found, remedy=remedy)
