"""What was called, in order: tests compare it with the order that the published training loop has."""

from __future__ import annotations

calls: list[str] = []


def record(call: str) -> None:
    """Notes a call."""
    calls.append(call)
