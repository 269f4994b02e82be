"""Intervals against published values, brute-force inversion and simulated coverage."""

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.stats import bootstrap as scipy_bootstrap
from scipy.stats import norm

from miaotui.errors import DataError
from miaotui.measure.statistics import (
    PairedShares,
    paired_bca_interval,
    paired_bca_upper_bound,
    percentile,
    ratio_interval,
    rows_to_decide,
    smallest_decidable_drop,
    tango_interval,
    tango_upper_bound,
)


@pytest.mark.parametrize(
    ("first_only", "second_only", "rows", "confidence", "expected"),
    [
        # Bentur 2009 and Cavo 2012 in Fagerland, Lydersen & Laake (2017), chapter 8.
        (1, 7, 21, 0.95, (-0.517, -0.026)),
        (6, 16, 161, 0.95, (-0.1240, -0.0054)),
        # R, PropCIs::scoreci.mp(25, 28, 618, 0.90), whose estimand is (second - first) / n.
        (28, 25, 618, 0.90, (-0.0148, 0.0247)),
    ],
)
def test_tango_agrees_with_published_values(first_only, second_only, rows, confidence, expected):
    digits = 5e-4 if rows == 21 else 5.1e-5
    found = tango_interval(first_only, second_only, rows, confidence)
    assert found == pytest.approx(expected, abs=digits)


def _score_by_brute_force(difference, first_only, second_only, rows):
    """The score statistic with its restricted estimate found by a numeric search."""
    low, high = max(0.0, -difference), (1 - difference) / 2

    def loss(q):
        counts = (first_only, second_only, rows - first_only - second_only)
        chances = (q + difference, q, 1 - difference - 2 * q)
        pairs = zip(counts, chances, strict=True)
        return -sum(n * np.log(max(p, 1e-300)) for n, p in pairs if n)

    q = minimize_scalar(loss, bounds=(low, high), method="bounded", options={"xatol": 1e-12}).x
    variance = rows * (2 * q + difference * (1 - difference))
    return (first_only - second_only - rows * difference) / np.sqrt(variance)


@pytest.mark.parametrize("counts", [(9, 2, 44), (0, 3, 50), (30, 12, 1000), (1, 0, 300)])
def test_tango_bounds_are_where_the_score_test_turns(counts):
    z = norm.ppf(0.975)
    lower, upper = tango_interval(*counts)
    assert _score_by_brute_force(lower, *counts) == pytest.approx(z, abs=2e-3)
    assert _score_by_brute_force(upper, *counts) == pytest.approx(-z, abs=2e-3)


@pytest.mark.parametrize("rows", [1, 50, 1000])
def test_tango_without_discordant_rows_has_a_width(rows):
    z = norm.ppf(0.975)
    limit = z**2 / (rows + z**2)  # closed form of the score interval at zero of `rows`
    assert tango_interval(0, 0, rows) == pytest.approx((-limit, limit), abs=1e-12)


def test_tango_is_symmetric_and_stays_within_one():
    lower, upper = tango_interval(12, 5, 200)
    assert tango_interval(5, 12, 200) == pytest.approx((-upper, -lower))
    assert tango_interval(20, 0, 20)[1] == pytest.approx(1)
    assert tango_interval(0, 20, 20)[0] == pytest.approx(-1)


def test_one_sided_bound_is_the_end_of_a_90_percent_interval():
    assert tango_upper_bound(14, 6, 1000) == pytest.approx(tango_interval(14, 6, 1000, 0.9)[1])
    assert tango_upper_bound(14, 6, 1000) < tango_interval(14, 6, 1000)[1]


@pytest.mark.parametrize("counts", [(3, 3, 5), (-1, 0, 5), (0, 0, 0)])
def test_impossible_counts_are_refused(counts):
    with pytest.raises(DataError, match="not possible"):
        tango_interval(*counts)


def test_confidence_must_be_a_share():
    with pytest.raises(DataError, match="confidence is 95"):
        tango_interval(1, 1, 5, confidence=95)


def test_smallest_decidable_drop_follows_rows_and_discordance():
    assert smallest_decidable_drop(1000, 0.05) == pytest.approx(tango_interval(25, 25, 1000)[1])
    wald = 1.96 * np.sqrt(0.05 / 1000)
    assert wald < smallest_decidable_drop(1000) < 1.05 * wald
    assert smallest_decidable_drop(4000) < smallest_decidable_drop(1000) / 1.9
    assert smallest_decidable_drop(1000, 0.2) > smallest_decidable_drop(1000, 0.05)


def _skewed(rng, rows):
    return rng.exponential(size=rows)


