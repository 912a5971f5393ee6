"""The GPU's step without a GPU: its kernels in plain torch, its recording by a stand-in, against the ordinary step."""

from __future__ import annotations

import copy

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from dlrm_lib.config import ModelConfig, TrainingConfig
from dlrm_lib.dataset import Batch
from dlrm_lib.devices import cuda, pick
from dlrm_lib.devices.capture import Captured
from dlrm_lib.devices.cpu import Cpu, bf16_units
from dlrm_lib.errors import InputError
from dlrm_lib.features import FeatureSpec
from dlrm_lib.kernels.gpu import NoTriton
from dlrm_lib.model import DLRM
from dlrm_lib.training import FusedStep, TrainStep, train_step

SPEC = FeatureSpec(numerical=3, cardinalities=(4, 9, 300))
MODEL = {"embedding_dim": 6, "bottom_mlp_sizes": (8, 6), "top_mlp_sizes": (10, 1)}
B = 16


class StandIn(Cpu):
    """A GPU as far as the step can tell, on the processor."""

    fuses = True

    def execution(self, name):
        return "graph" if name == "auto" else name

    def kernels(self, execution, shape):
        return None if self.execution(execution) == "eager" else cuda.CudaKernels(shape, self.torch_device)

    def captured(self, function):
        return Captured(function, Recorder())


class Recorder:
    """Records as a CUDA graph does: nothing runs, and a replay works on the tensors of the recording."""

    def aside(self, function):
        return function()

    def record(self, function):
        result = torch.full((), float("nan"))
        return lambda: result.copy_(function()), result


@pytest.fixture(autouse=True)
def kernels_in_torch(monkeypatch):
    def no_triton(*_, **settings):
        raise NoTriton("it is not to be used here")

    monkeypatch.setattr(cuda, "GpuKernels", no_triton)


pytestmark = pytest.mark.filterwarnings("ignore:Training runs slower, without fused kernels .it is not to be used here")


def batch(seed, rows=B):
    torch.manual_seed(seed)
    ids = torch.stack([torch.randint(size, (rows,), dtype=torch.int32) for size in SPEC.cardinalities], 1)
    return Batch(torch.randn(rows, 3), ids, torch.randint(2, (rows,)).float())


def model(**changed):
    torch.manual_seed(0)
    return DLRM(SPEC, ModelConfig(**{**MODEL, **changed}))


def config(**changed):
    return TrainingConfig(**{"batch_size": B, "optimizer": "sgd", "precision": "fp32", **changed})


def fused(captured=False, of=None, **changed):
    network = of or model()
    return network, FusedStep(network, config(**changed), StandIn(), captured=captured)


def bits(network, step):
    tensors = {**network.state_dict(), **{f"step.{name}": tensor for name, tensor in step.state_dict().items()}}
    return {name: tensor.clone() for name, tensor in tensors.items()}


def differing(before, after):
    return {name for name in before if not torch.equal(before[name], after[name])}


@pytest.mark.parametrize("changed", [{}, {"self_interaction": True}, {"hash_indices": True, "max_table_size": 7}])
def test_it_trains_as_the_ordinary_step_does(changed):
    ours, plain = model(**changed), model(**changed)
    step, expected = fused(of=ours)[1], TrainStep(plain, config(execution="eager"), pick("cpu"))
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
    step = fused()[1]
    step.precision = "tf32"
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
    ordinary = TrainStep(other, config(precision="fp16", loss_scale="dynamic", execution="eager"), pick("cpu"))
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
    step = train_step(model(**network), config(**settings), StandIn())
    assert type(step) is TrainStep
    with pytest.raises(InputError, match=rf"--execution graph takes SGD[\s\S]*found: {obstacle}"):
        train_step(model(**network), config(**settings, execution="graph"), StandIn())


def test_which_step_a_device_gets():
    assert type(train_step(model(), config(), pick("cpu"))) is TrainStep
    assert type(train_step(model(), config(execution="eager"), StandIn())) is TrainStep
    assert [type(train_step(model(), config(execution=name), StandIn())) for name in ("auto", "compile", "graph")] == [
        FusedStep
    ] * 3
    with pytest.raises(InputError, match="CUDA graphs need an NVIDIA GPU"):
        train_step(model(), config(execution="graph"), pick("cpu"))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_without_a_gpu_one_sentence():
    with pytest.raises(InputError, match=r"No NVIDIA GPU can be used here[\s\S]*--device cpu"):
        pick("cuda")
