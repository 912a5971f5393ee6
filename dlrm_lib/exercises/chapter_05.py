"""Exercises of chapter 05: the spacing of numbers, a loss scale that fits, one that adapts, a skipped update."""

from __future__ import annotations

import math

import numpy as np
import torch

from dlrm_lib.exercises.mechanism import Exercise, compare
from dlrm_lib.optim.loss_scale import LossScale

_FP16_LARGEST = 65504.0


def spacing(x, fraction_bits, smallest_exponent):
    """Every octave holds as many numbers, down to that of the smallest normal one; below, none is finer."""
    octave = max(math.floor(math.log2(abs(x))), smallest_exponent)
    return 2.0 ** (octave - fraction_bits)


def _check_spacing(format: type, fraction_bits: int, smallest_exponent: int, values: tuple[float, ...]):
    def check(answer):
        for x in values:
            got, expected = answer(x, fraction_bits, smallest_exponent), float(np.spacing(format(abs(x))))
            what = f"the spacing of {format.__name__} at {x:g}"
            if not isinstance(got, int | float):
                return compare(got, expected, what)
            if got == 2.0**-fraction_bits != expected:
                return f"{what}: yours is that at 1, {got:g}. Each doubling of x doubles it, expected {expected:g}."
            if abs(x) < 2.0**smallest_exponent and got != expected:
                return (
                    f"{what}: expected {expected:g}, got {got:g}: below the smallest normal number it shrinks no more."
                )
            if (wrong := compare(got / expected, 1.0, f"{what}, in parts of the true one")) is not None:
                return wrong
        return None

    return check


def largest_scale(gradients):
    """The largest gradient decides; rounding the power down keeps it within the range."""
    return 2.0 ** math.floor(math.log2(_FP16_LARGEST / max(abs(g).max().item() for g in gradients)))


def _check_largest_scale(answer):
    generator = torch.Generator().manual_seed(5)
    for size, negative in ((1e-3, False), (3e-5, True), (0.7, True)):
        gradients = [size * torch.rand(20, generator=generator), 0.1 * size * torch.rand(3, 4, generator=generator)]
        gradients[1][1, 2] = -1.5 * size if negative else 1.5 * size
        got, expected = answer([g.clone() for g in gradients]), largest_scale(gradients)
        what = f"the scale for gradients up to {1.5 * size:g}"
        if isinstance(got, int | float) and got > 0 and not math.log2(got).is_integer():
            return f"{what}: {got:g} is no power of two, and multiplying by it rounds. Expected {expected:g}."
        if isinstance(got, int | float) and got > expected and negative:
            became = f"it becomes {-1.5 * size * got:g}, which is infinite in fp16."
            return f"{what}, one of them negative: with {got:g} {became}"
        if isinstance(got, int | float) and got > expected:
            return f"{what}: with {got:g} the largest becomes {1.5 * size * got:g}, which is infinite in fp16."
        if (wrong := compare(got, expected, what)) is not None:
            return wrong
    return None


def next_scale(scale, good_steps, overflowed, growth_interval):
    """Half at once when a step overflows, twice after many that did not; both begin to count anew."""
    if overflowed:
        return scale / 2, 0
    if good_steps + 1 == growth_interval:
        return scale * 2, 0
    return scale, good_steps + 1


def _trace(steps: str, interval: int, rule) -> list[tuple[float, int]]:
    """The state after each step; an x is a step that overflows."""
    scale, good, trace = 1024.0, 0, []
    for step in steps:
        scale, good = rule(scale, good, step == "x", interval)
        trace.append((scale, good))
    return trace


def _library_trace(steps: str, interval: int) -> list[tuple[float, int]]:
    state = LossScale("dynamic")
    state.growth_interval = interval
    state.scale.fill_(1024.0)
    trace = []
    for step in steps:
        state.update(torch.tensor(float(step == "x")))
        trace.append((state.value, int(state.good_steps)))
    return trace


