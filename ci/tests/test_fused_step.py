"""The GPU's step without a GPU: its kernels in plain torch, its recording by a stand-in, against the ordinary step."""

from __future__ import annotations

import copy

import pytest
import torch
from bench.on_gpu.stand_in_gpu import Recorder
from stand_in_gpu import StandIn
from torch.utils._python_dispatch import TorchDispatchMode
from torch_kernels import TorchKernels

from dlrm_lib.backends import pick
from dlrm_lib.backends.backend import PRECISIONS
from dlrm_lib.backends.cpu.backend import bf16_units
from dlrm_lib.backends.cuda import backend
from dlrm_lib.backends.cuda.capture import Captured
from dlrm_lib.backends.cuda.kernels import NoTriton
from dlrm_lib.backends.cuda.step import FusedStep
from dlrm_lib.backends.step import TrainingStep
from dlrm_lib.config import ModelConfig, TrainingConfig
from dlrm_lib.dataset import Batch
from dlrm_lib.errors import InputError
from dlrm_lib.features import FeatureSpec
from dlrm_lib.model import DLRM

SPEC = FeatureSpec(numerical=3, cardinalities=(4, 9, 300))
MODEL = {"embedding_dim": 6, "bottom_mlp_sizes": (8, 6), "top_mlp_sizes": (10, 1)}
B = 16


def batch(seed, rows=B):
    torch.manual_seed(seed)
    ids = torch.stack([torch.randint(size, (rows,), dtype=torch.int32) for size in SPEC.cardinalities], 1)
    return Batch(torch.randn(rows, 3), ids, torch.randint(2, (rows,)).float())


def model(**changed):
    torch.manual_seed(0)
    return DLRM(SPEC, ModelConfig(**{**MODEL, **changed}))


def config(**changed):
    return TrainingConfig(**{"batch_size": B, "optimizer": "sgd", "precision": "fp32", **changed})


def step_on(backend, network, **changed):
    return backend.training_step(network, backend.resolved(config(**changed), network, rows=10 * B))


def fused(captured=False, of=None, **changed):
    network = of or model()
    step = step_on(StandIn(), network, execution="graph" if captured else "compile", **changed)
    assert type(step) is FusedStep
    return network, step


def bits(network, step):
    tensors = {**network.state_dict(), **{f"step.{name}": tensor for name, tensor in step.state_dict().items()}}
    return {name: tensor.clone() for name, tensor in tensors.items()}


def differing(before, after):
    return {name for name in before if not torch.equal(before[name], after[name])}


@pytest.mark.parametrize("changed", [{}, {"self_interaction": True}, {"hash_indices": True, "max_table_size": 7}])
def test_it_trains_as_the_ordinary_step_does(changed):
    ours, plain = model(**changed), model(**changed)
    step, expected = fused(of=ours)[1], step_on(pick("cpu"), plain, execution="eager")
    for seed in range(6):
        lr = 0.3 / (seed + 1)
        assert step(batch(seed), lr).item() == pytest.approx(expected(batch(seed), lr).item(), abs=1e-6)
    assert ours.state_dict().keys() == plain.state_dict().keys()
    for name, tensor in ours.state_dict().items():
        assert torch.allclose(tensor, plain.state_dict()[name], atol=1e-6), name


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_half_precision_stays_near_fp32(precision):
    if precision == "bf16" and not bf16_units():
        pytest.skip("this CPU has no bf16")
    losses = {}
    for name in ("fp32", precision):
        network, step = fused(precision=name)
        losses[name] = [step(batch(seed), 0.1).item() for seed in range(20)]
    assert losses[precision] == pytest.approx(losses["fp32"], abs=0.02)
    assert losses[precision] != losses["fp32"]
    assert {tensor.dtype for tensor in network.state_dict().values()} == {torch.float32}


@pytest.mark.parametrize("settings", [{}, {"precision": "fp16"}, {"precision": "fp16", "loss_scale": "dynamic"}])
def test_a_recording_does_what_it_recorded(settings):
    # With another learning rate at every step, a batch of another size in between, and one that overflows.
    losses, ends = [], []
    for captured in (False, True):
        network, step = fused(captured, **settings)
        found = []
        for seed in range(12):
            rows = batch(seed, rows=5 if seed in (2, 8) else B)
            if settings and seed in (6, 9):
                rows = rows._replace(numerical=rows.numerical * 1e5)
            found.append(step(rows, 0.01 * (seed + 1)))
        losses.append(torch.stack(found))
        ends.append(bits(network, step))
        assert step.done == 12
        assert step.skipped == (2 if settings else 0)
    assert torch.isnan(losses[0]).sum() == (2 if settings else 0)
    assert len(set(losses[1].nan_to_num().tolist())) == (11 if settings else 12)
    assert torch.equal(*torch.stack(losses).nan_to_num())
    assert not differing(*ends)


