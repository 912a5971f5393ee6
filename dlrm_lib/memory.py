"""How much memory there is for this process, and the sentence for when there was too little."""

from __future__ import annotations

import contextlib
import errno
import re
from collections.abc import Iterator
from pathlib import Path

from dlrm_lib.errors import InputError

_LACKING = re.compile(r"out of memory|not enough memory|can(no|')t allocate memory|bad_alloc", re.IGNORECASE)


def available_memory(root: Path = Path("/")) -> int | None:
    """Bytes that this process can still take without swapping; None where nobody says.

    The least of what the machine has free, what the process's control groups leave (those of a container or of a
    batch system, which know nothing of the machine), and what its own limits leave (``ulimit``).

    Args:
        root: Where ``proc`` and ``sys`` are.
    """
    free = [*_of_machine(root), *_of_groups(root), *_of_limits(root)]
    return max(0, min(free)) if free else None


def _of_machine(root: Path) -> Iterator[int]:
    facts = _facts(root / "proc" / "meminfo")
    if "MemAvailable" in facts:
        yield facts["MemAvailable"] * 1024
    elif not facts:  # not Linux
        with contextlib.suppress(ImportError):
            import psutil

            yield psutil.virtual_memory().available


def _of_groups(root: Path) -> Iterator[int]:
    """What each control group of the process leaves, those above it included: version 2 and version 1."""
    for line in _text(root / "proc" / "self" / "cgroup").splitlines():
        _, controllers, group = line.split(":", 2)
        if not controllers:
            mount, files, kind = root / "sys/fs/cgroup", ("memory.max", "memory.current"), ""
        elif "memory" in controllers.split(","):
            mount, files = root / "sys/fs/cgroup/memory", ("memory.limit_in_bytes", "memory.usage_in_bytes")
            kind = "total_"  # with the groups below it, as its usage is
        else:
            continue
        # A container may see its own group as the root, though its name here is another.
        here = mount / group.lstrip("/")
        for folder in (here, *(above for above in here.parents if above.is_relative_to(mount))):
            limit, used = (_text(folder / file).strip() for file in files)
            if limit.isdigit() and used.isdigit():
                facts = _facts(folder / "memory.stat")
                read = sum(facts.get(f"{kind}{name}", 0) for name in ("active_file", "inactive_file"))
                yield int(limit) - int(used) + read  # what was read from files gives way


def _of_limits(root: Path) -> Iterator[int]:
    try:
        import resource  # which Unix alone has
    except ImportError:
        return
    taken = _facts(root / "proc" / "self" / "status")
    for limit, name in ((resource.RLIMIT_AS, "VmSize"), (resource.RLIMIT_DATA, "VmData")):
        most = resource.getrlimit(limit)[0]
        if most != resource.RLIM_INFINITY and name in taken:
            yield most - taken[name] * 1024


def _facts(path: Path) -> dict[str, int]:
    """Lines of a name and a number."""
    return {name: int(number) for name, number in re.findall(r"^(\w+):?\s+(\d+)", _text(path), re.MULTILINE)}


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""


def shortage(error: BaseException) -> InputError | None:
    """What a failed request for memory means for people, whoever made it; None for an error of another kind.

    Python and NumPy raise ``MemoryError``, the system ``ENOMEM``, torch a ``RuntimeError`` that says so.
    """
    of_system = isinstance(error, OSError) and error.errno == errno.ENOMEM
    of_torch = isinstance(error, RuntimeError) and _LACKING.search(str(error))
    if not (isinstance(error, MemoryError) or of_system or of_torch):
        return None
    free = available_memory()
    left = "" if free is None else f" ({in_bytes(free)} free now)"
    return InputError(
        "There is not enough memory to go on; what was written before is whole.",
        found=f"{str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__}{left}",
        remedy="Close other programs or raise the limit. Training takes less with a smaller --batch_size or "
        "--test_batch_size, --hash_indices with --max_table_size, or --optimizer sgd.",
    )


def in_bytes(number: float) -> str:
    """63.6 MB"""
    for unit in ("B", "kB", "MB", "GB"):
        if number < 999.5:
            return f"{number:.3g} {unit}"
        number /= 1000
    return f"{number:,.3g} TB"
