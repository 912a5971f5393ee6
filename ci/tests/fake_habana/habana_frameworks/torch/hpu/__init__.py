"""``torch.hpu``: one card."""

from __future__ import annotations

from typing import Any

from habana_frameworks.torch.record import record
from habana_frameworks.torch.utils.internal import is_lazy

import torch

if is_lazy():
    from .graphs import wrap_in_hpu_graph as wrap_in_hpu_graph


def is_available():
    return True


def get_device_name(device=None):
    _check(device)
    return "GAUDI2"


def synchronize():
    record("synchronize")


def manual_seed_all(seed):
    record(f"manual_seed_all {int(seed)}")


def _check(device: Any) -> None:
    if isinstance(device, (str, torch.device)):
        device = torch.device(device)
        if device.type != "hpu":
            raise ValueError(f"{device} is not an hpu")
        device = device.index
    if device not in (None, 0):
        raise AssertionError(f"There is no card {device}")
