"""Python workers that are ready before Java is.

Java starts Spark's Python daemon when the first task comes, and the daemon then imports and loads for a second what its
workers need. Here a process does that while Java starts, and waits. The daemon that Java starts hands over to it what
makes it a daemon, its environment and its standard streams, through a socket that only this user can reach.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import json
import os
import select
import shutil
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

_PLACE = "DLRM_LIB_WARM_WORKERS"  # in the environment of Java and its daemon: the path of the socket
DAEMON = "dlrm_lib.preprocess.worker"  # the module that Java runs, and the process that gets ready too
_WAIT = "--wait"
_STREAMS = (0, 1, 2)
_waiting: subprocess.Popen | None = None


@functools.cache
def begin() -> dict[str, str]:
    """Starts a process that gets ready and waits, once; returns what Java is to find in its environment.

    It ends with this process unless the daemon has handed over to it; then it ends with Java.
    """
    global _waiting
    if not hasattr(socket, "send_fds"):
        return {}
    folder = Path(tempfile.mkdtemp(prefix="dlrm-warm-"))  # nobody else's to look into
    try:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(folder / "daemon"))
            listener.listen(1)
            _waiting = subprocess.Popen(
                [sys.executable, "-m", DAEMON, _WAIT, str(listener.fileno()), str(folder)],
                stdin=subprocess.PIPE,  # closed when this process ends
                stdout=subprocess.DEVNULL,
                env={**os.environ, "PYTHONHASHSEED": "0"},  # as Spark has it
                pass_fds=[listener.fileno()],
                start_new_session=True,
            )
    except OSError:  # a path too long for a socket, say
        shutil.rmtree(folder, ignore_errors=True)
        return {}
    atexit.register(_end)
    return {_PLACE: str(folder / "daemon")}


def _end() -> None:
    if _waiting and _waiting.stdin:
        _waiting.stdin.close()
        _waiting.returncode = 0  # it ends for that, or with Java: nobody waits for it


def hand_over() -> bool:
    """In the daemon that Java has started: whether one that was ready took its place. This process then lives as long.

    In the process that gets ready, and where there is none, it is false.
    """
    place = os.environ.pop(_PLACE, None)
    if place is None or _WAIT in sys.argv:
        return False
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as connection:
        connection.connect(place)
        socket.send_fds(connection, [b"!"], _STREAMS)
        connection.sendall(json.dumps([sys.argv[1:], dict(os.environ)]).encode())
        connection.shutdown(socket.SHUT_WR)
        if connection.recv(1):  # it has taken over
            connection.recv(1)  # it has ended
            return True
    return False


def take_over() -> None:
    """In the process that got ready: waits for the daemon that Java starts, and becomes it. In others, does nothing."""
    if _WAIT not in sys.argv:
        return
    folder = sys.argv[3]
    try:
        with socket.socket(fileno=int(sys.argv[2])) as listener:
            if listener not in select.select([listener, sys.stdin], [], [])[0]:
                sys.exit()
            connection, _ = listener.accept()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    message, streams, *_ = socket.recv_fds(connection, 1 << 16, len(_STREAMS))
    while more := connection.recv(1 << 16):
        message += more
    sys.argv[1:], environment = json.loads(message[1:])
    os.environ.clear()
    os.environ.update(environment)
    for stream, received in zip(_STREAMS, streams, strict=True):
        os.dup2(received, stream)
        os.close(received)
    connection.sendall(b"!")
    connection.detach()  # open until this process and its workers have ended, which the other one waits for
