"""How many graphs were compiled, and which operators ran on the host instead: none, here."""

from __future__ import annotations

from typing import Any


class Metric:
    """One counter."""

    def __init__(self, name: str, stats: list[tuple[str, Any]]) -> None:
        self._name, self._stats = name, stats

    def name(self):
        return self._name

    def stats(self):
        return list(self._stats)

    def reset(self):
        """Nothing was counted."""


_METRICS = {
    metric.name(): metric
    for metric in (
        Metric("graph_compilation", [("TotalNumber", 0), ("TotalTime", 0), ("AvgTime", 0)]),
        Metric("cpu_fallback", [("TotalNumber", 0), ("FallbackOps", {})]),
    )
}


def metric_global(name):
    """The counter called so; None, not an error, if there is none."""
    return _METRICS.get(name)
