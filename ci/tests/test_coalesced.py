"""The step of static shapes against plain torch modules, and what it promises a device: no new shape, no waiting."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from test_model import CONFIG, SPEC, random_batch
from torch import nn
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from dlrm_lib.backends.backend import Backend
from dlrm_lib.backends.cpu.backend import Cpu
from dlrm_lib.backends.gaudi import environment
from dlrm_lib.backends.gaudi.backend import Hpu
from dlrm_lib.backends.gaudi.coalesce import coalesce, distinct_rows
from dlrm_lib.backends.gaudi.step import CoalescedStep, sums
from dlrm_lib.backends.step import TrainingStep
from dlrm_lib.config import Config, ModelConfig, TrainingConfig
from dlrm_lib.dataset import Batch, RandomDataset
from dlrm_lib.errors import InputError, TrainingDiverged
from dlrm_lib.features import FeatureSpec
from dlrm_lib.model import DLRM
from dlrm_lib.training import build, evaluate, fit

BAGS = FeatureSpec(numerical=3, cardinalities=(40, 5))
MODEL = ModelConfig(
    embedding_dim=4,
    bottom_mlp_sizes=(8, 4),
    top_mlp_sizes=(8, 1),
    interaction_op="cat",
    num_indices_per_lookup=6,
)


SETTINGS = {"optimizer": "adagrad", "warmup_steps": 0, "execution": "eager", "precision": "fp32"}


class Static(Hpu):
    """What ``Hpu`` decides in eager mode, on a processor and without a plugin."""

    torch_device, description = torch.device("cpu"), "a processor that is served as a Gaudi is"
    _pins = False

    def __init__(self):
        self.calls = []

    def mark_step(self):
        self.calls.append("mark_step")

    def synchronize(self):
        self.calls.append("synchronize")

    seed = Backend.seed


@pytest.fixture(autouse=True)
def _not_lazy(monkeypatch):
    monkeypatch.setenv(environment.LAZY_MODE, "0")


def make(backend=None, spec=BAGS, config=MODEL, seed=1, **settings):
    torch.manual_seed(seed)
    model, backend = DLRM(spec, config), backend or Static()
    resolved = backend.resolved(TrainingConfig(**{**SETTINGS, **settings}), model, rows=1600)
    return model, backend.training_step(model, resolved)


def training(dataset, backend=None, **settings):
    """The same model with all that ``fit`` takes, for batches of 16."""
    settings = {**SETTINGS, "batch_size": 16, "lr": 0.05, "seed": 1, **settings}
    config = replace(Config.from_preset("smoke"), model=MODEL, training=TrainingConfig(**settings))
    return build(config, dataset, backend=backend or Static())


def bags(seed, rows=16, spec=BAGS, longest=6, shortest=0):
    """Bags of any size, ids repeated within a bag or not."""
    generator = np.random.default_rng(seed)
    ids = np.stack([generator.integers(c, size=(rows, longest)) for c in spec.cardinalities], 1)
    sizes = generator.integers(shortest, longest + 1, size=(rows, len(spec.cardinalities), 1))
    ids = np.where(np.arange(longest) < sizes, ids, np.array(spec.cardinalities)[:, None]).astype(np.int32)
    numerical = generator.random((rows, spec.numerical), np.float32)
    label = generator.integers(2, size=rows).astype(np.float32)
    return Batch(*map(torch.from_numpy, (numerical, ids, label)))


def coalesced_one_by_one(row_ids):
    """An oracle: a dictionary and loops."""
    flat = row_ids.flatten().tolist()
    place = {row: at for at, row in enumerate(sorted(set(flat)))}
    more = len(flat) - len(place)
    rows, source = [*place, *[max(flat, default=None)] * more], [*range(len(place)), *[len(place) - 1] * more]
    return rows, source, [place[row] for row in flat]


@pytest.mark.parametrize(
    "row_ids",
    [
        np.random.default_rng(0).integers(50, size=(7, 3, 5)),
        np.random.default_rng(1).integers(2**31 - 1, size=(64, 1, 38)),
        np.full((4, 2, 3), 9),  # all the same: empty bags
        np.array([[[5]]]),
        np.zeros((3, 4), np.int64),
        np.arange(24)[::-1].reshape(2, 3, 4),  # all different
        np.array([[3, 3, 9], [9, 3, 1]]),
        np.empty((0, 2, 3), np.int64),
    ],
)
def test_rows_and_places_equal_those_of_a_loop(row_ids):
    rows, source, places = distinct_rows(row_ids)
    assert (rows.tolist(), source.tolist(), places.flatten().tolist()) == coalesced_one_by_one(row_ids)
    assert {part.dtype for part in (rows, source, places)} == {np.dtype(np.int32)}
    assert places.shape == row_ids.shape
    assert np.array_equal(rows[places], row_ids)


def test_shapes_of_a_coalesced_batch_depend_on_the_sizes_alone():
    shapes = set()
    for seed in range(20):
        batch = bags(seed)
        there = coalesce(batch, torch.from_numpy(batch.categorical.numpy().astype(np.int64)))
        shapes.add(tuple((part.shape, part.dtype) for part in there))
        assert (there.numerical is batch.numerical, there.label is batch.label) == (True, True)
    rows = ((192,), torch.int32)
    expected = (((16, 3), torch.float32), rows, rows, ((16, 2, 6), torch.int32), ((16,), torch.float32))
    assert shapes == {expected}


class Bags(nn.Module):
    """The same network with torch's own bags."""

    def __init__(self, model, spec):
        super().__init__()
        self.bags = nn.ModuleList(
            nn.EmbeddingBag(rows + 1, model.tables.weight.shape[1], mode="sum", padding_idx=rows)
            for rows in spec.cardinalities
        )
        self.bottom, self.top = copy.deepcopy(model.bottom), copy.deepcopy(model.top)
        offsets = [*model.tables.offsets.tolist(), len(model.tables.weight) - 1]
        for bag, start, end in zip(self.bags, offsets, offsets[1:], strict=False):
            with torch.no_grad():
                bag.weight[:-1] = model.tables.weight[start:end]

    def forward(self, batch):
        vectors = [bag(batch.categorical[:, column]) for column, bag in enumerate(self.bags)]
        return self.top(torch.cat([self.bottom(batch.numerical), *vectors], 1)).squeeze(1)

    def weight(self):
        return torch.cat([bag.weight[:-1] for bag in self.bags])


