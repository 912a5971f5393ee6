"""What every test gets: two threads, no network, the checkout's place, and real rows where there are any."""

from __future__ import annotations

import ipaddress
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from browser import Lab
    from lab_server import LabServer

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


@pytest.fixture(scope="module")
def two_tasks() -> Iterator[None]:
    """A Spark of two tasks at a time for a module; it must not outlive it, for its number of cores is ours."""
    from dlrm_lib.preprocess import session

    session.spark_session(cores=2)
    yield
    session.spark_session().stop()


@pytest.fixture(scope="session")
def lab_server(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabServer]:
    """A JupyterLab on copies of the notebooks, at preset smoke; what they build is kept for the tests that follow."""
    from browser import require
    from lab_server import LabServer

    require()
    with LabServer(tmp_path_factory.mktemp("lab"), checkout, {"preset": "smoke"}) as server:
        yield server


@pytest.fixture
def lab(lab_server: LabServer, request: pytest.FixtureRequest) -> Iterator[Lab]:
    """A browser on it, which fails the test at its end if anything was complained about (see ``browser.Lab``)."""
    from browser import Lab, make_pictures

    with Lab(lab_server, make_pictures(), last=request.node.name) as lab:
        yield lab


@pytest.hookimpl(tryfirst=True)  # before -m selects
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What needs a browser is slow."""
    for item in items:
        if "lab_server" in getattr(item, "fixturenames", ()):
            item.add_marker("slow")


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
