"""Backends: how one is picked, what they have, and what a process is told once."""

from __future__ import annotations

import pytest
import torch

from dlrm_lib import process
from dlrm_lib.backends import pick
from dlrm_lib.backends.cpu import backend as cpu
from dlrm_lib.config import Config, ModelConfig
from dlrm_lib.dataset import Batch
from dlrm_lib.errors import InputError
from dlrm_lib.features import FeatureSpec
from dlrm_lib.model import DLRM


@pytest.mark.parametrize(("cores", "threads", "expected"), [(1, 1, 1), (2, 2, 2), (4, 4, 3), (4, 2, 2), (8, 1, 1)])
def test_one_core_of_many_is_left_free_and_a_choice_is_kept(monkeypatch, cores, threads, expected):
    given = {"threads": threads}
    monkeypatch.setattr(process, "usable_cores", lambda: cores)
    monkeypatch.setattr(torch, "get_num_threads", lambda: given["threads"])
    monkeypatch.setattr(torch, "set_num_threads", lambda threads: given.update(threads=threads))
    assert f"{threads} threads" in pick("auto").description, "to look for a device changes nothing"
    for _ in range(2):
        process.prepare(Config())
    assert f"{expected} threads" in pick("auto").description
    assert given["threads"] == expected


def test_a_batch_keeps_its_shape_and_values():
    batch = Batch(torch.rand(2, 3), torch.ones(2, 4, dtype=torch.int32), torch.zeros(2))
    moved = pick("cpu").put(batch)
    assert type(moved) is Batch
    assert all(torch.equal(a, b) for a, b in zip(batch, moved, strict=True))


def test_an_unknown_device_is_named():
    with pytest.raises(InputError, match=r"no such device[\s\S]*found: tpu"):
        pick("tpu")


@pytest.fixture
def gpu(monkeypatch):
    """A GPU as torch would show it, of a compute capability that a test may set."""
    shown = {"capability": (9, 0)}
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "Stream", lambda: None)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "A card")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: shown["capability"])
    return shown


@pytest.mark.parametrize("name", ["auto", "cuda"])
def test_a_gpu_is_taken_where_there_is_one(gpu, name):
    device = pick(name)
    assert (device.description, device.torch_device.type) == ("A card", "cuda")
    assert device.readers >= 1
    assert [device.resolved_execution(how) for how in ("auto", "graph", "compile", "eager")] == [
        *("graph", "graph", "compile", "eager")
    ]


def test_precisions_of_a_gpu(gpu):
    device = pick("cuda")
    assert device.precisions == ("fp32", "tf32", "bf16", "fp16")
    assert device.resolved_precision("auto") == "fp16"
    before = torch.get_float32_matmul_precision()
    for name, rounded in (("tf32", True), ("fp32", False), ("tf32", True), ("bf16", False), ("fp16", False)):
        assert device.resolved_precision(name) == name
        assert torch.get_float32_matmul_precision() == before, "to ask for a precision is not to switch it on"
        with device.computing_in(name):
            assert torch.get_float32_matmul_precision() == ("high" if rounded else "highest")
        assert torch.get_float32_matmul_precision() == before
    gpu["capability"] = (7, 5)
    for name in ("tf32", "bf16"):
        with pytest.raises(InputError, match=rf"no units for {name}[\s\S]*found: A card, 7\.5"):
            device.resolved_precision(name)
    assert device.precisions == ("fp32", "fp16")
    assert device.resolved_precision("auto") == "fp16"


def test_layers_are_compiled_for_one_size_of_batch(gpu, monkeypatch):
    spec, sizes = FeatureSpec(numerical=3, cardinalities=(4,)), []
    model = DLRM(spec, ModelConfig(embedding_dim=2, bottom_mlp_sizes=(2,), top_mlp_sizes=(1,)))

    def compiled(module, **settings):
        def run(inputs):
            sizes.append(len(inputs))
            return module(inputs)

        return run

    monkeypatch.setattr(torch, "compile", compiled)
    parts = pick("cuda")._layers(model)
    for size in (8, 8, 5, 8):
        inputs = torch.rand(size, 3)
        assert torch.equal(parts.bottom(inputs), model.bottom(inputs))
    assert sizes == [8, 8, 8]


@pytest.mark.parametrize(
    ("name", "match"), [("tf32", "TF32 is a format of NVIDIA"), ("bf16", "no instructions for bf16")]
)
def test_what_a_processor_does_not_have(monkeypatch, name, match):
    monkeypatch.setattr(cpu, "bf16_units", lambda: None)
    with pytest.raises(InputError, match=match):
        pick("cpu").resolved_precision(name)
