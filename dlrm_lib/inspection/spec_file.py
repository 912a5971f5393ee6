"""A proposal as the text of a feature specification, with a reason beside each column, for a person to edit."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

import yaml

from dlrm_lib.columns import RawColumns
from dlrm_lib.inspection.proposal import Proposal

_PLAIN = re.compile(r"[A-Za-z_][\w.-]*", re.ASCII)


def spec_text(proposals: Sequence[Proposal], *, named: bool, about: str) -> str:
    """The file that ``RawColumns.read`` reads.

    Args:
        proposals: What each column could be.
        named: Whether the log names its columns; else they are called as ``RawColumns.unnamed`` has it.
        about: What was looked at: a sentence for the top.
    """
    of = {role: [one for one in proposals if one.role == role] for role in ("label", "numerical", "categorical")}
    names = {id(one): one.contents.name for one in proposals}
    if not named:
        unnamed = RawColumns.unnamed(len(of["numerical"]), len(of["categorical"]))
        members = of["label"] + of["numerical"] + of["categorical"]
        names |= {id(one): name for one, name in zip(members, unnamed.names, strict=True)}
    of_places = "Fields are read by their places, all of them: change names, and from where on they are tokens."
    of_names = "Each line is a proposal: look at it, move it or take it out. Columns that are not listed are not read."
    lines = [f"# {about}", f"# {of_names if named else of_places}", "channel_spec:"]
    for role, members in of.items():
        lines.append(f"  {role}:" + (" []" if not members else ""))
        lines += [f"    - {_scalar(names[id(one)])}{_comment(one)}" for one in members]
    if ignored := [one for one in proposals if one.role == "ignored"]:
        lines += ["# Not read:", *(f"#   - {_scalar(one.contents.name)}{_comment(one)}" for one in ignored)]
    if declaring := [one for one in proposals if one.declares]:
        lines.append("feature_spec:")
        lines += [f"  {_scalar(names[id(one)])}: {json.dumps(one.declares, ensure_ascii=False)}" for one in declaring]
    return "\n".join(lines) + "\n"


def _scalar(text: str) -> str:
    """A name as YAML reads it back: in quotes unless it is plain, and not a word like yes or null."""
    plain = _PLAIN.fullmatch(text) and yaml.safe_load(text) == text
    if plain:
        return text
    return yaml.safe_dump(text, default_style='"', allow_unicode=True, width=len(text) + 2).strip()


def _comment(one: Proposal) -> str:
    of = one.contents
    facts = [f"{of.kind}, {of.distinct:,} values" + (f", {of.missing / of.rows:.1%} missing" if of.missing else "")]
    return "  # " + "; ".join(facts + [one.why] * bool(one.why))
