"""The stand-in for Gaudi's plugin has the plugin's signatures and refuses what the plugin refuses."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import json
import logging
import operator
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from fake_plugin import FAKE_HABANA, fake_plugin
from torch import nn

RECORD = json.loads(Path(__file__).with_name("habana_signatures.json").read_text(encoding="utf-8"))


@pytest.fixture(params=[True, False], ids=["lazy", "eager"])
def mode(request):
    with fake_plugin(lazy=request.param):
        yield request.param


@pytest.fixture
def lazy():
    with fake_plugin(lazy=True):
        yield


@pytest.fixture
def eager():
    with fake_plugin(lazy=False):
        yield


def imported(module=""):
    return importlib.import_module(f"habana_frameworks.torch{module and '.'}{module}")


def offered(name):
    module, qualified = name.split(":")
    return operator.attrgetter(qualified)(imported(module))


def spelt(function):
    """A signature as the record spells it: without annotations."""
    signature = inspect.signature(function)
    parameters = [each.replace(annotation=each.empty) for each in signature.parameters.values()]
    return str(signature.replace(parameters=parameters, return_annotation=signature.empty))


def parameters(*shapes, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [nn.Parameter(torch.randn(shape, generator=generator)) for shape in shapes]


def set_gradients(parameters, seed):
    generator = torch.Generator().manual_seed(seed)
    for parameter in parameters:
        parameter.grad = torch.randn(parameter.shape, generator=generator)


@pytest.mark.parametrize("name", RECORD["used"])
def test_the_signature_is_the_plugins(lazy, name):
    assert spelt(offered(name)) == RECORD["used"][name]["signature"]


@pytest.mark.parametrize("name", RECORD["used"])
def test_eager_mode_offers_what_the_plugin_does(eager, name):
    if RECORD["used"][name].get("if") == "is_lazy()":
        with pytest.raises(AttributeError):
            offered(name)
    else:
        assert spelt(offered(name)) == RECORD["used"][name]["signature"]


def test_what_the_project_does_not_call_is_not_offered(lazy):
    gone = [name for name, found in RECORD["published"].items() if found is None]
    assert len(gone) == 4
    for name in RECORD["published"]:
        with pytest.raises((ModuleNotFoundError, AttributeError)):
            offered(name)


def test_the_mode_is_read_once(mode):
    is_lazy = imported("utils.internal").is_lazy
    os.environ["PT_HPU_LAZY_MODE"] = str(int(not mode))
    assert is_lazy() is mode
    imported("core").mark_step()
    assert len(imported().calls) == mode


def test_without_the_variable_the_mode_is_eager_as_since_1_21():
    with fake_plugin():
        assert not imported("utils.internal").is_lazy()
    assert (RECORD["version"], RECORD["PT_HPU_LAZY_MODE"]) == ("1.19.0", "1")  # what the public source has


def test_mark_step_has_an_effect_in_lazy_mode_only(mode, caplog):
    with caplog.at_level(logging.WARNING):
        core = imported("core")
    told = [entry for entry in caplog.records if "mark_step" in entry.getMessage()]
    assert len(told) == (0 if mode else 1)  # when it is imported
    assert core.mark_step() is None
    assert core.mark_step("hpu:0", sync=True) is None
    assert imported().calls == (["mark_step"] * 2 if mode else [])
    assert len(caplog.records) == len(told)


def test_fused_adagrad_refuses_eager_mode_at_its_first_step(eager):
    (weight,) = parameters((3, 2))
    before = weight.detach().clone()
    optimizer = imported("hpex.optimizers").FusedAdagrad([weight], lr=0.1)
    set_gradients([weight], seed=1)
    with pytest.raises(RuntimeError, match=r"FusedAdagrad is .* lazy mode"):
        optimizer.step()
    assert torch.equal(weight, before)


def test_sparse_gradients_are_refused(mode):
    table = nn.Embedding(5, 2, sparse=True)
    optimizer = imported("hpex.optimizers").FusedAdagrad(table.parameters(), lr=0.1)
    table(torch.tensor([1, 1])).sum().backward()
    with pytest.raises(RuntimeError, match="sparse"):
        optimizer.step()


@pytest.mark.parametrize(
    "settings",
    [{}, {"eps": 1e-3}, {"weight_decay": 0.1}, {"lr_decay": 0.5}, {"initial_accumulator_value": 0.3, "lr_decay": 0.1}],
    ids=str,
)
def test_fused_adagrad_is_torchs(lazy, settings):
    ours, theirs = parameters((4, 3), (5,), (2,)), parameters((4, 3), (5,), (2,))
    fused = imported("hpex.optimizers").FusedAdagrad(ours, lr=0.1, **settings)
    plain = torch.optim.Adagrad(theirs, lr=0.1, **settings)
    for step in range(4):
        for each in (ours, theirs):
            set_gradients(each[:2], seed=step)  # the third never has a gradient
        assert fused.step() is None
        plain.step()
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-7)
    assert torch.equal(ours[2], parameters((4, 3), (5,), (2,))[2])


def test_fused_adagrad_does_not_see_a_schedule(lazy):
    FusedAdagrad = imported("hpex.optimizers").FusedAdagrad
    results = []
    for change in (
        lambda group: None,
        lambda group: group.update(lr=100.0),
        lambda group: group["lr_t"].fill_(0.0),
    ):
        (weight,) = parameters((3,))
        optimizer = FusedAdagrad([{"params": [weight], "lr": 7.0}], lr=0.1)  # nor a group's own rate
        change(optimizer.param_groups[0])
        set_gradients([weight], seed=1)
        assert optimizer.step(lambda: torch.tensor(1.0)) is None  # and a closure's loss is dropped
        results.append(weight.detach())
    unchanged, scheduled, stopped = results
    assert torch.equal(scheduled, unchanged)
    torch.testing.assert_close((unchanged - parameters((3,))[0]).abs(), torch.full((3,), 0.1))
    assert torch.equal(stopped, parameters((3,))[0])


@pytest.mark.parametrize("settings", [{"lr": -1.0}, {"weight_decay": -0.1}, {"lr": float("nan")}], ids=str)
def test_the_optimizer_checks_its_settings(lazy, settings):
    with pytest.raises(ValueError, match=next(iter(settings))):
        imported("hpex.optimizers").FusedAdagrad(parameters((2,)), **{"lr": 0.1} | settings)


def test_the_published_step_in_order(lazy):
    """FusedAdagrad ends a step itself, before it updates: the published loop calls mark_step only once more."""
    layer = nn.Linear(3, 1)
    optimizer = imported("hpex.optimizers").FusedAdagrad(layer.parameters(), lr=0.1)
    core, calls = imported("core"), imported().calls
    assert calls == ["FusedAdagrad: mark_step"]
    calls.clear()
    for _ in range(2):
        optimizer.zero_grad()
        layer(torch.ones(2, 3)).sum().backward()
        optimizer.step()
        core.mark_step()
    assert calls == ["FusedAdagrad: mark_step", "FusedAdagrad.step", "mark_step"] * 2


def test_a_replayed_graph_overwrites_its_output(lazy):
    layer, plain = nn.Linear(3, 2), nn.Linear(3, 2)
    plain.load_state_dict(layer.state_dict())
    assert imported("hpu").wrap_in_hpu_graph(layer, max_graphs=1) is layer
    first, second, larger = torch.ones(4, 3), torch.zeros(4, 3), torch.ones(5, 3)
    kept = layer(first)
    assert torch.equal(kept, plain(first))
    assert layer(second) is kept
    assert torch.equal(kept, plain(second))
    assert torch.equal(layer(larger), plain(larger))
    assert imported().calls == ["graph: record", "graph: replay"]  # a second shape is one graph too many
    layer.clear_cache()
    assert layer(larger) is not kept
    assert imported().calls[2:] == ["graph: record"]


def test_torch_hpu_is_there_while_the_stand_in_is(mode):
    hpu = imported("hpu")
    assert torch.hpu is hpu
    assert hpu.is_available() is True
    assert hpu.get_device_name("hpu") == hpu.get_device_name(torch.device("hpu", 0)) == "GAUDI2"
    hpu.manual_seed_all(7)
    hpu.synchronize()
    assert imported().calls == ["manual_seed_all 7", "synchronize"]
    with pytest.raises(ValueError, match="cuda"):
        hpu.get_device_name("cuda")
    with pytest.raises(AssertionError, match="1"):
        hpu.get_device_name(1)


def test_nothing_is_left_behind():
    before = dict(os.environ), list(sys.path), set(sys.modules)

    def fail():
        with fake_plugin(lazy=True):
            assert imported("hpu") is torch.get_device_module("hpu")
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert (dict(os.environ), list(sys.path)) == before[:2]
    assert not any("habana" in name for name in set(sys.modules) - before[2])
    assert not hasattr(torch, "hpu")
    with fake_plugin(lazy=False):  # and a second import reads the mode afresh
        assert not imported("utils.internal").is_lazy()
        assert imported("hpu") is torch.get_device_module("hpu")


def test_only_who_asks_can_import_it(checkout):
    found = importlib.util.find_spec("habana_frameworks")
    assert found is None or str(FAKE_HABANA) not in str(found.submodule_search_locations)

    def run(**environment):
        code = "import habana_frameworks.torch as plugin; print(plugin.__file__)"
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | environment
        return subprocess.run(
            [sys.executable, "-c", code], cwd=checkout / "ci", env=environment, capture_output=True, text=True
        )

    assert str(FAKE_HABANA) not in run(PYTHONPATH=str(checkout / "ci/tests")).stdout
    assert run(PYTHONPATH=str(FAKE_HABANA)).stdout.startswith(str(FAKE_HABANA))
