"""The synthetic log: its bytes, its distributions, and the ceiling written beside it, each against a plain oracle."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from scipy import sparse
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from dlrm_lib import synthetic
from dlrm_lib.columns import CRITEO
from dlrm_lib.config import SyntheticConfig
from dlrm_lib.errors import InputError
from dlrm_lib.metrics import auc
from dlrm_lib.numeric_rules import NUMERIC_RULES
from dlrm_lib.synthetic import day_rows, generate
from dlrm_lib.synthetic.ceiling import EncodedView, expected_auc
from dlrm_lib.synthetic.columns import CATEGORICALS, INTEGERS, MISSING
from dlrm_lib.synthetic.rows import CHUNK, Source, tokens
from dlrm_lib.synthetic.signal import PAIRS

# Rows that need two chunks a day, the second one not full.
CONFIG = SyntheticConfig(rows=160_001, days=4, data_seed=3)


@pytest.fixture(scope="module")
def source() -> Source:
    return Source(CONFIG.data_seed)


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("synthetic") / "raw"
    generate(folder, CONFIG)
    return folder


@pytest.fixture(scope="module")
def parsed(written) -> list[list[list[str]]]:
    return [
        [line.split("\t") for line in (written / f"day_{d}").read_text().split("\n")[:-1]] for d in range(CONFIG.days)
    ]


@pytest.fixture(scope="module")
def drawn(source):
    """(day, the rows of both of its chunks) as the generator draws them, in another order than it does."""
    days = {}
    for day in reversed(range(CONFIG.days)):
        second = source.draw(day, 1, day_rows(CONFIG, day) - CHUNK)
        days[day] = [source.draw(day, 0, CHUNK), second]
    return days


def _digest(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


def test_bytes_do_not_depend_on_the_number_of_processes(written, tmp_path):
    seen = []
    generate(tmp_path / "three", CONFIG, workers=3, progress=lambda done, total: seen.append((done, total)))
    assert _digest(tmp_path / "three") == _digest(written)
    assert [done for done, _ in seen] == sorted({done for done, _ in seen})
    assert seen[-1] == (CONFIG.rows, CONFIG.rows)
    assert len(seen) == 2 * CONFIG.days


def test_bytes_are_frozen(tmp_path):
    """Figures, tuned settings and published AUCs all speak of these rows. Whoever changes them on purpose raises
    ``synthetic.version`` and puts the new hash here; any other change of the hash is a defect."""
    generate(tmp_path / "raw", SyntheticConfig(rows=1_001, days=3, data_seed=2020))
    days = b"".join((tmp_path / "raw" / f"day_{d}").read_bytes() for d in range(3))
    assert (synthetic.version, hashlib.sha256(days).hexdigest()) == (
        1,
        "187b11ad067d18b7777439f69d3920fe1e17aa2a789b4a957144ba0d6356bf56",
    )


def test_seed_changes_rows_and_signal(source):
    other = Source(CONFIG.data_seed + 1)
    assert (source.draw(0, 0, 99).outcomes[20] != other.draw(0, 0, 99).outcomes[20]).any()
    assert (source.on(0).effects[20] != other.on(0).effects[20]).any()


def test_lines_have_the_raw_layout(written, parsed):
    assert [len(day) for day in parsed] == [40_001, 40_000, 40_000, 40_000]
    assert sorted(path.name for path in written.iterdir()) == ["ceiling.json", "day_0", "day_1", "day_2", "day_3"]
    for day in parsed:
        for fields in day:
            assert len(fields) == CRITEO.total
    line = re.compile(r"[01](\t(-?[0-9]{1,7})?){13}(\t([0-9a-f]{8})?){26}")
    for day in parsed:
        assert all(line.fullmatch("\t".join(fields)) for fields in day[:2_000])
    assert any(fields[-2:] == ["", ""] for fields in parsed[0])


def test_parsed_text_recovers_the_rows_drawn(source, parsed, drawn):
    for day in (3, 0):
        integers = source.on(day).integers
        for chunk, rows in enumerate(drawn[day]):
            text = parsed[day][chunk * CHUNK :][: len(rows.label)]
            columns = list(zip(*text, strict=True))
            assert [value == "1" for value in columns[0]] == rows.label.tolist()
            for i in range(CRITEO.numerical):
                values = integers[i][rows.outcomes[i]].tolist()
                assert [int(cell) if cell else MISSING for cell in columns[1 + i]] == values
            for j in range(CRITEO.categorical):
                cells = columns[14 + j]
                expected = [
                    f"{t:08x}" if i else ""
                    for t, i in zip(tokens(rows.identifiers[j], j), rows.identifiers[j], strict=True)
                ]
                assert list(cells) == expected


def test_values_never_share_a_token():
    for column in (0, 25):
        some = np.arange(300_000, dtype=np.uint32)
        assert len(np.unique(tokens(some, column))) == len(some)
    assert not np.isin(tokens(np.arange(1, 9, dtype=np.uint32), 0), tokens(np.arange(1, 9, dtype=np.uint32), 1)).any()


def test_frequencies_follow_the_exact_zipf_probabilities(drawn):
    rows = [chunk for chunks in drawn.values() for chunk in chunks]
    for j, column in enumerate(CATEGORICALS):
        chance = column.probabilities()
        assert chance.sum() == pytest.approx(1, abs=1e-12)
        assert chance[0] == pytest.approx(column.missing, abs=1e-5)
        assert (chance[1:] > 0).all()
        # The bins follow the power law: P(1 … r) by integrating it, up to the share of a bin.
        a = column.exponent
        r = np.arange(1, column.values + 1)
        law = ((r + 1.0) ** (1 - a) - 1) / ((column.values + 1.0) ** (1 - a) - 1)
        np.testing.assert_allclose(
            np.cumsum(chance[1:]) / chance[1:].sum(), law, atol=1.1 / (65_536 * (1 - column.missing))
        )
        # And the draws follow the bins: chi-square of the values expected at least 20 times, within 5 deviations.
        count = np.bincount(np.concatenate([c.outcomes[13 + j] for c in rows]), minlength=len(chance))
        often = chance * count.sum() >= 20
        expected = np.append(chance[often], chance[~often].sum()) * count.sum()
        observed = np.append(count[often], count[~often].sum())
        kept = expected > 0
        chi2 = ((observed - expected)[kept] ** 2 / expected[kept]).sum()
        freedom = kept.sum() - 1
        assert abs(chi2 - freedom) < 5 * np.sqrt(2 * freedom), f"C{j + 1}"
        # Rare ranks share bins: the last rank of every such bin must come up as often as it should.
        first, width = column.bins()
        ends = np.unique((first + width - 1)[width > 1])
        share = chance[ends].sum()
        deviation = np.sqrt(count.sum() * share * (1 - share))
        assert abs(count[ends].sum() - count.sum() * share) <= 5 * deviation, f"C{j + 1}"


def test_missing_negatives_zeros_and_tails(parsed):
    cells = [np.array(column) for column in zip(*parsed[0], strict=True)]
    for i, column in enumerate(INTEGERS):
        empty = cells[1 + i] == ""
        assert empty.mean() == pytest.approx(column.missing, abs=0.01)
    numbers = [column[column != ""].astype(int) for column in cells[1:14]]
    assert [i + 1 for i, column in enumerate(numbers) if column.min() < 0] == [2, 8]
    assert numbers[1].min() == -3
    assert max(column.max() for column in numbers) > 1_000_000
    assert sum((column == 0).mean() > 0.1 for column in numbers) >= 4
    # A missing cell tells something: the click rate differs by at least 5 standard errors.
    clicked = cells[0] == "1"
    for c in (1, 12, 19 + 13, 22 + 13):
        missing = cells[c] == ""
        error = np.sqrt(0.25 * 0.75 / min(missing.sum(), (~missing).sum()))
        assert abs(clicked[missing].mean() - clicked[~missing].mean()) > 5 * error, c


def test_days_drift(parsed):
    rates = [np.mean([row[0] == "1" for row in day]) for day in parsed]
    assert max(rates) - min(rates) > 0.015
    assert 0.20 < min(rates) < max(rates) < 0.31
    large = [14 + j for j, column in enumerate(CATEGORICALS) if column.values > 50_000]
    for c in large:
        before = {row[c] for day in parsed[:-1] for row in day}
        assert np.mean([row[c] not in before for row in parsed[-1]]) > 0.05


def test_replaced_values_live_for_six_days_and_never_return():
    column = CATEGORICALS[2]
    rank = np.array([0, 1, column.settled, column.settled + 1, 500_000], np.uint32)
    life = np.stack([column.identify(rank, day) for day in range(24)])
    assert (life[:, :3] == rank[:3]).all()
    for held in life[:, 3:].T:
        runs = Counter(held.tolist())
        assert len(runs) in (4, 5)
        assert max(runs.values()) == 6
        assert (np.diff(held.astype(np.int64)) >= 0).all()
    assert life.max() < column.identifiers(24)
    every = np.arange(column.values + 1, dtype=np.uint32)
    assert column.identify(every, 23).max() < column.identifiers(24)


def test_labels_match_their_probability(drawn):
    p = np.concatenate([c.probability for chunks in drawn.values() for c in chunks])
    label = np.concatenate([c.label for chunks in drawn.values() for c in chunks])
    for part in np.array_split(np.argsort(p), 20):
        error = np.sqrt((p[part] * (1 - p[part])).sum()) / len(part)
        assert abs(label[part].mean() - p[part].mean()) < 4.5 * error


def test_probability_is_the_formula(source, drawn):
    """A plain loop over one row's columns and pairs."""
    tables = source.on(3)
    rows = drawn[3][0]
    for row in range(50):
        logit = tables.bias
        for column in range(39):
            logit += float(tables.effects[column][rows.outcomes[column][row]])
        for pair in PAIRS:
            u = tables.vectors[pair.first][:, rows.outcomes[pair.first][row]]
            v = tables.vectors[pair.second][:, rows.outcomes[pair.second][row]]
            logit += sum(float(a) * float(b) for a, b in zip(u, v, strict=True))
        assert rows.probability[row] == pytest.approx(1 / (1 + np.exp(-logit)), abs=1e-6)


