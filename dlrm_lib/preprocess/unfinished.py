"""The unfinished data set: a folder beside its place, found again by a later run of the same rows and settings.

``NAME.partial-IDENTITY/data`` becomes ``NAME`` when it is whole; no reader looks into it before. The identity stands
for the rows, the settings and the code, so that what an earlier run left is used only if it fits. Where ``NAME`` cannot
be renamed, a mount point above all, the folder lies in it, and its entries are moved up when it is whole.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from dlrm_lib.errors import InputError
from dlrm_lib.files import cannot_be_renamed, put_in_place, put_into
from dlrm_lib.locks import locked, owned
from dlrm_lib.manifest import MANIFEST

_BOOT = Path("/proc/sys/kernel/random/boot_id")
_STAYS = {errno.EXDEV, errno.EBUSY}  # a folder of a container's image, or one that was mounted meanwhile
_LASTING = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EFBIG}


class WorkIsKept(InputError):
    """An error that is mended outside, such as a full disk: the same run then goes on where it was."""


@contextlib.contextmanager
def readable_disk_errors(folder: Path) -> Iterator[None]:
    """Says in one sentence that a disk is full or that writing is not allowed; such an error lasts if tried again.

    Raises:
        WorkIsKept: in place of such an ``OSError``. It names the file, or ``folder`` where the system does not say.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in _LASTING:
            raise
        raise WorkIsKept(
            f"{error.filename or folder} cannot be written.",
            found=error.strerror,
            remedy="Free some space or mend the permissions, then run the same command: it goes on where it was.",
        ) from None


def boot() -> str:
    """Changes when the machine is started anew: what was written before that may not have reached the disk."""
    return _BOOT.read_text(encoding="ascii").strip() if _BOOT.exists() else ""


class Unfinished:
    """The folders of a data set in the making.

    Attributes:
        data: What becomes the data set.
        work: For spills and notes of what is done.
    """

    def __init__(self, output: Path, identity: str, spill: Path | None = None) -> None:
        self._output = output
        self._inside = cannot_be_renamed(output)
        on_its_disk = output if self._inside else output.parent
        self._folder = on_its_disk / f"{output.name}.partial-{identity}"
        self._spill = (spill or on_its_disk) / self._folder.name
        self.data = self._folder / "data"
        self._whole = self._folder / "whole"  # the data, once its entries are on their way up
        self.work = self._spill / "work"

    @property
    def whole(self) -> bool:
        """Whether nothing is left to do but to put the data set in its place."""
        return (self.data / MANIFEST).exists() or self._whole.exists()

    @contextlib.contextmanager
    def alone(self) -> Iterator[bool]:
        """Makes the folders and keeps other runs out while the block runs; the lock ends with the process.

        The folders stay, for a later run to go on with, if the block ends with an exception; but an ``InputError`` of a
        run that did not go on with anything itself removes them, unless it is ``WorkIsKept``.

        Yields:
            Whether an earlier run left something to go on with.

        Raises:
            InputError: another run writes to the same output.
        """
        with contextlib.ExitStack() as stack:
            remedy = "Wait until it is done, or choose another --output."
            stack.enter_context(owned(self._output, remedy=remedy))
            for folder in dict.fromkeys(path.resolve() for path in (self._folder, self._spill)):  # one, unless spilled
                try:
                    folder.mkdir(parents=True, exist_ok=True)
                except OSError as error:
                    raise InputError(
                        f"{folder.parent} cannot hold intermediate files.",
                        found=error.strerror,
                        remedy="Name a folder that can be written to, with --output or --spill.",
                    ) from None
                # Runs with other outputs of that name, which spill here too, clear up what nobody holds.
                if stack.enter_context(locked(folder)) is False:
                    raise InputError(f"Another run is clearing up {folder}.", remedy="Run the same command again.")
            resumed = self._whole.exists() or (self.data.exists() and self.work.exists())
            if not resumed:
                self._empty()
                for folder in (self.data, self.work):
                    folder.mkdir(parents=True, exist_ok=True)
            try:
                with readable_disk_errors(self._folder):
                    yield resumed
            except InputError as error:
                if not resumed and not isinstance(error, WorkIsKept):
                    self._remove()
                raise

    def finish(self) -> None:
        """Puts the data set in its place; what was there is replaced."""
        for path in self.data.rglob("*.partial-*"):  # what a task was writing when it was killed
            path.unlink()
        if not self._inside and not self._whole.exists():
            try:
                put_in_place(self.data, self._output)
                self._remove()
                return
            except OSError as error:
                if error.errno not in _STAYS:
                    raise
        if self.data.exists():
            os.replace(self.data, self._whole)
        put_into(self._whole, self._output, last=MANIFEST)
        self._remove()

    def clear_others(self) -> list[Path]:
        """Removes what unfinished runs of other rows or settings left beside the output; returns what it was."""
        found = []
        for parent in {self._folder.parent, self._spill.parent}:
            for path in sorted(parent.glob(f"{self._output.name}.partial-*")):
                if path.name != self._folder.name:
                    with contextlib.suppress(FileNotFoundError), locked(path) as unused:
                        if unused:
                            shutil.rmtree(path)
                            found.append(path)
        return found

    def _empty(self) -> None:
        for folder in (self.data, self.work):
            shutil.rmtree(folder, ignore_errors=True)

    def _remove(self) -> None:
        for folder in {self._folder, self._spill}:
            shutil.rmtree(folder, ignore_errors=True)
