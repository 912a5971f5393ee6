"""The file in which a search writes its trials down: Optuna's journal, which outlives its process."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from dlrm_lib.errors import InputError
from dlrm_lib.locks import PlaceIsTaken, owned


def open_study(path: Path, name: str) -> optuna.Study:
    """Opens a file of trials, of which a higher value is better, or begins it.

    Raises:
        InputError: it cannot be read or written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        with contextlib.suppress(PlaceIsTaken), alone(path):  # else somebody is writing, and the end is not ours
            mend(path)
        with quiet():
            return optuna.create_study(
                storage=JournalStorage(JournalFileBackend(str(path))),
                study_name=name,
                direction="maximize",
                load_if_exists=True,
            )
    except OSError as error:
        raise InputError(
            f"The trials of a search cannot be written to {path}.",
            found=error.strerror,
            remedy="Make room there, or choose another folder.",
        ) from None
    except Exception as error:  # whatever Optuna stumbles over in a file that it did not write
        raise InputError(
            f"{path} cannot be read as the trials of a search.",
            found=repr(error),
            remedy="Move it away: the search then starts anew; its runs are kept.",
        ) from None


@contextlib.contextmanager
def alone(path: Path) -> Iterator[None]:
    """Keeps other processes, and other searches of this one, from the trials.

    Raises:
        PlaceIsTaken: another search, in another notebook perhaps, writes them down.
    """
    with owned(path, remedy="Stop the search there, or wait."):
        yield


def mend(path: Path) -> None:
    """Cuts off a line that the disk or the process did not last for: Optuna would write on behind it."""
    whole = path.read_bytes().rfind(b"\n") + 1
    if whole < path.stat().st_size:
        os.truncate(path, whole)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keeps Optuna from saying below the cell that it has made a study; what it says elsewhere stays as it is."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(before)
