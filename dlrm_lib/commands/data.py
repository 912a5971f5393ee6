"""Commands up to the encoded data set: doctor, download, generate, preprocess."""

from __future__ import annotations

import argparse
import dataclasses
import functools
import re
import sys
from pathlib import Path

from dlrm_lib.columns import CRITEO, NO_AND_YES, CategoricalColumn, LabelColumn, NumericalColumn, RawColumns
from dlrm_lib.commands.command import (
    OVERWRITE,
    PATH,
    Command,
    configuration,
    given_settings,
    refuse_existing,
    refuse_several_processes,
)
from dlrm_lib.commands.inspection import inspect
from dlrm_lib.config import fields
from dlrm_lib.console import progress_bars, say
from dlrm_lib.errors import InputError
from dlrm_lib.features import FeatureSpec


def doctor(_: argparse.Namespace) -> None:
    """Says what this machine has and lacks."""
    from dlrm_lib.doctor import examine, report

    findings = examine()
    say(report(findings))
    if missing := [f.name for f in findings if not f.fine and f.needed]:
        raise InputError("This machine is not ready.", found=", ".join(missing), remedy="See the remedies above.")


def download(arguments: argparse.Namespace) -> None:
    """Fetches Criteo's click logs."""
    refuse_several_processes()
    from dlrm_lib.download import accept_licence, download, kaggle, parse_days, terabyte

    if arguments.data_set == "kaggle" and arguments.days:
        raise InputError("--days is for terabyte.", found=arguments.days, remedy="Kaggle's rows are one file.")
    published = kaggle() if arguments.data_set == "kaggle" else terabyte(parse_days(arguments.days or "0-23"))
    accept_licence(published, accepted=arguments.accept_licence)
    download(published, arguments.output)
    source = arguments.output / published.targets[0].name if arguments.data_set == "kaggle" else arguments.output
    print(f"next: python -m dlrm_lib preprocess --input {source}")


def generate(arguments: argparse.Namespace) -> None:
    """Writes synthetic raw rows."""
    from dlrm_lib.records import usable_cores
    from dlrm_lib.synthetic import generate

    refuse_several_processes()
    config = configuration(arguments)
    refuse_existing(arguments.output, arguments.overwrite)
    bars = progress_bars()
    try:
        ceiling = generate(
            arguments.output,
            config.synthetic,
            frequency_limit=config.preprocess.frequency_limit,
            numeric_rule=config.preprocess.numeric_rule,
            workers=arguments.workers or usable_cores(),
            progress=functools.partial(bars, "writing") if bars else None,
        )
    except OSError as error:
        raise InputError(
            f"{error.filename or arguments.output} cannot be written.",
            found=error.strerror,
            remedy="Make room, mend the permissions, or choose another --output.",
        ) from None
    test = ceiling["splits"]["test"]
    print(f"{arguments.output}: {config.synthetic.rows:,} rows in {config.synthetic.days} day files")
    print(
        f"best reachable AUC on the test rows: {test['raw']['auc']:.4f} from the raw rows, "
        f"{test['encoded']['auc']:.4f} from encoded ones"
    )


def preprocess(arguments: argparse.Namespace) -> None:
    """Encodes raw rows with Spark, or looks at what they are."""
    if arguments.inspect:
        inspect(arguments)
        return
    from dlrm_lib.drift import drift_remarks
    from dlrm_lib.features import FeatureSpec
    from dlrm_lib.manifest import Manifest
    from dlrm_lib.preprocess import preprocess
    from dlrm_lib.preprocess.ancestor import inherited

    refuse_several_processes()
    config, output = configuration(arguments).preprocess, arguments.output or _ENCODED
    if arguments.vocabulary:
        config = inherited(config, Manifest.read(arguments.vocabulary), given_settings(arguments))
    refuse_existing(output, arguments.overwrite)
    try:
        manifest = preprocess(
            arguments.input or _RAW,
            output,
            config,
            columns=columns_of(arguments),
            vocabulary=arguments.vocabulary,
            extend=arguments.extend,
            master=arguments.master,
            cores=arguments.cores,
            memory=arguments.memory,
            spill=arguments.spill,
            allow_empty_days=arguments.allow_empty_days,
            allow_empty_splits=arguments.allow_empty_splits,
            announce=print,
            progress=progress_bars(),
        )
    except KeyboardInterrupt:
        print("\nWhat is done is kept: the same command goes on there.", file=sys.stderr)
        raise
    # A file of a day with several is named with its folder.
    days = dict.fromkeys(file["name"].rpartition("/")[0] or file["name"] for file in manifest.source)
    last_day, several = list(days)[-1], len(days) > 1
    halves = {"test": f" (the first half of {last_day})", "validation": f" (the rest of {last_day})"}
    for split, rows in manifest.rows.items():
        rate = f", click rate {manifest.clicks[split] / rows:.4f}" if rows else ""
        if split == "train" and manifest.negative_rate < 1:
            rate += f" (of {manifest.accepted[split]:,}: all clicks, {manifest.negative_rate:g} of the others)"
        print(f"{split:>10}: {rows:,} rows{rate}{halves.get(split, '') if several else ''}")
    if ids := manifest.cardinalities:
        print(f"{'ids':>10}: {sum(ids):,} in {len(ids)} columns, the largest {max(ids):,}")
    if manifest.lineage:
        added = sum(ids) - sum(manifest.lineage[-1]["cardinalities"])
        print(f"{'new ids':>10}: {added:,}; the others mean what they do in {arguments.vocabulary}")
    print(f"{'rejected':>10}: {sum(manifest.quarantined.values()):,} lines")
    for reason, lines in manifest.quarantined.items():
        print(f"{lines:>12,} {reason}")
    if manifest.quarantined:
        print(f"{'':>12} see {output / 'quarantine' / 'rejected.tsv'}")
    for remark in drift_remarks(manifest, FeatureSpec.read(output / "feature_spec.yaml")):
        print(f"{'remark':>10}: {remark}")


