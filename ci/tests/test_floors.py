"""``dlrm_lib`` is built in floors: a room (a package or module of its top level) imports only from rooms below it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

# From the ground up. Rooms of one floor do not know each other, except those behind a < the ones before it.
FLOORS = {
    "ground": """__init__ errors metrics number_formats clean_timing splitmix64 numeric_rules < negatives
               < files < locks places < columns memory records settings < features < compiler config
               < manifest runs < drift""",
    "what it is": "model dataset synthetic download < optim",
    "how it runs": "backends",
    "work": "preprocess training baselines process < workspace raw_rows inspection",
    "faces": "plots < benchmark full_scale exercises lab serving < doctor",
    "command line": "console < commands < __main__",
}
COMING = {"serving"}  # rooms that are planned
# Imports that go up today. An entry that is no longer needed fails, so the list only gets shorter.
UPWARD = {}
# What computes a thing does not know where it runs.
KNOW_NO_DEVICE = ("model", "optim")
DEVICE_MODULES = {"triton", "habana_frameworks"}
DEVICE_PARTS_OF_TORCH = {"torch.cuda", "torch.hpu", "torch.xpu", "torch.mps", "torch.backends", "torch.version"}

HEIGHT = {
    room: height
    for height, step in enumerate(step for rooms in FLOORS.values() for step in rooms.split("<"))
    for room in step.split()
}


def files_by_room(package: Path) -> Iterator[tuple[str, Path]]:
    for path in sorted(package.rglob("*.py")):
        yield path.relative_to(package).with_suffix("").parts[0], path


def imported(tree: ast.AST) -> Iterator[str]:
    """Everything that is imported, at the top or in a function, for running or for its type, with its full name."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "imports here give the whole name"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def upward(package: Path) -> dict[tuple[str, str], set[str]]:
    """(room, room that is not below it) → the files of the first that import from the second."""
    found: dict[tuple[str, str], set[str]] = {}
    for room, path in files_by_room(package):
        for name in imported(ast.parse(path.read_text(encoding="utf-8"))):
            top, *parts = name.split(".")
            if top != package.name:
                continue
            # ``from dlrm_lib import __version__`` is of the package itself.
            target = (
                parts[0]
                if parts and ((package / parts[0]).is_dir() or (package / f"{parts[0]}.py").is_file())
                else "__init__"
            )
            if target != room and HEIGHT[target] >= HEIGHT[room]:
                found.setdefault((room, target), set()).add(path.name)
    return found


def device_code(package: Path) -> set[str]:
    """What rooms that know no device say of one all the same: "model/dlrm.py: torch.cuda"."""
    found = set()
    for room, path in files_by_room(package):
        if room in KNOW_NO_DEVICE:
            tree = ast.parse(path.read_text(encoding="utf-8"))
            names = {name for name in imported(tree) if name.split(".")[0] in DEVICE_MODULES}
            parts = {
                *imported(tree),
                *(ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Attribute)),
            }
            names |= {part for part in DEVICE_PARTS_OF_TORCH if part in parts}
            found |= {f"{path.relative_to(package)}: {name}" for name in names}
    return found


@pytest.fixture(scope="module")
def package(checkout):
    return checkout / "dlrm_lib"


def test_every_room_has_its_floor(package):
    assert {room for room, _ in files_by_room(package)} == HEIGHT.keys() - COMING


def test_a_room_imports_only_from_below(package):
    found = upward(package)
    assert found.keys() - UPWARD.keys() == set(), found
    assert UPWARD.keys() - found.keys() == set(), "is not needed any more"


def test_what_is_computed_knows_no_device(package):
    assert device_code(package) == set()


@pytest.mark.parametrize(
    ("file", "line", "arrow"),
    [
        ("errors.py", "import dlrm_lib.config", ("errors", "config")),
        ("model/dlrm.py", "from dlrm_lib import commands", ("model", "commands")),
        ("model/dlrm.py", "from dlrm_lib.commands.train import train", ("model", "commands")),
        ("lab/run.py", "def f():\n    from dlrm_lib.benchmark import x", ("lab", "benchmark")),  # of the same floor
    ],
)
def test_an_import_that_goes_up_is_seen(tmp_path, file, line, arrow):
    for name in ("errors.py", "config/whole.py", "benchmark.py", "commands/train.py", "lab/run.py", "model/dlrm.py"):
        path = tmp_path / "dlrm_lib" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(
            "from dlrm_lib import __version__\nfrom dlrm_lib.errors import InputError\n" * (name != "errors.py")
        )
    assert upward(tmp_path / "dlrm_lib") == {}
    (tmp_path / "dlrm_lib" / file).write_text(line)
    assert upward(tmp_path / "dlrm_lib").keys() == {arrow}


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ("import triton.language as tl", "triton.language"),
        ("import torch\ntorch.backends.cuda.matmul.allow_tf32 = True", "torch.backends"),
        ("from torch import cuda", "torch.cuda"),
    ],
)
def test_device_code_is_seen(tmp_path, line, named):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "mlp.py").write_text(line)
    assert device_code(tmp_path) == {f"model/mlp.py: {named}"}
