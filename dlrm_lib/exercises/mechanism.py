"""How an exercise is checked: the learner's function against a trusted one, without ever stopping the notebook."""

from __future__ import annotations

import copy
import functools
import importlib
import inspect
import pkgutil
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

Check = Callable[[Callable], "str | None"]


@dataclass(frozen=True, kw_only=True)
class Exercise:
    """A function for the learner to write.

    Attributes:
        id: Chapter and number, as "3.2".
        title: A few words.
        hint: What to think of next, without the answer.
        solution: The answer as a plain function that one can read: ``reveal`` shows its source.
        checks: Tried in order until one finds something. Each calls the answer on small inputs and returns one
            sentence that names what is wrong, or None. It may pass the same inputs again: the answer gets copies.
    """

    id: str
    title: str
    hint: str
    solution: Callable
    checks: Sequence[Check]


def check(id: str, answer: Callable) -> None:
    """Prints whether the function ``answer`` solves exercise ``id`` and, if not, the first thing that is wrong.

    It never raises, whatever ``answer`` is or does; only the keyboard interrupts it.
    """
    exercise = _find(id)
    if exercise is None:
        return
    try:
        wrong = next(filter(None, (one(_guarded(answer)) for one in exercise.checks)), None)
    except _AnswerRaised as error:
        if error.is_stub:
            print(f"{exercise.id} {exercise.title}: still to do. Hint: {exercise.hint}")
            return
        wrong = str(error)
    except Exception as error:
        # The answer returned something so odd that looking at it failed.
        wrong = f"your result cannot be compared with the expected one ({_describe(error)})."
    if wrong is None:
        print(f"{exercise.id} {exercise.title}: passed.")
    else:
        print(f'{exercise.id} {exercise.title}, not yet: {wrong} hint("{exercise.id}") helps.')


def hint(id: str) -> None:
    """Prints the hint of exercise ``id``."""
    if exercise := _find(id):
        print(f"{exercise.id} {exercise.title}. Hint: {exercise.hint}")


def reveal(id: str) -> None:
    """Shows the source of a solution of exercise ``id``."""
    exercise = _find(id)
    if exercise is None:
        return
    source = inspect.getsource(exercise.solution)
    try:
        from IPython import get_ipython
        from IPython.display import Code, display
    except ImportError:
        in_notebook = False
    else:
        in_notebook = get_ipython() is not None
    if in_notebook:
        display(Code(source, language="python"))
    else:
        print(source)


def compare(got: Any, expected: Any, what: str, *, tolerance: float = 1e-5) -> str | None:
    """A sentence that says how ``got`` differs from ``expected``, or None if it does not.

    Tensors, arrays, lists and numbers are compared by shape and value, numbers within ``tolerance`` (relative, and
    absolute below 1); mappings and tuples part by part; anything else by ``==``.

    Args:
        got: What the learner's function returned.
        expected: What it should have returned.
        what: What the value is, as the sentence calls it: "the row ids".
    """
    if got is None and expected is not None:
        return f"{what}: your function returned nothing; end it with `return`."
    if isinstance(expected, Mapping | tuple):
        return _compare_parts(got, expected, what, tolerance)
    if isinstance(expected, torch.Tensor | np.ndarray) and not isinstance(got, type(expected)):
        return f"{what} must be of type {_kind(expected)}, but yours is of type {_kind(got)}."
    ours, theirs = _as_array(expected), _as_array(got)
    if ours.dtype.kind not in "biuf" or theirs.dtype.kind not in "biuf":
        return None if type(got) is type(expected) and got == expected else _shown(what, expected, got)
    if ours.shape != theirs.shape:
        return f"{what} must have the shape {ours.shape}, but yours has {theirs.shape}."
    if ours.dtype.kind in "biu" and theirs.dtype.kind == "f":
        return f"{what} must be whole numbers, but yours are {theirs.dtype}."
    wrong = ~np.isclose(theirs.astype(np.float64), ours.astype(np.float64), rtol=tolerance, atol=tolerance)
    if not wrong.any():
        return None
    place = tuple(int(i) for i in np.argwhere(wrong)[0])
    where = f"{what}, at {list(place)}" if place else what
    return _shown(where, ours[place], theirs[place])