def test_bca_agrees_with_scipy_on_a_mean():
    sample = _skewed(np.random.default_rng(3), 60)
    found = paired_bca_interval(lambda i: sample[i].mean(), 60, resamples=4000, seed=1)
    theirs = scipy_bootstrap(
        (sample,), np.mean, n_resamples=4000, method="BCa", rng=np.random.default_rng(2)
    ).confidence_interval
    assert found == pytest.approx((theirs.low, theirs.high), abs=0.02)
    assert found[1] - sample.mean() > sample.mean() - found[0]  # skewed to the right


def test_bca_covers_a_skewed_mean_about_as_often_as_it_says():
    rng, covered, below = np.random.default_rng(5), 0, 0
    trials, rows = 300, 50
    for trial in range(trials):
        sample = _skewed(rng, rows)
        low, high = paired_bca_interval(
            lambda i, sample=sample: sample[i].mean(), rows, resamples=400, seed=trial
        )
        covered += low <= 1 <= high
        below += high < 1
    assert 0.90 <= covered / trials <= 0.98
    assert below / trials <= 0.06


def test_bca_upper_bound_lies_within_the_interval_and_repeats_with_its_seed():
    sample = _skewed(np.random.default_rng(8), 80)

    def mean(chosen):
        return float(sample[chosen].mean())

    bound = paired_bca_upper_bound(mean, 80, seed=4)
    assert sample.mean() < bound < paired_bca_interval(mean, 80, seed=4)[1]
    assert bound == paired_bca_upper_bound(mean, 80, seed=4)
    assert bound != paired_bca_upper_bound(mean, 80, seed=5)


def test_grouped_jackknife_keeps_cost_and_interval():
    sample = _skewed(np.random.default_rng(6), 3000)
    calls = []

    def mean(chosen):
        calls.append(len(chosen))
        return float(sample[chosen].mean())

    low, high = paired_bca_interval(mean, 3000, resamples=1000)
    assert len(calls) == 1000 + 1 + 500
    error = sample.std() / np.sqrt(3000)
    assert (low, high) == pytest.approx(
        (sample.mean() - 1.96 * error, sample.mean() + 1.96 * error), abs=0.25 * error
    )


def test_bca_of_no_difference_is_zero():
    assert paired_bca_interval(lambda chosen: 0.0, 20, resamples=50) == (0.0, 0.0)


def test_a_bootstrap_needs_two_rows():
    with pytest.raises(DataError, match="at least 2 rows"):
        paired_bca_interval(lambda chosen: 0.0, 1)


def test_ratio_is_above_one_where_ours_is_better():
    faster = ratio_interval([20.0] * 12, [10.0] * 12, higher_is_better=True)
    sooner = ratio_interval([10.0] * 12, [20.0] * 12, higher_is_better=False)
    assert (faster.low, faster.median, faster.high) == (2.0, 2.0, 2.0)
    assert sooner == faster
    assert not faster.is_range


def test_ratio_pairs_rounds_and_shares_of_a_slow_moment_cancel():
    load = np.random.default_rng(0).uniform(0.3, 1, size=10)
    ratio = ratio_interval(list(30 * load), list(10 * load), higher_is_better=True)
    assert (ratio.low, ratio.high) == pytest.approx((3, 3))


def test_ratio_interval_holds_the_median_inside_the_range():
    ours = [1.0, 1.1, 1.2, 1.3, 1.4, 1.5, 1.6, 1.7, 1.8, 1.9, 5.0]
    ratio = ratio_interval(ours, [1.0] * 11, higher_is_better=True)
    assert ratio.median == 1.5
    assert 1.0 < ratio.low < 1.5 < ratio.high < 5.0
    assert ratio.rounds == 11


def test_few_rounds_give_a_range():
    ratio = ratio_interval([4.0, 2.0, 3.0], [1.0, 1.0, 1.0], higher_is_better=True)
    assert (ratio.low, ratio.median, ratio.high) == (2, 3, 4)
    assert ratio.is_range


@pytest.mark.parametrize(("ours", "theirs"), [([], []), ([1.0], [1.0, 2.0]), ([1.0], [0.0])])
def test_ratios_that_make_no_sense_are_refused(ours, theirs):
    with pytest.raises(DataError, match="a ratio needs"):
        ratio_interval(ours, theirs, higher_is_better=True)


def test_percentile_is_linear_and_needs_values():
    assert percentile([1.0, 2.0, 3.0, 4.0], 50) == 2.5
    assert percentile(list(range(1001)), 99) == 990
    with pytest.raises(DataError, match="no values"):
        percentile([], 99)


def test_the_fewest_rows_that_decide_a_drop():
    """That many decide it and one fewer does not, though nothing is lost."""
    rows = rows_to_decide(0.01, 0.8, 0.05)
    assert 300 < rows < 400
    assert PairedShares(10, 10, 400).upper_bound(0.8) <= 0.01
    assert PairedShares(9, 9, 340).upper_bound(0.8) > 0.01
    assert rows_to_decide(0.01, 0.95) > 3 * rows
    assert rows_to_decide(0.005, 0.8) > 3 * rows
