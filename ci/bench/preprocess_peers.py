"""What raw rows are encoded with elsewhere: Polars, DuckDB, and the DataFrame pipeline of chapter 02.

    python -m bench.preprocess_peers PEER INPUT OUTPUT [--cores 2]        (in the folder ci)

PEER is polars, polars_tuned, duckdb or dataframe, and each is a whole command. All follow the library's rules: the days
before the last make the vocabulary, values seen fewer than 15 times get id 0, the others ids from 1 by descending
count, ties by bytes; integers become log(max(x + 2, 1)), a missing one counts as 0.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dlrm_lib.config import Config
from dlrm_lib.features import category_dtype

if TYPE_CHECKING:
    import polars as pl

SETTINGS = Config.from_preset("laptop", {"frequency_limit": 15, "numeric_rule": "log_x_plus_2"}).preprocess
INTEGERS = [f"I{i}" for i in range(1, 14)]
TOKENS = [f"C{j}" for j in range(1, 27)]
# Peer → the package that it needs.
PEERS = {"polars": "polars", "polars_tuned": "polars", "duckdb": "duckdb", "dataframe": "pyspark"}


def day_files(raw: Path) -> list[Path]:
    """The day files of a folder, in time order."""
    return sorted(raw.glob("day_*"), key=lambda path: int(path.name.removeprefix("day_")))


def with_polars(raw: Path, output: Path, *, tuned: bool) -> None:
    """All rows in memory. Writes ``label.npy``, ``numerical.npy`` and ``cat_0.npy`` … ``cat_25.npy`` in input order.

    The plain way reads file by file and replaces tokens with ``replace_strict``. The tuned way was the fastest of
    several that were tried: one scan of all files, and ids as the codes of an ``Enum``.
    """
    import polars as pl

    schema = {"label": pl.UInt8, **dict.fromkeys(INTEGERS, pl.Int64), **dict.fromkeys(TOKENS, pl.String)}

    def scan(paths: list[Path]) -> pl.LazyFrame:
        return pl.scan_csv(paths, separator="\t", has_header=False, schema=schema, quote_char=None)

    days = day_files(raw)
    rows = scan(days).collect() if tuned else pl.concat([scan([path]).collect() for path in days])
    held_out = scan(days[-1:]).select(pl.len()).collect().item()
    train = rows.head(rows.height - held_out).lazy()
    vocabularies = pl.collect_all(
        train.group_by(token)
        .len()
        .filter(pl.col(token).is_not_null(), pl.col("len") >= SETTINGS.frequency_limit)
        .sort("len", token, descending=[True, False])
        .select(token)
        for token in TOKENS
    )
    ids = rows.select(
        _ids(token, kept, tuned=tuned).cast(
            pl.Int8 if kept.height < 126 else pl.Int16 if kept.height < 32766 else pl.Int32
        )
        for token, kept in zip(TOKENS, vocabularies, strict=True)
    )
    numerical = rows.select((pl.col(INTEGERS).fill_null(0) + 2).clip(1).log().cast(pl.Float16))
    output.mkdir()
    np.save(output / "label.npy", rows["label"].to_numpy())
    np.save(output / "numerical.npy", numerical.to_numpy(order="c"))
    for column, token in enumerate(TOKENS):
        np.save(output / f"cat_{column}.npy", ids[token].to_numpy())


def _ids(token: str, kept: pl.DataFrame, *, tuned: bool) -> pl.Expr:
    """A column's tokens as ids; ``kept`` has its kept values in their order."""
    import polars as pl

    if not tuned:
        numbers = pl.int_range(1, kept.height + 1, dtype=pl.Int32, eager=True)
        return pl.col(token).replace_strict(kept[token], numbers, default=0, return_dtype=pl.Int32)
    # The codes of an Enum of the kept values, plus 1, are the ids; anything else becomes null, so id 0.
    codes = pl.col(token).cast(pl.Enum(kept[token]), strict=False).to_physical()
    return (codes.cast(pl.Int32) + 1).fill_null(0)


