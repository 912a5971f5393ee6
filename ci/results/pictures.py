"""The committed figures: what each is drawn from, and by what."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from matplotlib.figure import Figure

from dlrm_lib.metrics.equivalence import AUC_BOUND
from dlrm_lib.plots import measured_on, results, training
from results.sources import ENCODERS, MODELS, PROGRAMS, STEP_MODELS, Sources

# Inches. A column of text on GitHub is about 830 pixels wide: letters of 9 points are 11.5 pixels high there.
WIDTH = 9.0


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A figure of ``figures/``.

    Attributes:
        record: Where its numbers come from; without it there is no figure.
        alt: What it shows, for who cannot see it.
        draw: Draws it.
        beside: What else it shows, and where that comes from.
    """

    record: str
    alt: str
    draw: Callable[[Sources], Figure]
    beside: str = ""


def _models(sources: Sources, record: str) -> dict[str, list]:
    found = sources.records[record].metrics["models"]
    return {_title(title): found[name] for name, title in MODELS.items() if name in found}


def _title(model: str) -> str:
    return f"Model: {model.replace('`', '')}"


def _ladder(sources: Sources) -> Figure:
    return training.ladder(sources.ladder(), interval=sources.records["ladder"].metrics["interval"])


def _time_to_auc(sources: Sources) -> Figure:
    found = sources.records["time_to_auc"].metrics
    return results.time_to_auc(found["runs"], found["target"])


def _step_speed(sources: Sources) -> Figure:
    found = sources.records["train_cpu"].metrics
    models = {_title(name): found[key] for key, name in STEP_MODELS.items() if key in found}
    return results.step_speed(models, PROGRAMS)


def _preprocessing(sources: Sources) -> Figure:
    record = sources.records["preprocess"]
    return results.preprocessing(record.metrics["runs_s"], ENCODERS, record.config["rows"])


PICTURES = {
    "ladder": Picture(
        record="ladder",
        alt="Test AUC of guessing, logistic regression, boosted trees, DLRM, and the ceilings for encoded and raw rows",
        draw=_ladder,
    ),
    "seeds": Picture(
        record="stability",
        alt="Test AUC of 16 seeds in each precision, here and in NVIDIA's README",
        draw=lambda sources: results.seeds(sources.seeds(), bound=AUC_BOUND),
        beside="NVIDIA's: its README of 2020",
    ),
    "equivalence": Picture(
        record="stability",
        alt="Intervals of the difference in test AUC between 16 and 32 bits, between the bounds of equivalence",
        draw=lambda sources: results.equivalence(sources.records["stability"].metrics["equivalence"]),
    ),
    "learning_curves": Picture(
        record="stability",
        alt="Validation AUC and log loss against the training step in each precision",
        draw=lambda sources: results.learning_curves(sources.records["stability"].metrics),
    ),
    "day_by_day": Picture(
        record="day_by_day",
        alt="AUC on the next day, and seconds for it, of a model trained further, trained anew, or left as it was",
        draw=lambda sources: training.day_by_day(sources.records["day_by_day"].metrics),
    ),
    "time_to_auc": Picture(
        record="time_to_auc", alt="Seconds of training until a target AUC in each precision", draw=_time_to_auc
    ),
    "throughput": Picture(
        record="throughput",
        alt="Training samples per second against the batch size, in each precision, for three models",
        draw=lambda sources: results.throughput(_models(sources, "throughput")),
    ),
    "step_speed": Picture(
        record="train_cpu",
        alt="Training speed beside plain PyTorch and TorchRec, for three models",
        draw=_step_speed,
    ),
    "latency": Picture(
        record="inference",
        alt="Rows answered per second against latency, by batch size, for three models",
        draw=lambda sources: results.latency(_models(sources, "inference")),
    ),
    "cost": Picture(
        record="cost",
        alt="Speed and memory as training rows, rows of tables and the embedding's dimension grow",
        draw=lambda sources: results.cost(sources.records["cost"].metrics),
    ),
    "preprocessing": Picture(
        record="preprocess",
        alt="Seconds from raw text to encoded files, beside Polars, DuckDB and Spark DataFrames",
        draw=_preprocessing,
    ),
}


def drawn(sources: Sources) -> dict[str, Figure]:
    """Name → figure, of those whose record is there."""
    figures = {}
    for name, picture in PICTURES.items():
        if picture.record in sources.records:
            figure = picture.draw(sources)
            figure.set_figwidth(WIDTH)
            record = sources.records[picture.record]
            figures[name] = measured_on(figure, record, beside=picture.beside, kept=True)
    return figures
