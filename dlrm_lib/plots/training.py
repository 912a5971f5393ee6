"""Pictures of training: schedules, learning curves, scores, ROC, calibration, and the ladder up to the ceiling."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator
from sklearn.metrics import roc_curve

from dlrm_lib.plots import AMBER, BLUE, GREEN, GREY, INK, ORANGE, PINK, SKY, axes, label_lines, panels, style

_SERIES = (BLUE, ORANGE, GREEN, PINK, AMBER, SKY)


@style()
def learning_curves(
    progress: Sequence[Any], evaluations: Sequence[Any], levels: Mapping[str, float], *, negative_rate: float = 1.0
) -> Figure:
    """Training and validation loss beside validation AUC.

    Args:
        progress: Events of training with ``step`` and ``loss``, in nats.
        evaluations: Events with ``step``, ``log_loss`` and ``auc``, on the validation rows.
        levels: Name → AUC of what to compare with, drawn as horizontal lines.
        negative_rate: Share of the non-clicks among the training rows: their loss is then not to be compared.
    """
    tested = [e.step for e in evaluations]
    figure, (left, right) = panels(["Log loss while training", "AUC of the validation rows"], size=(9.5, 3.6))
    name, loss = _training_rows(negative_rate), [e.loss for e in progress]
    left.plot([e.step for e in progress], loss, color=SKY, linewidth=1.2, label=name)
    left.plot(
        tested, [e.log_loss for e in evaluations], color=BLUE, marker="o", markersize=3.5, label="validation rows"
    )
    left.set(xlabel="training step", ylabel="log loss (nats)")
    left.legend()
    right.plot(tested, [e.auc for e in evaluations], color=BLUE, marker="o", markersize=3.5)
    right.set(xlabel="training step", ylabel="validation AUC")
    for (name, level), color in zip(levels.items(), (ORANGE, GREEN, INK), strict=False):
        right.axhline(level, color=color, linewidth=1.3, linestyle="--")
        right.annotate(
            f"{name} {level:.4f}",
            (0.99, level),
            (0, 3),
            color=color,
            fontsize=9,
            ha="right",
            xycoords=("axes fraction", "data"),
            textcoords="offset points",
        )
    right.margins(y=0.12)
    return figure


def _training_rows(negative_rate: float) -> str:
    """What the legend calls them: a loss among other shares of clicks is not to be compared."""
    return "training rows" if negative_rate == 1 else f"training rows, {negative_rate:g} of the non-clicks"


@style()
def schedules(rates: Mapping[str, Sequence[float]], note: str | None = None) -> Figure:
    """Named learning rates over all steps, the first one drawn in front; below them a sentence, or room for one."""
    figure, ax = axes("The learning rate of every step", "training step", "learning rate")
    if note is not None:
        figure.supxlabel(note or " ", color=ORANGE, fontsize=10)
    for at, ((name, curve), color) in enumerate(zip(rates.items(), _SERIES, strict=False)):
        ax.plot(curve, color=color, label=name, zorder=3 - at / 10, linewidth=1.4 if at else 2.4)
    ax.set_ylim(bottom=0)
    ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


@style()
def passes(training: Sequence[float], validation: Sequence[float], best: int, *, negative_rate: float = 1.0) -> Figure:
    """Training and validation loss after each epoch, from 1; ``best`` is the epoch that was chosen.

    ``negative_rate`` is the share of the non-clicks among the training rows, as in ``learning_curves``.
    """
    epochs = range(1, len(validation) + 1)
    figure, ax = axes(
        "The same rows, again and again", "passes over the training rows", "log loss (nats)", size=(6.4, 3.6)
    )
    ax.plot(epochs, training, color=SKY, marker="o", label=_training_rows(negative_rate))
    ax.plot(epochs, validation, color=BLUE, marker="o", label="validation rows")
    ax.plot(best, validation[best - 1], color=ORANGE, marker="*", markersize=16, linestyle="", label="highest AUC")
    ax.set_xticks(epochs)
    ax.margins(y=0.12)
    ax.legend()
    return figure


@style()
def short_runs(runs: Mapping[str, Sequence[Any]], base: float) -> Figure:
    """Training losses of short runs, each a list of events with ``step`` and ``loss``, beside that of knowing nothing.

    The scale is logarithmic where a loss leaves the others far behind. A run without events is named alone.
    """
    figure, ax = axes("The first steps", "training step", "log loss (nats)", size=(8.0, 3.6))
    for (name, events), color in zip(runs.items(), _SERIES, strict=False):
        ax.plot([e.step for e in events], [e.loss for e in events], color=color, marker="o", markersize=4, label=name)
    ax.axhline(base, color=GREY, linewidth=1.2, linestyle="--", label="the click rate alone")
    if any(e.loss > 4 * base for events in runs.values() for e in events):
        ax.set_yscale("log")
        ax.yaxis.set(major_locator=LogLocator(subs=(1, 2, 5)), major_formatter="{x:g}", minor_locator=NullLocator())
    ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


@style()
def scores(label: np.ndarray, probability: np.ndarray) -> Figure:
    """How the predictions of clicked rows and of the others are spread, each group as shares of its own rows."""
    figure, ax = axes("What an AUC is made of", "predicted probability of a click", "share of the group's rows")
    edges = np.linspace(0, max(float(probability.max()), 1e-3), 41)
    for group, color, name in ((~label, GREY, "not clicked"), (label, ORANGE, "clicked")):
        rows = probability[group]
        share = np.full(len(rows), 1 / max(len(rows), 1))
        ax.hist(rows, edges.tolist(), weights=share, color=color, alpha=0.55, label=f"{name}: {len(rows):,} rows")
    ax.legend()
    return figure


@style()
def roc(label: np.ndarray, scores: Mapping[str, np.ndarray], auc: Callable) -> Figure:
    """One ROC curve per named score of the same rows; ``auc`` gives each score's AUC, None where there is none."""
    figure, ax = axes(
        "Every threshold at once: the ROC curve", "non-clicks let through", "clicks found", size=(5.2, 4.6)
    )
    ax.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle="--", label="guessing, AUC 0.5")
    for (name, score), color in zip(scores.items(), _SERIES, strict=False):
        found = auc(label, score)
        if found is None:
            ax.plot([], [], color=color, label=f"{name}, undefined: one class only")
            continue
        false_positive, true_positive, _ = roc_curve(label, score)
        ax.plot(false_positive, true_positive, color=color, label=f"{name}, AUC {found:.4f}")
    ax.set(aspect="equal", xlim=(0, 1), ylim=(0, 1))
    ax.legend(loc="lower right")
    return figure


