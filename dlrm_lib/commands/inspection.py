"""``preprocess --inspect``: what an unknown file holds, and a feature specification of it to edit."""

from __future__ import annotations

import argparse
import shlex

from dlrm_lib.commands.command import refuse_existing
from dlrm_lib.console import say
from dlrm_lib.errors import InputError
from dlrm_lib.files import write_text

_SPEC = "feature_spec.yaml"
_WITH = {"inspect", "output", "overwrite", "preset", "run", "settings"}


def inspect(arguments: argparse.Namespace) -> None:
    """Prints what the columns of a file could be, and writes it.

    Raises:
        InputError: a flag that does nothing here, a file that is no table, one whose label is not in front though it
            names no columns, or a place that is taken or cannot be written to.
    """
    from dlrm_lib.inspection import first_rows, propose, remarks, spec_text, table_text

    if idle := [name for name, value in vars(arguments).items() if name not in _WITH and value not in (None, False)]:
        raise InputError(
            f"--{idle[0]} does nothing beside --inspect, which only looks at a file.",
            remedy="Leave out one of the two; --output says where the specification goes.",
        )
    path = arguments.inspect
    output = arguments.output or path.parent / _SPEC
    refuse_existing(output, arguments.overwrite)
    rows = first_rows(path)
    proposals = propose(rows)
    count = f"{rows.table.num_rows:,} row{'s' * (rows.table.num_rows > 1)}"
    looked_at = f"all of its {count}" if rows.whole else f"the first {count}"
    say(f"{path}: {rows.form}; {looked_at}\n{table_text(proposals)}")
    for remark in remarks(rows, proposals):
        say(f"remark: {remark}")
    if not rows.named and proposals[0].role != "label":
        raise InputError(
            f"The first field of {path} is no label, and where columns have no names it must be: nothing was written.",
            found=proposals[0].contents.shown,
            remedy="Write a header line into the file, or put 0 or 1 in front of each row.",
        )
    try:
        write_text(output, spec_text(proposals, named=rows.named, about=f"Proposed from {path.name}, {looked_at}."))
    except OSError as error:
        raise InputError(
            f"{output} cannot be written.", found=error.strerror, remedy="Name another place with --output."
        ) from None
    say(f"written: {output}; look at it and edit it, then")
    say(f"  python -m dlrm_lib preprocess --input {shlex.quote(str(path))} --feature_spec {shlex.quote(str(output))}")
