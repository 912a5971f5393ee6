"""Raw rows to an encoded data set: the plan that Spark carries out.

1. **Reading.** The files are cut into ranges. A task reads the rows of its range, numbers the tokens of each column
   with a dictionary of its own and spills the rows as codes. Rows never enter Java.
2. **Counting.** Spark shuffles the counts of all dictionaries by column; tasks add them up, rank the values, and give
   every dictionary its ids. Rules of numbers that are learned are learned now.
3. **Encoding.** Now that all row numbers and vocabularies are known, codes are replaced by ids: an array look-up.
   Held-out rows go straight to their place in the output; training rows, all or a sample, are dealt into buckets.
4. **Sorting.** Each bucket is sorted into its place.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from functools import partial
from itertools import accumulate, groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dlrm_lib.columns import CRITEO, RawColumns
from dlrm_lib.config import PreprocessConfig, as_dict, digest
from dlrm_lib.features import SPLITS, FeatureSpec, split_rows
from dlrm_lib.files import sha256
from dlrm_lib.manifest import Manifest
from dlrm_lib.numeric_rules import NumericRule
from dlrm_lib.places import destination, local
from dlrm_lib.preprocess import oddities, quarantine, start
from dlrm_lib.preprocess.ancestor import Ancestor, inherited, taken_over
from dlrm_lib.preprocess.counting import Ranked, Share, bins, count_before, count_part, merge_bin, rank_column
from dlrm_lib.preprocess.diagnosis import refuse_packed
from dlrm_lib.preprocess.forms import Range, cut, forms_of
from dlrm_lib.preprocess.job import Job
from dlrm_lib.preprocess.learning import sample_part, settled_rules
from dlrm_lib.preprocess.needs import Needs, check_needs, estimate_needs, fitting_tasks
from dlrm_lib.preprocess.numbers import learned
from dlrm_lib.preprocess.reading import hash_or_read
from dlrm_lib.preprocess.refusals import refuse_empty_days, refuse_empty_sample, refuse_empty_splits, refuse_output
from dlrm_lib.preprocess.sampling import count_kept_rows
from dlrm_lib.preprocess.shuffle import bucket_bits
from dlrm_lib.preprocess.source import file_names, source_days, unread
from dlrm_lib.preprocess.spill import Part
from dlrm_lib.preprocess.tally import described
from dlrm_lib.preprocess.unfinished import Unfinished, boot
from dlrm_lib.preprocess.writing import DEALT, Layout, encode_part, reserve, sort_bucket
from dlrm_lib.records import usable_cores

if TYPE_CHECKING:
    from pyspark import RDD

    from dlrm_lib.preprocess.tasks import Tasks

_LEAST_RANGE, _MOST_RANGE, _RANGES = 4 << 20, 128 << 20, 32  # bytes, bytes, number
_LEAST_BINS = 8


def preprocess(
    source: str | Path,
    output: str | Path,
    config: PreprocessConfig,
    *,
    columns: RawColumns | None = None,
    vocabulary: str | Path | None = None,
    extend: bool = False,
    master: str | None = None,
    cores: int | None = None,
    memory: int | None = None,
    partitions: int | None = None,
    spill: str | Path | None = None,
    announce: Callable[[str], None] | None = None,
    progress: Callable[[str, int, int], None] | None = None,
    allow_empty_days: bool = False,
    allow_empty_splits: bool = False,
) -> Manifest:
    """Encodes raw rows. The bytes depend on the rows, the columns and the configuration alone.

    All days but the last are training rows; of the last day's accepted rows the first half (``n // 2``) is test, the
    rest validation. With one file or one day, the last ``round(n * holdout_fraction)`` accepted rows play the last day.

    A run that ends before its time, killed or by an error that is not an ``InputError``, leaves a folder
    ``OUTPUT.partial-…``. The same call goes on where it was; a call for other rows or settings removes it.

    Args:
        source: A folder of days or a file in time order, as ``source_days`` takes it: plain lines, Parquet, or
            delimited text with a header.
        output: The folder to make. A data set that is there is replaced once the new one is whole. A link is followed;
            into a mount point, which cannot be renamed, the finished entries are moved, the manifest last.
        config: How to encode.
        columns: The columns of a row, by name where the files name theirs; by default those behind ``vocabulary``, or
            Criteo's.
        vocabulary: An encoded data set whose ids are taken over: every value that has one keeps it. Its settings that
            decide what ids and numbers mean, ``INHERITED``, must be those of ``config``, as ``inherited`` makes them.
        extend: Whether values that by now, over all its ancestors, it and these rows, were seen as often as the
            frequency limit wants get new ids behind the others; without it they share id 0.
        master: Where Spark runs, if it is not running yet: by default on this machine; else a master's URL.
        cores: Tasks at a time, if Spark is not running yet; by default one per usable core, as far as memory goes.
        memory: Bytes that all processes on this machine may take together; by default what is available.
        partitions: Into about how many ranges to cut the source; by default by its size.
        spill: Folder for intermediate files; by default beside the output.
        announce: Called with a sentence: what the run needs, and what it found of earlier ones.
        progress: Called with (phase, done, in all); the phases are ``reading``, ``encoding`` and ``sorting``, in rows
            (while reading, the rows in all are estimated), and ``counting``, in columns.
        allow_empty_days: Whether a day may have no rows.
        allow_empty_splits: Whether a split may be left without rows; those held out may with ``holdout_fraction`` 0.

    Returns:
        The manifest. The rejected lines are in ``quarantine/rejected.tsv``: file, line number, reason, the line.

    Raises:
        InputError: nothing to read, a source with what ``source_days`` refuses, files that are packed, of another
            format or without a column, a day or split without rows, too many malformed lines (or one, if ``strict``),
            too little disk or memory, an output that is something else, another run making the same data set, no Java,
            or a ``vocabulary`` that cannot be taken over (``taken_over``, ``inherited``).
    """
    source, output = local(source).absolute(), destination(output)
    ancestor = taken_over(vocabulary, output, extend=extend)
    if ancestor:
        columns, config = ancestor.same_columns(columns), inherited(config, ancestor.manifest)
    columns = columns or CRITEO
    days = source_days(source, allow_empty_days=allow_empty_days, later=ancestor is not None)
    files = [path for paths in days.values() for path in paths]
    refuse_packed(files, columns)
    columns, forms = forms_of(files, columns)
    if config.frequency_limit is not None:
        config.limits(columns.categorical_names)
    refuse_output(output, source)
    output.parent.mkdir(parents=True, exist_ok=True)
    say = announce or (lambda sentence: None)
    if others := unread(source):
        say(f"not read beside the day files: {', '.join(others[:5])}{', …' if len(others) > 5 else ''}")
    if ancestor:
        rest = "frequent ones get new ids behind them" if extend else "other values share id 0"
        say(f"ids: as in {ancestor.folder}; {rest}")
    if len(days) > 1:
        say(f"held out: {list(days)[-1]}, the last of {len(days)} days; its first half is the test split")
    # The output is part of it, for data sets of one name in several places may spill into one folder.
    identity = digest([str(output), _identity(files, columns, config, partitions, ancestor)])
    unfinished = Unfinished(output, identity, destination(spill) if spill else None)
    with unfinished.alone() as resumed:
        for path in unfinished.clear_others():
            say(f"removed {path}: left by an unfinished run of other rows or settings")
        if resumed:
            say(f"going on with what is in {unfinished.data.parent}")
        if not unfinished.whole:
            if cores is None and master is None:
                cores = fitting_tasks(memory, usable_cores())
            if master is None:
                start.begin(rows_in_java=False)
            # These import pyspark, for which Java need not wait.
            from dlrm_lib.preprocess.cluster import check_workers
            from dlrm_lib.preprocess.session import spark_context
            from dlrm_lib.preprocess.tasks import Tasks

            spark = spark_context(cores, master, rows_in_java=False)
            here = (spark.master or "").startswith("local")
            if not here:
                sources = [source, *([ancestor.folder] if ancestor else [])]
                check_workers(spark, unfinished.data, unfinished.work, sources=sources)
            needs = estimate_needs(files, forms, columns, spark.defaultParallelism, config)
            say(str(needs))
            check_needs(
                needs, unfinished.data, unfinished.work, cores=spark.defaultParallelism, here=here, memory=memory
            )
            job = Job(
                folder=unfinished.data,
                work=unfinished.work,
                columns=columns,
                config=config,
                files=tuple(files),
                names=tuple(file_names(days)),
                forms=forms,
                days=tuple(day for day, paths in days.items() for _ in paths),
                ancestor=ancestor,
            )
            tasks = Tasks(spark, job.work / "done", progress)
            hashes, parts = _read(tasks, job, partitions, needs)
            quarantined = quarantine.collect(job, parts, say)
            if not allow_empty_days:
                refuse_empty_days(source, job, parts)
            rows = _split(job, parts)
            kept = _sample(tasks, job, parts, rows)
            if not allow_empty_splits:
                refuse_empty_splits(job, rows)
                refuse_empty_sample(job, rows, kept)
            for remark in _make(tasks, job, hashes, parts, quarantined, rows, kept):
                say(remark)
        unfinished.finish()
    return Manifest.read(output)


def _identity(
    files: list[Path],
    columns: RawColumns,
    config: PreprocessConfig,
    partitions: int | None,
    ancestor: Ancestor | None,
) -> str:
    """Stands for all that decides what tasks leave on disk."""
    files = [*files, *(ancestor.files if ancestor else [])]
    stats = [path.stat() for path in files]
    return digest(
        {
            "code": [sha256(path) for path in _sources()],
            "files": [
                (str(path), stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)
                for path, stat in zip(files, stats, strict=True)
            ],
            "ancestor": [ancestor.manifest.ancestor, ancestor.extend] if ancestor else None,
            "columns": dataclasses.asdict(columns),
            "config": as_dict(config),
            "partitions": partitions,
            "boot": boot(),
        }
    )


def _sources() -> list[Path]:
    """All code that decides what tasks leave on disk: this package, and the ground that it stands on."""
    library = Path(__file__).parent.parent
    return [
        path for folder in (library, library / "config", library / "preprocess") for path in sorted(folder.glob("*.py"))
    ]


def _split(job: Job, parts: list[Part]) -> dict[str, int]:
    """Rows of each split, in the order of time."""
    rows = sum(part.rows for part in parts)
    last_day = sum(part.rows for part in parts if job.days[part.file] == job.days[-1])
    return split_rows(rows, last_day if len(set(job.days)) > 1 else round(rows * job.config.holdout_fraction))


def _sample(tasks: Tasks, job: Job, parts: list[Part], split: dict[str, int]) -> list[int]:
    """How many rows of each part stay: all, or those that ``negative_rate`` keeps."""
    if job.config.negative_rate == 1:
        return [part.rows for part in parts]
    firsts = _starts(part.rows for part in parts)
    return tasks.run("sampling", partial(count_kept_rows, job, split["train"]), list(zip(parts, firsts, strict=True)))


def _make(
    tasks: Tasks,
    job: Job,
    hashes: list[str],
    parts: list[Part],
    quarantined: dict[str, int],
    split: dict[str, int],
    kept: list[int],
) -> list[str]:
    """Makes the data set in ``job.folder``, the manifest last; returns what is worth a remark.

    Args:
        tasks: What runs on Spark.
        job: What every task needs to know.
        hashes: Of the files.
        parts: All parts.
        quarantined: Rejected lines by reason.
        split: Rows of each split.
        kept: How many rows of each part stay.
    """
    for name in ("vocabulary", *SPLITS):
        (job.folder / name).mkdir(exist_ok=True)
    counted = split["train"] if job.config.vocabulary_days == "training" else sum(split.values())
    job = dataclasses.replace(job, config=job.config.for_rows(counted))
    ranked, shares = _count(tasks, job, parts, counted)
    if job.ancestor:
        job.ancestor.check([column.taken for column in ranked])
    spec = FeatureSpec(
        numerical=job.columns.numerical,
        cardinalities=tuple(column.cardinality for column in ranked),
        numeric_rules=_learn(tasks, job, parts, counted),
        raw_columns=job.columns,
        missing_id=int(job.config.separate_missing),
    )
    left_out = sum(split.values()) - sum(kept)
    stay = split | {"train": split["train"] - left_out}
    layout = Layout(
        rows=split,
        kept=stay,
        spec=spec,
        shares=shares,
        parts=len(parts),
        bucket_bits=bucket_bits(stay["train"]),
    )
    clicks, columns = _write(tasks, job, layout, parts, kept)
    spec.write(job.folder / "feature_spec.yaml")
    cut = {
        column.name: sum(part.cut[j] for part in parts)
        for j, column in enumerate(job.columns.tokens)
        if column.most > 1
    }
    source = [
        {"name": name, "bytes": path.stat().st_size, "sha256": sha}
        for name, path, sha in zip(job.names, job.files, hashes, strict=True)
    ]
    Manifest(
        config=as_dict(job.config),
        source=source,
        rows={name: stay[name] for name in SPLITS},
        left_out=left_out,
        clicks=clicks,
        quarantined=quarantined,
        cardinalities=list(spec.cardinalities),
        vocabulary=digest([column.digest for column in ranked]),
        vocabularies=[column.digest for column in ranked],
        columns=columns,
        cut=cut,
        lineage=[*job.ancestor.manifest.lineage, job.ancestor.manifest.ancestor] if job.ancestor else [],
    ).write(job.folder)
    return [
        *oddities.remarks(ranked, job.columns),
        *oddities.of_bags(cut, job.columns),
        *(job.ancestor.remarks(source) if job.ancestor else []),
    ]


def _read(tasks: Tasks, job: Job, partitions: int | None, needs: Needs) -> tuple[list[str], list[Part]]:
    """The files' hashes and the parts. A file is hashed at about the time its ranges are read, mostly from memory."""
    if partitions:
        most = max(1, -(-needs.bytes // partitions))
    else:
        most = min(max(needs.bytes // _RANGES, _LEAST_RANGE), _MOST_RANGE)
    items: list[tuple[Path | Range]] = []
    for _, of_file in groupby(cut(job.files, job.forms, most), key=lambda piece: piece.path):
        pieces = list(of_file)
        items += [(pieces[0].path,), *((piece,) for piece in pieces)]

    def rows(_: int, result: str | list[Part]) -> int:
        return 0 if isinstance(result, str) else sum(part.rows for part in result)

    results = tasks.run("reading", partial(hash_or_read, job), items, rows, needs.rows)
    hashes = [result for result in results if isinstance(result, str)]
    return hashes, [part for result in results if not isinstance(result, str) for part in result]


def _count(
    tasks: Tasks, job: Job, parts: list[Part], counted: int
) -> tuple[list[Ranked], tuple[tuple[Share, ...], ...]]:
    """Each column's vocabulary, made from the first ``counted`` rows, and its shares."""
    of_bin = bins(job, parts, _LEAST_BINS)
    starts = _starts(part.rows for part in parts)
    attempt = tasks.attempt("counting")

    def counts(missing: list[int]) -> RDD:
        bin_of = {share: place for place, number in enumerate(missing) for share in of_bin[number]}
        items = [(index, part, counted - starts[index]) for index, part in enumerate(parts)]

        def merge(place: int, pairs: Iterable) -> Iterable:
            index = missing[place]
            return [(index, attempt(index, partial(merge_bin, job, len(parts), (blob for _, blob in pairs))))]

        counted_parts = tasks.spread(items, per_core=1).flatMap(lambda item: count_part(job, bin_of, *item))
        if job.ancestor:
            every = tasks.spread(range(job.columns.categorical), per_core=1)
            counted_parts = counted_parts.union(every.flatMap(lambda column: count_before(job, bin_of, column)))
        shuffled = counted_parts.partitionBy(len(missing), int)
        return shuffled.mapPartitionsWithIndex(merge)

    def columns(index: int, _: list[Ranked]) -> int:
        return sum(share.number == 0 for share in of_bin[index])

    results = tasks.collect("counting", len(of_bin), counts, columns, job.columns.categorical)
    shares = sorted(share for members in of_bin for share in members)
    of_column = tuple(
        tuple(share for share in shares if share.column == column) for column in range(job.columns.categorical)
    )
    large = [(shares, len(parts)) for shares in of_column if len(shares) > 1]
    ranked = [column for result in results for column in result]
    return sorted(ranked + tasks.run("ranking", partial(rank_column, job), large)), of_column


def _learn(tasks: Tasks, job: Job, parts: list[Part], counted: int) -> tuple[NumericRule, ...]:
    """How each numerical column is encoded: as before, or some as learned from the first ``counted`` rows."""
    if job.ancestor:
        return job.ancestor.numeric_rules
    samples: list[np.ndarray] = []
    if learned(job.columns):
        items = list(zip(parts, _starts(part.rows for part in parts), strict=True))
        samples = tasks.run("learning", partial(sample_part, job, counted), items)
    return settled_rules(job.columns, job.config.numeric_rule, samples)


def _write(
    tasks: Tasks, job: Job, layout: Layout, parts: list[Part], kept: list[int]
) -> tuple[dict[str, int], dict[str, dict[str, dict[str, Any]]]]:
    """Writes all rows that stay; returns the clicks of each split, and what its columns hold."""
    reserve(job, layout)
    firsts, firsts_kept = _starts(part.rows for part in parts), _starts(kept)
    items = [(index, part, firsts[index], firsts_kept[index]) for index, part in enumerate(parts)]
    rows = sum(part.rows for part in parts)
    encoded = tasks.run("encoding", partial(encode_part, job, layout), items, lambda at, _: parts[at].rows, rows)
    if job.config.order == "shuffled" and layout.kept["train"]:
        for part in parts:  # room for what comes
            for kind in ("rows", "numbers"):
                (job.work / f"{part.name}.{kind}").unlink(missing_ok=True)
        dealt = np.stack([counts for _, _, counts in encoded])
        np.save(job.work / DEALT, np.cumsum(np.pad(dealt, ((0, 0), (1, 0))), axis=1))
        sizes = dealt.sum(axis=0).tolist()
        buckets = [(bucket, first) for bucket, first in enumerate(_starts(sizes)) if sizes[bucket]]
        sort, rows = partial(sort_bucket, job, layout), layout.kept["train"]
        tasks.run("sorting", sort, buckets, lambda at, _: sizes[buckets[at][0]], rows)
    clicks = {split: sum(clicks[split] for clicks, _, _ in encoded) for split in SPLITS}
    return clicks, described({split: [tallies[split] for _, tallies, _ in encoded] for split in SPLITS})


def _starts(sizes: Iterable[int]) -> tuple[int, ...]:
    """Where each of several consecutive stretches starts."""
    return tuple(accumulate(sizes, initial=0))[:-1]
