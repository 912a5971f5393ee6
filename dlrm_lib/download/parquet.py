"""A day that is published as many Parquet files: fetched one by one, checked, written as lines into one gzip file."""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import os
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import quote

from dlrm_lib.columns import CRITEO_ON_THE_HUB
from dlrm_lib.download import report
from dlrm_lib.download.checksums import digests
from dlrm_lib.download.transfer import Patience, RemoteFile, Unavailable, fetch
from dlrm_lib.files import write_text
from dlrm_lib.records import usable_cores

_ROWS = 65_536  # rows converted at a time: some 15 MB of lines
_CONVERTERS = 8  # most conversions beside the download: some 100,000 rows/s and 150 MB of memory each
_PAGE = 1000  # entries after which the hub's listing goes on in a second page; a day has about 250


@dataclass(frozen=True, kw_only=True)
class ParquetDay:
    """A folder of Parquet files in a data set repository on the Hugging Face hub.

    Attributes:
        repository: The repository's page, ``https://host/datasets/owner/name``.
        folder: The folder in it. Its files are taken in the order of their names.
        provenance: Where the link was published, and when it was last reported good.
    """

    repository: str
    folder: str
    provenance: str = ""

    checksum: ClassVar[None] = None  # The hub has one per Parquet file; what the lines add up to, it does not say.

    @property
    def url(self) -> str:
        return f"{self.repository}/tree/main/{self.folder}"

    def make(self, path: Path, patience: Patience) -> str:
        """Writes the day to ``path``, which is whole or untouched, and returns its SHA-256.

        ``<path>.part`` grows by one gzip member per Parquet file, so that a killed run loses the work of a few at most.

        Raises:
            Unavailable: the hub, or pyarrow, is not to be had, or a file is not what the hub's listing says.
            OSError: the disk is full or cannot be written.
        """
        try:
            import pyarrow.parquet  # noqa: F401
        except ModuleNotFoundError:
            raise Unavailable(f"{self.url} has Parquet files, which need pyarrow: pip install pyarrow") from None
        files = self._files(path, patience)
        part, state = path.with_name(f"{path.name}.part"), path.with_name(f"{path.name}.part.json")
        ends = _resumable(part, state, files)
        if ends:
            report.say(f"{path.name}: {len(ends)} of {len(files)} Parquet files are here already.")
        with part.open("ab") as out, report.bar(path.name, sum(f.size or 0 for f in files)) as bar:
            bar.update(sum(f.size or 0 for f in files[: len(ends)]))

            def append(member: Future[bytes]) -> None:
                out.write(member.result())
                out.flush()
                os.fsync(out.fileno())
                ends.append(out.tell())
                write_text(state, json.dumps({"files": [f.checksum for f in files[: len(ends)]], "ends": ends}))

            converters = min(_CONVERTERS, usable_cores())
            with ThreadPoolExecutor(converters) as pool:
                waiting: deque[Future[bytes]] = deque()
                for number in range(len(ends), len(files)):
                    rows = path.with_name(f"{path.name}.{number}.parquet")
                    try:
                        fetch(files[number], rows, patience, bar)
                    except Unavailable:
                        while waiting:  # what was fetched before is kept
                            append(waiting.popleft())
                        raise
                    waiting.append(pool.submit(_as_lines, rows, files[number].url))
                    if len(waiting) > converters:
                        append(waiting.popleft())
                while waiting:
                    append(waiting.popleft())
        (sha256,) = digests(part, "sha256")
        os.replace(part, path)
        state.unlink()
        return sha256

    def _files(self, path: Path, patience: Patience) -> list[RemoteFile]:
        host, _, name = self.repository.partition("/datasets/")
        address = f"{host}/api/datasets/{name}/tree/main/{quote(self.folder)}?recursive=true"
        listing = path.with_name(f"{path.name}.listing")
        with report.bar(f"listing {self.folder}", None) as bar:
            fetch(RemoteFile(url=address), listing, patience, bar)
        try:
            entries = json.loads(listing.read_bytes())
            found = sorted((e["path"], e["size"], e["lfs"]["oid"]) for e in entries if e["path"].endswith(".parquet"))
        except (ValueError, KeyError, TypeError) as error:
            raise Unavailable(f"{address} is no listing of files with checksums: {error!r}") from None
        finally:
            listing.unlink()
        if not found or len(entries) >= _PAGE:
            raise Unavailable(f"{address} lists {len(entries)} entries, of them {len(found)} Parquet files")
        return [
            RemoteFile(url=f"{self.repository}/resolve/main/{quote(name)}", size=size, checksum=f"sha256:{oid}")
            for name, size, oid in found
        ]


def _resumable(part: Path, state: Path, files: list[RemoteFile]) -> list[int]:
    """Cuts ``part`` to the members that are whole and of these files, and returns where each of them ends."""
    known: dict[str, Any] = {"files": [], "ends": []}
    with contextlib.suppress(FileNotFoundError, ValueError):
        known = json.loads(state.read_text(encoding="utf-8"))
    ends: list[int] = known.get("ends", [])
    same = ends and known["files"] == [f.checksum for f in files[: len(ends)]]
    if not same or not part.exists() or part.stat().st_size < ends[-1]:
        ends = []
        part.unlink(missing_ok=True)
    else:
        os.truncate(part, ends[-1])
    return ends


def _as_lines(path: Path, url: str) -> bytes:
    """A Parquet file's rows as raw lines, missing values empty, in one gzip member. Removes the file."""
    import pyarrow as pa
    from pyarrow import csv, parquet

    lines = io.BytesIO()
    options = csv.WriteOptions(include_header=False, delimiter="\t", quoting_style="none")
    try:
        with (
            parquet.ParquetFile(path) as file,
            gzip.GzipFile(fileobj=lines, mode="wb", compresslevel=1, mtime=0) as out,
        ):
            schema = pa.schema([file.schema_arrow.field(name) for name in CRITEO_ON_THE_HUB.names])
            with csv.CSVWriter(out, schema, write_options=options) as writer:
                for batch in file.iter_batches(_ROWS, columns=list(CRITEO_ON_THE_HUB.names), use_threads=False):
                    writer.write_batch(batch.select(CRITEO_ON_THE_HUB.names))
    except (pa.ArrowException, KeyError, OSError) as error:
        raise Unavailable(f"{url} does not hold Criteo's rows: {error}") from None
    path.unlink()
    return lines.getvalue()