def test_tf32_is_fp32_where_nothing_rounds_to_it():
    step = fused(precision="tf32")[1]
    assert step.precision == "tf32"
    assert step(batch(0), 0.1) == fused()[1](batch(0), 0.1)


def test_what_is_recorded_holds_copies_of_the_batch():
    seen = []

    def function(batch):
        seen.append(tuple(tensor.clone() for tensor in batch))
        return batch.label.sum()

    captured = Captured(function, Recorder())
    batches = [batch(seed) for seed in range(6)]
    results = [captured(rows) for rows in batches]
    assert [result.item() for result in results] == [rows.label.sum().item() for rows in batches]
    for rows, found in zip(batches, seen, strict=True):
        assert all(map(torch.equal, rows, found))
    kept = copy.deepcopy(batches)
    captured(batch(9))
    assert all(
        torch.equal(a, b) for one, other in zip(batches, kept, strict=True) for a, b in zip(one, other, strict=True)
    )


@pytest.mark.parametrize("captured", [False, True])
@pytest.mark.parametrize("part", ["bottom", "rows", "scale"])
def test_overflow_changes_nothing_in_layers_and_embeddings(part, captured):
    # 2**30 overflows everywhere; an embedding of 6e4 makes gradients overflow that only the interaction sees.
    network, step = fused(captured, precision="fp16", loss_scale=2.0**30 if part == "scale" else 8192.0)
    for seed in range(5):
        step(batch(seed), 0.1)
    already, rows = step.skipped, batch(7)
    if part == "bottom":
        rows = rows._replace(numerical=rows.numerical * 1e5)
    if part == "rows":
        network.tables.weight.fill_(6e4)
    before = bits(network, step)
    step(rows, 0.1)
    assert step.skipped == already + 1 == (6 if part == "scale" else 1)
    assert differing(before, bits(network, step)) == {"step.done", "step.loss_scale.skipped"}


class NoWaiting(TorchDispatchMode):
    """Refuses what would make the host wait for a GPU."""

    WAITS = ("_local_scalar_dense", "nonzero", "unique", "_unique2", "equal", "masked_select", "is_nonzero")

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.overloadpacket.__name__
        assert name not in self.WAITS, f"{name} waits for the device"
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("deterministic", [False, True])
def test_nothing_in_the_step_waits_for_the_device(precision, deterministic):
    _, step = fused(precision=precision, loss_scale="dynamic", deterministic=deterministic)
    with NoWaiting():
        for seed in range(3):
            step(batch(seed), 0.1)
        with pytest.raises(AssertionError, match="waits for the device"):
            step.skipped = torch.ones(()).item()


def test_its_state_goes_over_to_the_ordinary_step_and_back():
    network, step = fused(precision="fp16", loss_scale="dynamic")
    for seed in range(3):
        step(batch(seed), 0.1)
    other = model()
    ordinary = step_on(pick("cpu"), other, precision="fp16", loss_scale="dynamic", execution="eager")
    assert step.state_dict().keys() == ordinary.state_dict().keys()
    other.load_state_dict(network.state_dict())
    ordinary.load_state_dict(step.state_dict())
    assert (ordinary.done, ordinary.loss_scale.value) == (3, 2.0**16)
    assert step(batch(3), 0.1).item() == pytest.approx(ordinary(batch(3), 0.1).item(), abs=2e-3)
    again, resumed = fused(True, precision="fp16", loss_scale="dynamic")
    again.load_state_dict(other.state_dict())
    resumed.load_state_dict(ordinary.state_dict())
    for seed in range(4, 9):
        assert resumed(batch(seed), 0.1).item() == pytest.approx(ordinary(batch(seed), 0.1).item(), abs=2e-3)


@pytest.mark.parametrize(
    ("settings", "network", "obstacle"),
    [
        ({"optimizer": "adam"}, {}, "optimizer adam"),
        ({}, {"interaction_op": "cat"}, "interaction cat"),
        ({}, {"num_indices_per_lookup": 3}, "3 ids per feature"),
        ({}, {"linear": True}, "linear"),
        ({}, {"embed_numbers": True}, "embed_numbers"),
    ],
)
def test_what_no_recording_can_hold(settings, network, obstacle):
    step = step_on(StandIn(), model(**network), **settings)
    assert type(step) is TrainingStep
    resolved = StandIn().resolved(config(**settings), model(**network), rows=10 * B)
    assert resolved.execution == "compile"  # a record says what was done
    with pytest.raises(InputError, match=rf"--execution graph takes SGD[\s\S]*found: {obstacle}"):
        step_on(StandIn(), model(**network), **settings, execution="graph")


