"""Planted wrong answers to the exercises of chapter 04, with a part of the sentence each must get."""

from __future__ import annotations

import numpy as np


def upside_down(label, score):
    return (score[label][:, None] < score[~label][None, :]).mean()


def accuracy(label, score):
    return ((score > 0.5) == label).mean()


def ties_lost(label, score):
    return (score[label][:, None] > score[~label][None, :]).mean()


def ties_won(label, score):
    return (score[label][:, None] >= score[~label][None, :]).mean()


def one_step_late(step, lr, warmup_steps, decay_start_step, decay_steps):
    if step < warmup_steps:
        return lr * step / warmup_steps
    return lr


def no_decay(step, lr, warmup_steps, decay_start_step, decay_steps):
    return lr * min((step + 1) / warmup_steps, 1)


def straight_decay(step, lr, warmup_steps, decay_start_step, decay_steps):
    left = (decay_start_step + decay_steps - (step + 1)) / decay_steps
    return lr * min((step + 1) / warmup_steps, left, 1)


def through_the_probability(label, logit):
    p = 1 / (1 + np.exp(-logit))
    return -np.mean(np.where(label, np.log(p), np.log(1 - p)))


def clipped(label, logit):
    p = np.clip(1 / (1 + np.exp(-logit)), 1e-15, 1 - 1e-15)
    return -np.mean(np.where(label, np.log(p), np.log(1 - p)))


def opposite_labels(label, logit):
    return np.logaddexp(0, np.where(label, logit, -logit)).mean()


def summed(label, logit):
    return np.logaddexp(0, np.where(label, -logit, logit)).sum()


WRONG = {
    "4.1": (
        (upside_down, "upside down"),
        (accuracy, "accuracy at one threshold"),
        (ties_lost, "ties count nothing"),
        (ties_won, "ties count as wins"),
    ),
    "4.2": (
        (one_step_late, "one step late"),
        (no_decay, "the decay, steps 20 to 27"),
        (straight_decay, "straight line"),
    ),
    "4.3": (
        (through_the_probability, "log(0)"),
        (clipped, "clipping hides"),
        (opposite_labels, "opposite labels"),
        (summed, "sum over the rows"),
    ),
}
