"""Raw rows to an encoded data set: the plan that Spark carries out.

1. Cut the files into byte ranges. A task parses the lines that start in its range, numbers the tokens of each column
   with a dictionary of its own and spills the rows as codes. Rows never enter Java.
2. Count the codes of the rows that make the vocabulary. Spark shuffles the counts by column, one blob per task and
   column; a task per column adds them up, ranks the values, and gives every dictionary its ids.
3. Now that all row numbers and vocabularies are known, replace codes by ids: an array look-up. Held-out rows go
   straight to their place in the output; training rows are dealt into buckets, and each bucket is sorted into its
   place.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pyspark import SparkContext

from dlrm_lib.config import PreprocessConfig, as_dict, digest
from dlrm_lib.errors import InputError
from dlrm_lib.features import CRITEO, SPLITS, FeatureSpec, RawColumns
from dlrm_lib.files import new_folder
from dlrm_lib.preprocess import quarantine, tasks
from dlrm_lib.preprocess.session import spark_session
from dlrm_lib.preprocess.shuffle import bucket_bits
from dlrm_lib.preprocess.source import cut, sha256, source_files
from dlrm_lib.preprocess.spill import Part
from dlrm_lib.preprocess.tasks import Job, Layout

if TYPE_CHECKING:
    from dlrm_lib.dataset import Manifest

_RANGE_BYTES = 64 << 20
_STEPS = 5


def preprocess(
    source: str | Path,
    output: str | Path,
    config: PreprocessConfig,
    *,
    columns: RawColumns = CRITEO,
    cores: int | None = None,
    partitions: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Manifest:
    """Encodes raw rows. The bytes depend on the rows, the columns and the configuration alone.

    All days but the last are training rows; of the last day's accepted rows the first half (``n // 2``) is test, the
    rest validation. With one file or one day, the last ``round(n * holdout_fraction)`` accepted rows play the last day.

    Args:
        source: A folder with ``day_0`` ... ``day_{n-1}`` (or ``.gz``), or one file (or ``.gz``) in time order.
        output: The folder to make. A data set that is there is replaced once the new one is whole.
        config: How to encode.
        columns: How many integers and tokens a row has.
        cores: Tasks at a time, if Spark is not running yet; by default one per usable core.
        partitions: Into about how many ranges to cut the source; by default by size and cores.
        progress: Called with (steps done, steps in all).

    Returns:
        The manifest. The rejected lines are in ``quarantine/rejected.tsv``: file, line number, reason, the line.

    Raises:
        InputError: nothing to read, too many malformed lines, an output that is something else, or no Java.
    """
    from dlrm_lib.dataset import Manifest  # here, because it imports torch and workers import this module

    source, output = Path(source).absolute(), Path(output).absolute()
    files = source_files(source)
    _check_output(output, source)
    steps = iter(range(1, _STEPS + 1))

    def finished() -> None:
        if progress:
            progress(next(steps), _STEPS)

    spark = spark_session(cores).sparkContext
    with new_folder(output) as folder:
        job = Job(folder=folder, work=folder / "work", columns=columns, config=config)
        for name in ("work", "vocabulary", "quarantine", *SPLITS):
            (folder / name).mkdir()
        hashes = _run(spark, sha256, [(path,) for path in files])
        finished()
        parts = _parse(spark, job, files, partitions)
        quarantined = quarantine.collect(job, files, parts)
        train, test, validation = _split(parts, len(files), config.holdout_fraction)
        finished()
        counted = train if config.vocabulary_days == "training" else train + test + validation
        cardinalities, vocabulary = _make_vocabularies(spark, job, parts, counted)
        finished()
        spec = FeatureSpec(numerical=columns.numerical, cardinalities=cardinalities)
        layout = Layout(
            train=train,
            test=test,
            validation=validation,
            first_row=_starts(part.rows for part in parts),
            first_code=tuple(_starts(part.sizes[j] + 1 for part in parts) for j in range(columns.categorical)),
            category_dtypes=spec.category_dtypes,
            bucket_bits=bucket_bits(train),
        )
        _reserve(folder, layout, columns.numerical)
        encoded = _run(spark, partial(tasks.encode_part, job, layout), list(enumerate(parts)))
        finished()
        if config.order == "shuffled":
            _sort(spark, job, layout, parts, np.stack([counts for _, counts in encoded]))
        finished()
        shutil.rmtree(job.work)
        spec.write(folder / "feature_spec.yaml")
        manifest = Manifest(
            config=as_dict(config),
            source=[
                {"name": path.name, "bytes": path.stat().st_size, "sha256": sha}
                for path, sha in zip(files, hashes, strict=True)
            ],
            rows={split: getattr(layout, split) for split in SPLITS},
            clicks={split: sum(clicks[split] for clicks, _ in encoded) for split in SPLITS},
            quarantined=quarantined,
            cardinalities=list(cardinalities),
            vocabulary=vocabulary,
        )
        manifest.write(folder)
    return manifest


def _check_output(output: Path, source: Path) -> None:
    """Refuses to replace anything but a data set or an empty folder."""
    from dlrm_lib.dataset import MANIFEST

    remedy = "Name a folder that does not exist yet, or an encoded data set to replace."
    if source.resolve().is_relative_to(output.resolve()):
        raise InputError(f"{output} holds the raw rows: it cannot be the output.", remedy=remedy)
    if output.exists() and not (output / MANIFEST).exists():
        if not output.is_dir():
            raise InputError(f"{output} is a file.", remedy=remedy)
        if names := sorted(path.name for path in output.iterdir()):
            raise InputError(f"{output} is not an encoded data set.", found=", ".join(names[:5]), remedy=remedy)
    above = next(folder for folder in output.parents if folder.exists())
    if not os.access(above, os.W_OK):
        raise InputError(f"{above} cannot be written to.", remedy="Choose another output, or change its permissions.")


def _run(spark: SparkContext, task: Callable, arguments: list[tuple]) -> list[Any]:
    """Runs a task for each tuple of arguments; the results in the same order."""
    return _wait(spark, lambda: spark.parallelize(arguments, len(arguments)).map(lambda each: task(*each)).collect())


def _wait(spark: SparkContext, action: Callable[[], list[Any]]) -> list[Any]:
    """Does what calls Java in another thread, so that Ctrl-C finds this one outside any such call.

    pyspark's handler of Ctrl-C calls Java too, which garbles the answer to a call that is under way in the same thread.
    """
    with ThreadPoolExecutor(1) as thread:
        try:
            return thread.submit(action).result()
        except KeyboardInterrupt:
            spark.cancelAllJobs()
            raise


def _parse(spark: SparkContext, job: Job, files: list[Path], partitions: int | None) -> list[Part]:
    size = sum(path.stat().st_size for path in files)
    pieces = partitions or max(2 * spark.defaultParallelism, -(-size // _RANGE_BYTES))
    ranges = cut(files, max(1, -(-size // pieces)))
    results = _run(spark, partial(tasks.parse_range, job), [(piece,) for piece in ranges])
    for piece, result in zip(ranges, results, strict=True):
        if isinstance(result, str):
            raise InputError(
                f"{piece.path} cannot be read as text.",
                found=result,
                remedy="Fetch the file again, or compress it again.",
            )
    return [part for result in results for part in result]


def _split(parts: list[Part], files: int, holdout_fraction: float) -> tuple[int, int, int]:
    """Training, test and validation rows; in time order they follow each other like this."""
    rows = sum(part.rows for part in parts)
    if files > 1:
        held_out = sum(part.rows for part in parts if part.file == files - 1)
    else:
        held_out = round(rows * holdout_fraction)
    test = held_out // 2
    return rows - held_out, test, held_out - test


def _make_vocabularies(spark: SparkContext, job: Job, parts: list[Part], counted: int) -> tuple[tuple[int, ...], str]:
    """Cardinality of each column, and a hash of all vocabularies, made from the first ``counted`` rows."""
    if not job.columns.categorical:
        return (), digest([])
    arguments = [
        (index, part, counted - first)
        for index, (part, first) in enumerate(zip(parts, _starts(part.rows for part in parts), strict=True))
    ]
    merged = _wait(
        spark,
        lambda: (
            spark.parallelize(arguments, len(arguments))
            .flatMap(lambda each: tasks.count_part(job, *each))
            .partitionBy(job.columns.categorical, int)
            .mapPartitions(lambda blobs: [tasks.merge_column(job, list(blobs))])
            .collect()
        ),
    )
    return tuple(cardinality for cardinality, _ in merged), digest([values for _, values in merged])


def _reserve(folder: Path, layout: Layout, numerical: int) -> None:
    """Makes the binary files at their full size, for tasks to write into."""
    widths = {"label.bin": 1, "numerical.bin": 2 * numerical}
    widths |= {f"cat_{column}.bin": np.dtype(name).itemsize for column, name in enumerate(layout.category_dtypes)}
    for split in SPLITS:
        for name, width in widths.items():
            with open(folder / split / name, "wb") as file:
                file.truncate(getattr(layout, split) * width)


def _sort(spark: SparkContext, job: Job, layout: Layout, parts: list[Part], rows: np.ndarray) -> None:
    """Sorts the training rows, bucket by bucket; ``rows`` [parts, buckets] says how many each part dealt to each."""
    before = np.cumsum(rows, axis=1) - rows
    first = _starts(rows.sum(axis=0).tolist())
    buckets = []
    for bucket in np.flatnonzero(rows.any(axis=0)):
        from_parts = np.flatnonzero(rows[:, bucket])
        pieces = [(parts[i].name, int(before[i, bucket]), int(rows[i, bucket])) for i in from_parts]
        buckets.append((first[bucket], pieces))
    if buckets:
        _run(spark, partial(tasks.sort_bucket, job, layout), buckets)


def _starts(sizes: Iterable[int]) -> tuple[int, ...]:
    """Where each of several consecutive stretches starts."""
    return tuple(accumulate(sizes, initial=0))[:-1]
