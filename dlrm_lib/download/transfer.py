"""One file over HTTP: resumed where it broke off, tried again while it breaks, checked, then put in its place whole."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import ssl
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dlrm_lib.download import report
from dlrm_lib.download.checksums import digests
from dlrm_lib.files import write_text

_CHUNK = 1 << 20
_WORTH_ANOTHER_TRY = {408, 416, 425, 429}  # and every 5xx
_OTHER_FILE = 0.01  # Published sizes of day files are disk use, right to a few kilobytes; other files differ by more.


class Unavailable(Exception):
    """A source does not give a file: why, in one sentence. Another source may."""


@dataclass(frozen=True, kw_only=True)
class Patience:
    """How long a broken or silent connection is put up with.

    Attributes:
        attempts: Connections in a row that bring nothing new before a source is given up.
        first_wait: Seconds before the second of them; doubles each time.
        stall: Seconds without a byte after which a connection counts as broken.
    """

    attempts: int = 6
    first_wait: float = 1.0
    stall: float = 30.0


@dataclass(frozen=True, kw_only=True)
class RemoteFile:
    """A file behind a link.

    Attributes:
        url: The link. Redirections are followed.
        provenance: Where it was published, and when it was last reported good.
        size: Bytes, as published. A server that offers more than 1 % more or less offers another file.
        checksum: ``md5:…`` or ``sha256:…``, as published.
    """

    url: str
    provenance: str = ""
    size: int | None = None
    checksum: str | None = None

    def make(self, path: Path, patience: Patience) -> str:
        """Downloads it; see ``fetch``."""
        with report.bar(path.name, self.size) as bar:
            return fetch(self, path, patience, bar)


def fetch(file: RemoteFile, path: Path, patience: Patience, bar: Any) -> str:
    """Downloads a file to ``path``, which is whole or untouched.

    What has arrived waits in ``<path>.part`` and is resumed by the next call, in this run or another, if the server
    still has the same file (``If-Range`` with its ETag or date). A server that cannot resume sends it from the start.

    Returns:
        The SHA-256 of the file.

    Raises:
        Unavailable: the server refuses, offers another file, or breaks off too often.
        OSError: the disk is full or cannot be written.
    """
    part = path.with_name(f"{path.name}.part")
    algorithm, _, published = (file.checksum or "sha256:").partition(":")
    for last_try in (False, True):
        resumed = _receive(file, part, patience, bar)
        sha256, found = digests(part, "sha256", algorithm)
        if found == (published or found):
            break
        bar.update(-_have(part))
        _discard(part)
        wrong = f"what {file.url} sent has {algorithm.upper()} {found}, published is {published}"
        if last_try or not resumed:
            raise Unavailable(wrong)
        report.say(f"{path.name}: {wrong}. Starting again from the first byte.")
    os.replace(part, path)
    _state(part).unlink()
    return sha256


class _Broken(Exception):
    """A connection that failed in a way that another one may not."""


def _receive(file: RemoteFile, part: Path, patience: Patience, bar: Any) -> bool:
    """Fills ``part``. Returns whether bytes of more than one connection are in it."""
    most, failures = -1, 0
    while True:
        try:
            return _connect(file, part, patience, bar)
        except _Broken as broken:
            have = _have(part)
            # Only new bytes count: a server that cannot resume and always breaks at one place would go on for ever.
            failures = 0 if have > most >= 0 else failures + 1
            most = max(most, have)
            if failures >= patience.attempts:
                raise Unavailable(f"{file.url}: {broken} ({failures} times in a row)") from None
            wait = patience.first_wait * 2 ** max(0, failures - 1)
            report.say(f"{part.stem}: {broken}, {report.size(have)} are here. Trying again in {wait:g} s.")
            time.sleep(wait)


def _connect(file: RemoteFile, part: Path, patience: Patience, bar: Any) -> bool:
    have, state = _resumable(file, part)
    headers = {"User-Agent": "dlrm-lib", "Accept-Encoding": "identity"}
    if have:
        headers |= {"Range": f"bytes={have}-", "If-Range": state["validator"]}
    with _open(file.url, headers, part, patience) as response:
        resumed = response.status == 206
        first, total = _content_range(response) if resumed else (0, _length(response))
        if file.size is not None and total is not None and abs(total - file.size) > _OTHER_FILE * file.size:
            raise Unavailable(f"{file.url} offers {total:,} bytes, published are {file.size:,}: another file")
        now = {"url": file.url, "validator": _validator(response), "bytes": total}
        if resumed and (first, now) != (have, state):
            _discard(part)
            raise _Broken("the file changed on the server")
        if not resumed:  # An old part outlives a source that does not answer, not one that sends another file.
            have = 0
            _discard(part)
            write_text(_state(part), json.dumps(now))
        bar.update(have)
        try:
            _append(response, part, total, bar)
        except _Broken:
            bar.update(-_have(part))  # The next connection counts them again.
            raise
    return resumed


def _append(response: Any, part: Path, total: int | None, bar: Any) -> None:
    with part.open("ab", buffering=0) as out:
        while chunk := _read(response):
            out.write(chunk)
            bar.update(len(chunk))
        os.fsync(out.fileno())
    if total is not None and _have(part) != total:
        raise _Broken(f"the connection ended after {_have(part):,} of {total:,} bytes")


def _open(url: str, headers: dict[str, str], part: Path, patience: Patience) -> Any:
    try:
        return urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=patience.stall)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416:  # The file is no longer than what is here: it changed, and says so in this way.
            _discard(part)
        if error.code >= 500 or error.code in _WORTH_ANOTHER_TRY:
            raise _Broken(f"the server answered HTTP {error.code} {error.reason}") from None
        raise Unavailable(f"{url} answered HTTP {error.code} {error.reason}") from None
    except urllib.error.URLError as error:
        if isinstance(error.reason, ssl.SSLCertVerificationError):
            raise Unavailable(f"{url}: its certificate is not trusted: {error.reason.verify_message}") from None
        raise _Broken(f"no connection: {error.reason}") from None
    except (OSError, http.client.HTTPException) as error:
        raise _Broken(f"no answer: {error or type(error).__name__}") from None


def _read(response: Any) -> bytes:
    try:
        return response.read1(_CHUNK)  # What is there now: nothing that arrived is lost when the connection breaks.
    except TimeoutError:
        raise _Broken("the server went silent") from None
    except (OSError, http.client.HTTPException) as error:
        raise _Broken(f"the connection broke: {error or type(error).__name__}") from None


def _length(response: Any) -> int | None:
    length = response.headers.get("Content-Length", "")
    return int(length) if length.isdecimal() else None


def _content_range(response: Any) -> tuple[int, int | None]:
    match = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", ""))
    if match is None:
        return -1, None
    return int(match[1]), None if match[2] == "*" else int(match[2])


def _validator(response: Any) -> str | None:
    """What proves that a file is still the same: a strong ETag, or the date of its last change."""
    etag = response.headers.get("ETag", "")
    return etag if etag.startswith('"') else response.headers.get("Last-Modified")


def _resumable(file: RemoteFile, part: Path) -> tuple[int, dict[str, Any]]:
    """How many bytes of this very file are here, and what is known of it."""
    state: dict[str, Any] = {}
    with contextlib.suppress(FileNotFoundError, ValueError):
        state = json.loads(_state(part).read_text(encoding="utf-8"))
    have, total = _have(part), state.get("bytes")
    if state.get("url") != file.url or not state.get("validator") or (total is not None and have > total):
        return 0, {}
    if have and have == total:  # Killed before the check. A server has no answer for none left: ask for the last byte.
        have -= 1
        os.truncate(part, have)
    return have, state


def _have(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


def _state(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _discard(part: Path) -> None:
    part.unlink(missing_ok=True)
    _state(part).unlink(missing_ok=True)
