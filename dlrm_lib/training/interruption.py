"""Ctrl-C, and the end of a terminal or a job, between two steps, not within one."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType


@contextlib.contextmanager
def stop_on_interrupt() -> Iterator[threading.Event]:
    """Within the block, Ctrl-C, a request to terminate or a hang-up sets the event that it yields.

    After any of them Ctrl-C interrupts at once. The others do not: the end of a terminal or of a job sends several. A
    hang-up that was ignored when the block began (``nohup``) stays ignored.

    A step that is broken off leaves some weights updated and others not. ``fit(..., stop=event.is_set)`` ends behind a
    whole one instead, so that the training state can be written. Only the main thread hears signals: in any other one
    the event stays unset.
    """
    event = threading.Event()

    def handle(number: int, frame: FrameType | None) -> None:
        if event.is_set() and number == signal.SIGINT:
            raise KeyboardInterrupt
        event.set()

    numbers = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        numbers.append(signal.SIGHUP)
    main = threading.current_thread() is threading.main_thread()
    before = {number: signal.signal(number, handle) for number in numbers} if main else {}
    try:
        yield event
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
