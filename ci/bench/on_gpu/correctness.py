"""That the GPU computes what it should: kernels against float64, steps against each other, overflow, the AUC."""

from __future__ import annotations

import torch
from bench.build import new_model, new_step
from bench.on_gpu import seeds
from bench.on_gpu.card import Card
from bench.on_gpu.data import draw, resident, workload
from bench.on_gpu.report import Part, Report

from dlrm_lib.backends.backend import PRECISIONS
from dlrm_lib.backends.step import TrainingStep
from dlrm_lib.metrics import auc
from dlrm_lib.metrics.on_device import DeviceScores
from dlrm_lib.model.interactions.dot import DotInteraction

# Largest error, as a share of the result, both as Euclidean norms. Sums are float32 everywhere; what is left is the
# rounding of results to 8 or 11 bits, and of TF32's factors to 11.
BOUNDS = {"fp32": 2e-6, "tf32": 1e-3, "bf16": 5e-3, "fp16": 1e-3}
# The same for the change of embedding rows: tens of thousands of float32 additions to one number.
UPDATE_BOUND = 5e-5
STEPS = 100
# Between two ways to compute a step in fp32: of the loss, absolute, and of all weights' change, relative.
LOSS_BOUND, CHANGE_BOUND = 1e-4, 1e-2
MOST_ROWS = 1_000_000  # per table, where two states are held in memory at once


def relative_error(found: torch.Tensor, expected: torch.Tensor) -> float:
    """‖found − expected‖ / ‖expected‖ in float64; infinite if something is not a number."""
    found, expected = found.double(), expected.double()
    error = ((found - expected).norm() / expected.norm().clamp(min=1e-300)).item()
    return error if error == error else float("inf")


