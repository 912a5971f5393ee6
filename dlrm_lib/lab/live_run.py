"""A training in the background, so that the notebook goes on answering: one at a time, and none that outlives it."""

from __future__ import annotations

import atexit
import threading
from collections.abc import Callable
from typing import Protocol

from dlrm_lib.lab.run import Run

# Longest wait for the step that is under way when the interpreter ends.
_PATIENCE = 5.0


class InBackground(Protocol):
    """Whatever trains in a thread of its own."""

    def stop(self) -> None: ...

    def join(self, timeout: float | None = None) -> None: ...


# Held by who starts one.
one_at_a_time = threading.Lock()
_current: InBackground | None = None


def take_over(training: InBackground) -> None:
    """Stops the training under way, if any, and waits for its end; ``training`` is then the one to be stopped."""
    global _current
    end_training()
    _current = training


def end_training() -> None:
    """Stops the training under way, if any, and waits for its end."""
    if _current is not None:
        _current.stop()
        _current.join()


class LiveRun:
    """A run in a thread of its own, which asks after each step, and after each batch of an evaluation, what is wanted.

    The methods return at once, but for ``start`` where another training has to end first; call them from any thread but
    the run's own.

    Attributes:
        run: What it trains; to be read at any time.
    """

    def __init__(self, run: Run, on_event: Callable[[Run], None] = lambda run: None) -> None:
        """``on_event``: called as by ``Run.train``, in the run's thread, where training waits for it."""
        self.run, self._on_event = run, on_event
        self._going, self._stopping = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._work, name="training", daemon=True)

    @property
    def alive(self) -> bool:
        """Whether its thread is there: training, or waiting to go on."""
        return self._thread.is_alive()

    def start(self) -> None:
        """Begins to train, once the training that there was before, if any, is stopped. A run starts only once."""
        with one_at_a_time:
            if self._thread.ident is not None:
                return
            take_over(self)
            self._going.set()
            self._thread.start()

    def pause(self) -> None:
        """Has it wait behind the step under way, or behind the evaluation if there is one."""
        self._going.clear()

    def resume(self) -> None:
        """Has it go on after a pause."""
        self._going.set()

    def stop(self) -> None:
        """Has it end for good behind the step under way, or the batch of an evaluation."""
        self._stopping.set()
        self._going.set()  # a paused one wakes up to be stopped

    def join(self, timeout: float | None = None) -> None:
        """Waits until its thread has ended, so many seconds at most."""
        if self.alive:
            self._thread.join(timeout)

    def _work(self) -> None:
        try:
            while not self.run.over:
                self._going.wait()
                self.run.train(
                    stop=lambda: not self._going.is_set(), abandon=self._stopping.is_set, on_event=self._on_event
                )
        except BaseException as error:  # of ``on_event``: nobody is there to catch it
            self.run.fail(error)


@atexit.register
def _stop_at_exit() -> None:
    # A thread that is amid torch's code when the interpreter goes can take the process down with it.
    if _current is not None:
        _current.stop()
        _current.join(_PATIENCE)
