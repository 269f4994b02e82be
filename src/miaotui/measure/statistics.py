"""Intervals and bounds: pure functions of numbers, each with its source."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from jaxtyping import Float64, Int64
from numpy import ndarray
from scipy.stats import norm

from miaotui.errors import DataError

FEWEST_ROUNDS_FOR_INTERVAL = 10
"""Under this many rounds a ratio is shown with its range, and called so."""
_LARGEST_DELETE_ONE_JACKKNIFE = 2000
_JACKKNIFE_GROUPS = 500
_RATIO_RESAMPLES = 10_000
_BISECTIONS = 60

CONFIDENCE = 0.95
"""Of an interval or a bound where no other is asked for."""

Difference = Callable[[Int64[ndarray, " chosen"]], float]
"""metric(original) minus metric(optimized) on the rows at the given indices (may repeat)."""


def percentile(values: Sequence[float] | Float64[ndarray, " values"], q: float) -> float:
    """The `q`-th percentile (0 to 100), linear between neighbours; no values is a DataError."""
    if len(values) == 0:
        raise DataError(f"percentile {q:g} of no values; measure at least one value first")
    return float(np.percentile(np.asarray(values, dtype=np.float64), q))


def tango_interval(
    original_right_only: int, optimized_right_only: int, rows: int, confidence: float = CONFIDENCE
) -> tuple[float, float]:
    """Two-sided interval for P(original right) - P(optimized right) on the same rows.

    Tango (1998), "Equivalence test and confidence interval for the difference in proportions for
    the paired-sample design", Statistics in Medicine 17, 891-908: every difference that the score
    test does not reject. Stays inside [-1, 1] and has a width without any discordant row.
    """
    _check_counts(original_right_only, optimized_right_only, rows)
    z = _normal_quantile((1 + _checked_confidence(confidence)) / 2)
    upper = _tango_upper(original_right_only, optimized_right_only, rows, z)
    lower = -_tango_upper(optimized_right_only, original_right_only, rows, z)
    return lower, upper


def tango_upper_bound(
    original_right_only: int, optimized_right_only: int, rows: int, confidence: float = CONFIDENCE
) -> float:
    """One-sided upper bound of the same difference, by the same score test (Tango 1998)."""
    _check_counts(original_right_only, optimized_right_only, rows)
    z = _normal_quantile(_checked_confidence(confidence))
    return _tango_upper(original_right_only, optimized_right_only, rows, z)


class PairedLoss(Protocol):
    """What one of two models loses on the same rows, and between what bounds it may lie."""

    @property
    def estimate(self) -> float: ...

    def interval(self, confidence: float = CONFIDENCE) -> tuple[float, float]:
        """Two-sided."""
        ...

    def upper_bound(self, confidence: float = CONFIDENCE) -> float:
        """One-sided."""
        ...


@dataclass(frozen=True)
class PairedShares:
    """A loss of a share of rows, from the rows that only one of the models has right (Tango)."""

    original_right_only: int
    optimized_right_only: int
    rows: int

    @property
    def estimate(self) -> float:
        # One division: 10 of 1,000 is 0.01 exactly, a difference of two accuracies is not.
        return (self.original_right_only - self.optimized_right_only) / self.rows

    def interval(self, confidence: float = CONFIDENCE) -> tuple[float, float]:
        counts = self.original_right_only, self.optimized_right_only, self.rows
        return tango_interval(*counts, confidence)

    def upper_bound(self, confidence: float = CONFIDENCE) -> float:
        counts = self.original_right_only, self.optimized_right_only, self.rows
        return tango_upper_bound(*counts, confidence)


def smallest_decidable_drop(rows: int, discordance: float = 0.05) -> float:
    """The smallest drop of accuracy that `rows` test rows can tell from none.

    It is half the width of the 95% Tango interval where the models are equally good and exactly
    one of them is right on the share `discordance` of the rows (5% is usual of a compression that
    costs about a point; more discordance needs more rows).
    """
    half = discordance * rows / 2
    _check_counts(half, half, rows)
    return _tango_upper(half, half, rows, _normal_quantile(0.975))


def rows_to_decide(drop: float, confidence: float, discordance: float = 0.05) -> int:
    """The fewest rows on which a model that loses nothing, though exactly one of the two is right
    on the share `discordance` of them, has an upper bound of no more than `drop` (above 0)."""

    def decides(rows: int) -> bool:
        half = discordance * rows / 2
        return _tango_upper(half, half, rows, _normal_quantile(confidence)) <= drop

    too_few, enough = 0, 1
    while not decides(enough):
        too_few, enough = enough, 2 * enough
    while enough - too_few > 1:
        middle = (too_few + enough) // 2
        too_few, enough = (too_few, middle) if decides(middle) else (middle, enough)
    return enough


def _tango_upper(first_only: float, second_only: float, rows: int, z: float) -> float:
    """The largest difference not rejected; bisection, as the score falls with the difference."""
    accepted, rejected = (first_only - second_only) / rows, 1.0
    for _ in range(_BISECTIONS):
        middle = (accepted + rejected) / 2
        if _tango_rejects(middle, first_only, second_only, rows, z):
            rejected = middle
        else:
            accepted = middle
    return rejected


def _tango_rejects(
    difference: float, first_only: float, second_only: float, rows: int, z: float
) -> bool:
    """Whether |score| > z, squared to avoid 0 / 0 where no row is discordant."""
    restricted = _restricted_second_only(difference, first_only, second_only, rows)
    variance = rows * (2 * restricted + difference * (1 - difference))
    distance = first_only - second_only - rows * difference
    return distance**2 > z**2 * variance


def _restricted_second_only(
    difference: float, first_only: float, second_only: float, rows: int
) -> float:
    """Maximum likelihood estimate of P(second only) given the difference (Tango 1998, eq. 4)."""
    a = 2 * rows
    b = (2 * rows - first_only + second_only) * difference - first_only - second_only
    c = -second_only * difference * (1 - difference)
    root = math.sqrt(max(b * b - 4 * a * c, 0.0))
    if b > 0:
        return -2 * c / (b + root)  # the same root without cancellation
    return (root - b) / (2 * a)


@dataclass(frozen=True)
class PairedBootstrap:
    """A resampled difference; both bounds are read from the same resamples."""

    estimate: float
    replicates: Float64[ndarray, " resamples"] = field(compare=False, repr=False)
    acceleration: float

    def interval(self, confidence: float = CONFIDENCE) -> tuple[float, float]:
        tail = (1 - _checked_confidence(confidence)) / 2
        return self._bound(tail), self._bound(1 - tail)

    def upper_bound(self, confidence: float = CONFIDENCE) -> float:
        return self._bound(_checked_confidence(confidence))

    def _bound(self, level: float) -> float:
        """The BCa end point at `level` (Efron 1987, eq. 2.3 with 6.6)."""
        bias = self._bias()
        shifted = bias + _normal_quantile(level)
        corrected = bias + shifted / max(1 - self.acceleration * shifted, 1e-9)
        return percentile(self.replicates, 100 * float(norm.cdf(corrected)))

    def _bias(self) -> float:
        """z0; replicates equal to the estimate count half, as metrics of answers have ties."""
        below = float(np.mean(self.replicates < self.estimate))
        equal = float(np.mean(self.replicates == self.estimate))
        edge = 0.5 / len(self.replicates)
        return _normal_quantile(min(max(below + equal / 2, edge), 1 - edge))


def paired_bootstrap(
    difference: Difference, rows: int, *, resamples: int = 2000, seed: int = 0
) -> PairedBootstrap:
    """Resamples rows, the same for both models, for a BCa interval.

    Efron (1987), "Better bootstrap confidence intervals", JASA 82, 171-185. The acceleration comes
    from a delete-one jackknife; over 2,000 rows from one that deletes 500 random groups in turn.
    """
    if rows < 2:
        raise DataError(f"a bootstrap of {rows} rows says nothing; give at least 2 rows")
    rng = np.random.default_rng(seed)
    replicates = np.array([difference(rng.integers(rows, size=rows)) for _ in range(resamples)])
    estimate = difference(np.arange(rows))
    return PairedBootstrap(estimate, replicates, _acceleration(difference, rows, rng))


def paired_bca_interval(
    difference: Difference,
    rows: int,
    *,
    resamples: int = 2000,
    seed: int = 0,
    confidence: float = CONFIDENCE,
) -> tuple[float, float]:
    """Two-sided paired BCa bootstrap interval of `difference`; see `paired_bootstrap`."""
    return paired_bootstrap(difference, rows, resamples=resamples, seed=seed).interval(confidence)


def paired_bca_upper_bound(
    difference: Difference,
    rows: int,
    *,
    resamples: int = 2000,
    seed: int = 0,
    confidence: float = CONFIDENCE,
) -> float:
    """One-sided paired BCa bootstrap upper bound of `difference`; see `paired_bootstrap`."""
    return paired_bootstrap(difference, rows, resamples=resamples, seed=seed).upper_bound(
        confidence
    )


def _acceleration(difference: Difference, rows: int, rng: np.random.Generator) -> float:
    """A sixth of the skewness of the jackknife values (Efron 1987, eq. 6.6)."""
    grouped = rows > _LARGEST_DELETE_ONE_JACKKNIFE
    order = rng.permutation(rows)
    groups = np.array_split(order, _JACKKNIFE_GROUPS if grouped else rows)
    kept = np.ones(rows, dtype=bool)
    values = np.empty(len(groups))
    for index, group in enumerate(groups):
        kept[group] = False
        values[index] = difference(np.flatnonzero(kept))
        kept[group] = True
    influence = values.mean() - values
    spread = float((influence**2).sum()) ** 1.5
    return float((influence**3).sum()) / (6 * spread) if spread > 0 else 0.0


@dataclass(frozen=True)
class Ratio:
    """How many times better ours is, over rounds; above 1 is better, whatever the unit.

    `low` and `high` are a 95% interval of the median, or where `is_range` the smallest and the
    largest round.
    """

    low: float
    median: float
    high: float
    rounds: int
    is_range: bool


def ratio_interval(
    ours: Sequence[float], theirs: Sequence[float], *, higher_is_better: bool
) -> Ratio:
    """Ratios round by round, and the percentile bootstrap (Efron 1979) of their median.

    Both must hold the same rounds in the same order and only positive values (DataError).
    """
    ratios = _round_ratios(ours, theirs, higher_is_better)
    rounds, median = len(ratios), percentile(ratios, 50)
    if rounds < FEWEST_ROUNDS_FOR_INTERVAL:
        return Ratio(float(ratios.min()), median, float(ratios.max()), rounds, is_range=True)
    chosen = np.random.default_rng(0).integers(rounds, size=(_RATIO_RESAMPLES, rounds))
    medians = np.median(ratios[chosen], axis=1)
    return Ratio(percentile(medians, 2.5), median, percentile(medians, 97.5), rounds, False)


def _round_ratios(
    ours: Sequence[float], theirs: Sequence[float], higher_is_better: bool
) -> Float64[ndarray, " rounds"]:
    if len(ours) != len(theirs) or not ours:
        raise DataError(
            f"a ratio needs the same rounds of both, at least one; got {len(ours)} of ours and "
            f"{len(theirs)} of theirs"
        )
    mine, other = np.asarray(ours, dtype=np.float64), np.asarray(theirs, dtype=np.float64)
    if not (mine.min() > 0 and other.min() > 0):
        raise DataError("a ratio needs values above 0; a round measured 0 or less")
    return mine / other if higher_is_better else other / mine


def _normal_quantile(level: float) -> float:
    return float(norm.ppf(level))


def _checked_confidence(confidence: float) -> float:
    if not 0.5 <= confidence < 1:
        raise DataError(f"confidence is {confidence}; expected at least 0.5 and under 1, as 0.95")
    return confidence


def _check_counts(first_only: float, second_only: float, rows: int) -> None:
    if rows < 1 or first_only < 0 or second_only < 0 or first_only + second_only > rows:
        raise DataError(
            f"{first_only:g} and {second_only:g} discordant rows of {rows} are not possible; "
            "expected at least one row, and no more discordant rows than rows"
        )
