"""The compiled kernels against float64 loops, for any number of threads, and what happens without a compiler."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch

from dlrm_lib import compiler
from dlrm_lib.backends import pick
from dlrm_lib.backends.cpu import kernels as cpu
from dlrm_lib.backends.cpu.kernels import CpuKernels
from dlrm_lib.compiler import CannotCompile
from dlrm_lib.config import ModelConfig
from dlrm_lib.features import FeatureSpec
from dlrm_lib.model import DLRM
from dlrm_lib.model.interactions import interaction


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


# Lengths below, at and above the width of a vector register; numbers of vectors around a tile.
@pytest.mark.parametrize("dim", [1, 5, 16, 17, 64])
@pytest.mark.parametrize(("columns", "has_bottom"), [(0, True), (1, True), (7, True), (8, False), (26, True)])
@pytest.mark.parametrize("self_interaction", [False, True])
def test_interaction_and_its_gradient_equal_autograd_in_float64(dim, columns, has_bottom, self_interaction):
    torch.manual_seed(0)
    vectors = columns + has_bottom
    sizes = {"embedding_dim": dim, "bottom_mlp_sizes": (dim,)}
    torch_ops = interaction(vectors, has_bottom, ModelConfig(**sizes, self_interaction=self_interaction))
    kernels = CpuKernels(dim, vectors, self_interaction)
    bottom = torch.randn(9, dim, requires_grad=True) if has_bottom else None
    rows = torch.randn(9, columns, dim, requires_grad=True)
    exact = [None if x is None else x.detach().double().requires_grad_() for x in (bottom, rows)]
    result, expected = kernels.interact(bottom, rows, torch_ops.width), torch_ops(*exact)
    assert torch.allclose(result.double(), expected, atol=1e-5)
    upstream = torch.randn_like(result)
    result.backward(upstream)
    expected.backward(upstream.double())
    assert torch.allclose(rows.grad.double(), exact[1].grad, atol=1e-5)
    if has_bottom:
        assert torch.allclose(bottom.grad.double(), exact[0].grad, atol=1e-5)


# Stacks of 256 KiB, also for the first thread: what grows with the vectors must not be on them.
SMALL_STACKS = """
import resource, threading, torch
from pathlib import Path
from dlrm_lib.backends.cpu.kernels import CpuKernels
threading.stack_size(256 << 10)
def in_a_thread(call):
    thread = threading.Thread(target=call)
    thread.start()
    thread.join()
"""


def in_a_process(script: str) -> None:
    environment = {**os.environ, "OMP_STACKSIZE": "256k"}
    command = [sys.executable, "-W", "error", "-c", SMALL_STACKS + script]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "well\n", "")


def test_two_thousand_vectors_interact_where_stacks_are_small():
    in_a_process("""
def interact():
    for dim, self_interaction in ((2, False), (2, True), (64, False)):
        rows = torch.randn(2, 2000, dim, requires_grad=True)
        i, j = torch.tril_indices(2000, 2000, 0 if self_interaction else -1)
        out = CpuKernels(dim, 2000, self_interaction).interact(None, rows, len(i) + 1)
        upstream = torch.randn_like(out)
        out.backward(upstream)
        exact = rows.detach().double().requires_grad_()
        expected = (exact @ exact.mT)[:, i, j]
        expected.backward(upstream[:, :-1].double())
        assert torch.allclose(out[:, :-1].double(), expected, atol=1e-4) and not out[:, -1].any()
        assert torch.allclose(rows.grad.double(), exact.grad, atol=1e-3)
    print("well")
in_a_thread(interact)
""")


def test_too_little_memory_for_all_pairs_is_said():
    in_a_process("""
c = CpuKernels(2, 40_000, False)._c
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (1 << 30), resource.RLIM_INFINITY))
for call, pointers in ((c.interact, 3), (c.interact_backward, 5)):
    try:
        call(*[None] * pointers, 0, 0, 0, 2)
    except MemoryError as error:
        assert "need 19,2" in str(error), error  # 2 threads, and 40,000 * 40,000 * 1.5 numbers of 4 bytes
    else:
        raise AssertionError("no MemoryError")
