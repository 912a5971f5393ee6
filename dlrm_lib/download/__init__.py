"""``python -m dlrm_lib download``: Criteo's rows from published links, checked, resumable, ready for ``preprocess``."""

from __future__ import annotations

import datetime
import json
import os
import re
import shutil
import sys
from pathlib import Path
from typing import Any

from dlrm_lib.download import report
from dlrm_lib.download.checksums import Damaged, digests, text_md5
from dlrm_lib.download.sources import DAYS, Published, Target, kaggle, terabyte
from dlrm_lib.download.transfer import Patience, Unavailable
from dlrm_lib.errors import InputError
from dlrm_lib.files import write_text
from dlrm_lib.locks import owned
from dlrm_lib.places import destination

__all__ = ["Patience", "accept_licence", "download", "kaggle", "parse_days", "terabyte"]

_AGAIN = "Run the same command again: it goes on where it stopped. Or put the file there yourself: see data/README.md."
_Record = dict[str, dict[str, Any]]


def parse_days(text: str) -> tuple[int, ...]:
    """``"0-3,7"`` → (0, 1, 2, 3, 7): each day once, in order.

    Raises:
        InputError: the text names something else than days from 0 to 23.
    """
    days: set[int] = set()
    for piece in text.split(","):
        match = re.fullmatch(r"\s*([0-9]{1,2})\s*(?:-\s*([0-9]{1,2})\s*)?", piece)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if not first <= last < DAYS:
            raise InputError(
                f"--days names days from 0 to {DAYS - 1}.", found=text, remedy="Write them as 0-23, as 0-3,7 or as 5."
            )
        days.update(range(first, last + 1))
    return tuple(sorted(days))


def accept_licence(published: Published, *, accepted: bool) -> None:
    """Shows the terms and asks for a yes, unless it was given on the command line.

    Raises:
        InputError: the answer is no, or there is nobody to ask.
    """
    print(f"{published.title}, {published.page}")
    print(f"Criteo's terms: {published.licence}\n  {published.licence_text}")
    if accepted:
        return
    what = f"{published.title}: the terms are not accepted."
    if not sys.stdin.isatty():
        raise InputError(what, remedy="Read them, then add --accept_licence.")
    answer = input("Do you accept these terms? [yes/no] ")
    if answer.strip().lower() not in ("y", "yes"):
        raise InputError(what, found=answer, remedy="Without them there is no download; synthetic rows are free.")


def download(published: Published, output: Path, *, patience: Patience | None = None) -> None:
    """Leaves the files of a data set in a folder: each whole and checked, or absent.

    A file that is there already is checked and kept; a damaged one is named and fetched again; one that is not
    Criteo's is left alone. What has arrived of a file waits in ``<file>.download/``. ``<data set>.json`` in the folder
    records bytes, SHA-256 and source of each file.

    Args:
        published: The data set, see ``kaggle`` and ``terabyte``.
        output: The folder.
        patience: How long broken connections are put up with.

    Raises:
        InputError: no source gives a file, the folder has too little room, cannot be written or is in use by another
            download, or holds another file of that name.
    """
    output = destination(output)
    try:
        output.mkdir(parents=True, exist_ok=True)
        with owned(output, remedy="Wait until it is done."):
            record = _read_record(output / f"{published.name}.json")
            missing = [target for target in published.targets if not _is_there(target, published, output, record)]
            _check_room(missing, output)
            tired: list[int] = []  # places of sources that failed; they come last for the next file
            for target in missing:
                arrived = _work(target, output) / target.name
                entry = _get(target, arrived, patience or Patience(), tired)
                _write_entry(published, output, record, target.name, entry)
                os.replace(arrived, output / target.name)
                shutil.rmtree(arrived.parent)
    except KeyboardInterrupt:
        report.say("Stopped. What has arrived stays: the same command goes on from there.")
        raise
    except OSError as error:
        place = error.filename or output
        raise InputError(f"{place} cannot be written.", found=error.strerror or error, remedy=_AGAIN) from None


def _work(target: Target, output: Path) -> Path:
    """The folder in which a file arrives."""
    return output / f"{target.name}.download"


