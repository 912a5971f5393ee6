"""What a person should know of a result before trusting it, with the likely causes."""

from __future__ import annotations

import math

from dlrm_lib.training.evaluation import Evaluation

CALIBRATED = (0.8, 1.25)  # clicks predicted for each that happened


def remarks(evaluation: Evaluation) -> list[str]:
    """A sentence or two for each thing that makes a result worthless or doubtful; none for a sound one.

    They are that a split has one class, that the model is no better than its click rate, and that it predicts far too
    many or too few clicks. What chance would do as well on so few rows is no reason for the last, but for the second.
    """
    of, split = evaluation, evaluation.split
    if of.auc is None:
        what = "no row is a click" if of.calibration is None else "every row is a click"
        return [
            f"{split}: {what}, so that there is no AUC, and nothing shows whether the model can tell clicks apart. "
            "Likely causes: too few rows are held out, or the labels of the last rows are not complete."
        ]
    found = []
    by_chance = of.auc <= 0.5 + _chance(of)
    if of.is_no_better_than_the_base_rate:
        found.append(
            f"{split}: no better than the base rate: normalised entropy {of.normalised_entropy:.4f}, and 1 is what "
            "predicting the click rate for every row would give. Likely causes: "
            + (
                "a schedule, batch or frequency limit that does not fit the number of rows, a learning rate too high "
                "or too low, or columns that say nothing about clicks."
                if by_chance
                else "too many passes or too high a learning rate for so few rows, or rows unlike those trained on."
            )
        )
    elif by_chance:
        found.append(
            f"{split}: AUC {of.auc:.4f} cannot be told from that of guessing, 0.5, on {of.rows:,} rows"
            + ("" if of.clicks is None else f" with {of.clicks:,} clicks")
            + ". Likely causes: too few rows, too short a training, or columns that say nothing about clicks."
        )
    low, high = CALIBRATED
    if of.calibration is not None and not low <= of.calibration <= high and _is_many(of):
        found.append(
            f"{split}: predicts {of.calibration:.2f} clicks for each that happened. Likely causes: another share of "
            "clicks in the rows trained on, too many passes over few rows, or a training that ended too early."
        )
    return found


def _chance(of: Evaluation) -> float:
    """How far above 0.5 the AUC of guesses comes in 39 of 40 splits with so many clicks (Mann and Whitney 1947)."""
    if of.clicks is None:
        return 0.0
    return 1.96 * math.sqrt((of.rows + 1) / (12 * of.clicks * (of.rows - of.clicks)))


def _is_many(of: Evaluation) -> bool:
    """Whether the clicks are so many that chance does not explain a calibration: three standard deviations of them."""
    assert of.calibration is not None
    return of.clicks is None or abs(of.calibration - 1) * math.sqrt(of.clicks) > 3
