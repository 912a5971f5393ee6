"""What the trials of a search say: all of them in a table, and which settings decided."""

from __future__ import annotations

from collections.abc import Sequence

import optuna
import pandas as pd
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
from optuna.trial import FrozenTrial, create_trial

from dlrm_lib.lab.trials_file import quiet

# Trials of which importances can be told, and the share of them that is looked at as good.
_TO_WEIGH, _GOOD = 8, 0.25


def table(names: Sequence[str], trials: Sequence[FrozenTrial]) -> pd.DataFrame:
    """A line per trial, counted from 1; ``Search.table`` says what is in it."""
    lines = []
    for trial in trials:
        about = trial.user_attrs
        lines.append(
            {
                **{name: about.get("values", {}).get(name) for name in names},
                "AUC": about.get("auc"),
                "state": about.get("state", "running"),
                "seconds": about.get("seconds"),
                "run": about.get("run"),
                "why": about["why"].splitlines()[0] if about.get("why") else None,
            }
        )
    columns = [*names, "AUC", "state", "seconds", "run", "why"]
    index = pd.RangeIndex(1, len(lines) + 1, name="trial")
    texts = dict.fromkeys(("state", "run", "why"), "string")
    return pd.DataFrame(lines, index=index, columns=columns).astype(texts | {"AUC": float, "seconds": float})


def importances(trials: Sequence[FrozenTrial]) -> dict[str, float] | None:
    """How much each setting decided which trials are among the best quarter.

    By PED-ANOVA (Watanabe et al., IJCAI 2023), over the trials with an AUC whose training did not fail, those given up
    with what they had reached. None while they are fewer than ``_TO_WEIGH``, or where all reached the same.
    """
    judged = [trial for trial in trials if trial.user_attrs["state"] in ("finished", "pruned")]
    if len(judged) < _TO_WEIGH or len({trial.user_attrs["auc"] for trial in judged}) < 2:
        return None
    with quiet():
        study = optuna.create_study(direction="maximize")
    for trial in judged:
        value = trial.user_attrs["auc"]
        study.add_trial(create_trial(params=trial.params, distributions=trial.distributions, value=value))
    return get_param_importances(study, evaluator=PedAnovaImportanceEvaluator(target_quantile=_GOOD))
