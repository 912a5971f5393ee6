"""How fast synthetic rows are generated on one core, beside PyArrow writing the same columns as text.

    python ci/bench/generate.py [--rows 500000] [--repeats 3] [--record PATH]

Three things are timed in turn, ``--repeats`` times, and their medians printed: ``generate`` (rows, text on disk and
ceiling), its rows and text alone, and ``pyarrow.csv.write_csv`` of the same columns, drawn beforehand, so that PyArrow
only formats and writes. Rows per second are given by the clock, and by the processor time used, which says more on a
machine that is shared.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.command_line import command, count, ended, keep, keep_to, parsed

from dlrm_lib.config import SyntheticConfig
from dlrm_lib.synthetic import generate
from dlrm_lib.synthetic.columns import CATEGORICALS, INTEGERS, MISSING
from dlrm_lib.synthetic.rows import CHUNK, Source, tokens


def rows_and_text(path: Path, config: SyntheticConfig) -> None:
    """One day file without a ceiling, by the clock of a generator that is already set up."""
    source = Source(config.data_seed)
    with open(path, "wb") as file:
        for chunk, start in enumerate(range(0, config.rows, CHUNK)):
            file.write(source.text(source.draw(0, chunk, min(CHUNK, config.rows - start))))


def columns(config: SyntheticConfig) -> pa.Table:
    """The same rows as a table of integers and strings with nulls."""
    source, batches = Source(config.data_seed), []
    for chunk, start in enumerate(range(0, config.rows, CHUNK)):
        rows = source.draw(0, chunk, min(CHUNK, config.rows - start))
        data: dict[str, pa.Array] = {"label": pa.array(rows.label.astype(np.int8))}
        for i in range(len(INTEGERS)):
            values = source.on(0).integers[i][rows.outcomes[i]]
            data[f"I{i + 1}"] = pa.array(values, mask=values == MISSING)
        for j in range(len(CATEGORICALS)):
            text = [f"{token:08x}" for token in tokens(rows.identifiers[j], j).tolist()]
            data[f"C{j + 1}"] = pa.array(text, mask=rows.identifiers[j] == 0)
        batches.append(pa.table(data))
    return pa.concat_tables(batches)


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """Seconds by the clock, and of processor time."""
    clock, processor = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - clock, time.process_time() - processor


def main(flags: Sequence[str] | None = None) -> None:
    """Measures, prints, and writes a record if asked to."""
    parser = command(__doc__)
    parser.set_defaults(cores=1)
    parser.add_argument("--rows", type=count, default=500_000)
    parser.add_argument("--repeats", type=count, default=3)
    arguments = parsed(parser, flags)
    keep_to(arguments.cores)
    config = SyntheticConfig(rows=arguments.rows)
    table = columns(config)
    text = pyarrow.csv.WriteOptions(include_header=False, delimiter="\t", quoting_style="none")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        works: dict[str, Callable[[], object]] = {
            "generate": lambda: generate(folder / "raw", config, workers=1),
            "rows and text": lambda: rows_and_text(folder / "rows", config),
            "pyarrow write_csv": lambda: pyarrow.csv.write_csv(table, folder / "peer", text),
        }
        seconds: dict[str, list[tuple[float, float]]] = {what: [] for what in works}
        for _ in range(arguments.repeats):
            for what, work in works.items():
                seconds[what].append(timed(work))
        same = (folder / "rows").read_bytes() == (folder / "peer").read_bytes()
        size = (folder / "rows").stat().st_size
    if not same:
        raise SystemExit("PyArrow wrote other bytes than the generator: the comparison means nothing.")
    metrics: dict[str, float] = {"bytes_per_row": size / config.rows}
    for what, runs in seconds.items():
        clock, processor = (statistics.median(column) for column in zip(*runs, strict=True))
        print(
            f"{what:18} {config.rows / clock:12,.0f} rows/s {size / clock / 1e6:8,.0f} MB/s"
            f"   per processor second: {config.rows / processor:12,.0f} rows"
        )
        key = what.replace(" ", "_")
        metrics |= {f"{key}_rows_per_s": config.rows / clock, f"{key}_rows_per_cpu_s": config.rows / processor}
        metrics[f"{key}_mb_per_s"] = size / clock / 1e6
    metrics["ratio"] = metrics["rows_and_text_rows_per_s"] / metrics["pyarrow_write_csv_rows_per_s"]
    print(f"rows and text / pyarrow write_csv: {metrics['ratio']:.2f} (median clock), the same {size:,} bytes")
    settings = {"rows": config.rows, "repeats": arguments.repeats, "workers": 1}
    keep(arguments, what="generating synthetic rows", config=settings, metrics=metrics)


if __name__ == "__main__":
    sys.exit(ended(main))
