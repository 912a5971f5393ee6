"""Code of the notebooks for tests and benchmarks: what a chapter teaches is what is tested and measured."""

from __future__ import annotations

from pathlib import Path

import nbformat

from dlrm_lib.errors import InputError


def tagged_source(notebook: Path, tag: str) -> str:
    """The code cells of a notebook that carry ``tag``, joined in order; cells a line apart.

    Raises:
        InputError: no code cell carries the tag.
    """
    nb = nbformat.read(notebook, as_version=4)
    cells = [c.source for c in nb.cells if c.cell_type == "code" and tag in c.metadata.get("tags", [])]
    if not cells:
        raise InputError(f"{notebook.name} has no code cell tagged `{tag}`.")
    return "\n\n".join(cells) + "\n"