@pytest.mark.parametrize("epsilon", [None, 1e-3])
@pytest.mark.parametrize(("name", "lr"), [("adagrad", 0.05), ("sgd", 0.3)])
def test_steps_equal_torchs_bags_and_optimizer(name, lr, epsilon):
    model, step = make(optimizer=name, lr=lr, embedding_epsilon=epsilon)
    plain = Bags(model, BAGS)
    if name == "sgd":
        optimizers = [torch.optim.SGD(plain.parameters(), lr=lr)]
    else:
        layers = [p for part in (plain.bottom, plain.top) for p in part.parameters()]
        optimizers = [
            torch.optim.Adagrad(plain.bags.parameters(), lr=lr, eps=epsilon or 1e-10),
            torch.optim.Adagrad(layers, lr=lr),
        ]
    for seed in range(6):
        batch = bags(seed)
        loss = step(step.prepare(batch), lr)
        expected = functional.binary_cross_entropy_with_logits(plain(batch), batch.label)
        plain.zero_grad()
        expected.backward()
        for optimizer in optimizers:
            optimizer.step()
        assert loss.item() == pytest.approx(expected.item(), abs=1e-6)
    assert torch.allclose(model.tables.weight[:-1], plain.weight(), rtol=0, atol=1e-6)
    assert not model.tables.weight[-1].any()
    for ours, theirs in zip(model.top.parameters(), plain.top.parameters(), strict=True):
        assert torch.allclose(ours, theirs, rtol=0, atol=1e-6)


