"""Several cards. Importing it reads the environment and adds to it, so that importing any of the plugin does."""

from __future__ import annotations

import os


def initialize_distributed_hpu(world_size=None, rank=None, local_rank=None):
    """The number of processes, this one's rank, and its rank on this machine; 1, −1, −1 where nothing says."""
    given = {"WORLD_SIZE": world_size, "RANK": rank, "LOCAL_RANK": local_rank}
    if None not in given.values():
        os.environ.update({name: str(value) for name, value in given.items()})
    elif not all(name in os.environ for name in given):
        os.environ.setdefault("MASTER_ADDR", "localhost")
        os.environ.setdefault("MASTER_PORT", "12345")
    return tuple(int(os.environ.get(name, default)) for name, default in zip(given, (1, -1, -1), strict=True))


initialize_distributed_hpu()