def test_effects_are_centred_and_as_large_as_planned(source):
    tables, chances = source.on(0), source.signal.chances
    for effect, chance in zip(tables.effects, chances, strict=True):
        assert chance @ effect == pytest.approx(0, abs=1e-4)
    for pair in PAIRS:
        u, v = tables.vectors[pair.first], tables.vectors[pair.second]
        p, q = chances[pair.first], chances[pair.second]
        assert np.abs(u @ p).max() < 1e-4
        assert np.abs(v @ q).max() < 1e-4
        assert np.sum(((u * p) @ u.T) * ((v * q) @ v.T)) == pytest.approx(pair.variance, rel=1e-3)


def test_little_is_out_of_reach_of_any_learner(source):
    """The table in ``signal``: variance that the Fisher information of n occurrences cannot resolve."""
    tables, chances, left = source.on(0), source.signal.chances, {}
    for rows in (875_000, 45_000):
        single = sum(
            p @ (e**2 / (1 + 0.14 * rows * p * e**2)) for p, e in zip(chances[13:], tables.effects[13:], strict=True)
        )
        joint = 0.0
        for pair in PAIRS:
            for one, other in ((pair.first, pair.second), (pair.second, pair.first)):
                if one >= 13:
                    u, v, p = tables.vectors[one], tables.vectors[other], chances[one]
                    s2 = np.einsum("rv,rs,sv->v", u, (v * chances[other]) @ v.T, u)
                    joint += p @ (s2 / (1 + 0.14 * rows * p * s2 / pair.rank))
        left[rows] = single, joint
    assert left[875_000] == pytest.approx((0.03, 0.02), abs=0.01)
    assert left[45_000] == pytest.approx((0.11, 0.12), abs=0.02)


