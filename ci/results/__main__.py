"""``./ci/figures``: draws the figures, and writes docs/results.md and the README's digest of it, from the records."""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from dlrm_lib.errors import InputError
from dlrm_lib.files import write_text
from dlrm_lib.plots import save
from results.pictures import drawn
from results.section import digest, replaced, section
from results.sources import Sources

ROOT = Path(__file__).resolve().parents[2]


def main(arguments: Sequence[str] | None = None, *, root: Path = ROOT) -> int:
    """Draws and writes; with ``--check`` only says what is stale, and returns 1 if anything is.

    Raises:
        InputError: a record is broken, or a page has no place for its section.
    """
    parser = argparse.ArgumentParser(prog="./ci/figures", description=__doc__.replace("``", ""))
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 if a file is stale")
    check = parser.parse_args(arguments).check
    sources = Sources.read(root)
    sections = {"README.md": digest(sources), "docs/results.md": section(sources)}
    pages = {name: (root / name).read_text(encoding="utf-8") for name in sections}
    try:
        new = {name: replaced(text, sections[name], name) for name, text in pages.items()}
    except ValueError as error:
        raise InputError(f"{error}.", remedy="Put both marks where the section belongs.") from None
    with tempfile.TemporaryDirectory() as folder:
        for name, figure in drawn(sources).items():
            save(figure, Path(folder) / name)
        fresh = {path.name: path.read_bytes() for path in Path(folder).iterdir()}
        stale = sorted(stale_files(fresh, root / "figures")) + [name for name in pages if new[name] != pages[name]]
        if check:
            print("\n".join(f"stale: {name}" for name in stale) or "Figures and pages are those of the records.")
            return int(bool(stale))
        for name in fresh:
            shutil.copyfile(Path(folder) / name, root / "figures" / name)
    for path in (root / "figures").glob("*.*"):
        if path.name not in fresh:
            path.unlink()
    for name, text in new.items():
        write_text(root / name, text)
    print("\n".join(f"new: {name}" for name in stale) or "Nothing had changed.")
    return 0


def stale_files(fresh: dict[str, bytes], folder: Path) -> set[str]:
    """Names of files that are missing, other than they should be, or drawn by nothing."""
    found = {path.name: path.read_bytes() for path in folder.glob("*.*")}
    return {name for name in fresh.keys() | found.keys() if fresh.get(name) != found.get(name)}


if __name__ == "__main__":
    try:
        sys.exit(main())
    except InputError as error:
        print(f"./ci/figures: {error}", file=sys.stderr)
        sys.exit(2)
