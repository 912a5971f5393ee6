"""When the state of a training is written again: by the clock, so that a run of one long epoch has a state too."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator

# A state of many gigabytes takes minutes to write: from the end of one writing to the next passes so many times as
# long as it took, so that a training spends at most a twentieth of its time on them.
_TIMES_AS_LONG = 20


class SaveClock:
    """Asked between steps whether the state is due.

    Attributes:
        next: When it is due again, on the clock.
    """

    def __init__(self, minutes: float, clock: Callable[[], float] = time.monotonic) -> None:
        """The first time is ``minutes`` from now; ``clock`` tells seconds."""
        self._interval, self._clock = 60 * minutes, clock
        self.next = clock() + self._interval

    def due(self) -> bool:
        """Whether it is time."""
        return self._clock() >= self.next

    @contextlib.contextmanager
    def saving(self) -> Iterator[None]:
        """Around each writing, whatever it is for: the time of the next one follows from when and how long it was."""
        began = self._clock()
        try:
            yield
        finally:
            ended = self._clock()
            self.next = ended + max(self._interval, _TIMES_AS_LONG * (ended - began))
