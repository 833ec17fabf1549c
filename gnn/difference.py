"""Differences in error: is one predictor better than another, or are the two tied?

Errors of cells that share a cause are not independent, so whole clusters are drawn again, and tested: a probe, or a probe on
a day. Two ways of asking must agree before one predictor is said to be better. The bootstrap asks for the mean over cells,
which is the error that the tables state and which a few paths can win; the signed-rank test asks whether most clusters gain.

    errors of each model, seeds averaged --compare--> model -> Difference (interval, ratio, p, verdict)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
from scipy.stats import rankdata, wilcoxon

from domain.errors import DataError
from kg.arrays import Floats, Ints

LEAST_CLUSTERS = 30
"""Fewer clusters say too little about a difference."""

SIGNIFICANCE = 0.05
RESAMPLES = 2000
MOST_DRAWN = 8_000_000
"""Resamples x clusters held at once: 64 MB."""


class Outcome(StrEnum):
    """What is said of a model beside its reference."""

    BETTER = "better"
    WORSE = "worse"
    TIED = "tied"
    TOO_FEW_CLUSTERS = "too few clusters"


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """A model's error less its reference's, on the same cells: below 0 the model is better.

    Attributes:
        mean: difference of the mean errors over all cells.
        ci_low, ci_high: its 95 % interval, from a bootstrap over clusters.
        ratio: mean error of the model over that of the reference. None where the reference is without error, in all cells
            or in those of a resample.
        ratio_low, ratio_high: its 95 % interval, from the same resamples.
        p_wilcoxon: two-sided signed-rank test of the mean differences of the clusters, each of which counts once.
        p_holm: the same, adjusted for all models that were compared together.
        rank_correlation: of that test, -1 (the model has less error in every cluster) to 1.
        clusters: how many.
        gaining, losing: share of the clusters in which the model has less error, and more.
        lost_to_gained: summed error that a losing cluster adds over what a gaining one takes away, each the mean over theirs. None
            where no cluster gains, or none loses.
    """

    mean: float
    ci_low: float
    ci_high: float
    ratio: float | None
    ratio_low: float | None
    ratio_high: float | None
    p_wilcoxon: float
    p_holm: float
    rank_correlation: float
    clusters: int
    gaining: float
    losing: float
    lost_to_gained: float | None

    @property
    def outcome(self) -> Outcome:
        """Better or worse only where the interval leaves out 0 and the adjusted test agrees, in the same direction."""
        if self.clusters < LEAST_CLUSTERS:
            return Outcome.TOO_FEW_CLUSTERS
        if self.p_holm < SIGNIFICANCE:
            if self.ci_high < 0.0 and self.rank_correlation < 0.0:
                return Outcome.BETTER
            if self.ci_low > 0.0 and self.rank_correlation > 0.0:
                return Outcome.WORSE
        return Outcome.TIED

    def why_tied(self, clusters: str = "clusters") -> str:
        """How a tie comes about in which the mean and the ranks do not say the same; "" where they do, or it is no tie.

        Args:
            clusters: what clusters are called.
        """
        if self.outcome is not Outcome.TIED:
            return ""
        mean_is_clear = self.ci_high < 0.0 or self.ci_low > 0.0
        if mean_is_clear:
            return self._won_by_few(clusters)
        return self._not_in_the_mean(clusters) if self.p_holm < SIGNIFICANCE else ""

    def _won_by_few(self, clusters: str) -> str:
        """The mean is clear, and the ranks are not, or say the opposite."""
        gains = self.ci_high < 0.0
        own, other = (self.gaining, self.losing) if gains else (self.losing, self.gaining)
        verb, opposite, mean = ("gain", "lose", "lower") if gains else ("lose", "gain", "higher")
        if own < other:
            return f"fewer {clusters} {verb} ({_percent(own)}) than {opposite}, but those by more"
        return f"the mean error is {mean}, but that most {clusters} {verb} is not clear ({_percent(own)} do)"

    def _not_in_the_mean(self, clusters: str) -> str:
        """The ranks are clear, and the mean could be the same."""
        gains = self.rank_correlation < 0.0
        own, other = (self.gaining, self.losing) if gains else (self.losing, self.gaining)
        verb, opposite = ("gain", "lose") if gains else ("lose", "gain")
        times = self.lost_to_gained
        if times is not None and (times if gains else 1.0 / times) > 1.0:
            return f"{_percent(own)} of the {clusters} {verb}, but the {_percent(other)} that {opposite} do so by more"
        return f"{_percent(own)} of the {clusters} {verb}, but the mean error could be the same"


def compare(
    errors: Mapping[str, Floats], clusters: Ints, reference: str, generator: np.random.Generator
) -> dict[str, Difference]:
    """Set every model against the reference; all of them are one family for Holm.

    The interval is the percentile interval of a cluster bootstrap (Davison, Hinkley: Bootstrap Methods and their Application,
    1997, section 3.8): whole clusters are drawn with replacement, the same ones for all models, and the mean of a resample
    is a ratio of sums, since clusters differ in size. The test is Wilcoxon's (Biometrics Bulletin 1, 1945), with zeros as in
    Pratt (JASA 54, 1959). What shakes all clusters at once is in neither.

    Neither the order of cells nor the numbers of clusters change anything: clusters are drawn from an order of their contents.

    Args:
        errors: for each model the (N,) errors of the same cells, averaged over seeds.
        clusters: (N,) which cluster each cell belongs to.
        reference: the model that the others are set against.
        generator: draws the clusters.

    Raises:
        DataError: when there is no cell, an error is not finite, or the reference is not among the models.

    >>> generator = np.random.default_rng(0)
    >>> error = generator.exponential(5.0, size=400)
    >>> found = compare({"mean": error, "model": 0.8 * error}, np.arange(400) // 10, "mean", generator)["model"]
    >>> round(found.ratio, 3), found.clusters, str(found.outcome)
    (0.8, 40, 'better')
    """
    _require_comparable(errors, clusters, reference)
    number = np.unique(clusters, return_inverse=True)[1]
    counts: Floats = np.bincount(number).astype(np.float64)
    names = sorted(errors.keys() - {reference})
    columns = [np.bincount(number, weights=errors[name]) for name in (reference, *names)]
    sums: Floats = np.stack(columns, axis=1).astype(np.float64)
    order = np.lexsort((*sums.T[::-1], counts))  # by size, then by the error of the reference
    sums, counts = sums[order], counts[order]
    drawn_sums, drawn_counts = _drawn(sums, counts, generator)

    tests = {name: _signed_rank((sums[:, 1 + i] - sums[:, 0]) / counts) for i, name in enumerate(names)}
    adjusted = holm({name: p for name, (p, _) in tests.items()})
    found: dict[str, Difference] = {}
    for i, name in enumerate(names, start=1):
        low, high = _interval((drawn_sums[:, i] - drawn_sums[:, 0]) / drawn_counts)
        ratio: tuple[float, float, float] | tuple[None, None, None] = (None, None, None)
        if drawn_sums[:, 0].min() > 0.0:
            mid = float(sums[:, i].sum() / sums[:, 0].sum())
            ratio = (mid, *_interval(drawn_sums[:, i] / drawn_sums[:, 0]))
        found[name] = Difference(
            mean=float((sums[:, i] - sums[:, 0]).sum() / counts.sum()),
            ci_low=low,
            ci_high=high,
            ratio=ratio[0],
            ratio_low=ratio[1],
            ratio_high=ratio[2],
            p_wilcoxon=tests[name][0],
            p_holm=adjusted[name],
            rank_correlation=tests[name][1],
            clusters=len(counts),
            **_gained_and_lost(sums[:, i] - sums[:, 0]),
        )
    return found


def holm(p: Mapping[str, float]) -> dict[str, float]:
    """P-values adjusted so that one false finding among them all is as rare as it is said to be.

    Holm: A simple sequentially rejective multiple test procedure (Scandinavian Journal of Statistics 6, 1979): the smallest
    counts as often as there are tests, the next once less, and none less than one before it.

    >>> holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.005})
    {'a': 0.03, 'b': 0.06, 'c': 0.06, 'd': 0.02}
    """
    ascending = sorted(p, key=lambda name: p[name])
    adjusted: dict[str, float] = {}
    largest = 0.0
    for left, name in zip(range(len(p), 0, -1), ascending, strict=True):
        largest = max(largest, min(1.0, left * p[name]))
        adjusted[name] = largest
    return {name: adjusted[name] for name in p}


def _require_comparable(errors: Mapping[str, Floats], clusters: Ints, reference: str) -> None:
    if reference not in errors:
        raise DataError(
            "nothing to compare with",
            found=", ".join(errors) or "no model",
            expected=f"{reference} among them",
        )
    if len(clusters) == 0:
        raise DataError(
            "nothing to compare", found="no cell", expected="at least one cell that all models predict"
        )
    for name, error in errors.items():
        if error.shape != clusters.shape or not np.isfinite(error).all():
            raise DataError(
                "errors that cannot be compared cell by cell",
                where=name,
                found=f"{int(np.isfinite(error).sum())} finite of {error.size}",
                expected=f"{len(clusters)} finite errors",
            )


def _drawn(sums: Floats, counts: Floats, generator: np.random.Generator) -> tuple[Floats, Floats]:
    """(R, M) sums and (R,) counts of resamples of the K clusters."""
    size = len(counts)
    both = np.concatenate([sums, counts[:, None]], axis=1)
    block = max(1, MOST_DRAWN // size)
    parts = [
        generator.multinomial(size, np.full(size, 1.0 / size), size=min(block, RESAMPLES - start)) @ both
        for start in range(0, RESAMPLES, block)
    ]
    drawn = np.concatenate(parts)
    return drawn[:, :-1], drawn[:, -1]


def _percent(share: float) -> str:
    return f"{100.0 * share:.0f} %"


def _gained_and_lost(changes: Floats) -> dict[str, Any]:
    """How many of the clusters gain and lose, and how much, from the (K,) changes of their summed errors."""
    gains, losses = -changes[changes < 0.0], changes[changes > 0.0]
    return {
        "gaining": len(gains) / len(changes),
        "losing": len(losses) / len(changes),
        "lost_to_gained": float(losses.mean() / gains.mean()) if len(gains) > 0 and len(losses) > 0 else None,
    }


def _interval(values: Floats) -> tuple[float, float]:
    low, high = np.quantile(values, [0.025, 0.975])
    return float(low), float(high)


def _signed_rank(differences: Floats) -> tuple[float, float]:
    """The two-sided p-value, and the rank correlation of matched pairs (Kerby, Comprehensive Psychology 3, 2014)."""
    if not differences.any():
        return 1.0, 0.0
    ranks = rankdata(np.abs(differences))
    correlation = float((np.sign(differences) * ranks).sum() / ranks.sum())
    return float(wilcoxon(differences, zero_method="pratt").pvalue), correlation
