"""The command line: ``python -m dlrm_lib <command>``, or ``--mode <command>`` as NVIDIA's has it.

Flags are made from the configuration's fields. Exit codes: 0 done; 2 bad arguments, input or environment; 3 training
diverged; 130 interrupted; 1 a bug.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from dlrm_lib.config import PRESETS, Config, as_dict, fields
from dlrm_lib.console import counter, log_lines, progress_line, result_line
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
    from dlrm_lib.preprocess import preprocess

    config = _config(arguments)
    _refuse_existing(arguments.output, arguments.overwrite)
    manifest = preprocess(
        arguments.input, arguments.output, config.preprocess, cores=arguments.cores, progress=counter("steps")
    )
    for split, rows in manifest.rows.items():
        clicks = manifest.clicks[split]
        print(f"{split:>10}: {rows:,} rows" + (f", click rate {clicks / rows:.4f}" if rows else ""))
    ids = sum(manifest.cardinalities)
    print(f"{'ids':>10}: {ids:,} in {len(manifest.cardinalities)} columns, the largest {max(manifest.cardinalities):,}")
    rejected = sum(manifest.quarantined.values())
    print(f"  rejected: {rejected:,} lines" + (f", see {arguments.output / 'quarantine'}" if rejected else ""))


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


_PATH = {"type": Path, "metavar": "PATH"}
_OVERWRITE = ("--overwrite", {"action": "store_true", "help": "replace what is there"})
_LOG = ("--log_path", {**_PATH, "default": Path("log.json"), "help": "JSON lines for programs"})
_DATASET = ("--dataset", {**_PATH, "default": Path("data/encoded"), "help": "folder of an encoded data set"})

# command: (function, help, configuration fields that it takes, flags of its own)
_COMMANDS: dict[str, tuple[Callable, str, tuple[str, ...], list[tuple[str, dict]]]] = {
    "doctor": (_doctor, "check this machine: what is there, what is missing, what to do", (), []),
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
            ("--cores", {"type": int, "help": "Spark's local cores; default: all usable cores"}),
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
