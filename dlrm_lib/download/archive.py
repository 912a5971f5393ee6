"""One member of a remote tar.gz: the archive is fetched and checked, the member unpacked and checked."""

from __future__ import annotations

import hashlib
import os
import tarfile
import zlib
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from dlrm_lib.download import report
from dlrm_lib.download.transfer import Patience, RemoteFile, Unavailable

_CHUNK = 1 << 20


@dataclass(frozen=True, kw_only=True)
class ArchiveMember:
    """A member of a tar.gz behind a link.

    Attributes:
        archive: The tar.gz.
        member: The member's name, without folders.
        md5: MD5 of the member, as published.
    """

    archive: RemoteFile
    member: str
    md5: str | None = None

    @property
    def url(self) -> str:
        return self.archive.url

    @property
    def provenance(self) -> str:
        return self.archive.provenance

    @property
    def checksum(self) -> str | None:
        return self.md5 and f"md5:{self.md5}"

    def make(self, path: Path, patience: Patience) -> str:
        """Unpacks the member to ``path``, which is whole or untouched, and returns its SHA-256.

        The archive stays beside: its folder goes with the download.

        Raises:
            Unavailable: the archive is not to be had, is damaged, or lacks the member.
            OSError: the disk is full or cannot be written.
        """
        archive = path.with_name(f"{path.name}.archive.tar.gz")
        if not archive.exists():  # It lies there only once it is whole: the run that was killed was unpacking it.
            self.archive.make(archive, patience)
        part = path.with_name(f"{path.name}.part")
        try:
            md5, sha256 = self._unpack(archive, part)
        except (EOFError, tarfile.ReadError, zlib.error, LookupError) as error:
            archive.unlink()
            raise Unavailable(f"{self.url}: the archive is damaged or another one: {error}") from None
        if md5 != (self.md5 or md5):
            archive.unlink()
            raise Unavailable(f"{self.url}: {self.member} in it has MD5 {md5}, published is {self.md5}")
        os.replace(part, path)
        return sha256

    def _unpack(self, archive: Path, part: Path) -> tuple[str, str]:
        md5, sha256 = hashlib.md5(usedforsecurity=False), hashlib.sha256()
        with tarfile.open(archive, "r|gz") as tar:
            for entry in tar:
                if (
                    entry.isfile()
                    and PurePosixPath(entry.name).name == self.member
                    and (content := tar.extractfile(entry))
                ):
                    break
            else:
                raise LookupError(f"it has no {self.member}")
            with content, part.open("wb") as out, report.bar(f"unpacking {self.member}", entry.size) as bar:
                while chunk := content.read(_CHUNK):
                    out.write(chunk)
                    md5.update(chunk)
                    sha256.update(chunk)
                    bar.update(len(chunk))
                out.flush()
                os.fsync(out.fileno())
        return md5.hexdigest(), sha256.hexdigest()