def kernels(card: Card, report: Report) -> None:
    """Each Triton kernel in each precision, on the sizes that training has, a batch of odd size."""
    from dlrm_lib.backends.cuda import gather, interaction, update

    work, device = workload(card), card.backend.torch_device
    # Triton's interpreter, which a rehearsal runs in, does not compute in bf16.
    names = [name for name in PRECISIONS if not (card.rehearsal and name == "bf16")]
    errors: dict[str, float] = {}
    batch_size, columns, dim = card.batch_sizes[0] - 3, len(work.spec.cardinalities), work.model.embedding_dim

    reference = DotInteraction(columns + 1, True, work.model).to(device)
    upstream = torch.randn(batch_size, reference.width, device=device)
    for name in names:
        inputs = [torch.randn(batch_size, *shape, device=device) for shape in ((dim,), (columns, dim))]
        inputs = [tensor.to(PRECISIONS[name]).requires_grad_() for tensor in inputs]
        exact = [tensor.detach().double().requires_grad_() for tensor in inputs]
        expected = reference(*exact)
        expected.backward(upstream.to(PRECISIONS[name]).double())
        _poison(expected, *inputs, dtype=PRECISIONS[name])
        overflow = torch.zeros((), device=device)
        found = interaction.interact(
            *inputs, reference.width, self_interaction=False, precision=name, overflow=overflow
        )
        _poison(*inputs, dtype=PRECISIONS[name])
        found.backward(upstream.to(found.dtype))
        errors[f"interaction forward, {name}"] = relative_error(found, expected)
        for tensor, other, what in zip(inputs, exact, ("bottom", "rows"), strict=True):
            errors[f"interaction backward to {what}, {name}"] = relative_error(tensor.grad, other.grad)
        report.check(f"no overflow is seen where none is, {name}", overflow.item() == 0, f"{overflow.item():.0f}")
    for name, error in errors.items():
        report.check(name, error <= BOUNDS[name.split()[-1]], f"{error:.1e}, bound {BOUNDS[name.split()[-1]]:.0e}")
    report.keep("kernels", errors=errors, bounds=BOUNDS)
    del inputs, exact, expected, found

    model = new_model(work, card.backend)
    weight, offsets = model.tables.weight, model.tables.offsets
    ids = draw(work.spec, batch_size, seed=1).categorical.clone()
    last = torch.tensor(work.spec.cardinalities, dtype=torch.int32) - 1
    largest = int(last.argmax())
    # First and last rows, a small table whose last row is everyone's, a large one whose last row is every second's.
    ids[0], ids[1], ids[:, -2], ids[::2, largest] = 0, last, last[-2], last.max()
    ids = ids.to(device)
    rows = model.tables.row_ids(ids)
    beyond = (rows * dim >= 2**31).float().mean().item()
    report.line(f"      {len(weight):,} rows of {dim}; {beyond:.0%} of the lookups are beyond 2^31 elements")
    for dtype in {PRECISIONS[name] for name in names}:
        _poison(torch.empty(*ids.shape, dim, device=device), dtype=dtype)
        same = torch.equal(gather.gather(weight, ids, offsets, dtype), weight[rows].to(dtype))
        report.check(f"gather, {dtype}".replace("torch.", ""), same, "every bit" if same else "differs")

    sizes, before = update.columns_by_size(work.spec.cardinalities, device), weight.clone()
    distinct, place = rows.flatten().unique(return_inverse=True)
    step, none, overflow = (torch.tensor(value, device=device) for value in (-0.01, 0.0, 1.0))
    ways = {
        "atomic": lambda gradient, flag: update.add_rows(weight, ids, offsets, sizes, gradient, step, flag),
        "in order": lambda gradient, flag: update.add_rows_in_order(weight, ids, offsets, gradient, step, flag),
    }
    found_errors = {}
    for dtype in {PRECISIONS[name] for name in names}:
        gradient = torch.randn(*ids.shape, dim, device=device).to(dtype)
        change = torch.zeros(len(distinct), dim, dtype=torch.float64, device=device)
        # Column by column: the whole in float64 would be larger than the tables.
        for column, where in enumerate(place.view(ids.shape).unbind(1)):
            change.index_add_(0, where, gradient[:, column].double() * step.double())
        for way, add in ways.items():
            name = f"update {way}, {dtype}".replace("torch.", "")
            add(gradient, overflow)
            report.check(f"{name}, overflow", torch.equal(weight, before), "no bit")
            add(gradient, none)
            error = relative_error(weight[distinct].double() - before[distinct].double(), change)
            found_errors[name] = error
            report.check(name, error <= UPDATE_BOUND, f"{error:.1e}, bound {UPDATE_BOUND:.0e}")
            first = weight[distinct]
            weight[distinct] = before[distinct]
            report.check(f"{name}, other rows", torch.equal(weight, before), "no bit")
            if way == "in order":
                add(gradient, none)
                report.check(f"{name}, again", torch.equal(weight[distinct], first), "every bit")
                weight[distinct] = before[distinct]
    report.keep("kernels", update_errors=found_errors, update_bound=UPDATE_BOUND)


def steps(card: Card, report: Report) -> None:
    """A recorded step against the same unrecorded, bit for bit; the fused step against the ordinary one."""
    work = workload(card).capped(MOST_ROWS)
    batch_size, count = card.batch_sizes[-1], 6 if card.rehearsal else STEPS
    batches = resident(card, work, batch_size)
    names = ("fp32", "fp16") if card.rehearsal else ("fp32", "bf16", "fp16")

    def trained(execution: str, precision: str, **settings) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        how = {"batch_size": batch_size, "execution": execution, "precision": precision, **settings}
        step = new_step(work.trained_with(**how), card.plain_layers, seed=1)
        losses = torch.stack([step(batches[number % len(batches)], work.training.lr) for number in range(count)])
        return losses.double(), _state(step)

    for precision in names:
        runs = [trained(execution, precision, deterministic=True) for execution in ("compile", "graph")]
        differ = [name for name in runs[0][1] if not torch.equal(runs[0][1][name], runs[1][1][name])]
        same = torch.equal(runs[0][0], runs[1][0]) and not differ
        report.check(
            f"graph and eager, deterministic, {count} steps, {precision}", same, "every bit" if same else f"{differ}"
        )
    begin = new_model(work, card.plain_layers, seed=1).state_dict()
    losses, state = trained("graph", "fp32")
    expected_losses, expected = trained("eager", "fp32")
    apart = (losses - expected_losses).abs().max().item()
    moved = {name: relative_error(state[name] - begin[name], expected[name] - begin[name]) for name in begin}
    report.check(f"fused and eager fp32, {count} losses", apart <= LOSS_BOUND, f"{apart:.1e}, bound {LOSS_BOUND:.0e}")
    worst = max(moved, key=moved.get)
    report.check(
        f"fused and eager fp32, change of weights in {count} steps",
        moved[worst] <= CHANGE_BOUND,
        f"{moved[worst]:.1e} ({worst}), bound {CHANGE_BOUND:.0e}",
    )
    report.line(f"      eager fp32: loss {expected_losses[0]:.4f} at first, {expected_losses[-1]:.4f} at last")
    report.keep("steps", losses_apart=apart, changes_apart=moved, loss_bound=LOSS_BOUND, change_bound=CHANGE_BOUND)


