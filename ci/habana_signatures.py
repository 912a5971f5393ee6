"""Reads, from the source of Intel Gaudi's PyTorch plugin, the signatures of what this project uses of it.

    python ci/habana_signatures.py PATH_OF_PLUGIN_CHECKOUT [--record FILE]

Prints them as JSON, or writes them to FILE (``ci/tests/habana_signatures.json``, which the tests hold the stand-in for
the plugin to). Nothing of the plugin is imported or run: it needs a Gaudi, its source does not. A name is looked up as
``import`` would, through re-exports, so what is found under it is what a program gets.
"""

from __future__ import annotations

import argparse
import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

REPOSITORY = "HabanaAI/gaudi-pytorch-bridge"
PACKAGE = "habana_frameworks.torch"
# Where compiled functions are bound to names in Python, and where they are declared.
_CPP = (
    "python_packages/habana_frameworks/torch/hpex/csrc/bindings.cpp",
    "python_packages/habana_frameworks/torch/hpex/csrc/bindings.h",
    "habana_kernels/wrap_kernels_declarations.h",
)
# What the project calls: module within the package, name within it. A test holds it to ``dlrm_lib/backends/gaudi``.
USED = (
    "core:mark_step",
    "hpex.optimizers:FusedAdagrad.__init__",
    "hpex.optimizers:FusedAdagrad.step",
    "hpu:get_device_name",
    "hpu:is_available",
    "hpu:manual_seed_all",
    "hpu:synchronize",
    "hpu:wrap_in_hpu_graph",
)
# What else the published DLRM calls (HabanaAI/Model-References at 4b841ff8, PyTorch/recommendation/dlrm).
PUBLISHED = (
    "utils.library_loader:load_habana_module",
    "hpex.hmp:convert",
    "core:enable_fuse_t_mm_optimization",
    "core:enable_eliminate_common_subexpression",
    "core:enable_constant_pooling",
    "hpex.optimizers.SparseSGD:forward",
    "hpex.optimizers.SparseAdagrad:forward",
    "hpex.kernels.EmbeddingBag:forward",
    "hpex.kernels.EmbeddingBag:backward",
    "hpex.kernels.EmbeddingBagPreproc:forward",
)


class Found(NamedTuple):
    """What a name stands for.

    Attributes:
        module: Where it is defined, within the package.
        node: Its definition; the name of a C++ function where it is one of those.
        condition: The test under which importing the package gives the name; None: always.
    """

    module: str
    node: ast.FunctionDef | ast.ClassDef | str
    condition: str | None


def derive(checkout: Path, names: Iterable[str]) -> dict[str, dict[str, str] | None]:
    """What each name, spelt as in ``USED``, is in the plugin's source.

    Returns:
        For each name its ``signature``, without annotations, and ``module``, where it is defined; if there are any,
        also its ``decorators`` and the condition (``if``) of its import. None: there is no such name.
    """
    return {name: _describe(checkout, *name.split(":")) for name in names}


def lazy_mode_default(checkout: Path) -> str | None:
    """The value of ``PT_HPU_LAZY_MODE`` that the plugin assumes where the environment has none."""
    found = _find(checkout, "utils.internal", "is_lazy")
    for call in ast.walk(found.node) if found else ():
        if isinstance(call, ast.Call) and len(call.args) == 2 and _constant(call.args[0]) == "PT_HPU_LAZY_MODE":
            return _constant(call.args[1])
    return None


def origin(checkout: Path) -> dict[str, str | None]:
    """Which source this is: repository, commit, the commit's date, and the release that its message names."""
    shown = subprocess.run(
        ["git", "-C", str(checkout), "log", "-1", "--format=%H%n%cs%n%s"], capture_output=True, text=True
    )
    if shown.returncode:
        sys.exit(f"{checkout} is no git checkout of {REPOSITORY}: {shown.stderr.strip()}")
    commit, date, subject = shown.stdout.splitlines()
    release = re.search(r"\d+\.\d+\.\d+", subject)
    return {"repository": REPOSITORY, "commit": commit, "date": date, "version": release and release[0]}