def _get(target: Target, arrived: Path, patience: Patience, tired: list[int]) -> dict[str, Any]:
    arrived.parent.mkdir(exist_ok=True)
    reasons = []
    for place in sorted(range(len(target.sources)), key=lambda at: (at in tired, at)):
        source = target.sources[place]
        report.say(f"{target.name}: from {source.url} ({source.provenance})")
        try:
            sha256 = source.make(arrived, patience)
            checked = _compared(target, source.checksum, arrived)
        except (Unavailable, Damaged) as error:
            report.say(f"{target.name}: {error}.")
            reasons.append(str(error))
            tired.append(place)
            continue
        size = arrived.stat().st_size
        report.say(f"{target.name}: whole, {report.size(size)}; {checked}.")
        return {"bytes": size, "sha256": sha256, "source": source.url, "checked": checked}
    raise InputError(f"No source gives {target.name}.", found="; ".join(reasons), remedy=_AGAIN)


def _compared(target: Target, checksum: str | None, path: Path) -> str:
    """How a file that has arrived compares with what is published. Without a checksum a gzip file is unpacked."""
    if checksum:
        algorithm, _, digest = checksum.partition(":")
        return f"{algorithm.upper()} {digest} as published"
    if path.suffix != ".gz":
        return "no checksum is published"
    found = text_md5(path)
    if target.text_md5 is None:
        return "gzip's own check passed, no checksum is published"
    if found == target.text_md5:
        return f"its text has MD5 {found} as published"
    return (
        f"its text has MD5 {found}, that of the original day is {target.text_md5}: rows, or their order, differ from "
        "the original, and results can differ a little from published ones"
    )


def _is_there(target: Target, published: Published, output: Path, record: _Record) -> bool:
    path, known = output / target.name, record.get(target.name)
    unpacked = path.with_suffix("")
    if target.text_md5 and unpacked.exists():
        if digests(unpacked, "md5") != (target.text_md5,):
            raise _not_criteos(unpacked)
        report.say(f"{unpacked.name}: there already, unpacked, MD5 as published.")
        return True
    arrived = _work(target, output) / target.name
    if known and arrived.exists() and not path.exists():  # Killed between its entry in the record and its move.
        os.replace(arrived, path)
    if not path.exists():
        return False
    sha256, md5 = digests(path, "sha256", "md5")
    if known:
        if sha256 == known["sha256"]:
            report.say(f"{target.name}: there already, SHA-256 as recorded.")
            return True
        report.say(f"{target.name} is damaged: SHA-256 {sha256}, recorded was {known['sha256']}. Fetching it again.")
        return False
    if target.text_md5 and md5 != target.md5:
        try:
            if text_md5(path) != target.text_md5:
                raise _not_criteos(path)
        except Damaged as damaged:
            report.say(f"{damaged}. Fetching it again.")
            return False
    elif md5 != target.md5:
        raise _not_criteos(path)
    report.say(f"{target.name}: there already, MD5 as published.")
    entry = {"bytes": path.stat().st_size, "sha256": sha256, "source": "found in the folder", "checked": "as published"}
    _write_entry(published, output, record, target.name, entry)
    return True


def _not_criteos(path: Path) -> InputError:
    return InputError(
        f"{path} is there and is not the file that Criteo published.",
        found=f"{path.stat().st_size:,} bytes with another MD5, and no record of a download",
        remedy="Choose another --output, or move the file away.",
    )


def _check_room(missing: list[Target], output: Path) -> None:
    here = sum(file.stat().st_size for target in missing for file in _work(target, output).glob("*"))
    needed, free = sum(target.needs for target in missing) - here, shutil.disk_usage(output).free
    if needed > free:
        raise InputError(
            f"{output} has too little room for {', '.join(target.name for target in missing)}.",
            found=f"{report.size(free)} free, {report.size(needed)} needed",
            remedy="Make room, choose another --output, or take fewer --days.",
        )


def _read_record(path: Path) -> _Record:
    if not path.exists():
        return {}
    try:
        return dict(json.loads(path.read_text(encoding="utf-8"))["files"])
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{path} is no record of a download.",
            found=error,
            remedy="Delete it: the files are then checked against what is published.",
        ) from None


def _write_entry(published: Published, output: Path, record: _Record, name: str, entry: dict[str, Any]) -> None:
    record[name] = entry | {"date": datetime.date.today().isoformat()}
    text = {"data_set": published.title, "licence": f"{published.licence}, {published.licence_text}", "files": record}
    write_text(output / f"{published.name}.json", json.dumps(text, indent=2) + "\n")
