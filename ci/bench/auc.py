"""How fast the AUC of float32 logits is computed, beside scikit-learn's, and how right the streaming form is.

    python ci/bench/auc.py [--millions 1,10] [--rates 0.03,0.25] [--repeats 5] [--record figures/records/auc.json]

Logits are normally distributed with standard deviation 1.2 around the logit of the rate, and clicked with the
probability that they state. In each round every contestant gets the same ones, in turn:

- ours: ``metrics.auc``.
- streaming: ``metrics.StreamingAuc`` fed 65,536 rows at a time, its 128 MiB of counters included.
- sklearn: ``sklearn.metrics.roc_auc_score``.
- torchmetrics: its exact ``binary_auroc``, where it is installed.

Medians are printed with what they are in units of ours. Every exact value must equal scikit-learn's to 1e-9 and every
streaming one must be within its own bound, or there is no result. Memory is the most that a contestant allocates
besides its arguments, as ``tracemalloc`` sees it in a round of its own; torch's is not seen.

Last come the bounds that other ways to choose 2**16 to 2**24 bins would give: by the top bits of a float32 score,
evenly in the logit from -16 to 16, evenly in the probability, and as ``StreamingAuc`` does.
"""

from __future__ import annotations

import importlib.util
import statistics
import sys
import time
import tracemalloc
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.metrics import roc_auc_score

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.command_line import command, count, ended, keep, keep_to, listed, parsed, positive, share

from dlrm_lib.metrics import StreamingAuc, auc

BATCH = 1 << 16
DEVIATION = 1.2
BITS = (16, 20, 22, 24)


def realistic(rows: int, rate: float) -> tuple[np.ndarray, np.ndarray]:
    """Labels bool [rows] and logits float32 [rows]."""
    rng = np.random.default_rng(rows)
    logits = rng.normal(np.log(rate / (1 - rate)), DEVIATION, rows).astype(np.float32)
    return rng.random(rows) < 1 / (1 + np.exp(-logits.astype(np.float64))), logits


def streamed(labels: np.ndarray, logits: np.ndarray, stream: StreamingAuc | None = None) -> tuple[float, float]:
    """The streaming AUC and its error, batch by batch."""
    stream = stream or StreamingAuc()
    for first in range(0, len(labels), BATCH):
        stream.update(labels[first : first + BATCH], logits[first : first + BATCH])
    return stream.result()


def contestants() -> dict[str, Callable[[np.ndarray, np.ndarray], Any]]:
    """Those that are installed."""
    found = {"ours": auc, "streaming": streamed, "sklearn": roc_auc_score}
    if importlib.util.find_spec("torchmetrics"):
        import torch
        from torchmetrics.functional.classification import binary_auroc

        found["torchmetrics"] = lambda labels, logits: float(
            binary_auroc(torch.from_numpy(logits), torch.from_numpy(labels.astype(np.int64)))
        )
    return found


def compare(labels: np.ndarray, logits: np.ndarray, repeats: int) -> dict[str, Any]:
    """Seconds of each contestant in turn, peak memory, and how far they are from one another."""
    works = contestants()
    values, peaks, runs = {}, {}, {name: [] for name in works}
    for name, work in works.items():
        tracemalloc.start()
        values[name] = work(labels, logits)
        peaks[name] = tracemalloc.get_traced_memory()[1] / 2**20
        tracemalloc.stop()
    for _ in range(repeats):
        for name, work in works.items():
            begin = time.perf_counter()
            work(labels, logits)
            runs[name].append(time.perf_counter() - begin)
    value, bound = values["streaming"]
    from_sklearn, from_exact = abs(values["ours"] - values["sklearn"]), abs(value - values["ours"])
    if from_sklearn > 1e-9 or from_exact > bound:
        raise SystemExit(f"The values differ: {values}. The comparison means nothing.")
    median = {name: statistics.median(seconds) for name, seconds in runs.items()}
    times = {name: seconds / median["ours"] for name, seconds in median.items()}
    for name, seconds in median.items():
        print(f"  {name:12} {seconds:8.4f} s  {times[name]:6.2f} times ours  {peaks[name]:7.0f} MiB")
    print(
        f"  AUC {values['ours']:.9f}; sklearn's differs by {from_sklearn:.1e}; streaming errs by {from_exact:.1e}, "
        f"bound {bound:.1e}",
        flush=True,
    )
    return {
        "runs_s": runs,
        "median_s": median,
        "times_ours": times,
        "peak_mib": peaks,
        "auc": values["ours"],
        "difference_from_sklearn": from_sklearn,
        "streaming_error": from_exact,
        "streaming_bound": bound,
    }