def test_which_step_a_device_gets():
    assert type(step_on(pick("cpu"), model())) is TrainingStep
    assert type(step_on(StandIn(), model(), execution="eager")) is TrainingStep
    steps = {name: step_on(StandIn(), model(), execution=name) for name in ("auto", "compile", "graph")}
    assert {name: (type(step), type(step._whole) is Captured) for name, step in steps.items()} == {
        "auto": (FusedStep, True),
        "compile": (FusedStep, False),
        "graph": (FusedStep, True),
    }
    with pytest.raises(InputError, match="CUDA graphs need an NVIDIA GPU"):
        step_on(pick("cpu"), model(), execution="graph")


@pytest.fixture
def kernels_called(monkeypatch):
    """(kernel, the type that it works in) of each call."""
    called = []

    def noted(name, kernel):
        def call(self, *args, **settings):
            result = kernel(self, *args, **settings)
            called.append((name, args[2].dtype if result is None else result.dtype))
            return result

        return call

    for name in ("gather", "interact", "add_rows"):
        monkeypatch.setattr(TorchKernels, name, noted(name, getattr(TorchKernels, name)))
    return called


@pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16", "fp16"])
def test_kernels_stand_in_the_same_places_in_training_and_inference(kernels_called, precision):
    dtype, network = PRECISIONS[precision], model()
    step = step_on(StandIn(), network, precision=precision)
    step(batch(0), 0.1)
    assert kernels_called == [("gather", dtype), ("interact", dtype), ("add_rows", dtype)]
    kernels_called.clear()
    inference = StandIn().inference(network, precision, "graph")
    logits = inference(batch(1))
    assert kernels_called == [("gather", dtype), ("interact", dtype)]
    assert logits.dtype == torch.float32
    loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, batch(1).label)
    assert loss.item() == step(batch(1), 0.0).item()  # and the same rounding
    kernels_called.clear()
    plain = StandIn().inference(network, precision, "eager")(batch(1))
    assert kernels_called == []
    assert logits.tolist() == pytest.approx(plain.tolist(), abs=1e-6 if dtype == torch.float32 else 0.05)


@pytest.mark.parametrize(
    ("network", "kernels"),
    [
        ({"interaction_op": "cat"}, ["gather"]),
        ({"interaction_op": "dcn"}, ["gather"]),
        ({"num_indices_per_lookup": 3}, ["interact"]),
        ({"linear": True}, ["gather", "interact"]),
        ({"embed_numbers": True}, ["gather", "interact"]),
        ({"hash_indices": True, "max_table_size": 7}, ["gather", "interact"]),
    ],
    ids=str,
)
def test_other_models_are_asked_with_the_kernels_that_fit(kernels_called, network, kernels):
    of, rows = model(**network), batch(0)
    if "num_indices_per_lookup" in network:
        rows = rows._replace(categorical=rows.categorical.unsqueeze(2).repeat(1, 1, 3))
    with torch.inference_mode():
        expected = of(rows.numerical, rows.categorical)
    found = StandIn().inference(of, "fp32", "compile")(rows)
    assert [name for name, _ in kernels_called] == kernels
    assert torch.allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("execution", ["compile", "auto", "graph"])
def test_without_triton_it_trains_as_plain_torch_and_says_so(monkeypatch, execution):
    class Without(backend.Cuda):
        """Without Triton torch cannot compile layers for a GPU either."""

        torch_device, description = torch.device("cpu"), "a GPU without Triton"
        __init__ = synchronize = lambda self: None
        resolved_precision = StandIn.resolved_precision

    def no_triton(*_, **settings):
        raise NoTriton("No module named 'triton'")

    monkeypatch.setattr(backend, "GpuKernels", no_triton)
    monkeypatch.setattr(torch, "compile", lambda *_, **settings: pytest.fail("it was compiled"))
    network, plain = model(), model()
    with pytest.warns(UserWarning, match=r"without fused kernels and compiled layers .No module named 'triton'"):
        step = step_on(Without(), network, execution=execution)
    assert type(step) is TrainingStep
    expected = step_on(pick("cpu"), plain, execution="eager")
    assert step(batch(0), 0.1) == expected(batch(0), 0.1)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_without_a_gpu_one_sentence():
    with pytest.raises(InputError, match=r"No NVIDIA GPU can be used here[\s\S]*--device cpu"):
        pick("cuda")
