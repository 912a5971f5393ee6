"""Which notebooks to run, with which parameters, for how long: all that can be refused before a kernel starts."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat

from dlrm_lib.errors import InputError

REQUIRED_PARAMETERS = ("preset", "device", "seed", "work_dir", "raw", "headless", "overrides")
BUDGET_SECONDS = {"smoke": 300.0}
OTHER_PRESETS_SECONDS = 3600.0


@dataclass(frozen=True, kw_only=True)
class Notebook:
    """A notebook as it stands in the workbook.

    Attributes:
        path: The notebook's file.
        title: Its first heading.
        parameters: Names that its parameters cell assigns, in order.
        parameters_cell: Position of that cell, from 0.
        seconds: Preset → time budget, for presets where the notebook asks for its own.
    """

    path: Path
    title: str
    parameters: tuple[str, ...]
    parameters_cell: int
    seconds: Mapping[str, float]

    @property
    def name(self) -> str:
        return self.path.stem

    def budget(self, preset: str) -> float:
        """Seconds the notebook may take: what it asks for itself, or what the preset usually grants."""
        return float(self.seconds.get(preset, BUDGET_SECONDS.get(preset, OTHER_PRESETS_SECONDS)))


def discover(folder: Path) -> list[Path]:
    """The workbook's notebooks in reading order."""
    return sorted(folder.glob("[0-9][0-9]_*.ipynb"))


def select(paths: Sequence[Path], wanted: Sequence[str]) -> list[Path]:
    """The notebooks asked for by number ("3", "03") or by name, in reading order; all of them if none is named.

    Raises:
        InputError: there are no notebooks, or not the one asked for.
    """
    if not paths:
        raise InputError(
            "There are no notebooks to run.", remedy="The workbook's are notebooks/00_….ipynb to 10_….ipynb."
        )

    def answers_to(path: Path) -> set[str]:
        number = path.stem[:2]
        return {number, str(int(number)), path.stem, path.name}

    for name in wanted:
        if not any(name in answers_to(path) for path in paths):
            raise InputError(
                "There is no such notebook.", found=name, remedy=f"There are: {', '.join(p.stem for p in paths)}."
            )
    return [path for path in paths if not wanted or answers_to(path) & set(wanted)]


def read(path: Path) -> Notebook:
    """Reads what the runner must know about a notebook.

    Raises:
        InputError: it is no valid notebook, lacks its parameters cell or a required parameter, or asks for a budget
            that is no number.
    """
    try:
        nb = nbformat.read(path, as_version=4)
        nbformat.validate(nb)
    except (ValueError, nbformat.ValidationError) as error:
        raise InputError(f"{path.name} is not a valid notebook: {str(error).splitlines()[0]}") from None
    tagged = [i for i, cell in enumerate(nb.cells) if "parameters" in cell.metadata.get("tags", [])]
    if len(tagged) != 1 or nb.cells[tagged[0]].cell_type != "code":
        raise InputError(
            f"{path.name} needs exactly one code cell tagged `parameters`.",
            found=f"{len(tagged)} tagged cells",
            remedy=f"Tag the cell that assigns {', '.join(REQUIRED_PARAMETERS)}.",
        )
    parameters = _assigned_names(path, nb.cells[tagged[0]].source)
    missing = [name for name in REQUIRED_PARAMETERS if name not in parameters]
    if missing:
        raise InputError(
            f"The parameters cell of {path.name} must assign {', '.join(missing)}.",
            found=", ".join(parameters) or "no assignment",
        )
    return Notebook(
        path=path,
        title=_title(nb) or path.stem,
        parameters=parameters,
        parameters_cell=tagged[0],
        seconds=_seconds(path, nb),
    )


def check_parameters(notebooks: Sequence[Notebook], values: Mapping[str, Any]) -> None:
    """Refuses a parameter that one of the notebooks does not have.

    Raises:
        InputError: it names the parameter, the notebook, and the parameters that the notebook has.
    """
    for notebook in notebooks:
        for name in values:
            if name not in notebook.parameters:
                raise InputError(
                    f"{notebook.path.name} has no parameter of this name.",
                    found=name,
                    remedy=f"Its parameters are: {', '.join(notebook.parameters)}.",
                )


def _assigned_names(path: Path, source: str) -> tuple[str, ...]:
    try:
        statements = ast.parse(source).body
    except SyntaxError as error:
        raise InputError(
            f"The parameters cell of {path.name} is not Python: line {error.lineno}: {error.msg}."
        ) from None
    names: list[str] = []
    for statement in statements:
        targets = statement.targets if isinstance(statement, ast.Assign) else [getattr(statement, "target", None)]
        names += [target.id for target in targets if isinstance(target, ast.Name)]
    return tuple(dict.fromkeys(names))


def _title(nb: nbformat.NotebookNode) -> str | None:
    prose = "\n".join(cell.source for cell in nb.cells if cell.cell_type == "markdown")
    heading = re.search(r"^#+ +(.+)$", prose, flags=re.MULTILINE)
    return heading.group(1).strip() if heading else None


def _seconds(path: Path, nb: nbformat.NotebookNode) -> dict[str, float]:
    seconds = nb.metadata.get("dlrm", {}).get("seconds", {})
    numbers = isinstance(seconds, dict) and all(isinstance(s, int | float) and s > 0 for s in seconds.values())
    if not numbers:
        raise InputError(
            f"The time budget in the metadata of {path.name} must give seconds per preset.",
            found=seconds,
            remedy='For example: "dlrm": {"seconds": {"smoke": 90}}.',
        )
    return dict(seconds)