print("well")
""")


@pytest.mark.parametrize("count", [0, 1, 1000])
def test_rows_are_added_to_in_order(count):
    row_ids = torch.randint(50, (count,))
    gradient, weight = torch.randn(count, 6), torch.randn(50, 6)
    expected = weight.clone()
    for row, g in zip(row_ids.tolist(), gradient, strict=True):
        expected[row] += -0.5 * g
    CpuKernels(6, 1, False).add_rows(weight, row_ids, gradient, -0.5)
    assert torch.allclose(weight, expected, atol=1e-6)


def test_equal_rows_are_summed():
    kernels, weight = CpuKernels(6, 1, False), torch.empty(50, 6)
    for count in (0, 1, 1000):
        row_ids, gradient = torch.randint(50, (count,)), torch.randn(count, 6)
        rows, total = kernels.sum_rows(weight, row_ids, gradient)
        assert rows.tolist() == list(dict.fromkeys(row_ids.tolist()))  # each once, by first appearance
        for row, g in zip(rows, total, strict=True):
            assert torch.allclose(g.double(), gradient[row_ids == row].double().sum(0), atol=1e-5)


def test_the_number_of_threads_changes_no_bit(threads):
    torch.manual_seed(0)
    found = []
    inputs = torch.randn(300, 16), torch.randn(300, 26, 16), torch.randn(300, 368), torch.randint(90, (7800,))
    for count in (1, 2, 3, 4):
        threads(count)
        kernels = CpuKernels(16, 27, False)
        bottom, rows, upstream, row_ids = (x.clone().requires_grad_(x.is_floating_point()) for x in inputs)
        out = kernels.interact(bottom, rows, 368)
        out.backward(upstream)
        weight = torch.zeros(90, 16)
        kernels.add_rows(weight, row_ids, rows.grad.flatten(0, 1), -0.1)
        found.append([out, bottom.grad, rows.grad, weight, *kernels.sum_rows(weight, row_ids, rows.grad.flatten(0, 1))])
    for other in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(found[0], other, strict=True))


@pytest.mark.parametrize(
    ("compiler", "sentence"), [("/nowhere/cc", "/nowhere/cc"), ("false", "false: failed"), ("cc --no-such-flag", "cc:")]
)
def test_without_a_compiler_training_warns_and_runs_eagerly(compiler, sentence, monkeypatch, tmp_path):
    monkeypatch.setenv("CC", compiler)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    cpu._compiled.cache_clear()
    with pytest.raises(CannotCompile, match=sentence):
        CpuKernels(16, 27, False)
    with pytest.warns(UserWarning, match="runs slower, without compiled kernels"):
        assert pick("cpu").kernels(DLRM(FeatureSpec(numerical=1, cardinalities=(3,)), ModelConfig()), "auto") is None
    assert list(tmp_path.rglob("*.so*")) == []
    cpu._compiled.cache_clear()


def test_a_compiled_library_is_kept(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    cpu._compiled.cache_clear()
    CpuKernels(3, 2, False)
    (library,) = (tmp_path / "dlrm_lib").iterdir()
    assert library.suffix == ".so"
    cpu._compiled.cache_clear()
    monkeypatch.setattr(compiler, "_run", lambda command: pytest.fail("compiled again"))
    CpuKernels(3, 2, False)
    cpu._compiled.cache_clear()


def test_where_nothing_can_be_kept_it_is_compiled_for_the_process(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    cpu._compiled.cache_clear()
    weight = torch.zeros(2, 3)
    CpuKernels(3, 2, False).add_rows(weight, torch.tensor([1]), torch.ones(1, 3), 2.0)
    assert weight.tolist() == [[0.0] * 3, [2.0] * 3]
    cpu._compiled.cache_clear()