def _check_rule(answer):
    late = [scale for scale, _ in _trace("....", 3, answer)]
    if late == [1024.0, 1024.0, 1024.0, 2048.0]:
        return "your scale doubles one step late: the third good step in a row completes a growth_interval of 3."
    for steps in (".", "x", "...", "..x...", "......"):
        got, expected = _trace(steps, 3, answer), _library_trace(steps, 3)
        for done, (ours, theirs) in enumerate(zip(expected, got, strict=True), start=1):
            where = f"growth_interval 3, steps {steps[:done]} (x is one that overflows), scale at first 1024"
            if (wrong := compare(theirs, ours, f"(scale, good_steps) after {where}")) is not None:
                return wrong
    return None


def update_rows(weight, row_ids, gradient, lr, scale):
    """One number that is not finite, and nothing changes at all."""
    if not gradient.isfinite().all():
        return weight
    return weight.index_add(0, row_ids, gradient, alpha=-lr / scale)


def _rows() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(6)
    return torch.randn(5, 3, generator=generator), torch.tensor([4, 0, 4, 2]), torch.randn(4, 3, generator=generator)


def _check_update(answer):
    weight, row_ids, gradient = _rows()
    expected = weight.clone()
    for row, g in zip(row_ids.tolist(), gradient, strict=True):
        expected[row] -= 0.5 * g
    got = answer(weight, row_ids, gradient * 64.0, 0.5, 64.0)
    if isinstance(got, torch.Tensor) and got.shape == weight.shape:
        if torch.allclose(got, weight.index_add(0, row_ids, gradient * 64, alpha=-0.5)):
            return "your step is 64 times too long: these are gradients of the loss times 64. Divide by the scale."
        if torch.allclose(got[[0, 2]], expected[[0, 2]]) and not torch.allclose(got[4], expected[4]):
            return "row 4 occurs twice in the batch, but only one of its gradients arrived. Add them up."
    return compare(got, expected, "the new weight")


def _check_skipped(answer):
    for bad, name in ((math.inf, "infinite"), (-math.inf, "minus infinite"), (math.nan, "not a number")):
        weight, row_ids, gradient = _rows()
        gradient[1, 2] = bad
        got = answer(weight, row_ids, gradient, 0.5, 64.0)
        if not isinstance(got, torch.Tensor) or got.shape != weight.shape:
            return compare(got, weight, "the new weight")
        if not got.isfinite().all():
            return f"one gradient is {name}, and your weight is not finite any more. Such a step must change nothing."
        if not torch.equal(got, weight):
            changed = (got != weight).any(1).nonzero().flatten().tolist()
            return f"one gradient is {name}, so the step must be skipped whole; yours changed rows {changed}."
    return None


EXERCISES = (
    Exercise(
        id="5.1",
        title="spacing of numbers",
        hint="Which power of two is the largest one not above |x|? From it to the next there are 2**fraction_bits "
        "numbers, evenly spaced. Below 2**smallest_exponent the spacing stays as it is there.",
        solution=spacing,
        checks=(
            _check_spacing(np.float16, 10, -14, (1.0, 1.5, 1000.0, -0.3, 2.0**-14, 3e-6, 60000.0)),
            _check_spacing(np.float32, 23, -126, (1.0, 16777217.0, -1e-20, 1e-39)),
        ),
    ),
    Exercise(
        id="5.2",
        title="the largest safe loss scale",
        hint="Only the largest magnitude over all tensors counts. Its product with the scale may be 65504 at most, and "
        "`math.floor` of a logarithm to base 2 finds the power of two below.",
        solution=largest_scale,
        checks=(_check_largest_scale,),
    ),
    Exercise(
        id="5.3",
        title="a scale that adapts",
        hint="Three cases: overflow; the step that completes growth_interval good ones; any other. Two of them set "
        "good_steps to 0.",
        solution=next_scale,
        checks=(_check_rule,),
    ),
    Exercise(
        id="5.4",
        title="an update that can be skipped",
        hint="Ask first whether all gradients are finite: `isfinite` is false for NaN too. If so, `index_add` adds up "
        "what belongs to the same row, and its `alpha` takes the step and the scale together.",
        solution=update_rows,
        checks=(_check_update, _check_skipped),
    ),
)
