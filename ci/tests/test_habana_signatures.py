"""The signatures of Gaudi's plugin are read from its source: from an invented one here, from a real one if given."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from habana_signatures import PUBLISHED, USED, derive, lazy_mode_default, origin

RECORD = Path(__file__).with_name("habana_signatures.json")
# Importing any of it fails: it is only to be read.
SOURCE = {
    "__init__.py": "raise ImportError\n",
    "core/__init__.py": """
        import no_such_package
        from no_such_package.torch import other
        from .closures import mark_step
        from .closures import renamed as given
        from habana_frameworks.torch.hpu import *
    """,
    "core/closures.py": """
        def lazy_only(f): return f
        @lazy_only
        def mark_step(device_str: str = "", sync=False) -> None:
            def inner(no): pass
        def renamed(a, /, b, *rest, c: int = 1e-2, **more): pass
    """,
    "hpu/__init__.py": """
        from ..core import *
        from ..utils.internal import is_lazy
        from .memory import *
        if is_lazy():
            from .graphs import *
        else:
            def wrap(module): pass
            def other(): pass
    """,
    "hpu/memory.py": "def memory_stats(device: Optional[int] = None): pass\n",
    "hpu/graphs.py": """
        from habana_frameworks.torch import core
        class Cacher(Base):
            size = 3
            def __init__(self, n=10): pass
            def __call__(self, model, *, inplace=True): pass
        def wrap(module, asynchronous=False, graphs=None): pass
    """,
    "hpex/kernels/Bag.py": "from habana_frameworks.torch._hpex_C import bag_fwd as forward  # noqa\n",
    "hpex/kernels/Host.py": "from habana_frameworks.torch._hpex_C import prepare as forward\n",
    "hpex/csrc/bindings.cpp": """
        static std::tuple<T&, T&> local_prepare(const T& x, std::vector<T>& lists) { return other(x, 1); }
        PYBIND11_MODULE(NAME, m) {
          m.def(
              "bag_fwd",
              &bag_fwd_wrap, "text");
          m.def("prepare", &local_prepare, "text");
        }
    """,
    "utils/internal.py": """
        def is_lazy():
            if is_lazy.known is None:
                is_lazy.known = os.getenv("OTHER", "2"), os.getenv("PT_HPU_LAZY_MODE", "7") != "0"
            return is_lazy.known
    """,
}
EXPECTED = {
    "core:mark_step": {
        "signature": "(device_str='', sync=False)",
        "module": "core.closures",
        "decorators": "lazy_only",
    },
    "core:given": {"signature": "(a, /, b, *rest, c=0.01, **more)", "module": "core.closures"},
    "core:memory_stats": {"signature": "(device=None)", "module": "hpu.memory"},
    "core:other": {"signature": "()", "module": "hpu", "if": "not is_lazy()"},
    "hpu:wrap": {
        "signature": "(module, asynchronous=False, graphs=None)",
        "module": "hpu.graphs",
        "if": "is_lazy()",
    },
    "hpu:is_lazy": {"signature": "()", "module": "utils.internal"},
    "hpu:Cacher.__call__": {
        "signature": "(self, model, *, inplace=True)",
        "module": "hpu.graphs",
        "if": "is_lazy()",
    },
    "hpex.kernels.Bag:forward": {"signature": "(weight, indices, mode, /)", "module": "_hpex_C"},
    "hpex.kernels.Host:forward": {"signature": "(x, lists, /)", "module": "_hpex_C"},
    "core:renamed": None,
    "core:inner": None,
    "core:no_such_package": None,
    "hpu:Cacher.size": None,
    "hpu:Cacher.step": None,
    "hpu:wrap.inner": None,
    "no.such.module:name": None,
}


@pytest.fixture
def plugin(tmp_path):
    """A checkout of an invented plugin, not yet under git."""
    package = tmp_path / "python_packages" / "habana_frameworks" / "torch"
    for name, text in SOURCE.items():
        path = package / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(_dedented(text), encoding="utf-8")
    header = tmp_path / "habana_kernels" / "wrap_kernels_declarations.h"
    header.parent.mkdir()
    header.write_text(
        "at::T bag_fwd_wrap(\n    const at::T& weight,\n    const at::T& indices,\n    int64_t mode = 1);\n"
    )
    return tmp_path


def _dedented(text):
    lines = text.split("\n")
    return "\n".join(line.removeprefix(" " * 8) for line in lines)


def commit(folder, subject):
    who = ["-c", "user.name=T", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"]
    for command in (["init", "-q"], ["add", "."], [*who, "commit", "-q", "-m", subject]):
        subprocess.run(["git", "-C", str(folder), *command], check=True)


def run(checkout, *arguments):
    command = [sys.executable, str(checkout / "ci/habana_signatures.py"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True)


@pytest.mark.parametrize("name", EXPECTED)
def test_a_name_is_found_as_an_import_would(plugin, name):
    assert derive(plugin, [name]) == {name: EXPECTED[name]}


def test_the_default_mode_is_read(plugin):
    assert lazy_mode_default(plugin) == "7"
    (plugin / "python_packages/habana_frameworks/torch/utils/internal.py").unlink()
    assert lazy_mode_default(plugin) is None


def test_the_source_is_named(plugin):
    commit(plugin, "Publish 9.8.7")
    found = origin(plugin)
    assert found["version"] == "9.8.7"
    assert len(found["commit"]) == 40
    commit_date = subprocess.run(["git", "-C", plugin, "log", "-1", "--format=%cs"], capture_output=True, text=True)
    assert found["date"] == commit_date.stdout.strip()


def test_the_command_prints_and_records(checkout, plugin, tmp_path):
    commit(plugin, "Change this and that")
    printed = run(checkout, plugin)
    assert printed.returncode == 0, printed.stderr
    assert run(checkout, plugin, "--record", tmp_path / "record.json").stdout == ""
    record = json.loads((tmp_path / "record.json").read_text(encoding="utf-8"))
    assert json.loads(printed.stdout) == record
    assert record["version"] is None
    assert record["PT_HPU_LAZY_MODE"] == "7"
    assert set(record["used"]) == set(USED)
    assert record["used"]["core:mark_step"] == EXPECTED["core:mark_step"]
    assert record["used"]["hpu:synchronize"] is None
    assert set(record["published"]) == set(PUBLISHED)


def test_what_is_no_checkout_is_refused(checkout, tmp_path):
    refused = run(checkout, tmp_path)
    assert refused.returncode == 1
    assert "is no git checkout" in refused.stderr
    (tmp_path / "file").touch()
    commit(tmp_path, "Something else")
    refused = run(checkout, tmp_path, "--record", tmp_path / "record.json")
    assert refused.returncode == 1
    assert "holds nothing of" in refused.stderr
    assert not (tmp_path / "record.json").exists()


def test_what_the_project_calls_is_what_is_recorded(checkout):
    """A part of the plugin is loaded by ``_plugin("part")`` and asked at once, or kept as ``self._part`` before."""
    paths = [path for path in (checkout / "dlrm_lib").rglob("*.py") if "habana_frameworks" in path.read_text()]
    assert {path.relative_to(checkout / "dlrm_lib/backends/gaudi").name for path in paths} == {
        "backend.py",
        "environment.py",  # which looks whether it is there
    }
    text = "".join(path.read_text(encoding="utf-8") for path in paths)
    called = re.findall(r'_plugin\("([\w.]+)"\)\.(\w+)', text)
    for part in set(re.findall(r'_plugin\("([\w.]+)"\)(?!\.)', text)):
        called += [(part, name) for name in re.findall(rf"self\._{part}\.(\w+)", text)]
    methods = (".__init__", ".step")  # of an optimizer that is called, and that torch's own loop steps
    assert {f"{part}:{name}" for part, name in called} == {
        name.removesuffix(methods[0]).removesuffix(methods[1]) for name in USED
    }


def test_the_record_is_whole():
    record = json.loads(RECORD.read_text(encoding="utf-8"))
    assert (set(record["used"]), set(record["published"])) == (set(USED), set(PUBLISHED))
    assert all(record["used"].values())
    assert record["repository"] == "HabanaAI/gaudi-pytorch-bridge"
    assert len(record["commit"]) == 40


def test_the_record_is_what_the_plugins_source_says():
    source = os.environ.get("HABANA_PLUGIN_CHECKOUT")
    if not source:
        pytest.skip("HABANA_PLUGIN_CHECKOUT names no checkout of the plugin")
    record = json.loads(RECORD.read_text(encoding="utf-8"))
    found = origin(Path(source))
    if found["commit"] != record["commit"]:
        pytest.skip(f"HABANA_PLUGIN_CHECKOUT is at {found['commit']}, the record at {record['commit']}")
    assert (
        found
        | {
            "PT_HPU_LAZY_MODE": lazy_mode_default(Path(source)),
            "used": derive(Path(source), USED),
            "published": derive(Path(source), PUBLISHED),
        }
        == record
    )
