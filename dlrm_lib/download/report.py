"""What a person sees while files arrive: sentences, and one bar at a time where somebody watches a terminal."""

from __future__ import annotations

from typing import Any


def say(sentence: str) -> None:
    """Prints a sentence without tearing a bar apart."""
    try:
        from tqdm import tqdm
    except ModuleNotFoundError:
        print(sentence, flush=True)
    else:
        tqdm.write(sentence)


def bar(what: str, total: int | None) -> Any:
    """A bar in bytes: ``update(n)``, and a context manager. Quiet when stderr is no terminal."""
    try:
        from tqdm import tqdm
    except ModuleNotFoundError:  # The core alone does not bring it, and a download works without.
        return _Quiet()
    return tqdm(desc=what, total=total, unit="B", unit_scale=True, disable=None, leave=False)


def size(count: int) -> str:
    """A number of bytes as people write it: 1.7 GB."""
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= scale:
            return f"{count / scale:.1f} {unit}"
    return f"{count} bytes"


class _Quiet:
    def update(self, n: int) -> None:
        pass

    def __enter__(self) -> _Quiet:
        return self

    def __exit__(self, *_: object) -> None:
        pass
