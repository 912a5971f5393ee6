"""An unknown log, looked at: its first rows, what its columns hold, and a feature specification to edit."""

from __future__ import annotations

from dlrm_lib.errors import InputError

try:
    from dlrm_lib.inspection.beginning import FirstRows, first_rows
    from dlrm_lib.inspection.proposal import Proposal, propose, remarks
    from dlrm_lib.inspection.spec_file import spec_text
    from dlrm_lib.inspection.table import table_text
except ModuleNotFoundError as error:
    if error.name is None or error.name.split(".")[0] not in {"numba", "pandas", "pyarrow", "pyspark"}:
        raise
    raise InputError(
        "Looking at a log needs packages that are not installed.",
        found=f"no {error.name}",
        remedy="Install them with `pip install 'dlrm-lib[spark]'`, or `pip install -e '.[spark]'` in a checkout.",
    ) from None

__all__ = ["FirstRows", "Proposal", "first_rows", "propose", "remarks", "spec_text", "table_text"]
