"""The command line: ``python -m dlrm_lib <command>``, or ``--mode <command>`` as NVIDIA's has it.

Flags are made from the configuration's fields. Exit codes: 0 done; 2 bad arguments, input or environment; 3 training
diverged; 130 interrupted; 1 a bug.
"""

from __future__ import annotations

import argparse
import dataclasses
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from dlrm_lib.config import PRESETS, Config, as_dict, fields
from dlrm_lib.console import counter, log_lines, progress_bars, progress_line, result_line
from dlrm_lib.errors import InputError, TrainingDiverged
from dlrm_lib.settings import as_text


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code."""
    try:
        arguments = _parser().parse_args(_mode_as_command(list(sys.argv[1:] if argv is None else argv)))
        arguments.run(arguments)
    except InputError as error:
        print(error, file=sys.stderr)
        return 2
    except TrainingDiverged as error:
        print(error, file=sys.stderr)
        return 3
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        return 130
    return 0


def _doctor(_: argparse.Namespace) -> None:
    from dlrm_lib.doctor import examine, report

    findings = examine()
    print(report(findings))
    if missing := [f.name for f in findings if not f.fine and f.needed]:
        raise InputError("This machine is not ready.", found=", ".join(missing), remedy="See the remedies above.")


def _download(arguments: argparse.Namespace) -> None:
    from dlrm_lib.download import accept_licence, download, kaggle, parse_days, terabyte

    if arguments.data_set == "kaggle" and arguments.days:
        raise InputError("--days is for terabyte.", found=arguments.days, remedy="Kaggle's rows are one file.")
    published = kaggle() if arguments.data_set == "kaggle" else terabyte(parse_days(arguments.days or "0-23"))
    accept_licence(published, accepted=arguments.accept_licence)
    download(published, arguments.output)
    source = arguments.output / published.targets[0].name if arguments.data_set == "kaggle" else arguments.output
    print(f"next: python -m dlrm_lib preprocess --input {source}")


def _generate(arguments: argparse.Namespace) -> None:
    from dlrm_lib.records import usable_cores
    from dlrm_lib.synthetic import generate

    config = _config(arguments)
    _refuse_existing(arguments.output, arguments.overwrite)
    ceiling = generate(
        arguments.output,
        config.synthetic,
        frequency_limit=config.preprocess.frequency_limit,
        workers=arguments.workers or usable_cores(),
        progress=counter("rows written"),
    )
    test = ceiling["splits"]["test"]
    print(f"{arguments.output}: {config.synthetic.rows:,} rows in {config.synthetic.days} day files")
    print(
        f"best reachable AUC on the test rows: {test['raw']['auc']:.4f} from the raw rows, "
        f"{test['encoded']['auc']:.4f} from encoded ones"
    )


def _preprocess(arguments: argparse.Namespace) -> None:
    from dlrm_lib.features import CRITEO, RawColumns
    from dlrm_lib.preprocess import preprocess

    config = _config(arguments)
    _refuse_existing(arguments.output, arguments.overwrite)
    try:
        manifest = preprocess(
            arguments.input,
            arguments.output,
            config.preprocess,
            columns=RawColumns.read(arguments.feature_spec) if arguments.feature_spec else CRITEO,
            master=arguments.master,
            cores=arguments.cores,
            memory=arguments.memory,
            spill=arguments.spill,
            announce=print,
            progress=progress_bars(),
        )
    except KeyboardInterrupt:
        print("\nWhat is done is kept: the same command goes on there.", file=sys.stderr)
        raise
    for split, rows in manifest.rows.items():
        clicks = manifest.clicks[split]
        print(f"{split:>10}: {rows:,} rows" + (f", click rate {clicks / rows:.4f}" if rows else ""))
    if ids := manifest.cardinalities:
        print(f"{'ids':>10}: {sum(ids):,} in {len(ids)} columns, the largest {max(ids):,}")
    print(f"{'rejected':>10}: {sum(manifest.quarantined.values()):,} lines")
    for reason, lines in manifest.quarantined.items():
        print(f"{lines:>12,} {reason}")
    if manifest.quarantined:
        print(f"{'':>12} see {arguments.output / 'quarantine' / 'rejected.tsv'}")


def _train(arguments: argparse.Namespace) -> None:
    from dlrm_lib.dataset import EncodedDataset
    from dlrm_lib.devices import pick
    from dlrm_lib.model import DLRM
    from dlrm_lib.training import Progress, evaluate, fit, load_checkpoint, save_checkpoint

    config = _config(arguments)
    dataset = EncodedDataset(arguments.dataset)
    device = pick(config.training.device)
    device.seed(config.training.seed)
    if arguments.load_checkpoint_path:
        model, trained = load_checkpoint(arguments.load_checkpoint_path, dataset.manifest, device)
        config = dataclasses.replace(config, model=trained.model)
    else:
        model = DLRM(dataset.spec, config.model).to(device.torch_device)
    log = log_lines(arguments.log_path)
    log({"what": "train", "device": device.description, "config": as_dict(config)})
    step = 0
    for event in fit(model, dataset, config.training, device):
        step = event.step
        print(progress_line(event, config.training.epochs) if isinstance(event, Progress) else result_line(event))
        log({"what": type(event).__name__.lower(), **dataclasses.asdict(event)})
    metrics: dict[str, Any] = {"step": step}
    if len(dataset.test):
        result = evaluate(model, dataset.test, batch_size=config.training.test_batch_size, device=device, step=step)
        metrics = dataclasses.asdict(result)
        print(result_line(result))
        log({"what": "evaluation", **metrics})
    if arguments.save_checkpoint_path:
        save_checkpoint(arguments.save_checkpoint_path, model, config, dataset.manifest, metrics=metrics)
        print(f"saved: {arguments.save_checkpoint_path}")


def _test(arguments: argparse.Namespace) -> None:
    from dlrm_lib.dataset import EncodedDataset
    from dlrm_lib.devices import pick
    from dlrm_lib.training import evaluate, load_checkpoint

    config = _config(arguments)
    dataset = EncodedDataset(arguments.dataset)
    device = pick(config.training.device)
    model, _ = load_checkpoint(arguments.load_checkpoint_path, dataset.manifest, device)
    result = evaluate(model, dataset.test, batch_size=config.training.test_batch_size, device=device, step=0)
    print(result_line(result))
    log_lines(arguments.log_path)({"what": "evaluation", **dataclasses.asdict(result)})


def _cores(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"a whole number from 1 on, not {text!r}")
    return int(text)


def _memory(text: str) -> int:
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?) ?([mgt])b?", text.lower())
    if not match:
        raise argparse.ArgumentTypeError(f"a size like 16g or 900m, not {text!r}")
    return int(float(match[1]) * {"m": 10**6, "g": 10**9, "t": 10**12}[match[2]])


_PATH = {"type": Path, "metavar": "PATH"}
_OVERWRITE = ("--overwrite", {"action": "store_true", "help": "replace what is there"})
_LOG = ("--log_path", {**_PATH, "default": Path("log.json"), "help": "JSON lines for programs"})
_DATASET = ("--dataset", {**_PATH, "default": Path("data/encoded"), "help": "folder of an encoded data set"})

_DATA_SETS = (
    "kaggle: seven days in train.txt, 11 GB; terabyte: 24 files day_0.gz …, some 0.4 TB. The links are those that "
    "data/README.md lists: they come from public pages, and none could be tried when this was written"
)

# command: (function, help, configuration fields that it takes, flags of its own)
_COMMANDS: dict[str, tuple[Callable, str, tuple[str, ...], list[tuple[str, dict]]]] = {
    "doctor": (_doctor, "check this machine: what is there, what is missing, what to do", (), []),
    "download": (
        _download,
        "fetch Criteo's click logs, resumed where it broke off and checked against what is published",
        (),
        [
            ("data_set", {"choices": ("kaggle", "terabyte"), "help": _DATA_SETS}),
            ("--days", {"metavar": "DAYS", "help": "terabyte: 0-3,7 for example; default: 0-23"}),
            ("--output", {**_PATH, "default": Path("data/raw"), "help": "folder for the files (default: data/raw)"}),
            ("--accept_licence", {"action": "store_true", "help": "say yes to Criteo's terms, which it shows"}),
        ],
    ),
    "generate": (
        _generate,
        "write synthetic click logs with a known best AUC",
        ("rows", "days", "data_seed", "frequency_limit"),
        [
            ("--output", {**_PATH, "default": Path("data/raw"), "help": "folder to make"}),
            ("--workers", {"type": int, "help": "processes; default: all usable cores"}),
            _OVERWRITE,
        ],
    ),
    "preprocess": (
        _preprocess,
        "encode raw click logs with Spark",
        tuple(f.name for section, f in fields() if section == "preprocess"),
        [
            ("--input", {**_PATH, "default": Path("data/raw"), "help": "folder of day files, or one file"}),
            ("--output", {**_PATH, "default": Path("data/encoded"), "help": "folder to make"}),
            (
                "--feature_spec",
                {**_PATH, "help": "YAML whose channel_spec names the columns; default: Criteo's 13 and 26"},
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
            ("--spill", {**_PATH, "help": "folder for intermediate files, on a fast disk; default: beside the output"}),
            _OVERWRITE,
        ],
    ),
    "train": (
        _train,
        "train a DLRM on an encoded data set",
        tuple(f.name for section, f in fields() if section in ("model", "training")),
        [
            _DATASET,
            ("--load_checkpoint_path", {**_PATH, "help": "start from this checkpoint"}),
            ("--save_checkpoint_path", {**_PATH, "help": "where to keep the trained model"}),
            _LOG,
        ],
    ),
    "test": (
        _test,
        "AUC and log loss of a trained model on the test split",
        ("test_batch_size", "device"),
        [_DATASET, ("--load_checkpoint_path", {**_PATH, "required": True, "help": "the trained model"}), _LOG],
    ),
}


class _Parser(argparse.ArgumentParser):
    """Reports bad arguments as an ``InputError``, so that every mistake reads alike."""

    def error(self, message: str) -> None:
        raise InputError(f"{self.prog}: {message}", remedy=f"See `{self.prog} --help`.")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="python -m dlrm_lib", description="Learn, run and tune DLRM.", allow_abbrev=False)
    commands = parser.add_subparsers(required=True, metavar="command")
    laptop = Config.from_preset("laptop")
    settings = {f.name: (f, getattr(getattr(laptop, section), f.name)) for section, f in fields()}
    for command, (run, text, names, flags) in _COMMANDS.items():
        sub = commands.add_parser(command, help=text, description=text, allow_abbrev=False)
        sub.set_defaults(run=run, settings=names)
        if names:
            sub.add_argument("--preset", default="laptop", help=f"one of {', '.join(PRESETS)} (default: laptop)")
        for flag, options in flags:
            sub.add_argument(flag, **options)
        for name in names:
            _add_setting(sub, *settings[name])
    return parser


def _add_setting(parser: argparse.ArgumentParser, f: dataclasses.Field, laptop: Any) -> None:
    text = f"{f.metadata['help']} (default of preset laptop: {as_text(laptop)})"
    if isinstance(f.default, bool):
        group = parser.add_mutually_exclusive_group()
        group.add_argument(f"--{f.name}", action="store_const", const=True, help=text)
        group.add_argument(f"--no{f.name}", action="store_const", const=False, dest=f.name, help=argparse.SUPPRESS)
    else:
        choices = f.metadata["choices"]
        parser.add_argument(f"--{f.name}", metavar="|".join(choices) if choices else "VALUE", help=text)


def _config(arguments: argparse.Namespace) -> Config:
    given = {name: getattr(arguments, name) for name in arguments.settings}
    return Config.from_preset(arguments.preset, {name: value for name, value in given.items() if value is not None})


def _mode_as_command(argv: list[str]) -> list[str]:
    """``--mode train`` anywhere, or ``--mode=train``, means the command ``train``."""
    for at, word in enumerate(argv):
        if word == "--mode" and at + 1 < len(argv):
            return [argv[at + 1], *argv[:at], *argv[at + 2 :]]
        if word.startswith("--mode="):
            return [word.removeprefix("--mode="), *argv[:at], *argv[at + 1 :]]
    return argv


def _refuse_existing(path: Path, overwrite: bool) -> None:
    if path.exists() and not overwrite and (not path.is_dir() or any(path.iterdir())):
        raise InputError(f"{path} is there already.", remedy="Choose another --output, or add --overwrite.")


if __name__ == "__main__":
    sys.exit(main())
