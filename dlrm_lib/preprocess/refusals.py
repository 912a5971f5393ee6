"""What a run refuses: an output that is something else, and days and splits that turn out to be without rows."""

from __future__ import annotations

import glob
import os
from pathlib import Path

from dlrm_lib.errors import InputError
from dlrm_lib.features import SPLITS
from dlrm_lib.files import cannot_be_renamed, contents, put_back
from dlrm_lib.manifest import MANIFEST
from dlrm_lib.preprocess.job import Job
from dlrm_lib.preprocess.source import empty_day
from dlrm_lib.preprocess.spill import Part


def refuse_output(output: Path, source: Path) -> None:
    """Refuses to replace anything but a data set or an empty folder."""
    put_back(output)
    remedy = "Name a folder that does not exist yet, or an encoded data set to replace."
    if source.resolve().is_relative_to(output.resolve()):
        raise InputError(f"{output} holds the raw rows: it cannot be the output.", remedy=remedy)
    if output.exists() and not (output / MANIFEST).exists():
        if not output.is_dir():
            raise InputError(f"{output} is a file.", remedy=remedy)
        names = [path.name for path in contents(output)]
        # A place that is being filled from within; or beside which is what was on its way into it.
        unfinished = any(name.startswith(f"{output.name}.partial-") for name in names)
        unfinished |= any(output.parent.glob(f"{glob.escape(output.name)}.partial-*/whole"))
        if names and not unfinished:
            raise InputError(f"{output} is not an encoded data set.", found=", ".join(names[:5]), remedy=remedy)
    above = output if cannot_be_renamed(output) else next(folder for folder in output.parents if folder.exists())
    if not above.is_dir() or not os.access(above, os.W_OK):
        raise InputError(f"{above} cannot be written to.", remedy="Choose another output, or change its permissions.")


def refuse_empty_days(source: Path, job: Job, parts: list[Part]) -> None:
    """Refuses a day whose lines were all rejected, or that unpacks to nothing."""
    days = list(dict.fromkeys(job.days))
    for day in days if len(days) > 1 else ():
        of_day = [part for part in parts if job.days[part.file] == day]
        if not any(part.rows for part in of_day):
            lines, unit = sum(part.lines for part in of_day), job.forms[job.days.index(day)].unit
            raise empty_day(day, f"{lines:,} {unit}s, all rejected" if lines else f"no {unit}", days, source)


def refuse_empty_splits(job: Job, rows: dict[str, int]) -> None:
    """Refuses what could not be trained on, validated or tested, unless nothing was to be held out."""
    days, fraction = list(dict.fromkeys(job.days)), job.config.holdout_fraction
    one = len(days) == 1
    empty = [name for name in SPLITS if not rows[name] and (name == "train" or not one or fraction)]
    if not empty:
        return
    every, held_out = sum(rows.values()), rows["test"] + rows["validation"]
    if one:
        where = f"--holdout_fraction {fraction:g} of the {every:,} rows of {days[0]}"
        better = next((k / 100 for k in range(1, 100) if 2 <= round(every * k / 100) < every), None)
        remedy = f"Choose --holdout_fraction {better:g} or another that fits; " if better else "Give more rows; "
    else:
        where, remedy = f"{days[-1]}, the last of {len(days)} days,", "Give a last day with more rows; "
    raise InputError(
        f"{where} leaves no rows for {' and '.join(empty)}.",
        found=f"{rows['train']:,} rows to train on, {held_out:,} held out",
        remedy=f"{remedy}or accept it with --allow_empty_splits.",
    )


def refuse_empty_sample(job: Job, rows: dict[str, int], kept: list[int]) -> None:
    """Refuses a ``negative_rate`` that leaves nothing to train on."""
    if sum(kept) == rows["test"] + rows["validation"]:
        raise InputError(
            f"--negative_rate {job.config.negative_rate:g} leaves no rows for train.",
            found=f"{rows['train']:,} rows to train on, none of them a click",
            remedy="Raise --negative_rate; or accept it with --allow_empty_splits.",
            fields=("negative_rate",),
        )