@functools.cache
def registered() -> dict[str, Exercise]:
    """Every exercise by its id: those of all modules ``chapter_NN`` of this package."""
    names = sorted(m.name for m in pkgutil.iter_modules([str(Path(__file__).parent)]) if m.name.startswith("chapter_"))
    modules = [importlib.import_module(f"{__package__}.{name}") for name in names]
    return {exercise.id: exercise for module in modules for exercise in module.EXERCISES}


def _find(id: str) -> Exercise | None:
    exercise = registered().get(str(id))
    if exercise is None:
        print(f"There is no exercise {id!r}. There are {', '.join(registered())}.")
    return exercise


class _AnswerRaised(Exception):
    """The learner's function could not be called or raised; the message says what and where."""

    def __init__(self, message: str, *, is_stub: bool = False) -> None:
        super().__init__(message)
        self.is_stub = is_stub


def _guarded(answer: Callable) -> Callable:
    """``answer`` on copies of its arguments, so that no answer can spoil the inputs of the next check."""

    def call(*arguments: Any, **keywords: Any) -> Any:
        if not callable(answer):
            raise _AnswerRaised(f"give the function itself, not a value of type {_kind(answer)}.")
        arguments, keywords = copy.deepcopy((arguments, keywords))
        try:
            return answer(*arguments, **keywords)
        except (Exception, SystemExit) as error:
            raise _explained(answer, error) from error

    return call


def _explained(answer: Callable, error: BaseException) -> _AnswerRaised:
    frames = traceback.extract_tb(error.__traceback__)
    # The learner's own code: the file or notebook cell that the function is defined in.
    file = getattr(getattr(answer, "__code__", None), "co_filename", None)
    own = [frame for frame in frames if frame.filename == file]
    # Torch raises NotImplementedError too, but deeper: only a stub raises it itself.
    is_stub = isinstance(error, NotImplementedError) and frames[-1].filename == file
    where = f" in line {own[-1].lineno}: `{own[-1].line}`" if own else ""
    return _AnswerRaised(f"your function raised {_describe(error)}{where}.", is_stub=is_stub)


def _describe(error: BaseException) -> str:
    return traceback.format_exception_only(error)[-1].strip().split("\n")[0].rstrip(".")


def _compare_parts(got: Any, expected: Mapping | tuple, what: str, tolerance: float) -> str | None:
    if isinstance(expected, tuple):
        if not isinstance(got, tuple) or len(got) != len(expected):
            return f"{what} must be a tuple of {len(expected)} values, but yours is of type {_kind(got)}."
        got, expected = dict(enumerate(got)), dict(enumerate(expected))
    if not isinstance(got, Mapping):
        return f"{what} must be of type {_kind(expected)}, but yours is of type {_kind(got)}."
    if odd := [key for key in expected if key not in got]:
        return f"{what}: yours lacks {odd[0]!r}."
    if odd := [key for key in got if key not in expected]:
        return f"{what}: yours has {odd[0]!r}, which does not belong there."
    parts = (compare(got[key], expected[key], f"{what}, part {key!r}", tolerance=tolerance) for key in expected)
    return next(filter(None, parts), None)


def _as_array(value: Any) -> np.ndarray:
    return value.detach().cpu().numpy() if isinstance(value, torch.Tensor) else np.asarray(value)


def _kind(value: Any) -> str:
    return {torch.Tensor: "torch.Tensor", np.ndarray: "numpy.ndarray"}.get(type(value), type(value).__name__)


def _shown(what: str, expected: Any, got: Any) -> str:
    def text(value: Any) -> str:
        return f"{value:.6g}" if isinstance(value, np.floating | float) else f"{value!s}"

    return f"{what}: expected {text(expected)}, got {text(got)}."
