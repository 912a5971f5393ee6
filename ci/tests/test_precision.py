"""Each precision is active exactly where it should be: in the products of its own steps and evaluations alone.

Torch keeps what TF32 needs in a switch of the process, which can be set and read without a GPU. A stand-in for one
takes steps by the GPU's own code, and every matrix product is asked what it is made of.
"""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
import torch
from stand_in_gpu import StandIn
from test_fused_step import SPEC, B, batch, model, step_on
from torch.utils._python_dispatch import TorchDispatchMode

from dlrm_lib.backends.backend import Backend
from dlrm_lib.backends.cpu.backend import Cpu, bf16_units
from dlrm_lib.backends.gaudi.backend import Hpu
from dlrm_lib.benchmark import benchmark_training
from dlrm_lib.config import Config, TrainingConfig
from dlrm_lib.dataset import RandomDataset
from dlrm_lib.training import Evaluation, build, evaluate, fit, predict

# What the products of each precision are made of: the type of their factors, and how float32 ones are read.
MADE_OF = {
    "fp32": (torch.float32, "highest"),
    "tf32": (torch.float32, "high"),
    "bf16": (torch.bfloat16, "highest"),
    "fp16": (torch.float16, "highest"),
}
FORWARD, BACKWARD = "forward", "backward"


class Products(TorchDispatchMode):
    """Notes of each matrix product in which pass it is made, and of what."""

    NAMES = ("mm", "addmm", "bmm", "linear")  # a linear layer stays whole where there is no gradient

    def __init__(self):
        super().__init__()
        self.seen = set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function.overloadpacket.__name__ in self.NAMES:
            way = FORWARD if torch._C._current_autograd_node() is None else BACKWARD
            self.seen.add((way, args[1].dtype, torch.get_float32_matmul_precision()))
        return function(*args, **(kwargs or {}))


def products_of(function, *args):
    with Products() as products:
        function(*args)
    return products.seen


def of_step(precision):
    return {(way, *MADE_OF[precision]) for way in (FORWARD, BACKWARD)}


def of_evaluation(precision):
    return {(FORWARD, *MADE_OF[precision])}


