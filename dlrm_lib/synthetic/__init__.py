"""Synthetic click logs in Criteo's raw layout, with a planted signal and the best AUC that anything can reach on them.

``columns`` says how cells are distributed, ``signal`` how they make a click, ``rows`` draws and writes them, and
``ceiling`` scores them ideally. The generator was frozen before any DLRM was trained on it, and any change to its bytes
needs a new ``version``.
"""

from __future__ import annotations

import collections
import dataclasses
import hashlib
import itertools
import json
import multiprocessing
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from dlrm_lib.columns import CRITEO
from dlrm_lib.config import PreprocessConfig, SyntheticConfig
from dlrm_lib.errors import InputError
from dlrm_lib.features import SPLITS, split_rows
from dlrm_lib.files import new_folder, write_text
from dlrm_lib.locks import owned
from dlrm_lib.numeric_rules import NUMERIC_RULES, LogRule
from dlrm_lib.places import destination
from dlrm_lib.synthetic.ceiling import EncodedView, quality, visible
from dlrm_lib.synthetic.columns import CATEGORICALS
from dlrm_lib.synthetic.rows import CHUNK, Source

version = 1

_MOST_DAYS = 366


def generate(
    folder: Path,
    config: SyntheticConfig,
    *,
    frequency_limit: int | str | None = 15,
    numeric_rule: str = "log_x_plus_2",
    workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Writes ``day_0`` … ``day_{days - 1}`` and ``ceiling.json`` to ``folder``, which is replaced.

    The bytes depend on ``config`` alone, and those of ``ceiling.json`` also on ``frequency_limit`` and
    ``numeric_rule``.

    Args:
        folder: Where the data set goes; it appears whole or not at all.
        config: Rows, days, seed.
        frequency_limit: A token seen fewer times in the training days is hidden from those who see the encoded rows;
            as ``PreprocessConfig`` has it.
        numeric_rule: Decides which integers look like missing ones to them; as ``PreprocessConfig`` has it.
        workers: Processes to use.
        progress: Called with (rows written, rows in all).

    Returns:
        What ``ceiling.json`` says: ``version``, ``config``, ``data_seed``, ``frequency_limit``, ``numeric_rule``, per
        file under ``files`` its ``name``, ``bytes`` and ``sha256``, and per split under ``splits`` its ``rows``,
        ``clicks``, and for ``raw`` and ``encoded`` what ``ceiling.quality`` returns.

    Raises:
        InputError: fewer than two rows per day, too many days, a limit or number of workers below 1, or another run
            writing to the folder.
    """
    _check(config, workers)
    source = Source(config.data_seed)
    counts = [np.zeros(column.identifiers(config.days), np.int32) for column in CATEGORICALS]
    chunks = list(_chunks(config))
    training_rows = sum(rows for day, _, rows in chunks if day < config.days - 1)
    encoding = PreprocessConfig(frequency_limit=frequency_limit, numeric_rule=numeric_rule)
    limits = encoding.for_rows(training_rows).limits(CRITEO.categorical_names)
    labels, raw, files = [], [], []
    place = destination(folder)
    with owned(place, remedy="Wait until it is done, or choose another --output."), new_folder(place) as partial:
        tasks = ((day, chunk, rows, day < config.days - 1) for day, chunk, rows in chunks)
        results = _each(_write, tasks, workers, (source,))
        for day, of_day in itertools.groupby(chunks, key=lambda chunk: chunk[0]):
            digest = hashlib.sha256()
            with open(partial / f"day_{day}", "wb") as file:
                for _, (text, label, chance, identifiers) in zip(of_day, results, strict=False):
                    file.write(text)
                    digest.update(text)
                    labels.append(label)
                    raw.append(chance)
                    for count, identifier in zip(counts, identifiers, strict=bool(identifiers)):
                        np.add.at(count, identifier, np.int32(1))  # A plain 1 takes NumPy's slow path.
                    if progress:
                        progress(sum(map(len, labels)), config.rows)
                files.append({"name": f"day_{day}", "bytes": file.tell(), "sha256": digest.hexdigest()})

        frequent = [count >= limit for count, limit in zip(counts, limits, strict=True)]
        encoded = list(_each(_score, chunks, workers, (source, frequent, NUMERIC_RULES[numeric_rule])))
        result = {
            "version": version,
            "config": dataclasses.asdict(config),
            "data_seed": config.data_seed,
            "frequency_limit": frequency_limit,
            "numeric_rule": numeric_rule,
            "files": files,
            "splits": _splits(config, *map(np.concatenate, (labels, raw, encoded))),
        }
        write_text(partial / "ceiling.json", json.dumps(result, indent=1) + "\n")
    return result


def day_rows(config: SyntheticConfig, day: int) -> int:
    """Rows of a day: spread evenly, the first days taking one more where they do not divide."""
    return config.rows // config.days + (day < config.rows % config.days)


def _chunks(config: SyntheticConfig) -> Iterator[tuple[int, int, int]]:
    """(day, number within the day, rows) of every chunk, in the order of the rows."""
    for day in range(config.days):
        for chunk, start in enumerate(range(0, day_rows(config, day), CHUNK)):
            yield day, chunk, min(CHUNK, day_rows(config, day) - start)


def _splits(config: SyntheticConfig, label: np.ndarray, raw: np.ndarray, encoded: np.ndarray) -> dict[str, Any]:
    """What each split's rows say, and how well they can be scored."""
    rows = split_rows(config.rows, day_rows(config, config.days - 1))
    ends = itertools.accumulate(rows.values())
    parts = {split: slice(end - rows[split], end) for split, end in zip(rows, ends, strict=True)}
    return {
        split: {
            "rows": len(label[parts[split]]),
            "clicks": int(label[parts[split]].sum()),
            "raw": quality(label[parts[split]], raw[parts[split]], raw[parts[split]]),
            "encoded": quality(label[parts[split]], raw[parts[split]], encoded[parts[split]]),
        }
        for split in SPLITS
    }


def _check(config: SyntheticConfig, workers: int) -> None:
    if config.rows < 2 * config.days:
        raise InputError(
            "--rows is too small: every day needs at least two rows, as the last one becomes test and validation.",
            found=f"{config.rows} rows for {config.days} days",
            remedy=f"Ask for at least {2 * config.days} rows, or for fewer days.",
            fields=("rows", "days"),
        )
    if config.days > _MOST_DAYS:
        raise InputError(
            "--days is too large.",
            found=config.days,
            remedy=f"Ask for at most {_MOST_DAYS} days.",
            fields=("days",),
        )
    if workers < 1:
        raise InputError("--workers must be at least 1.", found=workers, remedy="Give --workers a number above 0.")


class _Worker:
    """What a process keeps between chunks."""

    def __init__(
        self,
        source: Source,
        frequent: Sequence[np.ndarray] = (),
        rule: LogRule = NUMERIC_RULES["log_x_plus_2"],
    ) -> None:
        self.source = source
        self.frequent = frequent
        self.rule = rule
        self.views: dict[int, EncodedView] = {}

    def view(self, day: int) -> EncodedView:
        """The encoded view of a day; the latest is kept."""
        if day not in self.views:
            seen = [visible(frequent, column, day) for column, frequent in enumerate(self.frequent)]
            self.views = {day: EncodedView(self.source.on(day), self.source.signal.chances, seen, self.rule)}
        return self.views[day]


def _write(worker: _Worker, day: int, chunk: int, rows: int, count: bool) -> tuple:
    """Text, labels, click probabilities and, if they are to be counted, identifiers of a chunk."""
    drawn = worker.source.draw(day, chunk, rows)
    return worker.source.text(drawn), drawn.label, drawn.probability, drawn.identifiers if count else []


def _score(worker: _Worker, day: int, chunk: int, rows: int) -> np.ndarray:
    """E[p | encoded row] of a chunk."""
    return worker.view(day).probability(worker.source.outcomes(day, chunk, rows))


def _each(function: Callable, tasks: Iterable[tuple], workers: int, start: tuple) -> Iterator[Any]:
    """``function(worker, *task)`` for each task, in order; processes work a few tasks ahead."""
    if workers == 1:
        worker = _Worker(*start)
        yield from (function(worker, *task) for task in tasks)
        return
    # Fresh processes: a fork would copy the threads' locks of a notebook or of torch in whatever state they are.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, _start, start) as pool:
        ahead: collections.deque = collections.deque()
        for task in tasks:
            ahead.append(pool.submit(_run, function, task))
            if len(ahead) > 2 * workers:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()


_worker: _Worker  # of this process


def _start(*start: Any) -> None:
    global _worker
    _worker = _Worker(*start)


def _run(function: Callable, task: tuple) -> Any:
    return function(_worker, *task)
