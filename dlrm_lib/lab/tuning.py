"""The tuning lab: settings on the left, what they cost and how they train on the right, all runs below."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from dlrm_lib.config import Config
from dlrm_lib.dataset import EncodedDataset
from dlrm_lib.lab.history import History
from dlrm_lib.lab.run import Run

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from dlrm_lib.lab.bench import Bench


def tuning_lab(
    config: Config, dataset: EncodedDataset, folder: str | Path, *, headless: bool = False
) -> Bench | Figure:
    """Everything to tune with, on one screen; or one training with its curves as a picture.

    Args:
        config: What the form shows first, or what is trained.
        dataset: Rows to train on and to judge by. The test split is not looked at.
        folder: Where runs are kept, and found again.
        headless: Train once, keep the run and return the picture.
    """
    if not headless:
        from dlrm_lib.lab.bench import Bench

        return Bench(config, dataset, History(folder))
    from dlrm_lib.plots.training import learning_curves

    run = Run(config, dataset)
    run.train()
    History(folder).keep(run)
    print(f"{run.state} after {run.step:,} steps" + (f": {run.failure}" if run.failure else ""))
    return learning_curves(run.progress, run.evaluations, {}, negative_rate=dataset.manifest.negative_rate)