def top_bits(logits: np.ndarray, bins: int) -> np.ndarray:
    """The bin of a float32 score by its own first bits, put in the order of the numbers."""
    bits = (logits + np.float32(0)).view(np.uint32)  # -0.0 becomes 0.0
    ordered = np.where(bits >> 31, ~bits, bits | np.uint32(1 << 31))
    return (ordered // np.uint32(2**32 // bins)).astype(np.int64)


def even_logits(logits: np.ndarray, bins: int) -> np.ndarray:
    """Bins of equal width from -16 to 16."""
    return np.clip((logits.astype(np.float64) + 16) * (bins / 32), 0, bins - 1).astype(np.int64)


def even_probabilities(logits: np.ndarray, bins: int) -> np.ndarray:
    """Bins of equal width in the probability."""
    return np.minimum(bins / (1 + np.exp(-logits.astype(np.float64))), bins - 1).astype(np.int64)


def bin_choices(labels: np.ndarray, logits: np.ndarray) -> dict[str, dict[int, dict[str, float]]]:
    """Bound and actual error of each way to choose bins, by bits."""
    exact, found = auc(labels, logits), {}
    ways = {"top bits": top_bits, "even logits": even_logits, "even probabilities": even_probabilities, "ours": None}
    for way, bins_of in ways.items():
        found[way] = {}
        for bits in BITS:
            kind = {"BINS": 1 << bits}
            if bins_of is not None:
                kind["_bins"] = lambda self, scores, bins_of=bins_of: bins_of(scores, self.BINS)
            value, bound = streamed(labels, logits, type("OtherBins", (StreamingAuc,), kind)())
            found[way][bits] = {"bound": bound, "error": abs(value - exact), "counters_mib": 8 * 2**bits / 2**20}
            print(f"  2**{bits} bins, {way:18} bound {bound:.1e}  error {found[way][bits]['error']:.1e}", flush=True)
    return found


def main(flags: Sequence[str] | None = None) -> None:
    """Measures, prints, and writes a record if asked to."""
    parser = command(__doc__)
    parser.add_argument("--millions", type=listed(positive), default="1,10", help="logits")
    parser.add_argument("--rates", type=listed(share), default="0.03,0.25", help="click rates")
    parser.add_argument("--repeats", type=count, default=5, help="rounds")
    arguments = parsed(parser, flags)
    keep_to(arguments.cores)
    sizes = [round(size * 1e6) for size in arguments.millions]
    metrics: dict[str, Any] = {}
    for rate in arguments.rates:
        for rows in sizes:
            labels, logits = realistic(rows, rate)
            print(f"{rows:,} logits around a click rate of {rate:g}; {labels.mean():.4f} clicked")
            metrics[f"{rows} rows, rate {rate:g}"] = compare(labels, logits, arguments.repeats)
        metrics[f"bins, rate {rate:g}"] = bin_choices(labels, logits)
    config = {"rows": sizes, "rates": arguments.rates, "repeats": arguments.repeats, "deviation": DEVIATION}
    keep(arguments, what="AUC beside its peers", config=config, metrics=metrics)


if __name__ == "__main__":
    sys.exit(ended(main))