def test_rowwise_adagrad_equals_its_definition_row_by_row():
    model, step = make(optimizer="rowwise_adagrad", lr=0.1)
    weight, squares = model.tables.weight.double(), [0.0] * len(model.tables.weight)
    for seed in range(5):
        batch = bags(seed)
        row_ids = model.tables.row_ids(batch.categorical)
        vectors = model.tables.gather(row_ids).requires_grad_()
        functional.binary_cross_entropy_with_logits(model.dense(batch.numerical, vectors), batch.label).backward()
        totals = {}
        for sample in range(16):
            for column in range(2):
                for row in row_ids[sample, column].tolist():
                    totals[row] = totals.get(row, 0) + vectors.grad[sample, column].double()
        for row, total in totals.items():
            if row != len(weight) - 1:
                squares[row] += total.square().mean().item()
                weight[row] -= 0.1 * total / (squares[row] ** 0.5 + 1e-10)
        step(step.prepare(batch), 0.1)
        assert torch.allclose(model.tables.weight.double(), weight, rtol=0, atol=1e-6)
    assert step.optimizer.state["squares"].flatten().tolist() == pytest.approx(squares, rel=1e-4)


@pytest.mark.parametrize("name", ["sgd", "adagrad", "rowwise_adagrad"])
@pytest.mark.parametrize("hashed", [False, True])
def test_one_id_per_feature_equals_the_usual_step(name, hashed):
    config = ModelConfig(
        embedding_dim=CONFIG.embedding_dim,
        bottom_mlp_sizes=CONFIG.bottom_mlp_sizes,
        top_mlp_sizes=CONFIG.top_mlp_sizes,
        **({"hash_indices": True, "max_table_size": 5} if hashed else {}),
    )
    model, step = make(spec=SPEC, config=config, optimizer=name, lr=0.1)
    usual, usual_step = make(Cpu(), spec=SPEC, config=config, optimizer=name, lr=0.1)
    assert (type(step), type(usual_step)) == (CoalescedStep, TrainingStep)
    for seed in range(5):
        batch = random_batch(SPEC, seed=seed)
        assert step(step.prepare(batch), 0.1).item() == pytest.approx(usual_step(batch, 0.1).item(), abs=1e-6)
    for ours, theirs in zip(model.state_dict().values(), usual.state_dict().values(), strict=True):
        assert torch.allclose(ours, theirs, rtol=0, atol=2e-6)
    assert {k: v.shape for k, v in step.state_dict().items()} == {
        k: v.shape for k, v in usual_step.state_dict().items()
    }


def test_bags_are_looked_up_without_torchs_bags_where_a_device_has_none(monkeypatch):
    model, _ = make()
    batch = bags(0)
    with_bags = DLRM(BAGS, MODEL)
    with_bags.load_state_dict(model.state_dict())
    expected = with_bags(batch.numerical, batch.categorical)
    monkeypatch.setattr(functional, "embedding_bag", None)
    assert torch.allclose(Static().inference(model)(batch), expected, atol=1e-6)


class Log(TorchDispatchMode):
    """Every operator with shape, type and device of the tensors that it takes."""

    def __init__(self):
        super().__init__()
        self.calls = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        tensors = [a for a in torch.utils._pytree.tree_leaves((args, kwargs)) if isinstance(a, torch.Tensor)]
        self.calls.append((str(function), *((tuple(a.shape), a.dtype, a.device.type) for a in tensors)))
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", ["sgd", "adagrad", "rowwise_adagrad"])
def test_operators_and_shapes_are_the_same_at_every_step(name):
    logs = {}
    for device in (Static(), Cpu()):
        _, step = make(device, optimizer=name)
        logs[type(device)] = []
        for seed in range(6):
            batch = step.prepare(bags(seed, shortest=seed % 3))
            with Log() as log:
                step(batch, 0.1)
            logs[type(device)].append(log.calls)
    assert all(calls == logs[Static][1] for calls in logs[Static][2:])
    assert len(logs[Static][1]) > 50
    # The usual step has another shape for every number of distinct rows: the comparison sees it.
    if name != "sgd":
        assert any(calls != logs[Cpu][1] for calls in logs[Cpu][2:])