# --- the ceiling ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def encoded(source, drawn):
    """The encoded view of the last day, its rows, and which ranks have an id, by plain counting of printed tokens."""
    day, seen = CONFIG.days - 1, []
    for j, column in enumerate(CATEGORICALS):
        count = Counter()
        for d in range(day):
            for chunk in drawn[d]:
                count.update(tokens(chunk.identifiers[j], j)[chunk.identifiers[j] > 0].tolist())
        frequent = np.array([token for token, n in count.items() if n >= 15], np.uint32)
        ranks = np.arange(column.values + 1, dtype=np.uint32)
        seen.append(np.isin(tokens(column.identify(ranks, day), j), frequent) & (ranks > 0))
    tables = source.on(day)
    return EncodedView(tables, source.signal.chances, seen), tables, seen


def test_encoded_score_is_the_mean_over_what_is_hidden(source, encoded, drawn):
    """Brute force: the hidden cells of a row drawn again 4,000 times from the column's outcomes that look the same."""
    view, tables, seen = encoded
    outcomes = [o[:150] for o in drawn[CONFIG.days - 1][0].outcomes]
    score = view.probability(outcomes)
    rng = np.random.default_rng(8)
    draws, alike = 4_000, []
    for column, chance in enumerate(source.signal.chances):
        if column < 13:
            hidden = np.flatnonzero(np.isin(tables.integers[column], [MISSING, 0]))
        else:
            hidden = np.flatnonzero(~seen[column - 13] & (chance > 0))
        alike.append(
            (set(hidden.tolist()), hidden, np.cumsum(chance[hidden]) / chance[hidden].sum() if len(hidden) else None)
        )
    gaps, errors = [], []
    for row in range(150):
        resampled = []
        for column, (members, hidden, cumulative) in enumerate(alike):
            mine = int(outcomes[column][row])
            if mine in members:
                resampled.append(hidden[np.searchsorted(cumulative, rng.random(draws), "right")])
            else:
                resampled.append(np.full(draws, mine))
        p = 1 / (1 + np.exp(-tables.logit(resampled).astype(np.float64)))
        gaps.append(score[row] - p.mean())
        errors.append(p.std() / np.sqrt(draws))
    gaps, errors = np.array(gaps), np.array(errors)
    assert errors.max() > 1e-4
    # 150 rows at 4.5 standard errors, and 0.0015 for the shape of the distribution beyond its two moments.
    assert (np.abs(gaps) < 4.5 * errors + 0.0015).all()
    assert abs(gaps.mean()) < 4.5 * np.sqrt((errors**2).sum()) / len(gaps) + 0.0003


