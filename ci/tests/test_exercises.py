"""Exercises: every solution passes, every stub gets its hint, every planted wrong answer gets its own sentence."""

from __future__ import annotations

import ast
import importlib
import inspect
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from dlrm_lib.exercises import check, hint, mechanism, reveal
from dlrm_lib.exercises.mechanism import Exercise, compare, registered

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
WRONG_ANSWERS = Path(__file__).parent / "wrong_answers"
WRONG = {
    id: answers
    for path in sorted(WRONG_ANSWERS.glob("chapter_*.py"))
    for id, answers in importlib.import_module(f"wrong_answers.{path.stem}").WRONG.items()
}
PLANTED = [(id, answer, part) for id, answers in WRONG.items() for answer, part in answers]


def said(capsys, id, answer) -> str:
    check(id, answer)
    text = capsys.readouterr()
    assert text.err == ""
    return text.out.strip()


@pytest.mark.parametrize("id", registered())
def test_the_solution_passes(id, capsys):
    exercise = registered()[id]
    assert said(capsys, id, exercise.solution) == f"{id} {exercise.title}: passed."


@pytest.mark.parametrize("id", registered())
def test_a_stub_gets_the_exercise_s_own_hint(id, capsys):
    def stub(*arguments, **keywords):
        raise NotImplementedError

    exercise = registered()[id]
    assert said(capsys, id, stub) == f"{id} {exercise.title}: still to do. Hint: {exercise.hint}"
    assert [e.id for e in registered().values() if e.hint == exercise.hint] == [id]


@pytest.mark.parametrize(("id", "answer", "part"), PLANTED, ids=[f"{id}-{a.__name__}" for id, a, _ in PLANTED])
def test_a_wrong_answer_is_told_what_is_wrong(id, answer, part, capsys):
    text = said(capsys, id, answer)
    assert text.startswith(f"{id} {registered()[id].title}, not yet: ")
    assert part in text
    assert "cannot be compared" not in text
    assert "\n" not in text


@pytest.mark.parametrize("id", registered())
def test_two_or_more_wrong_answers_are_planted_each_with_its_own_sentence(id, capsys):
    sentences = [said(capsys, id, answer) for answer, _ in WRONG.get(id, ())]
    assert len(sentences) >= 2
    assert len(set(sentences)) == len(sentences)


def test_wrong_answers_belong_to_exercises():
    assert set(WRONG) <= set(registered())


@pytest.mark.parametrize("id", registered())
def test_exercises_are_short_and_documented(id, capsys):
    exercise = registered()[id]
    source = inspect.getsource(exercise.solution)
    assert len(source.splitlines()) <= 25
    assert exercise.title
    assert exercise.checks
    assert type(exercise.solution).__name__ == "function"
    reveal(id)
    assert capsys.readouterr().out.strip() == source.strip()
    hint(id)
    assert capsys.readouterr().out.strip() == f"{id} {exercise.title}. Hint: {exercise.hint}"


# The mechanism, on an exercise of its own.


def _sums(answer):
    values = np.array([1.0, 2.0, 3.0])
    first = compare(answer(values), 6.0, "the sum of 1, 2, 3")
    return first or compare(answer(values), 6.0, "the same sum again")


@pytest.fixture
def sums(monkeypatch):
    exercise = Exercise(id="9.1", title="A sum", hint="Add.", solution=np.sum, checks=(_sums,))
    monkeypatch.setattr(mechanism, "registered", lambda: {"9.1": exercise})


def raises_deep(values):
    return int("x" * len(values))


def clears(values):
    total = values.sum()
    values[:] = 0
    return total


def calls_something_unfinished(values):
    return torch.nn.Module()(values)


def raises_in_two_lines(values):
    raise ValueError("first\nsecond")


class Hostile:
    """Fails at whatever is asked of it."""

    def __array__(self, *arguments, **keywords):
        raise RuntimeError("no")

    def __getattr__(self, name):
        raise RuntimeError("no")

    def __str__(self):
        raise RuntimeError("no")

    __repr__ = __str__


class SilentError(Exception):
    def __str__(self):
        raise RuntimeError("no")


def raises_silently(values):
    raise SilentError


def endless(values):
    return endless(values)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (None, "give the function itself, not a value of type NoneType"),
        (3, "give the function itself, not a value of type int"),
        (lambda: 1, "your function raised TypeError"),
        (lambda values: None, "your function returned nothing"),
        (lambda values: "six", "the sum of 1, 2, 3: expected 6, got six"),
        (lambda values: values, "the sum of 1, 2, 3 must have the shape (), but yours has (3,)"),
        (lambda values: float("nan"), "the sum of 1, 2, 3: expected 6, got nan"),
        (lambda values: Hostile(), "your result cannot be compared"),
        (lambda values: [[1], [2, 3]], "your result cannot be compared"),
        (lambda values: (v for v in values), "the sum of 1, 2, 3: expected 6"),
        (raises_deep, "your function raised ValueError: invalid literal for int() with base 10: 'xxx' in line"),
        (raises_deep, '`return int("x" * len(values))`'),
        (raises_silently, "your function raised"),
        (endless, "your function raised RecursionError"),
        (lambda values: sys.exit(1), "your function raised SystemExit"),
        (calls_something_unfinished, "your function raised NotImplementedError: Module [Module] is missing"),
        (raises_in_two_lines, "your function raised ValueError: first in line"),
    ],
)
def test_no_answer_stops_the_notebook(sums, capsys, answer, expected):
    text = said(capsys, "9.1", answer)
    assert expected in text
    assert text.startswith("9.1 A sum, not yet: ")
    assert "\n" not in text


