"""What every test gets: two threads, no network, the checkout's place, and real rows where there are any."""

from __future__ import annotations

import ipaddress
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

# Before torch and numba are imported, here and in the processes that tests start: small machines, equal results.
for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ[_name] = "2"
# Threads that wait in a loop for their next piece of work take the cores from whatever else runs on a small machine.
os.environ["OMP_WAIT_POLICY"] = "passive"
# Before Triton is imported: its kernels run in its interpreter, on the CPU. TRITON_INTERPRET=0 has them run on a GPU.
os.environ.setdefault("TRITON_INTERPRET", "1")


@pytest.fixture(scope="session")
def checkout() -> Path:
    """The root of the checkout."""
    return Path(__file__).resolve().parent.parent.parent


@pytest.fixture(scope="session")
def real_rows() -> Path:
    """A folder of real Criteo rows, which no test may copy into the checkout."""
    folder = os.environ.get("DLRM_REAL_ROWS")
    if not folder:
        pytest.skip("DLRM_REAL_ROWS names no folder of real Criteo rows")
    return Path(folder)


@pytest.fixture(autouse=True, scope="session")
def _no_network() -> Iterator[None]:
    """Lets this process connect to the machine itself only."""
    connect = socket.socket.connect

    def connect_to_itself(self: socket.socket, address: Any) -> None:
        if self.family in (socket.AF_INET, socket.AF_INET6) and not _is_loopback(address[0]):
            raise RuntimeError(f"A test tried to reach {address}: tests use no network.")
        connect(self, address)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", connect_to_itself)
        yield


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
