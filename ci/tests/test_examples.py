"""The examples in docstrings run, and give what they say."""

from __future__ import annotations

import doctest
import importlib


def modules_with_examples(checkout):
    for path in sorted((checkout / "dlrm_lib").rglob("*.py")):
        if ">>> " in path.read_text(encoding="utf-8"):
            yield ".".join(path.relative_to(checkout).with_suffix("").parts)


def test_every_example_gives_what_it_says(checkout):
    names = [*modules_with_examples(checkout)]
    assert len(names) >= 5
    for name in names:
        result = doctest.testmod(importlib.import_module(name))
        assert result.attempted
        assert not result.failed, name


def test_an_example_that_is_wrong_fails():
    module = importlib.import_module("types").ModuleType("wrong")
    module.__doc__ = ">>> 1 + 1\n3\n"
    assert doctest.testmod(module, verbose=False, report=False).failed == 1
