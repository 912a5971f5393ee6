"""The next batches, read and checked while the device is busy with this one."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np

from dlrm_lib.dataset.batch import Batch
from dlrm_lib.dataset.order import Order
from dlrm_lib.dataset.split import Split


def read_ahead(
    split: Split,
    batch_size: int,
    order: Order | np.ndarray | None = None,
    start: int = 0,
    *,
    put: Callable[[Batch], Batch] = lambda batch: batch,
    workers: int = 1,
    check: bool = True,
) -> Generator[Batch, None, None]:
    """Yields what ``split.batches`` yields, in its order, read by threads of their own.

    At most ``workers + 1`` batches are held besides the one in use. Leaving the loop waits for the batches that are
    being read, milliseconds, and no thread stays.

    Args:
        split: The rows.
        batch_size: As for ``Split.batches``.
        order: As for ``Split.batches``.
        start: As for ``Split.batches``.
        put: What a thread does with a batch when it has read it: the copy to the device.
        workers: Threads; reading and checking happen outside Python's lock for the most part. 0 reads in the
            caller's thread, batch by batch.
        check: As for ``Split.batches``.

    Raises:
        InputError: as ``Split.batches``, once the batches before the bad one have been yielded.
    """
    plan = split.plan(batch_size, order)

    def read(step: int) -> Batch:
        return put(split.gather(plan.rows(step), check=check))

    if not workers:
        yield from map(read, range(start, plan.steps))
        return
    pool = ThreadPoolExecutor(workers, thread_name_prefix="read_ahead")
    waiting: deque[Future[Batch]] = deque()
    try:
        for step in range(start, plan.steps):
            waiting.append(pool.submit(read, step))
            if len(waiting) > workers + 1:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
