"""Planted wrong answers to the exercises of chapter 05, with a part of the sentence each must get."""

from __future__ import annotations

import math

import torch


def epsilon_everywhere(x, fraction_bits, smallest_exponent):
    return 2.0**-fraction_bits


def no_subnormals(x, fraction_bits, smallest_exponent):
    return 2.0 ** (math.floor(math.log2(abs(x))) - fraction_bits)


def in_proportion(x, fraction_bits, smallest_exponent):
    return abs(x) * 2.0**-fraction_bits


def not_a_power_of_two(gradients):
    return 65504.0 / max(g.abs().max().item() for g in gradients)


def rounded_up(gradients):
    return 2.0 ** math.ceil(math.log2(65504.0 / max(g.abs().max().item() for g in gradients)))


def blind_to_negative_ones(gradients):
    return 2.0 ** math.floor(math.log2(65504.0 / max(g.max().item() for g in gradients)))


def first_tensor_only(gradients):
    return 2.0 ** math.floor(math.log2(65504.0 / gradients[0].abs().max().item()) - 1)


def counts_on(scale, good_steps, overflowed, growth_interval):
    if overflowed:
        return scale / 2, good_steps
    if good_steps + 1 == growth_interval:
        return scale * 2, 0
    return scale, good_steps + 1


def one_step_late(scale, good_steps, overflowed, growth_interval):
    if overflowed:
        return scale / 2, 0
    if good_steps == growth_interval:
        return scale * 2, 0
    return scale, good_steps + 1


def never_grows(scale, good_steps, overflowed, growth_interval):
    return (scale / 2, 0) if overflowed else (scale, good_steps + 1)


def still_scaled(weight, row_ids, gradient, lr, scale):
    if not gradient.isfinite().all():
        return weight
    return weight.index_add(0, row_ids, gradient, alpha=-lr)


def last_one_wins(weight, row_ids, gradient, lr, scale):
    if not gradient.isfinite().all():
        return weight
    weight[row_ids] -= lr * gradient / scale
    return weight


def only_the_bad_row(weight, row_ids, gradient, lr, scale):
    good = gradient.isfinite().all(1)
    return weight.index_add(0, row_ids[good], gradient[good], alpha=-lr / scale)


def blind_to_nan(weight, row_ids, gradient, lr, scale):
    if torch.isinf(gradient).any():
        return weight
    return weight.index_add(0, row_ids, gradient, alpha=-lr / scale)


WRONG = {
    "5.1": (
        (epsilon_everywhere, "yours is that at 1"),
        (no_subnormals, "below the smallest normal number"),
        (in_proportion, "in parts of the true one: expected 1"),
    ),
    "5.2": (
        (not_a_power_of_two, "is no power of two"),
        (rounded_up, "the largest becomes"),
        (blind_to_negative_ones, "one of them negative"),
        (first_tensor_only, "expected"),
    ),
    "5.3": (
        (counts_on, "steps ..x "),
        (one_step_late, "one step late"),
        (never_grows, "expected 2048"),
    ),
    "5.4": (
        (still_scaled, "64 times too long"),
        (last_one_wins, "row 4 occurs twice"),
        (only_the_bad_row, "yours changed rows"),
        (blind_to_nan, "not finite any more"),
    ),
}
