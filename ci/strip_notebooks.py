"""Brings notebooks into the form they have in git: no outputs, no execution counts, no metadata of one person's editor.

    python ci/strip_notebooks.py [--check] NOTEBOOK...

Rewrites what differs and exits 1 then, as a pre-commit hook should; ``--check`` only says so.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import nbformat

_KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}


def strip(text: str) -> str:
    """The notebook in the form it has in git.

    Raises:
        nbformat.ValidationError: it is not a valid notebook.
    """
    nb = nbformat.reads(text, as_version=4)
    nb.nbformat_minor = 5
    nb.metadata = nbformat.from_dict({"kernelspec": _KERNEL, "language_info": {"name": "python"}} | _kept(nb, "dlrm"))
    for cell in nb.cells:
        cell.metadata = _kept(cell, "tags")
        if cell.cell_type == "code":
            cell.outputs = []
            cell.execution_count = None
    nbformat.validate(nb)
    return nbformat.writes(nb) + "\n"


def _kept(node: nbformat.NotebookNode, name: str) -> nbformat.NotebookNode:
    return nbformat.from_dict({name: node.metadata[name]} if node.metadata.get(name) else {})


def main(arguments: Sequence[str]) -> int:
    paths = [Path(a) for a in arguments if a != "--check"]
    found = 0
    for path in paths:
        before = path.read_text(encoding="utf-8")
        after = strip(before)
        if after != before:
            found = 1
            if "--check" in arguments:
                print(f"{path} has outputs or editor metadata: run python ci/strip_notebooks.py {path}")
            else:
                path.write_text(after, encoding="utf-8")
                print(f"stripped {path}")
    return found


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
