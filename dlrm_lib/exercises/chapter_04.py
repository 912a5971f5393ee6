"""Exercises of chapter 04: ranking quality, the learning rate, and a loss that does not overflow."""

from __future__ import annotations

import numpy as np

from dlrm_lib import metrics
from dlrm_lib.config import TrainingConfig
from dlrm_lib.exercises.mechanism import Exercise, compare
from dlrm_lib.optim.schedule import learning_rate


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


def log_loss_from_logits(label, logit):
    """-log(sigmoid(z)) is log(1 + exp(-z)), and logaddexp(0, -z) computes that without overflow."""
    return np.logaddexp(0, np.where(label, -logit, logit)).mean()


def _check_moderate_logits(answer):
    rng = np.random.default_rng(3)
    label, logit = rng.random(80) < 0.3, rng.normal(-1, 2, 80)
    got, expected = answer(label, logit), metrics.log_loss(label, 1 / (1 + np.exp(-logit)))
    if np.ndim(got) == 0 and abs(got - metrics.log_loss(~label, 1 / (1 + np.exp(-logit)))) < 1e-6:
        return f"yours is the loss of the opposite labels, {got:.4f}. A click with a high logit should cost little."
    if np.ndim(got) == 0 and abs(got - 80 * expected) < 1e-6:
        return f"yours is the sum over the rows, {got:.4f}. The log loss is their mean, {expected:.4f}."
    return compare(got, expected, "the log loss of 80 rows with moderate logits", tolerance=1e-9)


def _check_extreme_logits(answer):
    label, logit = np.array([True, False, True, False]), np.array([-1000.0, 1000.0, 1000.0, -1000.0])
    with np.errstate(all="ignore"):
        got = answer(label, logit)
    if np.ndim(got) == 0 and not np.isfinite(got):
        return f"logits of ±1000 give {got}: exp(1000) is infinite and log(0) is. Avoid the probability altogether."
    if np.ndim(got) == 0 and got < 400:
        return f"logits of ±1000, half of them wrong, cost 500 a row. Yours says {got:.4g}: clipping hides the error."
    return compare(got, 500.0, "the log loss of logits of ±1000, half of them wrong")


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
    Exercise(
        id="4.3",
        title="log loss from logits",
        hint="Turn the sign of the logit where the row was clicked: then the loss of each row is log(1 + exp(z)), and "
        "`np.logaddexp(0, z)` computes that without ever forming exp(z).",
        solution=log_loss_from_logits,
        checks=(_check_moderate_logits, _check_extreme_logits),
    ),
)
