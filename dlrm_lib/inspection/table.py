"""What was found in a log, as a table for people."""

from __future__ import annotations

from collections.abc import Sequence

from dlrm_lib.inspection.contents import quoted
from dlrm_lib.inspection.proposal import Proposal

_HEAD = ("column", "type", "missing", "distinct", "values", "proposal")
_RIGHT = (2, 3)  # columns of numbers
_MOST = 200  # lines


def table_text(proposals: Sequence[Proposal]) -> str:
    """A line for each column, of very many columns for the first."""
    rows = [_HEAD, *map(_row, proposals[:_MOST])]
    widths = [max(len(row[place]) for row in rows) for place in range(len(_HEAD))]
    lines = [
        "  ".join(
            cell.rjust(width) if place in _RIGHT else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    return "\n".join(lines + [f"… and {len(proposals) - _MOST:,} more"] * (len(proposals) > _MOST))


def _row(proposal: Proposal) -> tuple[str, ...]:
    of = proposal.contents
    declared = "".join(f", {key}: {_text(value)}" for key, value in proposal.declares.items())
    why = f": {proposal.why}" if proposal.why else ""
    missing = f"{of.missing / of.rows:.1%}"
    return quoted(of.name), of.kind, missing, f"{of.distinct:,}", of.shown, f"{proposal.role}{declared}{why}"


def _text(value: object) -> str:
    return "/".join(map(str, value)) if isinstance(value, list) else str(value)
