"""Numbers too small to be normal are zero within a step and a batch that is scored, on every thread, nowhere else."""

from __future__ import annotations

import contextlib

import pytest
import torch
from encoded import random_dataset

from dlrm_lib.backends.cpu import subnormals
from dlrm_lib.backends.cpu.backend import Cpu
from dlrm_lib.config import Config
from dlrm_lib.training import build

TINY = torch.finfo(torch.float32).tiny


@pytest.fixture(autouse=True)
def _threads():
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


def share_of_zeros() -> float:
    """Of a product so small that it is not normal, computed by all threads."""
    result = torch.full((3_000_000,), 1e-30) * torch.full((3_000_000,), 1e-12)
    return (result == 0).float().mean().item()


def subnormal(tensor: torch.Tensor) -> int:
    bits = tensor.view(torch.int32) & 0x7FFFFFFF  # comparing numbers would itself take them for zero
    return int(((bits > 0) & (bits < 0x00800000)).sum())


def test_they_are_zero_within_on_every_thread_and_themselves_behind():
    assert share_of_zeros() == 0
    with subnormals.as_zero():
        assert share_of_zeros() == 1
    assert share_of_zeros() == 0


def test_the_switch_goes_back_when_something_is_raised():
    with pytest.raises(KeyError), subnormals.as_zero():
        raise KeyError
    assert share_of_zeros() == 0


def test_without_a_compiler_nothing_is_changed(monkeypatch, tmp_path):
    monkeypatch.setenv("CC", "/nowhere/cc")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    subnormals._compiled.cache_clear()
    with subnormals.as_zero():
        assert share_of_zeros() == 0
    subnormals._compiled.cache_clear()


@pytest.mark.parametrize("flushes", [True, False])
@pytest.mark.parametrize("execution", ["eager", "compile"])
def test_a_step_leaves_none_in_what_the_optimizer_remembers(tmp_path, monkeypatch, execution, flushes):
    if not flushes:  # so that the test can fail
        monkeypatch.setattr(subnormals, "as_zero", contextlib.nullcontext)
    settings = {"optimizer": "adam", "embedding_decay": 0.0, "execution": execution}
    dataset = random_dataset(tmp_path, rows=(64, 8, 8), cardinalities=(3, 7))
    training = build(Config.from_preset("smoke", settings), dataset, backend=Cpu())
    step, batch = training.step, training.step.prepare(training.train.read(0, 64))
    for state in (step.optimizer.state, *step.optimizer.dense.state.values()):
        for name in ("mean", "exp_avg"):
            if name in state:
                state[name].fill_(1e-39)
    with torch.no_grad():
        for parameter in training.model.parameters():
            parameter.zero_()  # no gradient reaches anything but the last bias
    step(batch, 0.01)
    rows = step.row_ids(batch).unique()
    kept = [step.optimizer.state["mean"][rows], *(s["exp_avg"] for s in list(step.optimizer.dense.state.values())[:-1])]
    assert all(subnormal(tensor) == (0 if flushes else tensor.numel()) for tensor in kept)
    assert share_of_zeros() == 0