@pytest.fixture(autouse=True)
def the_process():
    """Its own setting is that of no precision of ours."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    yield is_as_it_was
    torch.set_float32_matmul_precision(before)


def is_as_it_was():
    autocast = torch.is_autocast_enabled("cpu") or torch.is_inference_mode_enabled()
    return torch.get_float32_matmul_precision() == "medium" and not autocast and torch.is_grad_enabled()


@pytest.mark.parametrize(
    ("network", "settings"),
    [
        ({}, {"execution": "graph"}),
        ({}, {"execution": "compile"}),
        ({}, {"execution": "eager"}),
        ({}, {"optimizer": "adam"}),
        ({"interaction_op": "cat"}, {"optimizer": "adagrad"}),
        ({"interaction_op": "dcn"}, {}),
    ],
    ids=str,
)
def test_steps_and_evaluations_in_turn_have_each_its_own(network, settings):
    backend, of = StandIn(), model(**network)
    steps = {name: step_on(backend, of, precision=name, **settings) for name in MADE_OF}
    asked = {name: backend.inference(of, name, settings.get("execution", "auto")) for name in MADE_OF}
    assert is_as_it_was()
    for seed in range(5):  # a recording is made at the fourth call, and replayed from then on
        for (name, step), other in zip(steps.items(), reversed(asked), strict=True):
            assert products_of(step, batch(seed), 0.1) == of_step(name)
            assert is_as_it_was()
            assert products_of(asked[other], batch(seed)) == of_evaluation(other)
            assert is_as_it_was()
        # A batch of another size is not recorded.
        for name in ("tf32", "fp32"):
            assert products_of(steps[name], batch(seed, rows=5), 0.1) == of_step(name)
    assert {step.done for name, step in steps.items() if name.endswith("16")} == {5}


def test_a_precision_is_resolved_without_a_trace():
    backend = StandIn()
    for name in (*MADE_OF, "auto"):
        backend.resolved_precision(name)
        backend.resolved(TrainingConfig(precision=name), model(), rows=100)
        assert is_as_it_was()


def raising(*_):
    raise RuntimeError("on purpose")


@pytest.mark.parametrize("precision", MADE_OF)
@pytest.mark.parametrize("execution", ["eager", "compile", "graph"])
@pytest.mark.parametrize("where", ["lookup", "forward", "backward", "update", "evaluation"])
def test_the_process_has_its_own_setting_back_when_something_raises(precision, execution, where):
    backend, of = StandIn(), model()
    step, other = (step_on(backend, of, precision=name, execution=execution) for name in (precision, "tf32"))
    inference, rows = backend.inference(of, precision, execution), batch(0)
    step(rows, 0.1)
    call = (lambda rows: inference(rows)) if where == "evaluation" else (lambda rows: step(rows, 0.1))
    with pytest.MonkeyPatch.context() as patch:
        if where in ("forward", "evaluation"):
            patch.setattr(of.top[0], "forward", raising)
        elif where == "update":
            patch.setattr(step.optimizer.dense, "step", raising)
        elif where == "backward":
            handle = of.top[0].weight.register_hook(raising)
        else:
            rows = rows._replace(categorical=rows.categorical + 1000)
        with pytest.raises(IndexError if where == "lookup" else RuntimeError):
            call(rows)
    if where == "backward":
        handle.remove()
    assert is_as_it_was()
    assert step.done == 1  # a step that raised is not done
    assert products_of(other, batch(1), 0.1) == of_step("tf32")
    assert products_of(call, batch(1)) == (of_evaluation if where == "evaluation" else of_step)(precision)
    assert is_as_it_was()


def trained(precision):
    config = Config.from_preset("smoke", {"precision": precision, "optimizer": "sgd", "lr": 0.1, "batch_size": B})
    settings = replace(config.training, max_steps=8, test_freq=2, print_freq=1)
    dataset = RandomDataset(SPEC, train_rows=B * 8, validation_rows=40, test_rows=40)
    return build(replace(config, training=settings), dataset, backend=StandIn())


def test_trainings_and_their_evaluations_in_turn_have_each_its_own():
    trainings = {name: trained(name) for name in ("tf32", "fp32", "bf16")}
    events = {name: fit(training) for name, training in trainings.items()}
    for _ in range(8 + 4):
        for name, of in events.items():
            with Products() as products:
                event = next(of)
            of_event = of_evaluation if isinstance(event, Evaluation) else of_step
            assert products.seen == of_event(name)
            assert is_as_it_was()
    assert [next(of, None) for of in events.values()] == [None] * 3
    for name, training in trainings.items():
        for of in (evaluate, predict):
            with Products() as products:
                of(training.inference, training.dataset.test, batch_size=7)
            assert products.seen == of_evaluation(name)
            assert is_as_it_was()


def test_an_evaluation_that_is_left_leaves_no_trace():
    training = trained("tf32")
    assert evaluate(training.inference, training.dataset.test, batch_size=7, abandon=lambda: True) is None
    assert is_as_it_was()
    events = fit(training)
    next(events)
    assert is_as_it_was()
    events.close()
    assert is_as_it_was()


def test_a_measurement_makes_all_steps_first_and_times_each_in_its_own():
    dataset, of = RandomDataset(SPEC, train_rows=B * 20), model()
    config = TrainingConfig(optimizer="sgd")
    settings = {"batch_sizes": (B,), "repeats": 2, "seconds": 1e-4, "tries": 1}
    for precisions in itertools.permutations(("tf32", "fp32", "bf16")):
        with Products() as products:
            speeds = benchmark_training(of, dataset.train, config, StandIn(), precisions=precisions, **settings)
        assert [speed.precision for speed in speeds] == list(precisions)
        assert products.seen == set().union(*map(of_step, precisions))
        assert is_as_it_was()


@pytest.mark.parametrize("execution", ["eager", "compile"])
def test_a_processor_has_no_switch_and_autocast_ends_with_the_forward_pass(execution):
    backend, of = Cpu(), model()
    names = ["fp32", "fp16", *(["bf16"] if bf16_units() else [])]
    steps = {name: step_on(backend, of, precision=name, execution=execution) for name in names}
    asked = {name: backend.inference(of, name, execution) for name in names}
    for seed, name in itertools.product(range(2), names):
        dtype = MADE_OF[name][0]
        assert products_of(steps[name], batch(seed), 0.1) >= {(way, dtype, "medium") for way in (FORWARD, BACKWARD)}
        assert {found for _, found, _ in products_of(steps[name], batch(seed), 0.1)} <= {dtype}
        assert products_of(asked[name], batch(seed)) == {(FORWARD, dtype, "medium")}
        assert is_as_it_was()


def test_a_gaudi_has_no_switch_of_the_process():
    assert Hpu.computing_in is Backend.computing_in
