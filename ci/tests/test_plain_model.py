"""A model knows nothing of what runs it: between steps it can be copied, written, moved, and trained by two at once."""

from __future__ import annotations

import copy
import io
import pickle

import pytest
import torch
from stand_in_gpu import StandIn
from test_coalesced import Static
from test_fused_step import B, batch, model, step_on
from torch import nn

from dlrm_lib.backends.cpu.backend import Cpu
from dlrm_lib.backends.gaudi import environment

# A backend with kernels of its own, and how a step is asked for there.
RUNNING = {
    "cpu": (Cpu, {"execution": "compile"}),
    "cpu, adam": (Cpu, {"execution": "compile", "optimizer": "adam"}),
    "gpu, recorded": (StandIn, {"execution": "graph", "precision": "fp16", "loss_scale": 1024.0}),
    "gpu, not fused": (StandIn, {"execution": "compile", "optimizer": "adagrad"}),
    "gaudi": (Static, {"execution": "eager", "optimizer": "adagrad", "precision": "bf16"}),
}


@pytest.fixture(autouse=True)
def _not_lazy(monkeypatch):
    monkeypatch.setenv(environment.LAZY_MODE, "0")


@pytest.fixture(params=RUNNING)
def running(request):
    """Makes a step for a model; the first one is of a new model."""
    kind, settings = RUNNING[request.param]
    backend = kind()

    def start(network=None):
        return step_on(backend, network or model(), **settings)

    return start


def trained(step, seeds):
    return [step(step.prepare(batch(seed)), 0.1).item() for seed in seeds]


def logits(network, rows):
    """In plain torch, by the model alone."""
    with torch.inference_mode():
        return network(rows.numerical, rows.categorical)


def written(network):
    file = io.BytesIO()
    torch.save(network, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


COPIES = {
    "copied": copy.deepcopy,
    "pickled": lambda network: pickle.loads(pickle.dumps(network)),
    "written": written,
    "moved": lambda network: copy.deepcopy(network).to("cpu", torch.float64).to(torch.float32),
}


def state(network):
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("way", COPIES)
def test_a_copy_between_two_steps_is_a_model_of_its_own(running, way):
    step, undisturbed = running(), running()
    assert trained(step, range(5)) == trained(undisturbed, range(5))
    network, before = step.model, state(step.model)
    other = COPIES[way](network)
    assert same(state(other), before)
    assert torch.equal(logits(other, batch(9)), logits(network, batch(9)))
    # The original goes on as if nothing had been; the copy stays, and can be trained on from there.
    after = trained(step, range(5, 9))
    assert after == trained(undisturbed, range(5, 9))
    assert same(state(network), state(undisturbed.model))
    assert same(state(other), before)
    assert not same(state(network), before)


@pytest.mark.parametrize("way", COPIES)
def test_a_copy_is_trained_on_by_a_step_of_its_own(running, way):
    step = running()
    trained(step, range(5))
    resumed = running(COPIES[way](step.model))
    resumed.load_state_dict({name: tensor.clone() for name, tensor in step.state_dict().items()})
    assert trained(resumed, range(5, 9)) == trained(step, range(5, 9))
    assert same(state(resumed.model), state(step.model))


def test_a_model_that_was_moved_is_taken_as_it_is_by_a_new_step(running):
    step, undisturbed = running(), running()
    trained(step, range(5)), trained(undisturbed, range(5))
    elsewhere = copy.deepcopy(step.model).to("meta")
    assert {tensor.device.type for tensor in (*elsewhere.parameters(), *elsewhere.buffers())} == {"meta"}
    table, remembered = step.model.tables.weight, step.state_dict()
    network = step.model.to(torch.float64).to(torch.float32)
    assert network.tables.weight is not table  # so it was moved, out of the reach of the step before
    again = running(network)
    again.load_state_dict(remembered)
    assert trained(again, range(5, 9)) == trained(undisturbed, range(5, 9))
    assert same(state(network), state(undisturbed.model))


def test_nothing_is_stored_on_a_model(running):
    network = model()
    before = {name: set(vars(module)) for name, module in network.named_modules()}
    step = running(network)
    trained(step, range(5))
    step.backend.inference(network)(batch(0))
    assert {name: set(vars(module)) for name, module in network.named_modules()} == before
    assert b"dlrm_lib.backends" not in pickle.dumps(network)
    for module in network.modules():
        hooks = module._forward_hooks, module._forward_pre_hooks, module._backward_hooks
        assert not any(hooks)
        assert type(module).__module__.startswith(("torch.nn.", "dlrm_lib.model."))
        assert "forward" not in vars(module)


def test_saved_weights_have_the_names_of_a_model_that_was_never_trained(running):
    step = running()
    trained(step, range(5))
    assert {name: tensor.dtype for name, tensor in step.model.state_dict().items()} == {
        name: tensor.dtype for name, tensor in model().state_dict().items()
    }
    assert all(type(parameter) is nn.Parameter for parameter in step.model.parameters())


@pytest.mark.parametrize(
    ("kind", "settings"),
    [(Cpu, {"execution": "compile"}), (StandIn, {"execution": "graph"}), (StandIn, {"execution": "compile"})],
    ids=str,
)
def test_two_steps_over_one_model_are_as_one(kind, settings):
    """SGD remembers nothing, so that whoever takes a step of it takes the same."""
    backend, shared, alone = kind(), model(), model()
    first, second = (step_on(backend, shared, **settings) for _ in range(2))
    one = step_on(backend, alone, **settings)
    for seed in range(10):
        step = (first, second)[seed % 2]
        assert step(batch(seed), 0.1) == one(batch(seed), 0.1)
    assert same(state(shared), state(alone))
    assert (first.done, second.done) == (5, 5)


def test_two_steps_share_no_kernels_and_no_flag():
    backend, shared = StandIn(), model()
    settings = {"precision": "fp16", "loss_scale": "dynamic", "execution": "compile"}
    first, second = (step_on(backend, shared, deterministic=value, **settings) for value in (False, True))
    assert first._kernels is not second._kernels
    assert (first._kernels.deterministic, second._kernels.deterministic) == (False, True)
    spoilt = batch(0)._replace(numerical=torch.full((B, 3), 1e5))
    first(spoilt, 0.1)
    assert (first._overflow.item(), second._overflow.item()) == (1, 0)
    assert (first.skipped, second.skipped) == (1, 0)
    assert (first.loss_scale.value, second.loss_scale.value) == (2.0**15, 2.0**16)
    before = state(shared)
    second(batch(1), 0.1)
    assert (first._overflow.item(), second._overflow.item()) == (1, 0)
    assert second.skipped == 0
    assert not same(state(shared), before)
    # A backward pass through a step without a loss scale raises no flag at all.
    wide = step_on(backend, shared, execution="compile")
    wide(spoilt, 0.0)
    assert (first._overflow.item(), second._overflow.item(), wide._overflow.item()) == (1, 0, 0)


def test_two_steps_on_a_processor_have_scratch_memory_of_their_own():
    shared = model()
    first, second = (step_on(Cpu(), shared, execution="compile", optimizer="adagrad") for _ in range(2))
    assert first.optimizer.rows is not second.optimizer.rows
    trained(first, range(2))
    assert len(first.optimizer.rows._slots) == len(shared.tables.weight)
    assert len(second.optimizer.rows._slots) == 0
