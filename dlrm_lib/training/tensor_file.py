"""Files of named tensors that are whole, unchanged, and hold nothing that can run.

The format is safetensors (https://github.com/huggingface/safetensors): eight bytes of length, a header in JSON, then
the tensors' bytes. Its own writer knows no checksums; this one adds them to the header's metadata, where other readers
ignore them, and sends each tensor to the disk piece by piece, so that even the largest is never in memory twice.
"""

from __future__ import annotations

import contextlib
import glob
import itertools
import json
import os
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import torch
from safetensors import SafetensorError, safe_open

from dlrm_lib.errors import InputError
from dlrm_lib.files import new_file, resolved
from dlrm_lib.locks import locked

_DTYPES = {torch.float32: "F32", torch.float64: "F64", torch.int32: "I32", torch.int64: "I64", torch.uint8: "U8"}
_PIECE = 1 << 24


def write_tensors(path: Path, tensors: Mapping[str, torch.Tensor], about: dict[str, Any]) -> None:
    """Writes tensors, on any device, and JSON-ready facts about them; what was at ``path`` stays until all is written.

    Who writes holds the lock of his partial file: a leftover is one that nobody holds, and only leftovers are removed.

    Raises:
        InputError: the disk is full, or does not let itself be written to.
    """
    try:
        path = resolved(path)
        # A process that was killed while it wrote has left as many bytes as a whole file.
        for leftover in path.parent.glob(f"{glob.escape(path.name)}.partial-*"):
            with contextlib.suppress(FileNotFoundError), locked(leftover) as unused:
                if unused:
                    leftover.unlink()
        with new_file(path) as partial, locked(partial, make=True), partial.open("wb") as file:
            # The checksums are known at the end only, but have the same length from the start.
            file.write(_header(tensors, about, dict.fromkeys(tensors, 0)))
            checksums = {name: _write(file, tensor) for name, tensor in tensors.items()}
            file.seek(0)
            file.write(_header(tensors, about, checksums))
            file.flush()
            os.fsync(file.fileno())  # else a power cut after the renaming could leave an empty file
    except OSError as error:
        raise InputError(
            f"{path} could not be written.",
            found=error.strerror,
            remedy="Make room, or name another place; an earlier file of this name is untouched.",
        ) from None


class Target(Protocol):
    """What a tensor of a file is copied into: another tensor, or what stands for a part of one."""

    @property
    def shape(self) -> torch.Size:
        """That of the tensor in the file."""

    @property
    def dtype(self) -> torch.dtype:
        """Likewise."""

    def copy_(self, tensor: torch.Tensor, /) -> Any:
        """Takes its numbers."""


class TensorFile:
    """An open file of tensors.

    Attributes:
        about: The facts that it was written with.
    """

    def __init__(self, path: Path, file: Any) -> None:
        metadata = file.metadata()
        self.about = json.loads(metadata["about"])
        self._path, self._file, self._names = path, file, set(file.keys())
        self._checksums = json.loads(metadata["checksums"])
        if metadata["checksum"] != _checksum_of_text(metadata["about"] + metadata["checksums"]):
            raise ValueError("its facts do not fit their checksum")

    def names(self, prefix: str = "") -> set[str]:
        """Of the tensors whose names begin so."""
        return {name for name in self._names if name.startswith(prefix)}

    def read(self, targets: Mapping[str, Target], prefix: str = "", *, whole: bool = True) -> None:
        """Copies tensors into those of a model or optimizer, on whichever device they are.

        Args:
            targets: Each named tensor is filled with what the file has under ``prefix`` and its name.
            prefix: In front of the names.
            whole: The file must have no other tensors with it.

        Raises:
            InputError: a tensor is missing, unknown, of another shape or type, or damaged.
        """
        here = self.names(prefix)
        wanted = {prefix + name for name in targets}
        missing, unknown = wanted - here, here - wanted if whole else set()
        if missing or unknown:
            name, lacks = min([(n, True) for n in missing] + [(n, False) for n in unknown])
            raise self._error(f"has no tensor {name}" if lacks else f"has a tensor {name} that nothing here takes")
        for name, target in targets.items():
            tensor = self._file.get_tensor(prefix + name)  # a view of the file
            if (tensor.shape, tensor.dtype) != (target.shape, target.dtype):
                raise self._error(
                    f"has a tensor {prefix + name} of another size",
                    f"{_shape(tensor)} in the file, {_shape(target)} wanted",
                )
            checksum = 0
            for piece in _pieces(tensor):
                checksum = zlib.crc32(piece, checksum)
            if _as_text(checksum) != self._checksums.get(prefix + name):
                raise self._error(f"is damaged: {prefix + name} does not fit its checksum")
            target.copy_(tensor)

    def _error(self, what: str, found: str | None = None) -> InputError:
        return InputError(f"{self._path} {what}.", found=found, remedy="Use another checkpoint, or train again.")


@contextlib.contextmanager
def open_tensors(path: Path) -> Iterator[TensorFile]:
    """Opens a file that ``write_tensors`` wrote.

    Raises:
        InputError: there is none, or it is something else, cut short or damaged.
    """
    if not path.is_file():
        raise InputError(f"{path} does not exist.", remedy="Train first, or name the checkpoint's file.")
    with contextlib.ExitStack() as stack:
        try:
            file = TensorFile(path, stack.enter_context(safe_open(path, "pt", device="cpu")))
        except (SafetensorError, KeyError, TypeError, ValueError, OSError) as error:
            raise InputError(
                f"{path} is not a checkpoint of this program, or is damaged.",
                found=f"{type(error).__name__}: {error}",
                remedy="Use another checkpoint, or train again.",
            ) from None
        yield file


def _header(tensors: Mapping[str, torch.Tensor], about: dict[str, Any], checksums: Mapping[str, int]) -> bytes:
    facts, sums = json.dumps(about), json.dumps({name: _as_text(value) for name, value in checksums.items()})
    header: dict[str, Any] = {
        "__metadata__": {"about": facts, "checksums": sums, "checksum": _checksum_of_text(facts + sums)}
    }
    ends = itertools.accumulate((tensor.nbytes for tensor in tensors.values()), initial=0)
    for (name, tensor), (start, end) in zip(tensors.items(), itertools.pairwise(ends), strict=True):
        header[name] = {"dtype": _DTYPES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def _write(file: BinaryIO, tensor: torch.Tensor) -> int:
    checksum = 0
    for piece in _pieces(tensor):
        file.write(piece)
        checksum = zlib.crc32(piece, checksum)
    return checksum


def _pieces(tensor: torch.Tensor) -> Iterator[memoryview]:
    """The bytes of a tensor, at most 64 or 128 MiB at a time."""
    for part in tensor.detach().reshape(-1).split(_PIECE) if tensor.numel() else ():
        yield memoryview(part.cpu().numpy()).cast("B")


def _as_text(checksum: int) -> str:
    return f"{checksum:08x}"


def _checksum_of_text(text: str) -> str:
    return _as_text(zlib.crc32(text.encode()))


def _shape(tensor: Target) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}"
