"""Places as a user names them: on this machine, and where their links lead."""

from __future__ import annotations

import re
from pathlib import Path

from dlrm_lib.errors import InputError
from dlrm_lib.files import resolved

# A path has lost one of its two slashes by the time it is a ``Path``. A single letter is a drive of Windows.
_ADDRESS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/+(.*)")


def local(path: str | Path) -> Path:
    """The path, unless it is an address such as ``s3://bucket/rows``, which would become a folder named ``s3:``.

    Raises:
        InputError: it is one.
    """
    match = _ADDRESS.fullmatch(str(path))
    if match and not Path(path).exists():
        scheme, rest = match.groups()
        of_a_file = scheme.lower() == "file"
        address = f"{scheme}://{'/' * of_a_file}{rest}"
        raise InputError(
            f"{address} is not a path on this machine, and only such paths are read and written.",
            remedy=f"Write it as /{rest}."
            if of_a_file
            else "Name a path here: mount that storage, or copy what is in it to and fro.",
        )
    return Path(path)


def destination(path: str | Path) -> Path:
    """Where something is to be written: the absolute path with all links followed, also one to what is not there yet.

    Raises:
        InputError: as ``local``, or links that lead in a circle.
    """
    try:
        return resolved(local(path))
    except OSError as error:
        raise InputError(
            f"{path} leads nowhere.", found=error.strerror, remedy="Mend the link, or name another."
        ) from None