def with_duckdb(raw: Path, output: Path, cores: int) -> None:
    """A table in memory, then a join per column. Writes the same files as ``with_polars``, in input order.

    Tried and not faster: all columns read as text, larger and smaller buffers, a lax parser, a table without order, an
    Arrow table, a query per column; ids as the codes of an ``ENUM`` were slower.
    """
    import duckdb

    types = {"label": "UTINYINT", **dict.fromkeys(INTEGERS, "BIGINT"), **dict.fromkeys(TOKENS, "VARCHAR")}
    dialect = "auto_detect = false, header = false, delim = '\t', quote = '', escape = '', nullstr = ''"

    def read(paths: list[Path]) -> str:
        return f"FROM read_csv({[str(path) for path in paths]}, columns = {types}, {dialect})"

    *training, last = day_files(raw)
    database = duckdb.connect(config={"threads": cores})
    database.execute(f"CREATE TABLE rows AS {read(training)}")
    for token in TOKENS:
        database.execute(f"""
            CREATE TABLE ids_{token} AS
            SELECT {token}, (row_number() OVER (ORDER BY count(*) DESC, {token}))::INTEGER AS id
            FROM rows WHERE {token} IS NOT NULL
            GROUP BY {token} HAVING count(*) >= {SETTINGS.frequency_limit}""")
    database.execute(f"INSERT INTO rows {read([last])}")

    output.mkdir()
    np.save(output / "label.npy", database.sql("SELECT label FROM rows").fetchnumpy()["label"])
    logarithms = (f"ln(greatest(coalesce({name}, 0) + 2, 1)) AS {name}" for name in INTEGERS)
    numbers = database.sql(f"SELECT {', '.join(logarithms)} FROM rows").fetchnumpy()
    np.save(output / "numerical.npy", np.stack([numbers[name].astype(np.float16) for name in INTEGERS], axis=1))
    ids = ", ".join(f"coalesce(ids_{token}.id, 0) AS {token}" for token in TOKENS)
    joins = " ".join(f"LEFT JOIN ids_{token} USING ({token})" for token in TOKENS)
    encoded = database.sql(f"SELECT {ids} FROM rows {joins} ORDER BY rows.rowid").fetchnumpy()  # joins lose the order
    for column, token in enumerate(TOKENS):
        np.save(output / f"cat_{column}.npy", encoded[token].astype(category_dtype(encoded[token].max() + 1)))


def with_dataframes(raw: Path, output: Path, cores: int) -> None:
    """Runs the chapter's cells in a session of their own. Writes Parquet: ``counts``, ``vocabulary``, ``encoded``."""
    from pyspark.sql import SparkSession

    from dlrm_lib.preprocess.java import find_java
    from runner.cells import tagged_source

    os.environ |= {"JAVA_HOME": str(find_java()), "PYSPARK_PYTHON": sys.executable}
    settings = {
        "spark.driver.memory": "8g",
        "spark.driver.host": "127.0.0.1",
        "spark.sql.shuffle.partitions": str(4 * cores),
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
    }
    spark = SparkSession.builder.master(f"local[{cores}]").config(map=settings).getOrCreate()
    chapter = Path(__file__).resolve().parents[2] / "notebooks" / "02_spark_preprocessing.ipynb"
    names = {"spark": spark, "files": day_files(raw), "settings": SETTINGS, "scratch": output}
    exec(compile(tagged_source(chapter, "dataframe"), chapter.name, "exec"), names)
    spark.stop()


def main() -> None:
    """Runs one peer."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("peer", choices=PEERS)
    parser.add_argument("input", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--cores", type=int, default=2)
    arguments = parser.parse_args()
    if arguments.peer == "duckdb":
        with_duckdb(arguments.input, arguments.output, arguments.cores)
    elif arguments.peer == "dataframe":
        with_dataframes(arguments.input, arguments.output, arguments.cores)
    else:
        os.environ["POLARS_MAX_THREADS"] = str(arguments.cores)
        with_polars(arguments.input, arguments.output, tuned=arguments.peer == "polars_tuned")


if __name__ == "__main__":
    main()
