"""The pipeline that chapter 02 teaches, and what it says about stages: Spark DataFrames as a second oracle.

The cells come from the notebook, so what is taught is what is tested. Nothing in them is shared with the library.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import nbformat
import numpy as np
import oracle_preprocess as oracle
import pandas as pd
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
from pyspark.sql import SparkSession

from dlrm_lib.columns import CRITEO, RawColumns
from dlrm_lib.config import PreprocessConfig, SyntheticConfig
from dlrm_lib.dataset import EncodedDataset
from dlrm_lib.errors import InputError
from dlrm_lib.preprocess import preprocess, source_files
from dlrm_lib.preprocess.session import spark_session
from dlrm_lib.preprocess.stages import stages
from dlrm_lib.synthetic import generate
from runner.cells import tagged_source

# pyspark 3.5's toPandas: how it looks at the version of pandas, and what it calls there.
pytestmark = [
    pytest.mark.filterwarnings("ignore:distutils Version classes:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:The copy keyword is deprecated:DeprecationWarning"),
]

N, M = CRITEO.numerical, CRITEO.categorical


@pytest.fixture(scope="module")
def spark() -> Iterator[SparkSession]:
    session = spark_session(cores=2)
    yield session
    session.stop()


@pytest.fixture(scope="module")
def days(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """3,000 rows in three days."""
    folder = tmp_path_factory.mktemp("days") / "raw"
    generate(folder, SyntheticConfig(rows=3000, days=3, data_seed=7), frequency_limit=3, workers=1)
    return folder


@pytest.fixture(scope="module")
def pipeline(spark: SparkSession, checkout: Path) -> Callable[[Path, PreprocessConfig, Path], dict]:
    """Runs the tagged cells; returns their names."""
    source = tagged_source(checkout / "notebooks" / "02_spark_preprocessing.ipynb", "dataframe")
    code = compile(source, "chapter 02", "exec")

    def run(raw: Path, settings: PreprocessConfig, scratch: Path, columns: RawColumns = CRITEO) -> dict:
        names = {"spark": spark, "files": source_files(raw), "settings": settings, "scratch": scratch}
        names["raw_columns"] = columns
        exec(code, names)
        return names

    return run


@pytest.mark.parametrize(
    ("one_file", "changes"),
    [
        (False, {"frequency_limit": 3}),
        (False, {"frequency_limit": "3,0:1,25:40", "vocabulary_days": "all", "order": "input"}),
        (False, {"frequency_limit": 1, "numeric_rule": "log_x_plus_3", "shuffle_seed": 5, "negative_rate": 0.4}),
        (True, {"frequency_limit": 3, "order": "input", "holdout_fraction": 0.25}),
    ],
)
def test_the_dataframe_pipeline_and_the_library_agree(tmp_path, days, pipeline, one_file, changes):
    settings = PreprocessConfig(**changes)
    raw = days
    if one_file:
        raw = tmp_path / "rows.tsv"
        raw.write_bytes(b"".join(path.read_bytes() for path in source_files(days)))
    pipeline(raw, settings, tmp_path / "scratch")
    preprocess(raw, tmp_path / "library", settings)

    vocabulary = pd.read_parquet(tmp_path / "scratch" / "vocabulary").sort_values(["column", "id"])
    for column in range(M):
        theirs = pd.read_parquet(tmp_path / "library" / "vocabulary" / f"cat_{column}.parquet")
        mine = vocabulary[vocabulary["column"] == column]
        assert mine[["value", "count", "id"]].values.tolist() == theirs[["value", "count", "id"]].values.tolist()

    encoded = pd.read_parquet(tmp_path / "scratch" / "encoded").sort_values("row")
    dataset = EncodedDataset(tmp_path / "library")
    at, labels = 0, encoded["label"].tolist()
    for split in ("train", "test", "validation"):  # in time order
        rows, accepted = getattr(dataset, split), dataset.manifest.accepted[split]
        order = range(at, at + accepted)
        if split == "train":
            order = [row for row in order if oracle.stays(oracle.Row(labels[row], [], []), row, settings)]
        if split == "train" and settings.order == "shuffled":
            order = sorted(order, key=lambda row: oracle.splitmix64(settings.shuffle_seed, row))
        mine = encoded.iloc[order]
        assert mine["label"].tolist() == rows.label.tolist()
        numbers = mine[[f"I{i + 1}" for i in range(N)]].to_numpy().astype(np.float16)
        assert numbers.tobytes() == rows.numerical.tobytes()
        for column, ids in enumerate(rows.categorical):
            assert mine[f"cat_{column}"].tolist() == ids.tolist(), f"{split}, column {column}"
        at += accepted
    assert at == len(encoded) == 3000
    assert dataset.manifest.quarantined == {}


def test_stages_tell_what_was_read_and_shuffled(spark, tmp_path):
    (tmp_path / "lines").write_text("a\nb\na\nc\na\n")
    spark.sparkContext.setJobDescription("count letters")
    spark.read.text(str(tmp_path / "lines")).groupBy("value").count().collect()
    spark.sparkContext.setJobDescription(None)
    found = [stage for stage in stages(spark) if stage.step == "count letters"]
    assert [(stage.rows, stage.shuffled_records) for stage in found] == [(5, 3), (0, 0)]
    assert found[0].shuffled_bytes > 0
    assert found[0].begin <= found[0].end <= found[1].begin <= found[1].end
    assert stages(spark, since=found[1].begin)[0] == found[1]
    assert stages(spark, since=found[1].end + 1) == []


def test_tagged_cells_are_joined_in_order(tmp_path):
    cells = [new_code_cell("a = 1", metadata={"tags": ["x", "y"]}), new_code_cell("no = 1")]
    cells += [new_markdown_cell("prose", metadata={"tags": ["x"]}), new_code_cell("b = 2", metadata={"tags": ["x"]})]
    nbformat.write(new_notebook(cells=cells), tmp_path / "n.ipynb")
    assert tagged_source(tmp_path / "n.ipynb", "x") == "a = 1\n\nb = 2\n"
    with pytest.raises(InputError, match=r"n\.ipynb has no code cell tagged `z`"):
        tagged_source(tmp_path / "n.ipynb", "z")