@style()
def calibration(label: np.ndarray, probability: np.ndarray, *, bins: int = 10) -> Figure:
    """Mean prediction against click rate in bins of equally many rows, with two standard errors."""
    parts = [part for part in np.array_split(np.argsort(probability, kind="stable"), bins) if len(part)]
    predicted = np.array([probability[part].mean() for part in parts])
    clicked = np.array([label[part].mean() for part in parts])
    error = 2 * np.sqrt(clicked * (1 - clicked) / [len(part) for part in parts])
    figure, ax = axes(
        "Is a predicted 20 % clicked 20 % of the time?", "mean predicted probability", "share clicked", size=(5.2, 4.6)
    )
    top = 1.05 * max(predicted.max(), (clicked + error).max())
    ax.plot([0, top], [0, top], color=GREY, linewidth=1, linestyle="--")
    ax.errorbar(predicted, clicked, error, color=BLUE, marker="o", markersize=5, capsize=3, linewidth=1.2)
    ax.set(aspect="equal", xlim=(0, top), ylim=(0, top))
    return figure


@style()
def ladder(
    levels: Mapping[str, float | None], *, interval: tuple[float, float] | None = None, of: str = "DLRM"
) -> Figure:
    """Named AUCs as bars from 0.5, which is guessing; ``interval`` is drawn on the bar called ``of``.

    An AUC of None, where the rows hold one class only, is left out.
    """
    known = {name: value for name, value in levels.items() if value is not None}
    names, values = list(known), np.array(list(known.values()))
    figure, ax = axes("How far above guessing?", "test AUC", "", size=(7.5, 0.55 * len(names) + 1.1))
    colors = [BLUE if name == of else (GREEN if "ceiling" in name else GREY) for name in names]
    ax.barh(names, values - 0.5, left=0.5, color=colors, height=0.62)
    for at, (name, value) in enumerate(known.items()):
        end = value
        if interval and name == of:
            error = [[max(value - interval[0], 0)], [max(interval[1] - value, 0)]]
            ax.errorbar(value, at, xerr=error, color=INK, capsize=4, linewidth=1.2)
            end = max(value, interval[1])
        ax.annotate(f"{value:.4f}", (end, at), (5, 0), textcoords="offset points", va="center")
    ax.invert_yaxis()
    ax.grid(axis="y", visible=False)
    ax.set_xlim(0.5, max(values.max(), interval[1] if interval else 0.5) + 0.03)
    return figure


@style()
def day_by_day(found: Mapping[str, Any]) -> Figure:
    """AUC on the next day of models that differ in what they learned from the days since, and what that took.

    Args:
        found: The metrics of the record ``day_by_day``. Lines are means over seeds, areas the range of these; seconds
            are those of encoding and the median of training.
    """
    days, first = [of["day"] for of in found["days"]], found["days"][0]["models"]
    figure, (left, right) = panels(["AUC of the day after", "Seconds for the day"], size=(10.0, 3.6))
    for name, color in zip(first, (BLUE, ORANGE, GREY), strict=True):
        models = [of["models"][name] for of in found["days"]]
        aucs = np.array([model["auc"] for model in models])
        left.fill_between(days, aucs.min(1), aucs.max(1), color=color, alpha=0.15, linewidth=0)
        left.plot(days, aucs.mean(1), color=color, marker="o", markersize=4, label=name)
        seconds = [model["encode_seconds"] + float(np.median(model["train_seconds"])) for model in models[1:]]
        if any(seconds):
            right.plot(days[1:], seconds, color=color, marker="o", markersize=4, label=name)
    for ax in (left, right):
        ax.set(xlabel="day that is predicted, from 0", xlim=(days[0], days[-1] + 0.45 * (days[-1] - days[0])))
        ax.set_xticks(days)
    left.set_ylabel("AUC")
    right.set(ylabel="seconds", ylim=(0, None))
    for ax in (left, right):
        label_lines(ax)
    return figure
