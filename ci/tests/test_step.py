"""Training steps against dense float64 autograd, torch's optimizers, and each other."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from plain_dlrm import PlainDlrm
from test_model import CONFIG, SHAPES, SPEC, random_batch
from torch.nn import functional

from dlrm_lib.backends import pick
from dlrm_lib.backends.cpu.kernels import CpuKernels
from dlrm_lib.config import ModelConfig, TrainingConfig
from dlrm_lib.model import DLRM
from dlrm_lib.optim import OPTIMIZERS, LossScale

ORACLES = {"sgd": (torch.optim.SGD, 0.5), "adagrad": (torch.optim.Adagrad, 0.1)}


def make(spec=SPEC, config=CONFIG, **training):
    torch.manual_seed(1)
    model, backend = DLRM(spec, config), pick("cpu")
    return model, backend.training_step(model, backend.resolved(TrainingConfig(**training), model, rows=64))


@pytest.mark.parametrize("execution", ["eager", "compile"])
@pytest.mark.parametrize("name", ORACLES)
@pytest.mark.parametrize("shape", SHAPES)
def test_steps_equal_dense_float64_autograd_with_duplicates(shape, name, execution):
    spec, changes, bag = SHAPES[shape]
    config = ModelConfig(**{"embedding_dim": 6, "bottom_mlp_sizes": (8, 6), "top_mlp_sizes": (10, 1), **changes})
    model, step = make(spec, config, optimizer=name, execution=execution)
    plain = PlainDlrm(model, self_interaction=config.self_interaction, cat=config.interaction_op == "cat")
    oracle, lr = ORACLES[name]
    optimizer = oracle(plain.parameters(), lr=lr)
    for seed in range(5):
        batch = random_batch(spec, seed=seed, bag=bag)  # 64 rows over tables of 4, 9 and 30: all have duplicates
        loss = step(batch, lr)
        expected = functional.binary_cross_entropy_with_logits(plain(batch), batch.label.double())
        assert loss.item() == pytest.approx(expected.item(), abs=5e-6)
        optimizer.zero_grad()
        expected.backward()
        optimizer.step()
    if spec.cardinalities:
        weight = model.tables.weight[: len(plain.weight())]
        assert torch.allclose(weight.double(), plain.weight(), atol=5e-5)
        assert not model.tables.weight[len(weight) :].any()
    for ours, theirs in zip(model.top.parameters(), plain.top.parameters(), strict=True):
        assert torch.allclose(ours.double(), theirs, atol=5e-5)
    if model.numbers:
        assert torch.allclose(model.numbers.weight.double(), plain.numbers, atol=5e-5)
    assert step.done == 5


@pytest.mark.parametrize("epsilon", [None, 1e-3])
@pytest.mark.parametrize("execution", ["eager", "compile"])
def test_adam_equals_torch_on_both_parts(execution, epsilon):
    model, step = make(optimizer="adam", execution=execution, embedding_epsilon=epsilon)
    twin, _ = make(optimizer="adam", execution="eager")
    table = torch.nn.Embedding.from_pretrained(twin.tables.weight.clone(), freeze=False, sparse=True)
    optimizers = [
        torch.optim.Adam(twin.parameters(), lr=0.01),
        torch.optim.SparseAdam([table.weight], lr=0.01, eps=epsilon or 1e-8),
    ]
    for seed in range(6):
        batch = random_batch(rows=8, seed=seed)  # so few rows that many ids are left out
        step(batch, 0.01)
        logits = twin.dense(batch.numerical, table(twin.tables.row_ids(batch.categorical)))
        loss = functional.binary_cross_entropy_with_logits(logits, batch.label)
        for optimizer in optimizers:
            optimizer.zero_grad()
        loss.backward()
        for optimizer in optimizers:
            optimizer.step()
    assert torch.allclose(model.tables.weight, table.weight, atol=1e-5)
    for ours, theirs in zip(model.parameters(), twin.parameters(), strict=True):
        assert torch.allclose(ours, theirs, atol=1e-5)


@pytest.mark.parametrize("execution", ["eager", "compile"])
def test_rowwise_adagrad_equals_its_definition(execution):
    model, step = make(optimizer="rowwise_adagrad", execution=execution)
    weight = model.tables.weight.double()
    squares = [0.0] * len(weight)
    for seed in range(4):
        batch = random_batch(seed=seed)
        row_ids = model.tables.row_ids(batch.categorical)
        rows = model.tables.gather(row_ids).requires_grad_()
        functional.binary_cross_entropy_with_logits(model.dense(batch.numerical, rows), batch.label).backward()
        flat, gradients = row_ids.flatten(), rows.grad.flatten(0, 1).double()
        for row in set(flat.tolist()):
            total = gradients[flat == row].sum(0)
            squares[row] += total.square().mean().item()
            weight[row] -= 0.1 * total / (squares[row] ** 0.5 + 1e-10)
        step(batch, 0.1)
        assert torch.allclose(model.tables.weight.double(), weight, atol=2e-5)


def by_definition(name, memory, gradient, step):
    """The direction of one row's step, whose summed gradient is given; ``memory`` is that row's."""
    if name == "sgd":
        return gradient
    if name == "adam":
        memory["mean"] = 0.9 * memory.get("mean", 0.0) + 0.1 * gradient
        memory["square"] = 0.999 * memory.get("square", 0.0) + 0.001 * gradient**2
        return memory["mean"] / (np.sqrt(memory["square"]) + 1e-8) * np.sqrt(1 - 0.999**step) / (1 - 0.9**step)
    memory["squares"] = memory.get("squares", 0.0) + (gradient**2 if name == "adagrad" else (gradient**2).mean())
    return gradient / (np.sqrt(memory["squares"]) + 1e-10)


@pytest.mark.parametrize("decay", [0.0, 2.0])
@pytest.mark.parametrize("execution", ["eager", "compile"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_embedding_decay_equals_a_loop_over_rows(name, execution, decay):
    rng, dim = np.random.default_rng(3), 6
    rows, chance = 40, np.arange(1, 41) ** -1.5  # from rows in every batch to such as come once or never
    expected = rng.normal(size=(rows, dim)).astype(np.float32).astype(float)
    weight = torch.tensor(expected, dtype=torch.float32)
    kernels = CpuKernels(dim, 1, False) if execution == "compile" else None
    if name != "adam":
        decay = 0.0  # it is Adam's alone
    optimizer = OPTIMIZERS[name](weight, rows=kernels, **({"decay": decay} if decay else {}))
    assert ("seen" in optimizer.state) == (decay > 0)
    memory, seen, gaps = [{} for _ in range(rows)], [0] * rows, set()
    for step in range(1, 31):
        ids = rng.choice(rows, 12, p=chance / chance.sum())
        gradient, lr = rng.normal(size=(12, dim)).astype(np.float32), 0.02 / step
        optimizer.update_rows(torch.tensor(ids), torch.tensor(gradient), lr)
        for row in set(ids.tolist()):
            gap, seen[row] = step - seen[row], step
            expected[row] *= 1 - min(lr * decay * gap**2, 0.5)
            expected[row] -= lr * by_definition(name, memory[row], gradient[ids == row].sum(0).astype(float), step)
            gaps.add("half" if lr * decay * gap**2 > 0.5 else "less")
        assert weight.numpy() == pytest.approx(expected, abs=3e-6)
    assert gaps == ({"half", "less"} if decay else {"less"})
    assert 0 in seen


@pytest.mark.parametrize("execution", ["eager", "compile"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_embedding_decay_leaves_the_row_of_zeros_and_absent_rows_alone(name, execution):
    config = ModelConfig(embedding_dim=6, bottom_mlp_sizes=(6,), top_mlp_sizes=(1,), num_indices_per_lookup=3)
    model, step = make(SPEC, config, optimizer=name, execution=execution, embedding_decay=5.0)
    for seed in range(4):
        before, batch = model.tables.weight.clone(), random_batch(rows=2, bag=3, seed=seed)
        step(batch, 0.1)
        changed = (model.tables.weight != before).any(1).nonzero().flatten().tolist()
        real = set(model.tables.row_ids(batch.categorical).flatten().tolist()) - {len(before) - 1}
        assert set(changed) == real
    assert not model.tables.weight[-1].any()


@pytest.mark.parametrize("execution", ["eager", "compile"])
@pytest.mark.parametrize("shape", [name for name in SHAPES if "bags" not in name])
def test_the_lasso_shrinks_the_weights_of_each_product_together(shape, execution):
    spec, changes, _ = SHAPES[shape]
    config = ModelConfig(**{"embedding_dim": 6, "bottom_mlp_sizes": (8, 6), "top_mlp_sizes": (10, 1), **changes})
    settings = {"optimizer": "adam", "execution": execution}
    model, step = make(spec, config, **settings, interaction_lasso=40.0)
    without, plain = make(spec, config, **settings)
    for of in (model, without):
        of.tables.weight[: of.tables.sizes[0] if len(of.tables.sizes) else 0] = 0.0  # products of zero teach nothing
        of.top[0].weight.data[:, of.interaction.products][:, :2] = 0.0
    batch, lr = random_batch(spec), 0.004
    assert step(batch, lr) == plain(batch, lr)
    expected, shrunk, fates = without.top[0].weight.detach().double(), model.top[0].weight.detach().double(), set()
    for column in range(*model.interaction.products.indices(expected.shape[1])):
        length = sum(float(w) ** 2 for w in expected[:, column]) ** 0.5
        left = max(1 - lr * 40.0 * len(expected) ** 0.5 / length, 0.0) if length else 0.0
        fates.add("nothing there" if not length else "gone" if not left else "shorter")
        assert shrunk[:, column].tolist() == pytest.approx((left * expected[:, column]).tolist(), abs=1e-7)
        expected[:, column] = shrunk[:, column]
    assert torch.equal(shrunk, expected)  # no other column was touched
    for ours, theirs in zip(model.state_dict().items(), without.state_dict().items(), strict=True):
        assert ours[0] == "top.0.weight" or torch.equal(ours[1], theirs[1])
    if shape in ("dot", "self-interaction"):
        assert fates == {"nothing there", "gone", "shorter"}


def test_the_lasso_waits_for_its_start():
    settings = {"optimizer": "adam", "interaction_lasso": 9.0}
    (model, step), (plain, without) = make(**settings, lasso_start_step=2), make(optimizer="adam")
    for done in (1, 2, 3):
        for one in (step, without):
            one(random_batch(seed=done), 0.01)
        assert torch.equal(model.top[0].weight, plain.top[0].weight) == (done <= 2)


@pytest.mark.parametrize("execution", ["eager", "compile"])
@pytest.mark.parametrize("name", ORACLES)
def test_steps_on_standardised_numbers_equal_float64_autograd_on_them(name, execution):
    config = ModelConfig(embedding_dim=6, bottom_mlp_sizes=(8, 6), top_mlp_sizes=(10, 1), standardise=True)
    model, step = make(SPEC, config, optimizer=name, execution=execution)
    plain, (oracle, lr) = PlainDlrm(model), ORACLES[name]
    optimizer, numbers = oracle(plain.parameters(), lr=lr), 5 + 20 * random_batch(rows=500).numerical
    model.standardise.measure(numbers)
    mean, deviation = numbers.double().mean(0), (numbers.double().var(0, correction=0) + 1e-5).sqrt()
    for seed, rows in enumerate((64, 1, 30, 64)):
        batch = random_batch(rows=rows, seed=seed)
        batch = batch._replace(numerical=5 + 20 * batch.numerical)
        scaled = batch._replace(numerical=(batch.numerical.double() - mean) / deviation)
        expected = functional.binary_cross_entropy_with_logits(plain(scaled), batch.label.double())
        assert step(batch, lr).item() == pytest.approx(expected.item(), abs=5e-6)
        optimizer.zero_grad()
        expected.backward()
        optimizer.step()
    assert torch.allclose(model.tables.weight.double(), plain.weight(), atol=5e-5)
    for ours, theirs in zip(model.bottom.parameters(), plain.bottom.parameters(), strict=True):
        assert torch.allclose(ours.double(), theirs, atol=5e-5)


@pytest.mark.parametrize("execution", ["eager", "compile"])
@pytest.mark.parametrize("name", ORACLES)
def test_steps_with_flags_equal_float64_autograd_on_twice_as_many_numbers(name, execution):
    sizes = {"embedding_dim": 6, "bottom_mlp_sizes": (8, 6), "top_mlp_sizes": (10, 1)}
    model, step = make(SPEC, ModelConfig(**sizes, flag_missing=True), optimizer=name, execution=execution)
    plain, (oracle, lr) = PlainDlrm(model), ORACLES[name]
    optimizer = oracle(plain.parameters(), lr=lr)
    for seed, rows in enumerate((64, 1, 30, 64)):
        batch = random_batch(rows=rows, seed=seed)
        batch = batch._replace(numerical=batch.numerical.clamp_min(0.0))  # half of them are 0
        flagged = batch._replace(numerical=torch.cat([batch.numerical, (batch.numerical == 0).float()], 1))
        expected = functional.binary_cross_entropy_with_logits(plain(flagged), batch.label.double())
        assert step(batch, lr).item() == pytest.approx(expected.item(), abs=5e-6)
        optimizer.zero_grad()
        expected.backward()
        optimizer.step()
    assert torch.allclose(model.tables.weight.double(), plain.weight(), atol=5e-5)
    for ours, theirs in zip(model.bottom.parameters(), plain.bottom.parameters(), strict=True):
        assert torch.allclose(ours.double(), theirs, atol=5e-5)


@pytest.mark.parametrize("name", ["sgd", "adagrad", "rowwise_adagrad", "adam"])
def test_a_step_leaves_rows_that_are_not_in_the_batch_alone(name):
    model, step = make(optimizer=name)
    before = model.tables.weight.clone()
    batch = random_batch(rows=3)
    step(batch, 0.5)
    touched = torch.unique(model.tables.row_ids(batch.categorical))
    changed = (model.tables.weight != before).any(1).nonzero().flatten()
    assert set(changed.tolist()) == set(touched.tolist())


@pytest.mark.parametrize("name", ["sgd", "adagrad", "rowwise_adagrad", "adam"])
def test_compiled_and_eager_losses_go_the_same_way(name):
    losses = {}
    for execution in ("eager", "compile"):
        _, step = make(optimizer=name, execution=execution)
        losses[execution] = [step(random_batch(seed=seed), 0.05).item() for seed in range(40)]
    assert losses["compile"] == pytest.approx(losses["eager"], abs=2e-5)
    assert losses["eager"][0] != losses["eager"][-1]


@pytest.mark.parametrize("execution", ["eager", "compile"])
@pytest.mark.parametrize(("precision", "tolerance"), [("bf16", 0.03), ("fp16", 0.003)])
def test_half_precision_stays_near_fp32_and_keeps_parameters_in_it(precision, tolerance, execution):
    losses = {}
    for name in ("fp32", precision):
        model, step = make(precision=name, execution=execution)
        losses[name] = [step(random_batch(seed=seed), 0.1).item() for seed in range(20)]
    assert losses[precision] == pytest.approx(losses["fp32"], abs=tolerance)
    assert losses[precision] != losses["fp32"]
    assert {tensor.dtype for tensor in model.state_dict().values()} == {torch.float32}


@pytest.mark.parametrize("execution", ["eager", "compile"])
@pytest.mark.parametrize("optimizer", ["sgd", "adagrad", "rowwise_adagrad", "adam"])
@pytest.mark.parametrize("scale", [8192.0, "dynamic"])
def test_a_step_that_overflows_changes_nothing(optimizer, scale, execution):
    model, step = make(optimizer=optimizer, precision="fp16", loss_scale=scale, execution=execution)
    step(random_batch(seed=0), 0.1)
    before = {name: tensor.clone() for name, tensor in {**model.state_dict(), **step.state_dict()}.items()}
    batch = random_batch(seed=1)
    step(batch._replace(numerical=batch.numerical * 1e5), 0.1)  # beyond fp16's largest number, 65,504
    assert step.skipped == 1
    after = {**model.state_dict(), **step.state_dict()}
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    dynamic = {"loss_scale.scale", "loss_scale.good_steps"} if scale == "dynamic" else set()
    counters = {"done", "loss_scale.skipped"} | dynamic
    assert changed == counters
    step(batch, 0.1)
    assert (step.done, step.skipped) == (3, 1)
    assert not torch.equal(model.tables.weight, before["tables.weight"])


def test_the_dynamic_scale_follows_torch():
    ours, theirs = LossScale("dynamic"), torch.amp.GradScaler("cpu")
    parameter = torch.nn.Parameter(torch.zeros(()))
    optimizer = torch.optim.SGD([parameter], lr=0.0)
    for step in range(4500):
        overflowed = step in (0, 1, 2, 7, 2500)
        ours.update(torch.tensor(float(overflowed)))
        theirs.scale(parameter * 1.0)
        parameter.grad = torch.tensor(float("inf") if overflowed else 1.0)
        theirs.step(optimizer)
        theirs.update()
        assert ours.value == theirs.get_scale()
    assert ours.skipped == 5


def test_a_fixed_scale_stays():
    scale = LossScale(8192.0)
    for overflowed in (True, False, True):
        scale.update(torch.tensor(overflowed))
    assert scale.value == 8192.0


@pytest.mark.parametrize("optimizer", ["sgd", "adagrad", "rowwise_adagrad", "adam"])
def test_state_goes_over_to_a_new_step(optimizer):
    model, step = make(optimizer=optimizer, precision="fp16", loss_scale="dynamic")
    for seed in range(3):
        step(random_batch(seed=seed), 0.1)
    other, resumed = make(optimizer=optimizer, precision="fp16", loss_scale="dynamic")
    assert step.state_dict().keys() == resumed.state_dict().keys()
    other.load_state_dict(model.state_dict())
    resumed.load_state_dict(step.state_dict())
    for seed in range(3, 6):
        assert torch.equal(step(random_batch(seed=seed), 0.1), resumed(random_batch(seed=seed), 0.1))
    assert torch.equal(model.tables.weight, other.tables.weight)