def overflow(card: Card, report: Report) -> None:
    """A step whose gradients leave the range of fp16 changes no bit of layers, embeddings and optimizer, but counts."""
    work = workload(card).capped(MOST_ROWS)
    batch_size = card.batch_sizes[-1]
    batches = resident(card, work, batch_size)
    spoilt = batches[-1].numerical.clone()
    spoilt[batch_size // 2, 0] = float("nan")
    cases = {
        "loss scale 2^30": (2.0**30, batches[-1]),
        "a NaN in the batch": (8192.0, batches[-1]._replace(numerical=spoilt)),
    }
    for execution in ("compile", "graph"):
        for name, (scale, bad) in cases.items():
            how = {"batch_size": batch_size, "execution": execution, "precision": "fp16", "loss_scale": scale}
            step = new_step(work.trained_with(**how), card.plain_layers, seed=2)
            for number in range(6):  # the fourth is recorded
                step(batches[number % (len(batches) - 1)], work.training.lr)
            skipped, before = step.skipped, _state(step)
            step(bad, work.training.lr)
            after = _state(step)
            changed = {name for name in before if not torch.equal(before[name], after[name])}
            passed = changed == {"step.done", "step.loss_scale.skipped"} and step.skipped == skipped + 1
            report.check(
                f"{name}, {execution}",
                passed,
                f"{step.skipped - skipped} skipped, changed: {sorted(changed)}",
            )


def scores(card: Card, report: Report) -> None:
    """The AUC computed on the device against the host's exact count of pairs in float64, with ties."""
    rows = 1000 if card.rehearsal else 4_000_000
    generator = torch.Generator().manual_seed(3)
    label = (torch.rand(rows, generator=generator) < 0.03).float()
    logit = torch.randn(rows, generator=generator) + label
    logit[::3] = logit[::3].mul(100).round() / 100  # ties
    on_device = DeviceScores(rows, card.backend.torch_device)
    for part in zip(label.split(65_537), logit.split(65_537), strict=True):
        on_device.update(*(tensor.to(card.backend.torch_device) for tensor in part))
    found, expected = on_device.result()[1], auc(label.numpy().astype(bool), logit.numpy())
    report.check(f"AUC of {rows:,} rows, device and host", found == expected, f"{found:.9f}, {expected:.9f}")


def _poison(*like: torch.Tensor, dtype: torch.dtype) -> None:
    """Fills free memory of these sizes with NaN: what a kernel does not write is seen then."""
    for tensor in like:
        torch.full(tensor.shape, float("nan"), dtype=dtype, device=tensor.device)


def _state(step: TrainingStep) -> dict[str, torch.Tensor]:
    state = {**step.model.state_dict(), **{f"step.{name}": value for name, value in step.state_dict().items()}}
    return {name: tensor.clone() for name, tensor in state.items()}


PARTS = {
    "kernels": Part(120, kernels),
    "overflow": Part(30, overflow),
    "steps": Part(60, steps),
    "scores": Part(10, scores),
    "auc": Part(150, seeds.parity),
}
