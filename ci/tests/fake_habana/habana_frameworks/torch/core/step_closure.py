"""Where lazy graphs end."""

from __future__ import annotations

from habana_frameworks.torch.record import record
from habana_frameworks.torch.utils.internal import is_lazy, lazy_only


@lazy_only
def mark_step(device_str="", sync=False):
    """Runs what has been collected since the last call; recorded as ``mark_step``."""
    record("mark_step")


def mark_step_of(caller: str) -> None:
    """The plugin's own code ends a step, in lazy mode; recorded with the caller's name."""
    if is_lazy():
        record(f"{caller}: mark_step")
