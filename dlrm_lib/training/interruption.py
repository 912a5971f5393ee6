"""Ctrl-C between two steps, not within one."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType


@contextlib.contextmanager
def stop_on_interrupt() -> Iterator[threading.Event]:
    """Within the block, Ctrl-C or a request to terminate sets the event that it yields; the second interrupts at once.

    A step that is broken off leaves some weights updated and others not. ``fit(..., stop=event.is_set)`` ends behind a
    whole one instead, so that the training state can be written. Only the main thread hears signals: in any other one
    the event stays unset.
    """
    event = threading.Event()

    def handle(number: int, frame: FrameType | None) -> None:
        if event.is_set():
            raise KeyboardInterrupt
        event.set()

    main = threading.current_thread() is threading.main_thread()
    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)} if main else {}
    try:
        yield event
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