class Reads(TorchDispatchMode):
    """Notes when a value, or a size that depends on values, comes from tensors to the host."""

    READERS = ("_local_scalar_dense", "nonzero", "_unique2", "unique_dim", "masked_select", "equal")

    def __init__(self, step):
        super().__init__()
        self.step, self.at = step, []
        # torch's Adagrad counts its steps in tensors of the host, wherever its parameters are.
        self.of_the_host = {id(state["step"]) for state in step.optimizer.dense.state.values()}

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function.overloadpacket.__name__ in self.READERS and id(args[0]) not in self.of_the_host:
            self.at.append(self.step.done)
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("static", [True, False])
def test_no_value_is_read_between_two_events(static):
    device = Static() if static else Cpu()
    dataset = RandomDataset(BAGS, train_rows=16 * 12, test_rows=0, indices_per_lookup=6)
    run = training(dataset, device, print_freq=4)
    with Reads(run.step) as reads:
        assert [event.step for event in fit(run)] == [4, 8, 12]
    if static:
        assert set(reads.at) == {4, 8, 12}
        assert device.calls == (["mark_step"] * 8 + ["synchronize"]) * 3
    else:
        assert set(reads.at) == set(range(13))  # the usual step finds distinct rows on the device: that is seen


# torch's compiler looks whether each input has a gradient, also of those that are no leaves.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf Tensor:UserWarning")
def test_each_mlp_is_compiled_once(monkeypatch):
    """For one size, by the plugin's compiler; here it is one that every machine has."""
    import torch._dynamo.testing
    from torch._dynamo.backends import registry

    graphs = torch._dynamo.testing.CompileCounterWithBackend("aot_eager")
    monkeypatch.setitem(registry._BACKENDS, "hpu_backend", None)
    monkeypatch.setitem(registry._COMPILER_FNS, "hpu_backend", graphs)
    torch._dynamo.reset()
    _, step = make(execution="compile")
    losses = [step(step.prepare(bags(0)), 0.05).item()]
    with torch._dynamo.config.patch(error_on_recompile=True):
        losses += [step(step.prepare(bags(seed)), 0.05).item() for seed in range(1, 5)]
    assert graphs.frame_count == 2
    _, eager = make()
    assert losses == pytest.approx([eager(eager.prepare(bags(seed)), 0.05).item() for seed in range(5)], abs=1e-6)


def test_forward_and_backward_compile_as_one_graph_of_one_shape():
    import torch._dynamo.testing

    torch._dynamo.reset()
    model, step = make()

    def loss_of(numerical, leaf, places, label):
        return functional.binary_cross_entropy_with_logits(model.dense(numerical, sums(leaf, places)), label)

    graphs = torch._dynamo.testing.CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(loss_of, backend=graphs, dynamic=False, fullgraph=True)
    with torch._dynamo.config.patch(error_on_recompile=True):
        for seed in range(4):
            batch = step.prepare(bags(seed))
            gradients = []
            for function in (compiled, loss_of):
                leaf = model.tables.weight.index_select(0, batch.rows).requires_grad_()
                function(batch.numerical, leaf, batch.places, batch.label).backward()
                gradients.append(leaf.grad)
            assert torch.allclose(*gradients, atol=1e-7)
    assert graphs.frame_count == 1


def test_accuracy_counts_every_row_of_the_steps_since_the_last_event():
    dataset = RandomDataset(BAGS, train_rows=16 * 7, test_rows=0, indices_per_lookup=6)
    run, (twin, twin_step) = training(dataset, lr=0.5, print_freq=3), make(lr=0.5)
    correct = []
    for batch in dataset.train.batches(16):
        logits = twin(batch.numerical, batch.categorical)
        correct.append(((logits > 0) == (batch.label == 1)).sum().item())
        twin_step(twin_step.prepare(batch), 0.5)
    found = [event.accuracy for event in fit(run)]
    assert found == pytest.approx([sum(correct[0:3]) / 48, sum(correct[3:6]) / 48, correct[6] / 16])
    assert {event.accuracy for event in fit(training(dataset, Cpu(), print_freq=3))} == {None}