def columns_of(arguments: argparse.Namespace) -> RawColumns:
    """The columns as flags or a feature spec declare them; where nothing does, those of the vocabulary, or Criteo's."""
    flags = {name: getattr(arguments, name) for name in ("label", "numerical", "categorical", "label_values")}
    given = {f"--{name}": value for name, value in flags.items() if value is not None}
    if arguments.feature_spec:
        if given:
            raise InputError(
                "Columns are declared by --feature_spec and by flags.",
                found=", ".join(given),
                remedy="Give one of the two; a feature spec can say what the flags do.",
            )
        return RawColumns.read(arguments.feature_spec)
    columns = FeatureSpec.read(arguments.vocabulary / "feature_spec.yaml").columns if arguments.vocabulary else CRITEO
    if not given:
        return columns
    label = LabelColumn(name=arguments.label or columns.label.name, values=arguments.label_values or NO_AND_YES)
    if given.keys() == {"--label_values"}:
        return dataclasses.replace(columns, label=label)
    return RawColumns(
        label=label,
        numbers=tuple(NumericalColumn(name=name) for name in arguments.numerical or ()),
        tokens=tuple(CategoricalColumn(name=name) for name in arguments.categorical or ()),
    )


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(","))


def _cores(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"a whole number from 1 on, not {text!r}")
    return int(text)


def _memory(text: str) -> int:
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?) ?([mgt])b?", text.lower())
    if not match:
        raise argparse.ArgumentTypeError(f"a size like 16g or 900m, not {text!r}")
    return int(float(match[1]) * {"m": 10**6, "g": 10**9, "t": 10**12}[match[2]])


_DATA_SETS = (
    "kaggle: seven days in train.txt, 11 GB; terabyte: 24 files day_0.gz …, some 0.4 TB. The links are those that "
    "data/README.md lists: they come from public pages, and none could be tried when this was written"
)
_RAW, _ENCODED = Path("data/raw"), Path("data/encoded")

DATA_COMMANDS = (
    Command(name="doctor", run=doctor, help="check this machine: what is there, what is missing, what to do about it"),
    Command(
        name="download",
        run=download,
        help="fetch Criteo's click logs, resumed where it broke off and checked against what is published",
        flags=(
            ("data_set", {"choices": ("kaggle", "terabyte"), "help": _DATA_SETS}),
            ("--days", {"metavar": "DAYS", "help": "terabyte: 0-3,7 for example; default: 0-23"}),
            ("--output", {**PATH, "default": _RAW, "help": "folder for the files (default: data/raw)"}),
            ("--accept_licence", {"action": "store_true", "help": "say yes to Criteo's terms, which it shows"}),
        ),
    ),
    Command(
        name="generate",
        run=generate,
        help="write synthetic click logs with a known best AUC",
        settings=("rows", "days", "data_seed", "frequency_limit", "numeric_rule"),
        flags=(
            ("--output", {**PATH, "default": _RAW, "help": "folder to make (default: data/raw)"}),
            ("--workers", {"type": int, "help": "processes; default: all usable cores"}),
            OVERWRITE,
        ),
    ),
    Command(
        name="preprocess",
        run=preprocess,
        help="encode raw click logs with Spark",
        settings=tuple(f.name for section, f in fields() if section == "preprocess"),
        flags=(
            ("--input", {**PATH, "help": "folder of day files, or one file (default: data/raw)"}),
            ("--output", {**PATH, "help": "folder to make (default: data/encoded)"}),
            (
                "--inspect",
                {
                    **PATH,
                    "metavar": "FILE",
                    "help": "only look at the first rows of a file, and write what its columns could be as a feature "
                    "spec to edit: to --output, or as feature_spec.yaml beside the file",
                },
            ),
            ("--label", {"metavar": "NAME", "help": "column of the labels, where files name their columns"}),
            ("--numerical", {"type": _names, "metavar": "NAME,…", "help": "columns of integers"}),
            ("--categorical", {"type": _names, "metavar": "NAME,…", "help": "columns of tokens"}),
            (
                "--label_values",
                {"type": _names, "metavar": "NO,YES", "help": "labels without and with a click; default: 0,1"},
            ),
            (
                "--feature_spec",
                {**PATH, "help": "YAML that names the columns, in place of these flags; default: Criteo's 13 and 26"},
            ),
            ("--vocabulary", {**PATH, "help": "encoded data set whose ids these rows get; values without one: id 0"}),
            (
                "--extend",
                {"action": "store_true", "help": "values that are frequent by now get new ids behind those"},
            ),
            (
                "--master",
                {"metavar": "URL", "help": "where Spark runs: spark://HOST:PORT, yarn, k8s://…; default: here"},
            ),
            ("--cores", {"type": _cores, "help": "tasks at a time; default: all usable cores, as far as memory goes"}),
            (
                "--memory",
                {
                    "type": _memory,
                    "metavar": "SIZE",
                    "help": "for all processes here, such as 16g; default: what is free",
                },
            ),
            ("--spill", {**PATH, "help": "folder for intermediate files, on a fast disk; default: beside the output"}),
            ("--allow_empty_days", {"action": "store_true", "help": "go on where a day file holds no rows"}),
            ("--allow_empty_splits", {"action": "store_true", "help": "go on where a split is left without rows"}),
            OVERWRITE,
        ),
    ),
)
