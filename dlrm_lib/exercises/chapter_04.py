"""Exercises of chapter 04: ranking quality and the learning rate."""

from __future__ import annotations

import numpy as np

from dlrm_lib import metrics
from dlrm_lib.config import TrainingConfig
from dlrm_lib.exercises.mechanism import Exercise, compare
from dlrm_lib.training.schedule import learning_rate


def area_under_curve(label, score):
    """A click should be scored above a non-click: count how often it is, and a tie as half."""
    clicked, other = score[label], score[~label]
    wins = (clicked[:, None] > other[None, :]).sum()
    ties = (clicked[:, None] == other[None, :]).sum()
    return (wins + ties / 2) / (len(clicked) * len(other))


def _rows(seed: int, levels: int | None) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    label = rng.random(60) < 0.3
    score = rng.normal(size=60) + label
    return label, score if levels is None else np.round(score * levels) / levels


def _check_without_ties(answer):
    label, score = _rows(1, None)
    got, expected = answer(label, score), metrics.auc(label, score)
    if isinstance(got, float | np.floating) and abs(got - (1 - expected)) < 1e-6:
        return (
            f"your AUC is upside down: {got:.4f} is 1 − {expected:.4f}. Count the clicks that score above non-clicks."
        )
    if isinstance(got, float | np.floating) and abs(got - ((score > 0.5) == label).mean()) < 1e-6:
        return "that is the accuracy at one threshold. The AUC compares pairs of rows and needs no threshold."
    return compare(got, expected, "the AUC of 60 rows without ties", tolerance=1e-9)


def _check_ties(answer):
    label, score = _rows(2, 2)
    got, expected = answer(label, score), metrics.auc(label, score)
    wins = (score[label][:, None] > score[~label][None, :]).mean()
    if abs(got - wins) < 1e-9:
        return f"ties count nothing in yours: expected {expected:.4f}, got {got:.4f}. Count a tie as half a win."
    ties = (score[label][:, None] >= score[~label][None, :]).mean()
    if abs(got - ties) < 1e-9:
        return f"ties count as wins in yours: expected {expected:.4f}, got {got:.4f}. Count a tie as half a win."
    return compare(got, expected, "the AUC of 60 rows with many ties", tolerance=1e-9)


def warmup_and_decay(step, lr, warmup_steps, decay_start_step, decay_steps):
    """The step about to be taken is number step + 1."""
    done = step + 1
    if done < warmup_steps:
        return lr * done / warmup_steps
    if done <= decay_start_step:
        return lr
    left = max(decay_start_step + decay_steps - done, 0) / decay_steps
    return lr * left**2


_SCHEDULE = {"lr": 2.0, "warmup_steps": 10, "decay_start_step": 20, "decay_steps": 10}


def _check_schedule(steps: range, part: str):
    def check(answer):
        config = TrainingConfig(**_SCHEDULE)
        got = [answer(step, **_SCHEDULE) for step in steps]
        expected = [learning_rate(step, config) for step in steps]
        shifted = [learning_rate(step - 1, config) for step in steps if step]
        if part == "the warmup" and np.allclose(got[1:], shifted):
            return f"your warmup is one step late: the first step would have the rate {got[0]:g}, and learn nothing."
        linear = [config.lr * (30 - step - 1) / 10 for step in steps]
        if part == "the decay" and np.allclose(got, linear):
            return "your decay is a straight line. The share of the decay that is left must be squared."
        return compare(got, expected, f"the learning rates of {part}, steps {steps[0]} to {steps[-1]}")

    return check


EXERCISES = (
    Exercise(
        id="4.1",
        title="AUC from pairs",
        hint="Compare every clicked row with every other row: `score[label][:, None] > score[~label][None, :]` is a "
        "matrix of answers. A tie is worth one half.",
        solution=area_under_curve,
        checks=(_check_without_ties, _check_ties),
    ),
    Exercise(
        id="4.2",
        title="warmup and decay",
        hint="Three cases by `done = step + 1`: below warmup_steps a straight line from 0, then level, and after "
        "decay_start_step the square of the share of decay_steps that is left.",
        solution=warmup_and_decay,
        checks=(
            _check_schedule(range(10), "the warmup"),
            _check_schedule(range(10, 20), "the level part"),
            _check_schedule(range(20, 28), "the decay"),
        ),
    ),
)
