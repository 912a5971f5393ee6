"""Whether another version of the library trains to the same bits on this machine: losses, weights, optimizer states.

    python ci/bench/same_bits.py --code OLD_CHECKOUT --write before.json
    python ci/bench/same_bits.py --compare before.json

It goes through the command line alone, which is a contract, so that both versions need nothing else in common. Bits
hold for one machine, one version of torch and one number of threads; so the file is no record, and is made anew where
it is needed. Two threads; about three minutes.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import itertools
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

OPTIMIZERS = ("sgd", "adagrad", "rowwise_adagrad", "adam")
EXECUTIONS = ("eager", "compile", "lazy")
SMALL_TABLES = ("30000", "7", "3", "19999", "200", "50", "1")
# What makes each preset small enough; tables have at most 30,000 rows.
PRESETS = {
    "smoke": ["--batch_size=256"],
    "laptop": ["--batch_size=256"],
    "criteo_kaggle": ["--batch_size=64"],
    "criteo_terabyte": ["--batch_size=128"],
    "gaudi_medium": ["--batch_size=16", "--num_numerical_features=64", "--top_mlp_sizes=256,256,1"],
}
# Every setting of the model that changes what is computed, once.
VARIANTS = {
    "self_interaction": ["--self_interaction"],
    "cat": ["--interaction_op=cat"],
    "linear": ["--linear", "--embed_numbers", "--flag_missing", "--standardise"],
    "hashed": ["--hash_indices", "--max_table_size=1000"],
    "bags": ["--num_indices_per_lookup=4"],
    "no numbers": ["--num_numerical_features=0"],
    "shuffled": ["--shuffle_rows"],
}


def runs(dataset: Path | None) -> Iterator[tuple[str, list[str]]]:
    """A name for each training, and its flags."""
    tables = f"--synthetic_dataset_table_sizes={','.join(SMALL_TABLES)}"
    random_rows = ["--synthetic_dataset", tables, "--synthetic_dataset_rows=20000", "--max_steps=20"]
    for preset, flags in PRESETS.items():
        precisions = ("fp32", "bf16", "fp16") if preset == "smoke" else ("fp32", "bf16")
        for optimizer, precision, execution in itertools.product(OPTIMIZERS, precisions, EXECUTIONS):
            lr = 0.0005 if preset == "gaudi_medium" else 0.005 if optimizer == "adam" else 0.02
            if preset == "gaudi_medium" and execution == "lazy" and optimizer == "adam":
                continue
            how = [f"--optimizer={optimizer}", f"--precision={precision}", f"--execution={execution}", f"--lr={lr}"]
            if (preset, optimizer) == ("laptop", "adam"):
                how += ["--lasso_start_step=5"]
            yield f"{preset} {optimizer} {precision} {execution}", [f"--preset={preset}", *random_rows, *flags, *how]
    for name, flags in VARIANTS.items():
        for optimizer, execution in itertools.product(("sgd", "adam"), ("eager", "compile")):
            how = [f"--optimizer={optimizer}", f"--execution={execution}", "--lr=0.01", "--batch_size=128"]
            yield f"{name} {optimizer} {execution}", ["--preset=smoke", *random_rows, *how, *flags]
    for preset in ("smoke", "laptop", "criteo_kaggle") if dataset else ():
        yield f"{preset} on rows of a file", [f"--preset={preset}", f"--dataset={dataset}", "--epochs=2"]


def trained(flags: list[str]) -> dict[str, list]:
    """The losses and AUCs of a training, each to the last bit, and hashes of all that it leaves behind."""
    from safetensors import safe_open

    from dlrm_lib import __main__ as command_line

    with tempfile.TemporaryDirectory() as folder:
        log, kept = Path(folder, "log.json"), Path(folder, "model.safetensors")
        always = ["--device=cpu", "--print_freq=1", f"--log_path={log}", f"--save_checkpoint_path={kept}"]
        if code := command_line.main(["train", *always, *flags]):
            raise SystemExit(f"exit code {code} of train {' '.join(flags)}")
        lines = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
        found = {
            "losses": [line["loss"].hex() for line in lines if line["what"] == "progress"],
            "AUCs": [line["auc"] for line in lines if line["what"] == "evaluation"],
        }
        for path in sorted(Path(folder).glob("*.safetensors")):
            with safe_open(path, "pt") as file:
                for name in sorted(file.keys()):
                    content = file.get_tensor(name).numpy().tobytes()
                    found[f"{path.name} {name}"] = [hashlib.sha256(content).hexdigest()[:16]]
    return found


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--code", type=Path, default=Path(__file__).resolve().parents[2], help="the checkout to run")
    parser.add_argument("--dataset", type=Path, help="an encoded data set to train on as well")
    parser.add_argument("--only", default="", help="run only those whose name has this in it")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--write", type=Path, help="where to write what was found")
    what.add_argument("--compare", type=Path, help="what was written before")
    arguments = parser.parse_args(argv)
    sys.path.insert(0, str(arguments.code))
    import torch

    torch.set_num_threads(2)
    found = {}
    for name, flags in runs(arguments.dataset):
        if arguments.only in name:
            with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
                found[name] = trained(flags)
    if arguments.write:
        arguments.write.write_text(json.dumps(found, indent=1), encoding="utf-8")
        print(f"{len(found)} trainings written to {arguments.write}")
        return
    before, differing = json.loads(arguments.compare.read_text(encoding="utf-8")), 0
    for name, now in found.items():
        then = before.get(name)
        parts = ["all: it was not there"] if then is None else [p for p in then | now if then.get(p) != now.get(p)]
        if parts:
            differing += 1
            print(f"{name}: {', '.join(parts)}")
    print(f"{len(found) - differing} of {len(found)} trainings are the same to the bit")
    sys.exit(1 if differing else 0)


if __name__ == "__main__":
    main()