@pytest.mark.parametrize(("rule", "hides"), [("log_x_plus_2", [MISSING, 0]), ("log_x_plus_3", [MISSING, -3, -2])])
def test_moments_are_those_of_every_hidden_combination(source, drawn, rule, hides):
    """One or both sides of a pair hidden: all combinations of outcomes listed, with their probabilities."""
    visible = [np.arange(column.values + 1) > 0 for column in CATEGORICALS]
    for number in (9, 5, 6, 23):
        visible[number - 1][:] = False
    tables, chances = source.on(1), source.signal.chances
    view = EncodedView(tables, chances, visible, NUMERIC_RULES[rule])
    outcomes = [o[:60] for o in drawn[1][0].outcomes]
    mean, variance = view.moments(outcomes)

    def alike(column: int, mine: int) -> tuple[np.ndarray, np.ndarray]:
        hidden = np.isin(tables.integers[column], hides) if column < 13 else ~visible[column - 13]
        members = np.flatnonzero(hidden) if hidden[mine] else np.array([mine])
        return members, chances[column][members] / chances[column][members].sum()

    paired = {column for pair in PAIRS for column in (pair.first, pair.second)}
    for row in range(60):
        expected_mean, expected_variance = tables.bias, 0.0
        for column in set(range(39)) - paired:
            members, p = alike(column, int(outcomes[column][row]))
            effect = tables.effects[column][members].astype(float)
            expected_mean += p @ effect
            expected_variance += p @ (effect - p @ effect) ** 2
        for pair in PAIRS:
            one, p = alike(pair.first, int(outcomes[pair.first][row]))
            two, q = alike(pair.second, int(outcomes[pair.second][row]))
            term = tables.vectors[pair.first][:, one].T.astype(float) @ tables.vectors[pair.second][:, two]
            term += tables.effects[pair.first][one][:, np.newaxis] + tables.effects[pair.second][two]
            expected_mean += p @ term @ q
            expected_variance += p @ (term - p @ term @ q) ** 2 @ q
        assert mean[row] == pytest.approx(expected_mean, abs=1e-5)
        assert variance[row] == pytest.approx(expected_variance, abs=1e-5)


def test_ceiling_file_says_what_the_rows_say(written, drawn, encoded):
    ceiling = json.loads((written / "ceiling.json").read_text())
    assert (ceiling["version"], ceiling["data_seed"], ceiling["frequency_limit"]) == (synthetic.version, 3, 15)
    assert ceiling["config"] == {"rows": 160_001, "days": 4, "data_seed": 3}
    last = drawn[3]
    label = np.concatenate([c.label for c in last])
    raw = np.concatenate([c.probability for c in last])
    hidden = np.concatenate([encoded[0].probability(c.outcomes) for c in last])
    for split, rows in (("test", slice(0, 20_000)), ("validation", slice(20_000, None))):
        said = ceiling["splits"][split]
        assert (said["rows"], said["clicks"]) == (20_000, int(label[rows].sum()))
        for view, score in (("raw", raw), ("encoded", hidden)):
            assert said[view]["auc"] == pytest.approx(roc_auc_score(label[rows], score[rows]), abs=1e-12)
            likelihood = np.where(label[rows], score[rows], 1 - score[rows])
            assert said[view]["log_loss"] == pytest.approx(-np.log(likelihood).mean(), abs=1e-9)
            # Over label draws the AUC of 20,000 rows varies by about 0.0035.
            assert abs(said[view]["auc"] - said[view]["expected_auc"]) < 0.015
    assert ceiling["splits"]["train"]["rows"] == 120_001
    for said in ceiling["splits"].values():
        assert said["raw"]["expected_auc"] > said["encoded"]["expected_auc"] + 0.005
        assert said["raw"]["expected_log_loss"] < said["encoded"]["expected_log_loss"]


