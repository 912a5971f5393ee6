"""From raw click logs to an encoded data set, with Spark."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING, Any

from dlrm_lib.errors import InputError

if TYPE_CHECKING:
    from dlrm_lib.preprocess.pipeline import preprocess
    from dlrm_lib.preprocess.source import source_files

__all__ = ["preprocess", "source_files"]

_PACKAGES = ("numba", "pandas", "pyarrow", "pyspark")


def __getattr__(name: str) -> Any:
    """Imports what is asked for: Spark's daemon, which is a module of this package, has to be there at once."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if missing := [package for package in _PACKAGES if importlib.util.find_spec(package) is None]:
        raise InputError(
            "Preprocessing needs packages that are not installed.",
            found=f"no {missing[0]}",
            remedy="Install them with `pip install 'dlrm-lib[spark]'`, or `pip install -e '.[spark]'` in a checkout.",
        )
    from dlrm_lib.preprocess import pipeline, source

    return pipeline.preprocess if name == "preprocess" else source.source_files
