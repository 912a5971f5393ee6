"""Lets a test import the stand-in for Intel Gaudi's plugin, and takes it away again."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import torch

# For a process of its own: put it on PYTHONPATH.
FAKE_HABANA = Path(__file__).resolve().parent / "fake_habana"


@contextlib.contextmanager
def fake_plugin(lazy: bool | None = None) -> Iterator[None]:
    """Within it, ``habana_frameworks`` can be imported and is the stand-in; nothing of it has been imported yet.

    Args:
        lazy: What ``PT_HPU_LAZY_MODE`` says; None: it is not set.
    """
    assert "habana_frameworks" not in sys.modules, "a plugin has been imported already"
    with mock.patch.dict(os.environ), mock.patch.object(sys, "path", [str(FAKE_HABANA), *sys.path]):
        os.environ.pop("PT_HPU_LAZY_MODE", None)
        if lazy is not None:
            os.environ["PT_HPU_LAZY_MODE"] = str(int(lazy))
        try:
            yield
        finally:
            for name in [name for name in sys.modules if f"{name}.".startswith(("habana_frameworks.", "torch.hpu."))]:
                del sys.modules[name]
            if hasattr(torch, "hpu"):
                del torch.hpu
            torch.get_device_module.cache_clear()
