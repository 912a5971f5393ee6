"""Exercises of chapter 08: a speed, the error of a mean, equivalence, and two programs measured in turns."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from math import sqrt

import numpy as np

from dlrm_lib.exercises.mechanism import Check, Exercise, compare


def _against(
    oracle: Callable, cases: Sequence[tuple], what: Callable[..., str], mistakes: Sequence[tuple[Callable, str]] = ()
) -> Check:
    """A check of all cases; a mistake that would give the answer's results, every one of them, explains them."""

    def check(answer):
        got = [answer(*case) for case in cases]

        def difference(rule: Callable) -> str | None:
            compared = (compare(g, rule(*c), what(*c), tolerance=1e-9) for g, c in zip(got, cases, strict=True))
            return next(filter(None, compared), None)

        wrong = difference(oracle)
        if wrong is None:
            return None
        reasons = (reason for rule, reason in mistakes if difference(rule) is None)
        return f"{wrong} {next(reasons, '')}".strip()

    return check


def throughput(seconds, batch_size, warmup):
    """Half of the steps after the warm-up took longer than the median, half shorter."""
    return batch_size / np.median(seconds[warmup:])


def _timed(seed: int, warmup: int, measured: int) -> tuple[list[float], int, int]:
    """Slow steps first, then steady ones with an interruption among them."""
    rng = np.random.default_rng(seed)
    steady = rng.uniform(0.1, 0.15, measured)
    steady[measured // 3] *= 4
    return [*rng.uniform(0.3, 0.9, warmup).round(3).tolist(), *steady.round(3).tolist()], 64, warmup


_WARM_UP = "The first steps are in it: they allocate memory and fill caches, no later one does."
_MEDIAN_FIRST = "Take the median of the times, then divide."
_THROUGHPUT = _against(
    lambda seconds, batch_size, warmup: batch_size / statistics.median(seconds[warmup:]),
    [
        ([0.9, 0.35, 0.1, 0.125, 0.1, 0.5, 0.11], 32, 2),
        ([0.25], 8, 0),
        *(_timed(seed, warmup, measured) for seed, warmup, measured in ((1, 3, 5), (2, 2, 6), (3, 0, 6))),
    ],
    lambda seconds, batch_size, warmup: f"samples/s of {seconds}, batch_size {batch_size}, warmup {warmup}",
    (
        (lambda s, n, w: n / statistics.median(s), _WARM_UP),
        (lambda s, n, w: n / statistics.fmean(s), _WARM_UP),
        (lambda s, n, w: n / statistics.median(sorted(s)[w:]), "Yours lack the fastest steps, not the first ones."),
        (lambda s, n, w: n / statistics.fmean(s[w:]), "That is the mean time's: one interrupted step pulls it along."),
        (lambda s, n, w: statistics.fmean(n / x for x in s[w:]), f"That is the mean of the rates. {_MEDIAN_FIRST}"),
        (lambda s, n, w: statistics.median(n / x for x in s[w:]), f"That is the median rate. {_MEDIAN_FIRST}"),
        (lambda s, n, w: 1000 * n / statistics.median(s[w:]), "As if these were milliseconds: they are seconds."),
        (lambda s, n, w: 1 / statistics.median(s[w:]), "That is steps per second. Each has batch_size samples."),
        (lambda s, n, w: statistics.median(s[w:]) / n, "Upside down: that is seconds per sample."),
    ),
)


def standard_error(aucs):
    """The sample's own mean is nearer to its values than the true one is; n - 1 makes up for that."""
    deviation = np.std(aucs, ddof=1)
    return np.mean(aucs), deviation, deviation / np.sqrt(len(aucs))


def _error_rule(spread: Callable, error: Callable) -> Callable:
    """Mean, ``spread(aucs)`` and ``error(spread, n)``."""
    return lambda aucs: (statistics.fmean(aucs), spread(aucs), error(spread(aucs), len(aucs)))


_BY_THE_ROOT = "Divide the deviation by the square root of n."
_STANDARD_ERROR = _against(
    _error_rule(statistics.stdev, lambda deviation, n: deviation / sqrt(n)),
    [
        (np.array([0.8, 0.802, 0.806, 0.8]),),
        (np.array([0.7, 0.71]),),
        (np.array([0.75, 0.75, 0.75]),),
        *((np.random.default_rng(n).normal(0.8, 0.0003, n).round(6),) for n in (5, 16)),
    ],
    lambda aucs: f"(mean, deviation, error of the mean) of {aucs.tolist()}",
    (
        (
            _error_rule(statistics.pstdev, lambda deviation, n: deviation / sqrt(n)),
            "You divided by n: around the sample's own mean that is too small. Divide by n - 1, with `ddof=1`.",
        ),
        (_error_rule(statistics.stdev, lambda deviation, n: deviation), f"That is one seed's. {_BY_THE_ROOT}"),
        (
            _error_rule(statistics.stdev, lambda deviation, n: deviation / n),
            f"Four seeds halve it. {_BY_THE_ROOT}",
        ),
    ),
)


def equivalent(first, second, bound, t):
    """Seeds that are good or bad in both precisions cancel out in the differences."""
    difference = first - second
    half = t * difference.std(ddof=1) / np.sqrt(len(difference))
    return bool(-bound <= difference.mean() - half and difference.mean() + half <= bound)


_T = {2: 6.314, 3: 2.920, 5: 2.132, 16: 1.753}  # Student's t, 5 % above it, with n - 1 degrees of freedom


def _two_precisions(
    seed: int, n: int, mean: float, deviation: float, *, bound: float = 0.001, spread: float = 0.003
) -> tuple:
    """AUCs of n seeds, a spread apart, and the critical t; their differences have this mean and deviation."""
    rng = np.random.default_rng(seed)
    noise = rng.normal(size=n)
    second = rng.normal(0.8, spread, n)
    return second + mean + deviation * (noise - noise.mean()) / noise.std(ddof=1), second, bound, _T[n]


def _random_precisions(seed: int) -> tuple:
    rng = np.random.default_rng(seed)
    return _two_precisions(seed, int(rng.choice(list(_T))), rng.uniform(-0.0015, 0.0015), rng.uniform(0, 0.001))


def _interval(first, second, t, error: Callable = lambda d: statistics.stdev(d) / sqrt(len(d))) -> tuple[float, float]:
    difference = [a - b for a, b in zip(first.tolist(), second.tolist(), strict=True)]
    mean, half = statistics.fmean(difference), t * error(difference)
    return mean - half, mean + half


def _within(error: Callable) -> Callable:
    """The rule with another error of the mean."""

    def rule(first, second, bound, t):
        low, high = _interval(first, second, t, error)
        return -bound <= low and high <= bound

    return rule


def _unpaired(first, second, bound, t):
    error = sqrt((statistics.variance(first) + statistics.variance(second)) / len(first))
    return bool(abs(first.mean() - second.mean()) + t * error <= bound)


def _which_precisions(first, second, bound, t) -> str:
    low, high = _interval(first, second, t)
    return f"{len(first)} seeds whose differences have the interval {low:.5f} to {high:.5f}, bound {bound:g}"


def _check_verdict(answer):
    got = answer(*_two_precisions(0, 5, 0, 0.0001))
    if isinstance(got, bool | np.bool_) or got is None:  # the next check has the sentence for nothing
        return None
    return f"the verdict is one True or False, but yours is of type {type(got).__name__}."


_ONE_SIDE = "You look at one end only: a precision may be better or worse, and both ends must be within ±bound."
_EQUIVALENT = _against(
    lambda first, second, bound, t: max(map(abs, _interval(first, second, t))) <= bound,
    [
        _two_precisions(1, 16, 0, 0.0003),
        _two_precisions(2, 16, 0.0004, 0.0003),
        _two_precisions(3, 5, 0.0002, 0.0012),
        _two_precisions(4, 16, 0.0009, 0.0004),
        _two_precisions(5, 16, -0.0009, 0.0004),
        _two_precisions(6, 16, 0.0005, 0.001),
        _two_precisions(7, 3, 0, 0.0004),
        _two_precisions(8, 3, 0, 0.0009),
        _two_precisions(9, 2, 0, 0.00025),
        _two_precisions(10, 2, 0.0001, 0.00015),
        _two_precisions(11, 5, 0, 0),
        _two_precisions(12, 5, 0.0015, 0),
        _two_precisions(13, 16, 0.0004, 0.0001, bound=0.0002),
        _two_precisions(14, 16, 0.0001, 0.0002, spread=0.0003),
        *map(_random_precisions, range(30)),
    ],
    _which_precisions,
    (
        (_unpaired, "Yours has the spread of the seeds in it. Subtract seed by seed: it cancels."),
        (
            lambda a, b, bound, t: (ends := _interval(a, b, t))[0] <= 0 <= ends[1],
            "That no difference was found shows none: a few noisy seeds never find one. Compare with the bound, not 0.",
        ),
        (
            lambda a, b, bound, t: bool(abs((a - b).mean()) <= bound),
            "A mean within the bound may be luck: its whole interval must be.",
        ),
        (
            lambda a, b, bound, t: bool((abs(a - b) <= bound).all()),
            "Single seeds may lie outside: it is the interval of their mean that counts.",
        ),
        (lambda a, b, bound, t: _interval(a, b, t)[1] <= bound, _ONE_SIDE),
        (lambda a, b, bound, t: -bound <= _interval(a, b, t)[0], _ONE_SIDE),
        (_within(statistics.stdev), f"That is the interval of one seed. {_BY_THE_ROOT}"),
        (_within(lambda d: statistics.stdev(d) / len(d)), f"Four seeds halve an interval. {_BY_THE_ROOT}"),
        (_within(lambda d: statistics.pstdev(d) / sqrt(len(d))), "Your deviation divides by n: use `ddof=1`."),
    ),
)


def speedup(ours, theirs):
    """Both programs of a round meet the same machine, so its moods cancel out in their ratio."""
    return np.median(ours / theirs)


def _rounds(seed: int, rounds: int, ratio: float) -> tuple[np.ndarray, np.ndarray]:
    """A machine that is slower in some rounds, for both programs, and in one round only for theirs."""
    rng = np.random.default_rng(seed)
    theirs = 1000 * rng.uniform(0.5, 1, rounds)
    ours = ratio * theirs * rng.uniform(0.9, 1.1, rounds)
    theirs[rounds // 2] /= 3
    return ours.round(), theirs.round()


_MOODS = "The machine's moods do not cancel out there: divide round by round first."
_SPEEDUP = _against(
    lambda ours, theirs: statistics.median(a / b for a, b in zip(ours, theirs, strict=True)),
    [
        (np.array([1500.0, 600.0, 900.0, 1000.0, 1400.0]), np.array([1000.0, 150.0, 750.0, 500.0, 1120.0])),
        (np.array([300.0]), np.array([400.0])),
        *(_rounds(seed, rounds, ratio) for seed, rounds, ratio in ((1, 4, 2.0), (2, 7, 0.8), (3, 6, 1.3))),
    ],
    lambda ours, theirs: f"the speed-up of {ours.tolist()} over {theirs.tolist()}",
    (
        (lambda a, b: statistics.fmean(a) / statistics.fmean(b), f"That is the ratio of the means. {_MOODS}"),
        (lambda a, b: statistics.median(a) / statistics.median(b), f"That is the ratio of the medians. {_MOODS}"),
        (lambda a, b: max(a) / max(b), "That is best against best: two single rounds, of different moods, decide."),
        (lambda a, b: max(a) / min(b), "That is our best against their worst: nobody will believe it."),
        (lambda a, b: float(np.mean(a / b)), "That is the mean of the ratios: one disturbed round pulls it along."),
        (lambda a, b: statistics.median(b / a), "Upside down: it is above 1 where ours is faster."),
    ),
)


EXERCISES = (
    Exercise(
        id="8.1",
        title="samples per second",
        hint="`seconds[warmup:]` are the steps that count. A step of median length has batch_size samples: how many is "
        "that in a second?",
        solution=throughput,
        checks=(_THROUGHPUT,),
    ),
    Exercise(
        id="8.2",
        title="the error of a mean",
        hint="`np.std` divides by n unless you give it `ddof=1`. The mean of n seeds strays less than one of them: by "
        "the square root of n.",
        solution=standard_error,
        checks=(_STANDARD_ERROR,),
    ),
    Exercise(
        id="8.3",
        title="as good as the other precision",
        hint="Subtract seed by seed. The differences have a mean, and that has an error as in 8.2; the interval "
        "reaches t errors down and t errors up. Where must both ends lie?",
        solution=equivalent,
        checks=(_check_verdict, _EQUIVALENT),
    ),
    Exercise(
        id="8.4",
        title="faster, round by round",
        hint="`ours / theirs` has one ratio for each round. Which number in the middle stays where one round was odd?",
        solution=speedup,
        checks=(_SPEEDUP,),
    ),
)
