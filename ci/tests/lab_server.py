"""A JupyterLab that tests may do anything to: copies of the notebooks, fresh settings, nothing of the checkout written.

The folder it serves is laid out like the checkout, so that a chapter finds ``../data`` and ``../figures`` beside it and
puts what it makes there.
"""

from __future__ import annotations

import ast
import contextlib
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil

# What a person's own Jupyter and Python, or the tests themselves, would change in a kernel.
_NOT_FOR_KERNELS = ("JUPYTER", "IPYTHON", "PYTHON", "MPLBACKEND", "MATPLOTLIBRC", "TRITON_INTERPRET")
_SETTINGS = {
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False, "doNotDisturbMode": True},
    "docmanager-extension/plugin": {"autosave": False},
}
# JupyterLab, which Linux tells to end when the process that started it has ended, even if that was killed (1 is
# PR_SET_PDEATHSIG).
_JUPYTERLAB = (
    "import ctypes, runpy, signal; getattr(ctypes.CDLL(None), 'prctl', print)(1, signal.SIGTERM);"
    "runpy.run_module('jupyterlab', run_name='__main__')"
)


class LabServer:
    """A context in which JupyterLab runs, on 127.0.0.1, with a token.

    Attributes:
        folder: What it serves, with ``notebooks/``, ``data/`` and ``figures/``.
        url: Where it answers, with a slash at the end.
        token: What it wants to be told.
    """

    def __init__(self, folder: Path, checkout: Path, parameters: Mapping[str, Any]) -> None:
        """``parameters`` go into the parameters cell of every notebook that is put there. ``folder`` does not exist."""
        self.folder = folder
        self.token = secrets.token_hex(16)
        self.url = ""
        self._checkout = checkout
        self._parameters = dict(parameters)
        self._places = {
            f"JUPYTER_{kind}_DIR": folder / ".jupyter" / kind.lower() for kind in ("CONFIG", "DATA", "RUNTIME")
        }
        self._places["IPYTHONDIR"] = folder / ".jupyter" / "ipython"
        self._log = folder / ".jupyter" / "log.txt"
        (folder / "data").mkdir(parents=True)
        for name in ("README.md", "published_results.csv"):  # not the data sets, which also land there
            shutil.copy(checkout / "data" / name, folder / "data")
        for name in ("figures", "notebooks"):
            shutil.copytree(checkout / name, folder / name, ignore=shutil.ignore_patterns(".ipynb_checkpoints"))
        for name, settings in _SETTINGS.items():
            path = self._places["JUPYTER_CONFIG_DIR"] / "lab" / "user-settings" / "@jupyterlab" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.with_suffix(".jupyterlab-settings").write_text(json.dumps(settings))

    def put(self, name: str, **parameters: Any) -> list[str]:
        """Puts a fresh copy of a notebook there, with these parameters besides the server's; returns its cells' ids.

        Raises:
            ValueError: it lacks one of the parameters.
        """
        notebook = json.loads((self._checkout / "notebooks" / name).read_text(encoding="utf-8"))
        (cell,) = (c for c in notebook["cells"] if "parameters" in c["metadata"].get("tags", []))
        cell["source"] = with_parameters("".join(cell["source"]), self._parameters | parameters)
        (self.folder / "notebooks" / name).write_text(json.dumps(notebook), encoding="utf-8")
        return [cell["id"] for cell in notebook["cells"]]

    def __enter__(self) -> LabServer:
        environment = {name: v for name, v in os.environ.items() if not name.startswith(_NOT_FOR_KERNELS)}
        environment |= {name: str(path) for name, path in self._places.items()}
        environment |= {
            "JUPYTER_CONFIG_PATH": str(self._checkout / "ci" / "jupyter"),  # as ./ci/lab does
            "MPLCONFIGDIR": os.path.join(sys.prefix, "var", "matplotlib"),  # kept: finding the fonts takes seconds
            "PYTHONPATH": str(self._checkout),
        }
        command = [sys.executable, "-c", _JUPYTERLAB, "--no-browser", "--allow-root"]
        command += ["--ServerApp.ip=127.0.0.1", "--ServerApp.port=0", f"--ServerApp.root_dir={self.folder}"]
        command += [f"--IdentityProvider.token={self.token}", "--LabApp.expose_app_in_browser=True"]
        command += ["--LabApp.news_url=None", "--LabApp.extension_manager=readonly"]
        command += ["--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate"]
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                command,
                cwd=self.folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            self._wait_until_it_answers(seconds=90)
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Ends the server, its kernels (which lead process groups of their own) and what they started, such as Java."""
        family = [psutil.Process(self._process.pid)] if self._process.poll() is None else []
        family += [child for process in family for child in process.children(recursive=True)]
        if family:
            os.killpg(self._process.pid, signal.SIGTERM)
        for process in psutil.wait_procs(family, timeout=15)[1]:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self._process.wait()

    def end_kernels(self) -> None:
        """Shuts down every kernel, so that the next notebook has the machine for itself."""
        for session in self._ask("api/sessions"):
            self._ask(f"api/sessions/{session['id']}", "DELETE")

    def _wait_until_it_answers(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end and self._process.poll() is None:
            for path in self._places["JUPYTER_RUNTIME_DIR"].glob("jpserver-*.json"):
                # Half a file, or a server that does not listen yet: later.
                with contextlib.suppress(ValueError, KeyError, urllib.error.URLError):
                    self.url = json.loads(path.read_text())["url"]
                    self._ask("api/status")
                    return
            time.sleep(0.1)
        raise RuntimeError("JupyterLab did not start. It said:\n" + self._log.read_text()[-3000:])

    def _ask(self, path: str, method: str = "GET") -> Any:
        request = urllib.request.Request(
            self.url + path, method=method, headers={"Authorization": f"token {self.token}"}
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.loads(answer.read() or "null")


def with_parameters(source: str, values: Mapping[str, Any]) -> str:
    """The source of a parameters cell with other values; comments behind them stay.

    Raises:
        ValueError: it assigns no such name.
    """
    lines = source.splitlines(keepends=True)
    assigned = {s.targets[0].id: s.value for s in ast.parse(source).body if isinstance(s, ast.Assign)}
    for name, value in values.items():
        if name not in assigned:
            raise ValueError(f"There is no parameter {name}; there are {', '.join(assigned)}.")
        old = assigned[name]
        line = lines[old.lineno - 1].encode()  # positions count bytes
        lines[old.lineno - 1] = (line[: old.col_offset] + repr(value).encode() + line[old.end_col_offset :]).decode()
    return "".join(lines)