def test_expected_values_are_means_over_label_draws():
    rng = np.random.default_rng(2)
    chance = rng.random(60)
    score = np.round(chance + 0.3 * rng.standard_normal(60), 1)
    right = pairs = 0.0
    for i in range(60):
        for k in range(60):
            if i != k:
                weight = chance[i] * (1 - chance[k])
                pairs += weight
                right += weight * ((score[i] > score[k]) + 0.5 * (score[i] == score[k]))
    assert expected_auc(chance, score) == pytest.approx(right / pairs, abs=1e-12)
    drawn = []
    for _ in range(3_000):
        label = rng.random(60) < chance
        drawn.append(auc(label, score))
    assert np.mean(drawn) == pytest.approx(expected_auc(chance, score), abs=4 * np.std(drawn) / np.sqrt(3_000) + 2e-3)
    assert expected_auc(np.array([0.4]), np.array([0.4])) is None


def test_additive_model_stays_below_the_ceiling(written, parsed):
    """Logistic regression on the encoded rows, encoded here in plain Python, misses the ceiling by at least 0.03."""
    rows = [row for day in parsed for row in day]
    train, test = slice(0, 120_001), slice(120_001, 140_001)
    label = np.array([row[0] == "1" for row in rows])
    features = []
    for c in range(1, 14):
        x = np.log([max(int(row[c] or 0) + 2, 1) for row in rows])
        features += [(x - x[train].mean()) / x[train].std(), x == np.log(2)]
    blocks = [sparse.csr_matrix(np.stack(features, 1))]
    for c in range(14, 40):
        count = Counter(row[c] for row in rows[train])
        ids = {value: k for k, value in enumerate((v for v, n in count.items() if v and n >= 15), 1)}
        column = [ids.get(row[c], 0) for row in rows]
        blocks.append(
            sparse.csr_matrix((np.ones(len(rows)), (np.arange(len(rows)), column)), (len(rows), len(ids) + 1))
        )
    matrix = sparse.hstack(blocks).tocsr()
    # More ridge than usual (C = 1), which helps it here: the gap must not come from overfitting.
    model = LogisticRegression(C=0.05, max_iter=300, tol=1e-3).fit(matrix[train], label[train])
    linear = roc_auc_score(label[test], model.predict_proba(matrix[test])[:, 1])
    ceiling = json.loads((written / "ceiling.json").read_text())["splits"]["test"]
    assert 0.65 < linear < ceiling["encoded"]["auc"] - 0.03
    assert ceiling["encoded"]["auc"] < ceiling["raw"]["auc"]


# --- bad arguments -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "options", "named"),
    [
        (SyntheticConfig(rows=7, days=4), {}, "--rows"),
        (SyntheticConfig(rows=10_000, days=367), {}, "--days"),
        (SyntheticConfig(rows=100, days=4), {"frequency_limit": 0}, "--frequency_limit"),
        (SyntheticConfig(rows=100, days=4), {"workers": 0}, "--workers"),
    ],
)
def test_bad_arguments_are_named(tmp_path, config, options, named):
    with pytest.raises(InputError, match=named):
        generate(tmp_path / "raw", config, **options)
    assert list(tmp_path.iterdir()) == []


def test_smallest_data_set(tmp_path):
    result = generate(tmp_path / "raw", SyntheticConfig(rows=4, days=2))
    assert [result["splits"][s]["rows"] for s in ("train", "test", "validation")] == [2, 1, 1]
    assert result["splits"]["test"]["raw"]["auc"] is None
    assert json.loads((tmp_path / "raw" / "ceiling.json").read_text()) == result


def test_failure_leaves_nothing(tmp_path):
    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        generate(tmp_path / "raw", SyntheticConfig(rows=100, days=2), progress=stop)
    assert list(tmp_path.iterdir()) == []