@pytest.mark.parametrize("shuffle", [False, True])
def test_a_batch_that_is_not_full_is_left_out(shuffle):
    dataset = RandomDataset(BAGS, train_rows=16 * 3 + 5, test_rows=0, indices_per_lookup=6)
    run = training(dataset, epochs=2, lr=0.01, print_freq=1, shuffle_batch_order=shuffle)
    sizes, prepare = [], run.step.prepare
    run.step.prepare = lambda batch: sizes.append(len(batch.label)) or prepare(batch)
    events = list(fit(run))
    assert sizes == [16] * 6
    assert [(event.epoch, event.step, event.steps) for event in events] == [(n // 3, n + 1, 6) for n in range(6)]
    assert (len(run.train), run.steps_per_epoch, run.steps) == (48, 3, 6)
    with pytest.raises(InputError, match=r"does not fill one batch[\s\S]*found: 5 rows, batch_size 16"):
        training(RandomDataset(BAGS, train_rows=5, indices_per_lookup=6))


@pytest.mark.parametrize("backend", [Static, Cpu])
def test_preloaded_batches_come_again_and_again(backend):
    dataset = RandomDataset(BAGS, train_rows=16 * 10, test_rows=0, indices_per_lookup=6)
    run = training(dataset, backend(), lr=0.1, print_freq=1, preload_batches=3)
    read, gather = [], dataset.train.gather
    dataset.train.gather = lambda rows, **settings: read.append((rows.start, rows.stop)) or gather(rows, **settings)
    losses = [event.loss for event in fit(run)]
    assert read == [(0, 16), (16, 32), (32, 48)]
    _, twin = make(backend())
    held = [twin.prepare(gather(slice(16 * n, 16 * n + 16))) for n in range(3)]
    assert losses == pytest.approx([twin(held[n % 3], 0.1).item() for n in range(10)])


def test_evaluation_ends_every_batch_with_a_mark():
    backend = Static()
    model, _ = make(backend)
    split = RandomDataset(BAGS, test_rows=50, indices_per_lookup=6).test
    found = evaluate(backend.inference(model), split, batch_size=16)
    assert backend.calls == ["mark_step"] * 4
    expected = evaluate(Cpu().inference(model), split, batch_size=50)
    assert (found.auc, found.log_loss) == (pytest.approx(expected.auc), pytest.approx(expected.log_loss))


def test_a_step_marks_after_backward_and_after_the_update():
    device = Static()
    _, step = make(device)
    batch = step.prepare(bags(0))
    parts = {"backward": (torch.Tensor, "backward"), "adagrad": (step.optimizer.dense, "step")}
    with pytest.MonkeyPatch.context() as patch:
        for name, (owner, method) in {**parts, "rows": (step.optimizer, "update_distinct_rows")}.items():
            original = getattr(owner, method)

            def call(*args, _name=name, _original=original, **kwargs):
                device.calls.append(_name)
                return _original(*args, **kwargs)

            patch.setattr(owner, method, call)
        step(batch, 0.1)
    assert device.calls == ["backward", "mark_step", "adagrad", "rows", "mark_step"]


def test_a_diverging_run_is_diagnosed():
    dataset = RandomDataset(BAGS, train_rows=16 * 8, test_rows=0, indices_per_lookup=6)
    run = training(dataset, lr=1e30, optimizer="sgd", print_freq=4)
    with pytest.raises(TrainingDiverged, match="remedy: Lower --lr"):
        list(fit(run))


def test_adam_is_refused():
    with pytest.raises(
        InputError, match=r"--optimizer adam is not there[\s\S]*sgd, adagrad, rowwise_adagrad"
    ) as caught:
        make(optimizer="adam")
    assert len(str(caught.value).splitlines()) == 3


@pytest.mark.parametrize("name", ["sgd", "adagrad", "rowwise_adagrad"])
@pytest.mark.parametrize("device", [Static, Cpu])
def test_a_decay_of_embeddings_is_adams_alone(name, device):
    """Presets made for Adam set one: with another optimizer it means nothing, on any device."""
    weights = []
    for decay in (0.0, 0.5):
        model, step = make(device(), optimizer=name, embedding_decay=decay)
        for seed in range(4):
            step(step.prepare(bags(seed)), 0.1)
        weights.append(model.tables.weight)
    assert torch.equal(*weights)


@pytest.mark.parametrize(
    ("changes", "refused"),
    [
        ({"warmup_steps": 0}, False),
        ({"warmup_steps": 1}, False),  # the first step already has the full rate
        ({"warmup_steps": 2}, True),
        ({"decay_steps": 10}, True),
        ({"decay_steps": None}, True),
        ({"decay_steps": 10, "optimizer": "rowwise_adagrad"}, True),
        ({"decay_steps": 10, "warmup_steps": 5, "optimizer": "sgd"}, False),
    ],
)
def test_a_schedule_that_would_do_nothing_is_refused(monkeypatch, changes, refused):
    """In lazy mode Habana's Adagrad never looks at its learning rate again."""
    make(**changes)
    monkeypatch.setenv(environment.LAZY_MODE, "1")
    model, backend = DLRM(BAGS, MODEL), Static()
    config = TrainingConfig(**{**SETTINGS, "execution": "lazy", **changes})
    if not refused:
        assert backend.resolved(config, model, rows=1600).execution == "lazy"
        return
    with pytest.raises(
        InputError,
        match=r"--warmup_steps and --decay_steps would do nothing[\s\S]*found: warmup_steps \d+, decay_steps \d+",
    ):
        backend.resolved(config, model, rows=1600)


def test_half_precision_goes_the_way_of_fp32():
    losses = {}
    for precision in ("fp32", "bf16"):
        _, step = make(precision=precision, lr=0.05)
        losses[precision] = [step(step.prepare(bags(seed, rows=64)), 0.05).item() for seed in range(30)]
    assert losses["bf16"] == pytest.approx(losses["fp32"], abs=0.03)
    assert losses["bf16"] != losses["fp32"]


def test_the_published_configuration():
    config = Config.from_preset("gaudi_medium")
    assert config.data.synthetic_dataset_table_sizes == (3_000_000,)
    assert (config.model.embedding_dim, config.model.num_indices_per_lookup) == (64, 38)
    assert (config.model.bottom_mlp_sizes, config.model.top_mlp_sizes) == ((1024, 1024, 64), (*[4096] * 7, 1))
    assert config.data.num_numerical_features == 1024
    assert config.model.interaction_op == "cat"
    assert config.data.synthetic_dataset_rows == 1_024_000 == 2000 * config.training.batch_size
    assert (config.training.optimizer, config.training.lr, config.training.warmup_steps) == ("adagrad", 1e-5, 0)
    assert not config.data.num_indices_per_lookup_fixed


def planted(seed, rows, ids=2000, longest=38, numbers=64):
    """Rows of a small Medium configuration whose clicks depend on the ids in their bag and on the numbers."""
    spec = FeatureSpec(numerical=numbers, cardinalities=(ids,))
    batch = RandomDataset(spec, train_rows=rows, indices_per_lookup=longest, seed=seed).train.read(0, rows)
    generator = np.random.default_rng([seed, 1])
    of_id, of_number = np.append(generator.normal(0, 0.5, ids), 0), generator.normal(0, 0.5, numbers)
    logit = of_id[batch.categorical[:, 0].numpy()].sum(1) + (batch.numerical.numpy() - 0.5) @ of_number
    label = generator.random(rows) < 1 / (1 + np.exp(-logit))
    return spec, Batch(batch.numerical, batch.categorical, torch.from_numpy(label.astype(np.float32)))


@pytest.mark.slow
def test_bf16_learns_what_fp32_learns():
    """On the processor, whose autocast has other lists of operators than a Gaudi's: it stands in for that."""
    from dlrm_lib.metrics import auc

    train_rows, test_rows, size = 40_000, 20_000, 512
    config = ModelConfig(
        embedding_dim=16,
        bottom_mlp_sizes=(64, 64, 16),
        top_mlp_sizes=(128, 128, 128, 1),
        interaction_op="cat",
        num_indices_per_lookup=38,
    )
    aucs = {"fp32": [], "bf16": []}
    for seed in range(5):
        spec, rows = planted(seed, train_rows + test_rows)
        for precision, found in aucs.items():
            model, step = make(spec=spec, config=config, seed=seed, lr=0.005, precision=precision)
            for _ in range(2):
                for first in range(0, train_rows - size + 1, size):
                    batch = Batch(*(part[first : first + size] for part in rows))
                    step(step.prepare(batch), 0.005)
            logit = step.backend.inference(model, precision)(Batch(*(part[train_rows:] for part in rows)))
            found.append(auc(rows.label[train_rows:].numpy().astype(bool), logit.numpy()))
    assert min(aucs["fp32"]) > 0.8
    assert abs(np.mean(aucs["bf16"]) - np.mean(aucs["fp32"])) < 0.002