def test_inputs_survive_an_answer_that_spoils_them(sums, capsys):
    assert said(capsys, "9.1", clears) == "9.1 A sum: passed."


def test_the_keyboard_still_interrupts(sums):
    def stopped(values):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        check("9.1", stopped)


@pytest.mark.parametrize("ask", [hint, reveal, lambda id: check(id, print)])
def test_an_unknown_exercise_is_named(sums, capsys, ask):
    ask("9.7")
    assert capsys.readouterr().out == "There is no exercise '9.7'. There are 9.1.\n"


@pytest.mark.parametrize(
    ("got", "expected", "sentence"),
    [
        (torch.ones(2), torch.ones(2), None),
        (torch.ones(2, requires_grad=True), torch.ones(2), None),
        (3, 3.0, None),
        (np.float32(0.1), 0.1, None),
        ([1, 2], np.array([1, 2]), "x must be of type numpy.ndarray, but yours is of type list."),
        (np.ones(2), torch.ones(2), "x must be of type torch.Tensor, but yours is of type numpy.ndarray."),
        (torch.ones(2), torch.tensor([1, 1]), "x must be whole numbers, but yours are float32."),
        (torch.tensor([[1.0, 2.5]]), torch.tensor([[1.0, 2.0]]), "x, at [0, 1]: expected 2, got 2.5."),
        (torch.tensor([float("nan")]), torch.tensor([1.0]), "x, at [0]: expected 1, got nan."),
        ("a", "b", "x: expected b, got a."),
        ({"a": 1}, {"a": 1, "b": 2}, "x: yours lacks 'b'."),
        ({"a": 1, "b": 2}, {"a": 1}, "x: yours has 'b', which does not belong there."),
        ({"a": 1, "b": 3}, {"a": 1, "b": 2}, "x, part 'b': expected 2, got 3."),
        ((1, 2), (1, 3), "x, part 1: expected 3, got 2."),
        (1, (1, 3), "x must be a tuple of 2 values, but yours is of type int."),
        (None, 1, "x: your function returned nothing; end it with `return`."),
    ],
)
def test_compare(got, expected, sentence):
    assert compare(got, expected, "x") == sentence


def test_reveal_colours_the_source_in_a_notebook():
    program = (
        "from IPython.core.interactiveshell import InteractiveShell\n"
        "from dlrm_lib.exercises import reveal\n"
        "InteractiveShell.instance()\n"
        "import IPython.display as d; shown = []; d.display = shown.append\n"
        "reveal('3.2'); print(type(shown[0]).__name__, 'def dot_interaction' in shown[0].data)\n"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.split() == ["Code", "True"]


# The notebooks.


def cells_of(path: Path, kind: str = "code") -> list[str]:
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == kind]


def checks_of(path: Path) -> dict[str, tuple[str, str]]:
    """Exercise id → (name of the function handed to ``check``, source of that cell)."""
    call = re.compile(r"""check\(["']([\d.]+)["'],\s*(\w+)\)""")
    return {m[1]: (m[2], cell) for cell in cells_of(path) for m in call.finditer(cell)}


@pytest.mark.parametrize("path", sorted(NOTEBOOKS.glob("*.ipynb")), ids=lambda path: path.stem)
def test_what_a_chapter_tells_to_call_is_imported(path):
    text, code = ("\n".join(cells_of(path, kind)) for kind in ("markdown", "code"))
    imports = [node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.ImportFrom)]
    imported = {name.name for node in imports if node.module == "dlrm_lib.exercises" for name in node.names}
    assert set(re.findall(r"`(check|hint|reveal)\(", text)) <= imported


def test_notebooks_and_exercises_name_each_other():
    asked = {id: path.name for path in sorted(NOTEBOOKS.glob("*.ipynb")) for id in checks_of(path)}
    chapters = {id: f"{int(id.split('.')[0]):02d}" for id in registered()}
    assert {id: name[:2] for id, name in asked.items()} == chapters


@pytest.mark.parametrize("id", registered())
def test_the_stub_takes_the_solution_s_arguments(id):
    (path,) = NOTEBOOKS.glob(f"{int(id.split('.')[0]):02d}_*.ipynb")
    name, cell = checks_of(path)[id]
    (stub,) = (node for node in ast.parse(cell).body if isinstance(node, ast.FunctionDef) and node.name == name)
    assert isinstance(stub.body[-1], ast.Raise), "the stored notebook holds the stub, not an answer"
    assert [a.arg for a in stub.args.args] == list(inspect.signature(registered()[id].solution).parameters)
