"""The record of sixteen seeds shows that 16 bits are as good as fp32, with the settings of today's preset.

Training so many models takes hours, so ``ci/bench/stability.py`` measures it where there is time; here what it found is
worked out again from its runs, by other means than the bench's own.
"""

from __future__ import annotations

import copy
import dataclasses
import json
from collections.abc import Callable
from typing import Any
from unittest import mock

import numpy as np
import pytest
from bench import stability
from scipy import stats

from dlrm_lib.config import Config, as_dict, fields

SECTIONS = ("synthetic", "preprocess", "model", "training")
ROWS = 875_000  # trained on: settings that follow from them are recorded as what they came to
BOUND, SEEDS, PRECISIONS = 0.001, set(range(1, 17)), {"fp32", "bf16", "fp16"}


@pytest.fixture(scope="module")
def recorded(checkout) -> dict[str, Any]:
    return json.loads((checkout / "figures" / "records" / "stability.json").read_text(encoding="utf-8"))


def flat(config: dict[str, Any]) -> dict[str, Any]:
    """Setting → value, of the sections that decide an AUC: names are unique over all of them."""
    return {name: value for section in SECTIONS for name, value in config[section].items()}


def check_settings(record: dict[str, Any]) -> None:
    """A setting that the record is too old to know must be at its default, which leaves everything as it was."""
    laptop = Config.from_preset("laptop")
    laptop = dataclasses.replace(laptop.for_rows(ROWS), preprocess=laptop.preprocess.for_rows(ROWS))
    today, then = flat(as_dict(laptop)), flat(record["config"])
    defaults = flat(as_dict(Config()))
    assert {**{name: defaults[name] for name in today}, **then} == today
    assert record["config"]["judged_in"] == "fp32"


def check_equivalence(record: dict[str, Any]) -> None:
    """The 95 % interval of the paired difference lies within the bound, for both formats, over the same seeds."""
    aucs: dict[str, dict[int, float]] = {}
    for run in record["metrics"]["runs"]:
        assert run["seed"] not in aucs.setdefault(run["precision"], {}), "a seed twice"
        aucs[run["precision"]][run["seed"]] = run["test_last"]["auc"]
    assert aucs.keys() == PRECISIONS
    assert all(of.keys() == SEEDS for of in aucs.values())
    by_seed = {precision: np.array([of[seed] for seed in sorted(of)]) for precision, of in aucs.items()}
    assert all(len(set(of)) == len(SEEDS) for of in by_seed.values()), "seeds that make no difference"
    for precision in PRECISIONS - {"fp32"}:
        assert (by_seed[precision] != by_seed["fp32"]).all(), "fp32 under another name"
        interval = stats.ttest_rel(by_seed[precision], by_seed["fp32"]).confidence_interval(0.95)
        assert -BOUND < interval.low <= interval.high < BOUND, (precision, interval)


def test_half_precision_is_as_good_as_fp32(recorded):
    check_settings(recorded)
    check_equivalence(recorded)


def of(record: dict[str, Any], precision: str) -> list[dict[str, Any]]:
    return [run for run in record["metrics"]["runs"] if run["precision"] == precision]


def worse(record: dict[str, Any], precision: str, by: float) -> None:
    for run in of(record, precision):
        run["test_last"]["auc"] -= by


def few_bad_seeds(record: dict[str, Any]) -> None:
    """A mean within the bound that a few bad seeds leave uncertain."""
    for run in of(record, "fp16")[:2]:
        run["test_last"]["auc"] -= 0.006


def renamed(record: dict[str, Any]) -> None:
    for run, fp32 in zip(of(record, "bf16"), of(record, "fp32"), strict=True):
        run["test_last"] = fp32["test_last"]


CHANGES = {
    "bf16 is worse": lambda r: worse(r, "bf16", 0.001),
    "fp16 is better": lambda r: worse(r, "fp16", -0.001),
    "unsure": few_bad_seeds,
    "a seed is missing": lambda r: r["metrics"]["runs"].pop(),
    "a seed twice": lambda r: r["metrics"]["runs"].append(r["metrics"]["runs"][0]),
    "no fp16": lambda r: r["metrics"].update(runs=of(r, "fp32") + of(r, "bf16")),
    "fp32 under another name": renamed,
    "another rate": lambda r: r["config"]["training"].update(lr=0.02),
    "another model": lambda r: r["config"]["model"].update(embedding_dim=8),
    "other data": lambda r: r["config"]["preprocess"].update(frequency_limit=3),
    "a setting of the preset is not said": lambda r: r["config"]["training"].pop("optimizer"),
    "a setting that is no more": lambda r: r["config"]["training"].update(momentum=0.9),
    "judged in bf16": lambda r: r["config"].update(judged_in="bf16"),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_record_that_shows_less_is_refused(recorded, change: Callable[[dict[str, Any]], Any]):
    record = copy.deepcopy(recorded)
    change(record)
    with pytest.raises(AssertionError):
        test_half_precision_is_as_good_as_fp32(record)


def test_the_bench_measures_what_is_asked_of_its_record(monkeypatch, tmp_path):
    class Asked(Exception):
        pass

    def measure(config, folder, *, seeds, precisions, **_):
        raise Asked(config, set(seeds), set(precisions))

    monkeypatch.setattr(stability, "processor_on", lambda cores: None)
    monkeypatch.setattr(stability, "Workspace", mock.MagicMock())
    monkeypatch.setattr(stability, "measure", measure)
    with pytest.raises(Asked) as asked:
        stability.main([f"--record={tmp_path / 'x.json'}", f"--work_dir={tmp_path / 'work'}", "--cores=1"])
    assert asked.value.args == (Config.from_preset("laptop"), SEEDS, PRECISIONS)
    assert stability.AUC_BOUND == BOUND
    assert {section for section, _ in fields()} > set(SECTIONS)