def _describe(checkout: Path, module: str, qualified: str) -> dict[str, str] | None:
    name, *attributes = qualified.split(".")
    found = _find(checkout, module, name)
    node = found and found.node
    for attribute in attributes:
        node = next((child for child in getattr(node, "body", ()) if getattr(child, "name", "") == attribute), None)
    if node is None:
        return None
    if isinstance(node, str):
        signature = _cpp_signature(checkout, node)
        return signature and {"signature": signature, "module": found.module}
    described = {"signature": _signature(node.args), "module": found.module}
    if node.decorator_list:
        described["decorators"] = ", ".join(map(ast.unparse, node.decorator_list))
    return described | ({"if": found.condition} if found.condition else {})


def _find(checkout: Path, module: str, name: str, searched: tuple[str, ...] = ()) -> Found | None:
    """Follows ``from … import …`` until the definition of a name; None if there is none.

    ``searched``: the modules that led here by ``import *``, which may come round again.
    """
    if module in searched:
        return None
    if module.startswith("_") and module.endswith("_C"):
        return Found(module, name, None)  # compiled: a shared library of which the source is C++
    folder = checkout.joinpath("python_packages", *PACKAGE.split("."), *filter(None, module.split(".")))
    path = next((path for path in (folder / "__init__.py", folder.with_suffix(".py")) if path.is_file()), None)
    if path is None:
        return None
    for node, condition in _statements(ast.parse(path.read_text(encoding="utf-8")).body, None):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and node.name == name:
            return Found(module, node, condition)
        if not isinstance(node, ast.ImportFrom):
            continue
        target = _target(node, module, path.name == "__init__.py")
        for alias in node.names if target is not None else ():
            if alias.name == "*" or (alias.asname or alias.name) == name:
                star = alias.name == "*"
                found = _find(checkout, target, *((name, (*searched, module)) if star else (alias.name,)))
                if found:
                    return found._replace(condition=condition or found.condition)
    return None


def _statements(body: Iterable[ast.stmt], condition: str | None) -> Iterator[tuple[ast.stmt, str | None]]:
    """The statements of a module, those under an ``if`` with its test."""
    for node in body:
        if isinstance(node, ast.If):
            yield from _statements(node.body, ast.unparse(node.test))
            yield from _statements(node.orelse, f"not {ast.unparse(node.test)}")
        else:
            yield node, condition


def _target(node: ast.ImportFrom, module: str, is_package: bool) -> str | None:
    """The module, within the package, that a statement imports from; None if it is another package's."""
    if node.level:
        parts = module.split(".") if module else []
        above = parts[: len(parts) - node.level + is_package]
        return ".".join([*above, *([node.module] if node.module else [])])
    return node.module[len(PACKAGE) :].lstrip(".") if f"{node.module}.".startswith(f"{PACKAGE}.") else None


def _signature(arguments: ast.arguments) -> str:
    for argument in ast.walk(arguments):
        if isinstance(argument, ast.arg):
            argument.annotation = None
    return f"({ast.unparse(arguments)})"


def _cpp_signature(checkout: Path, name: str) -> str | None:
    """Of a function that pybind11 binds without naming its parameters: they are given by position."""
    text = "\n".join(path.read_text(encoding="utf-8") for path in map(checkout.joinpath, _CPP) if path.is_file())
    bound = re.search(rf'm\.def\(\s*"{name}",\s*&(\w+)', text)
    declared = bound and re.search(rf"\b{bound[1]}\(([^();]*)\)\s*[;{{]", text)
    if not declared:
        return None
    names = [re.findall(r"\w+", parameter.split("=")[0])[-1] for parameter in declared[1].split(",")]
    return f"({', '.join(names)}, /)"


def _constant(node: ast.expr) -> object:
    return node.value if isinstance(node, ast.Constant) else None


def main() -> None:
    """Runs the command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkout", type=Path, help=f"a git checkout of github.com/{REPOSITORY}")
    parser.add_argument("--record", type=Path, metavar="FILE", help="where to write them; otherwise they are printed")
    arguments = parser.parse_args()
    record = origin(arguments.checkout) | {
        "PT_HPU_LAZY_MODE": lazy_mode_default(arguments.checkout),
        "used": derive(arguments.checkout, USED),
        "published": derive(arguments.checkout, PUBLISHED),
    }
    if not any(record["used"].values()):
        sys.exit(f"{arguments.checkout} holds nothing of the package {PACKAGE}: is it a checkout of {REPOSITORY}?")
    text = json.dumps(record, indent=1) + "\n"
    if arguments.record:
        arguments.record.write_text(text, encoding="utf-8")
    else:
        print(text, end="")


if __name__ == "__main__":
    main()
