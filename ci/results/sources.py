"""What figures and tables are made from: the records, the published results, and the names that people read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from dlrm_lib.records import Record, read_record

RECORDS, PUBLISHED = Path("figures/records"), Path("data/published_results.csv")
# The models of the benches, by their names in records.
MODELS = {"laptop": "`laptop`", "kaggle": "`criteo_kaggle`", "nvidia": "NVIDIA's of 2020"}
STEP_MODELS = {"S": MODELS["laptop"], "N": MODELS["nvidia"], "H": "Habana's Medium"}
PROGRAMS = {
    "plain": "plain PyTorch",
    "torchrec": "TorchRec + FBGEMM",
    "ours-fp32": "dlrm_lib, eager",
    "ours-fp32-compiled": "dlrm_lib, compiled",
    "ours-bf16-compiled": "dlrm_lib, compiled, bf16",
}
ENCODERS = {
    "ours": "dlrm_lib, on Spark",
    "dataframe": "Spark DataFrames",
    "polars": "Polars",
    "polars_tuned": "Polars, tuned",
    "duckdb": "DuckDB",
}


@dataclass(frozen=True, kw_only=True)
class Sources:
    """Everything that was measured, here and by others.

    Attributes:
        records: File name without its ending → record.
        published: ``data/published_results.csv``.
    """

    records: Mapping[str, Record]
    published: pd.DataFrame

    @classmethod
    def read(cls, root: Path) -> Sources:
        """What the checkout ``root`` holds.

        Raises:
            InputError: a record is broken.
        """
        records = {path.stem: read_record(path) for path in sorted((root / RECORDS).glob("*.json"))}
        return cls(records=records, published=pd.read_csv(root / PUBLISHED))

    def seeds(self) -> dict[str, dict[str, list[float]]]:
        """System → precision → test AUC of each seed: ours at the last step, and NVIDIA's of 2020, published."""
        ours: dict[str, list[float]] = {}
        for run in self.records["stability"].metrics["runs"]:
            ours.setdefault(run["precision"], []).append(run["test_last"]["auc"])
        theirs = self.nvidia_seeds.groupby("precision", sort=False)["value"].apply(list)
        return {"this workbook": ours, "NVIDIA, 2020": theirs.to_dict()}

    @property
    def nvidia_seeds(self) -> pd.DataFrame:
        """The rows with NVIDIA's 16 seeds."""
        table = self.published
        return table[table["source"].eq("README, training stability test") & table["seed"].notna()]

    def ladder(self) -> dict[str, float | None]:
        """Test AUCs from guessing to the ceiling, in the order in which they are drawn; None: not measured yet."""
        found = self.records["ladder"].metrics
        models = {name: found[f"{name.replace(' ', '_')}_auc"] for name in ("logistic regression", "boosted trees")}
        ceiling = {f"ceiling, {kind} rows": found["ceiling"]["test"][kind]["auc"] for kind in ("encoded", "raw")}
        models["DLRM with dcn"] = found.get("DLRM_with_dcn_auc")  # an older record lacks it
        return {"guessing": 0.5, **models, "DLRM": found["test"]["auc"], **ceiling}
