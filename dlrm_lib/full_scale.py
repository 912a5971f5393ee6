"""Criteo's two click logs whole: the commands, and what they need of disk, memory and time.

They have not been run here. Disk is counted from rows and columns. Time is what the rows take at rates that were
measured on a small part, which leaves out what changes with size: vocabularies that no longer fit the caches, disks
that cannot keep up, files that must be unpacked.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dlrm_lib.columns import CRITEO
from dlrm_lib.config import Config
from dlrm_lib.download.sources import Published, kaggle, terabyte
from dlrm_lib.features import CRITEO_TERABYTE, FeatureSpec, split_rows
from dlrm_lib.model import blueprint
from dlrm_lib.optim import OPTIMIZERS
from dlrm_lib.preprocess.needs import disk_needs, memory_needs
from dlrm_lib.records import Record


@dataclass(frozen=True, kw_only=True)
class ClickLog:
    """One of Criteo's click logs.

    Attributes:
        name: What the download command calls it.
        preset: The preset for it.
        published: Where it comes from.
        training_rows: Rows that a model learns from.
        held_out_rows: Rows of validation and test together.
        table_rows: Ids of all columns together, about.
        model: The name, in the records of speed, of a model of the same size.
        auc: Test AUC to expect.
        auc_source: Why that.
    """

    name: str
    preset: str
    published: Published
    training_rows: int
    held_out_rows: int
    table_rows: int
    model: str
    auc: str
    auc_source: str

    @property
    def rows(self) -> int:
        """Rows in all."""
        return self.training_rows + self.held_out_rows


# The terabyte's rows by day are those of NVIDIA's published logs; its ids are counted with a frequency limit of 15.
CLICK_LOGS = (
    ClickLog(
        name="kaggle",
        preset="criteo_kaggle",
        published=kaggle(),
        training_rows=41_256_556,
        held_out_rows=4_584_061,
        table_rows=1_090_000,
        model="kaggle",
        auc="about 0.81",
        auc_source="DLRM reaches 0.8138 on a random split (BARS); a split in time is harder",
    ),
    ClickLog(
        name="terabyte",
        preset="criteo_terabyte",
        published=terabyte(),
        training_rows=4_195_197_692,
        held_out_rows=178_274_637,
        table_rows=sum(CRITEO_TERABYTE.cardinalities),
        model="nvidia",
        auc="0.8025 to 0.8037",
        auc_source="published by NVIDIA for this model and split; MLPerf's target was 0.8025",
    ),
)


@dataclass(frozen=True, kw_only=True)
class Rates:
    """Rows per second of each stage, as measured."""

    preprocessing: float
    training: float
    inference: float

    @classmethod
    def measured(cls, records: Mapping[str, Record], log: ClickLog) -> Rates:
        """From the records ``preprocess_scaling``, ``throughput`` and ``inference``, in fp32."""
        batch_size = Config.from_preset(log.preset).for_rows(log.training_rows).training.batch_size
        speeds = _fp32(records["throughput"], log.model)
        nearest = min(speeds, key=lambda point: abs(math.log(point["batch_size"] / batch_size)))
        return cls(
            preprocessing=records["preprocess_scaling"].metrics["marginal_rows_per_s"],
            training=nearest["samples_per_second"]["median"],
            inference=max(point["samples_per_second"] for point in _fp32(records["inference"], log.model)),
        )


@dataclass(frozen=True, kw_only=True)
class RecipeStep:
    """One command of a recipe and what it needs, estimated.

    Attributes:
        name: download, preprocess, train or test.
        command: To paste into a shell.
        seconds: None where it depends on the network alone.
        disk_bytes: New files at most, those included that are gone at the end.
        memory_bytes: None where it is little.
    """

    name: str
    command: str
    seconds: float | None = None
    disk_bytes: int = 0
    memory_bytes: int | None = None


def _fp32(record: Record, model: str) -> list[Mapping[str, Any]]:
    return [point for point in record.metrics["models"][model] if point["precision"] == "fp32"]


def recipe(log: ClickLog, rates: Rates, *, cores: int) -> list[RecipeStep]:
    """The commands from nothing to a tested model, and what each needs.

    Args:
        log: Which click log.
        rates: Measured on small data, with so many cores.
        cores: Tasks of ``preprocess`` at a time.
    """
    raw, encoded, checkpoint = f"data/{log.name}", f"data/{log.name}-encoded", f"data/{log.name}.safetensors"
    config = Config.from_preset(log.preset).for_rows(log.training_rows)
    source = f"{raw}/{log.published.targets[0].name}" if len(log.published.targets) == 1 else raw
    output, spill = disk_needs(log.rows, CRITEO)
    network = blueprint(FeatureSpec(numerical=CRITEO.numerical, cardinalities=(log.table_rows,)), config.model)
    rule = OPTIMIZERS[config.training.optimizer].of(network, config.training)
    tables = network.tables.weight.nbytes + rule.bytes_kept()
    # Validation after each pass, test at the end.
    evaluated = split_rows(log.rows, log.held_out_rows)["test"] / rates.inference
    return [
        RecipeStep(
            name="download",
            command=f"python -m dlrm_lib download {log.name} --output {raw}",
            disk_bytes=sum(target.needs for target in log.published.targets),
        ),
        RecipeStep(
            name="preprocess",
            command=f"python -m dlrm_lib preprocess --preset {log.preset} --input {source} --output {encoded}",
            seconds=log.rows / rates.preprocessing,
            disk_bytes=output + spill,
            memory_bytes=memory_needs(cores),
        ),
        RecipeStep(
            name="train",
            command=f"python -m dlrm_lib train --preset {log.preset} --dataset {encoded} "
            f"--save_checkpoint_path {checkpoint}",
            seconds=config.training.epochs * (log.training_rows / rates.training + evaluated),
            disk_bytes=2 * tables,
            memory_bytes=tables,
        ),
        RecipeStep(
            name="test",
            command=f"python -m dlrm_lib test --dataset {encoded} --load_checkpoint_path {checkpoint}",
            seconds=evaluated,
        ),
    ]
