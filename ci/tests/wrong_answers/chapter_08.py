"""Planted wrong answers to the exercises of chapter 08, with a part of the sentence each must get."""

from __future__ import annotations

import math

import numpy as np


def warm_up_included(seconds, batch_size, warmup):
    return batch_size / np.median(seconds)


def warm_up_in_the_total(seconds, batch_size, warmup):
    return batch_size * len(seconds) / sum(seconds)


def fastest_left_out(seconds, batch_size, warmup):
    return batch_size / np.median(sorted(seconds)[warmup:])


def mean_time(seconds, batch_size, warmup):
    measured = seconds[warmup:]
    return batch_size * len(measured) / sum(measured)


def mean_rate(seconds, batch_size, warmup):
    return (batch_size / np.array(seconds[warmup:])).mean()


def median_rate(seconds, batch_size, warmup):
    return np.median(batch_size / np.array(seconds[warmup:]))


def as_milliseconds(seconds, batch_size, warmup):
    return batch_size / (np.median(seconds[warmup:]) / 1000)


def steps_per_second(seconds, batch_size, warmup):
    return 1 / np.median(seconds[warmup:])


def seconds_per_sample(seconds, batch_size, warmup):
    return np.median(seconds[warmup:]) / batch_size


def upper_of_the_middle(seconds, batch_size, warmup):
    measured = sorted(seconds[warmup:])
    return batch_size / measured[len(measured) // 2]


def by_n(aucs):
    return aucs.mean(), aucs.std(), aucs.std() / math.sqrt(len(aucs))


def error_of_one(aucs):
    return aucs.mean(), aucs.std(ddof=1), aucs.std(ddof=1)


def error_over_n(aucs):
    return aucs.mean(), aucs.std(ddof=1), aucs.std(ddof=1) / len(aucs)


def median_first(aucs):
    return np.median(aucs), aucs.std(ddof=1), aucs.std(ddof=1) / math.sqrt(len(aucs))


def no_error(aucs):
    return aucs.mean(), aucs.std(ddof=1)


def _inside(mean, half, bound):
    return abs(mean) + half <= bound


def unpaired(first, second, bound, t):
    error = math.sqrt(first.var(ddof=1) / len(first) + second.var(ddof=1) / len(second))
    return _inside(first.mean() - second.mean(), t * error, bound)


def not_significant(first, second, bound, t):
    d = first - second
    return abs(d.mean()) <= t * d.std(ddof=1) / math.sqrt(len(d))


def mean_only(first, second, bound, t):
    return abs(first.mean() - second.mean()) < bound


def every_seed(first, second, bound, t):
    return np.abs(first - second).max() < bound


def upper_end_only(first, second, bound, t):
    d = first - second
    return d.mean() + t * d.std(ddof=1) / math.sqrt(len(d)) < bound


def lower_end_only(first, second, bound, t):
    d = first - second
    return d.mean() - t * d.std(ddof=1) / math.sqrt(len(d)) > -bound


def interval_of_one(first, second, bound, t):
    d = first - second
    return _inside(d.mean(), t * d.std(ddof=1), bound)


def interval_over_n(first, second, bound, t):
    d = first - second
    return _inside(d.mean(), t * d.std(ddof=1) / len(d), bound)


def interval_by_n(first, second, bound, t):
    d = first - second
    return _inside(d.mean(), t * d.std() / math.sqrt(len(d)), bound)


def normal_not_student(first, second, bound, t):
    d = first - second
    return _inside(d.mean(), 1.645 * d.std(ddof=1) / math.sqrt(len(d)), bound)


def own_bound(first, second, bound, t):
    d = first - second
    return _inside(d.mean(), t * d.std(ddof=1) / math.sqrt(len(d)), 0.001)


def always(first, second, bound, t):
    return True


def never(first, second, bound, t):
    return False


def seed_by_seed(first, second, bound, t):
    return np.abs(first - second) < bound


def ratio_of_means(ours, theirs):
    return ours.mean() / theirs.mean()


def ratio_of_medians(ours, theirs):
    return np.median(ours) / np.median(theirs)


def best_against_best(ours, theirs):
    return ours.max() / theirs.max()


def best_against_worst(ours, theirs):
    return ours.max() / theirs.min()


def mean_of_ratios(ours, theirs):
    return (ours / theirs).mean()


def ratio_upside_down(ours, theirs):
    return np.median(theirs / ours)


def gain_not_ratio(ours, theirs):
    return np.median(ours / theirs) - 1


WRONG = {
    "8.1": (
        (warm_up_included, "The first steps are in it"),
        (warm_up_in_the_total, "The first steps are in it"),
        (fastest_left_out, "Yours lack the fastest"),
        (mean_time, "That is the mean time's"),
        (mean_rate, "That is the mean of the rates"),
        (median_rate, "That is the median rate"),
        (as_milliseconds, "As if these were milliseconds"),
        (steps_per_second, "steps per second"),
        (seconds_per_sample, "seconds per sample"),
        (upper_of_the_middle, "warmup 2: expected"),
    ),
    "8.2": (
        (by_n, "Divide by n - 1"),
        (error_of_one, "That is one seed's"),
        (error_over_n, "Four seeds halve it"),
        (median_first, "part 0: expected 0.802, got 0.801"),
        (no_error, "must be a tuple of 3 values"),
    ),
    "8.3": (
        (unpaired, "the spread of the seeds in it"),
        (not_significant, "Compare with the bound, not 0"),
        (mean_only, "A mean within the bound may be luck"),
        (every_seed, "Single seeds may lie outside"),
        (upper_end_only, "You look at one end only"),
        (lower_end_only, "You look at one end only"),
        (interval_of_one, "the interval of one seed"),
        (interval_over_n, "Four seeds halve an interval"),
        (interval_by_n, "use `ddof=1`"),
        (normal_not_student, "3 seeds whose differences have the interval -0.00152 to 0.00152"),
        (own_bound, "bound 0.0002: expected False, got True"),
        (always, "-0.00094 to 0.00134, bound 0.001: expected False, got True. hint"),
        (never, "-0.00013 to 0.00013, bound 0.001: expected True, got False. hint"),
        (seed_by_seed, "one True or False, but yours is of type ndarray"),
    ),
    "8.4": (
        (ratio_of_means, "That is the ratio of the means"),
        (ratio_of_medians, "That is the ratio of the medians"),
        (best_against_best, "That is best against best"),
        (best_against_worst, "our best against their worst"),
        (mean_of_ratios, "That is the mean of the ratios"),
        (ratio_upside_down, "Upside down"),
        (gain_not_ratio, "expected 1.5, got 0.5"),
    ),
}
