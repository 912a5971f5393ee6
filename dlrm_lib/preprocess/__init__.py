"""From raw click logs to an encoded data set, with Spark."""

from __future__ import annotations

from dlrm_lib.errors import InputError

try:
    from dlrm_lib.preprocess.pipeline import preprocess
    from dlrm_lib.preprocess.source import source_files
except ModuleNotFoundError as error:
    if error.name is None or error.name.split(".")[0] not in {"numba", "pandas", "pyarrow", "pyspark"}:
        raise
    raise InputError(
        "Preprocessing needs packages that are not installed.",
        found=f"no {error.name}",
        remedy="Install them with `pip install 'dlrm-lib[spark]'`, or `pip install -e '.[spark]'` in a checkout.",
    ) from None

__all__ = ["preprocess", "source_files"]
