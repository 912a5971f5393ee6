"""``torch.hpu``: one card with 96 GiB, of which nothing is used."""

from __future__ import annotations

from typing import Any

from habana_frameworks.torch.record import record
from habana_frameworks.torch.utils.internal import is_lazy

import torch

from .metrics import metric_global as metric_global

if is_lazy():
    from .graphs import ModuleCacher as ModuleCacher
    from .graphs import make_graphed_callables as make_graphed_callables
    from .graphs import wrap_in_hpu_graph as wrap_in_hpu_graph

_STATISTICS = ("InUse", "MaxInUse", "NumAllocs", "NumFrees", "ActiveAllocs", "MaxAllocSize")
_STATISTICS += ("TotalSystemAllocs", "TotalSystemFrees", "TotalActiveAllocs")


def is_available():
    return True


def device_count():
    return 1


def current_device():
    return 0


def get_device_name(device=None):
    _check(device)
    return "GAUDI2"


def synchronize():
    record("synchronize")


def manual_seed_all(seed):
    record(f"manual_seed_all {int(seed)}")


def memory_stats(device=None):
    _check(device)
    return {"Limit": 96 * 2**30} | dict.fromkeys(_STATISTICS, 0)


def max_memory_allocated(device=None):
    return memory_stats(device)["MaxInUse"]


def reset_peak_memory_stats(device=None):
    _check(device)
    record("reset_peak_memory_stats")


def _check(device: Any) -> None:
    if isinstance(device, (str, torch.device)):
        device = torch.device(device)
        if device.type != "hpu":
            raise ValueError(f"{device} is not an hpu")
        device = device.index
    if device not in (None, 0):
        raise AssertionError(f"There is no card {device}")
