"""What the card, the page and the terminal all say about a result, said once."""

import yaml

from miaotui.measure.result import (
    AcceptanceTest,
    Baseline,
    OptimizationResult,
    RatioTriple,
    Rival,
    best_rival,
)
from miaotui.measure.statistics import FEWEST_ROUNDS_FOR_INTERVAL, smallest_decidable_drop
from miaotui.report import words

FEW_TEST_ROWS = 1000


def headline(result: OptimizationResult) -> str:
    """How fast it is against whom, and what it cost."""
    return f"{_speed_sentence(result)} {_quality_sentence(result)}"


def judged_by_latency(result: OptimizationResult) -> bool:
    return result.speed.objective == "latency"


def judged_ratio(result: OptimizationResult, other: Baseline) -> RatioTriple | None:
    """How many times better ours is by what was asked for: p99 or throughput."""
    return other.p99_ratio if judged_by_latency(result) else other.throughput_ratio


def judged_rival(result: OptimizationResult) -> tuple[str, Rival] | None:
    """The best rival by what was asked for."""
    name = best_rival(result, "p99" if judged_by_latency(result) else "throughput")
    return None if name is None else (name, result.speed.rivals[name])


def metric_name(result: OptimizationResult) -> str:
    return result.quality.metric.replace("_", " ").replace("f1", "F1").replace("mcc", "MCC")


def verdict(result: OptimizationResult) -> str:
    """Below what the loss is and how surely, and whether that keeps the limits."""
    quality, limit = result.quality, result.details.max_drop
    named = "the limit" if limit is None else f"the limit of {words.score(limit)}"
    kept = f"within {named}" if quality.within_budget else f"over {named}"
    sure = ", at 95% too" if quality.within_budget and quality.within_budget_95 else ""
    if quality.upper_bound is None or quality.confidence is None:
        return kept + sure
    below = f"below {words.score(quality.upper_bound)} with {quality.confidence:.0%} confidence"
    return f"{below}: {kept}{sure}{_of_classes(result)}"


def loss(test: AcceptanceTest) -> str:
    """What a candidate lost, and below what that is how surely."""
    lost = f"loss {words.score(test.drop)}"
    if test.upper_bound is None or test.confidence is None:
        return lost
    return f"{lost}, below {words.score(test.upper_bound)} with {test.confidence:.0%} confidence"


def _of_classes(result: OptimizationResult) -> str:
    losses, limit = result.quality.class_losses, result.details.max_class_drop
    if not losses or limit is None:
        return ""
    name = max(losses, key=lambda label: losses[label].upper_bound)
    worst = words.score(losses[name].upper_bound)
    return f"; of any class below {worst} ({name}), allowed {words.score(limit)}"


def few_rows_warning(result: OptimizationResult) -> str | None:
    """The smallest drop that this few test rows can decide; None from 1,000 rows on."""
    quality = result.quality
    if quality.rows >= FEW_TEST_ROWS:
        return None
    if quality.metric == "accuracy":
        smallest = smallest_decidable_drop(quality.rows)
    else:
        low, high = quality.drop_interval_95
        smallest = (high - low) / 2
    return (
        f"Only {quality.rows:,} test rows: a drop below about {words.score(smallest)} cannot be "
        "told from none."
    )


def notes(result: OptimizationResult) -> list[str]:
    """Warnings first, then what was not tried or not measured and why."""
    warning = few_rows_warning(result)
    dropped = [
        f"{name}: {rival.dropped}" for name, rival in result.speed.rivals.items() if rival.dropped
    ]
    missing = [f"{name} is unavailable: {why}" for name, why in result.details.unavailable.items()]
    return [*([warning] if warning else []), *result.notes, *dropped, *missing]


def layers_kept(result: OptimizationResult) -> list[str]:
    """One line for each layer."""
    return [
        f"layer {number}: {layer.heads_kept} of {layer.heads_before} heads, "
        f"{layer.ffn_kept:,} of {layer.ffn_before:,} ffn neurons"
        for number, layer in enumerate(result.details.layers)
    ]


def conditions(result: OptimizationResult) -> list[tuple[str, str]]:
    """What the numbers were taken under: the machine, the rows and the search."""
    details = result.details
    facts = [
        (name.removesuffix("_bytes").replace("_", " "), words.plain(name, value))
        for name, value in details.environment.items()
    ]
    if details.splits:
        rows = ", ".join(f"{name} {count:,}" for name, count in details.splits.items())
        facts.append(("rows", rows))
    facts.append(("search", f"{result.trials} trials in {words.duration(result.seconds)}"))
    if details.stage_seconds:
        spent = (f"{n} {words.duration(s)}" for n, s in details.stage_seconds.items() if s >= 0.5)
        facts.append(("where the time went", ", ".join(spent)))
    if details.engine_throughput_rows_per_s is not None:
        engine = words.rate(details.engine_throughput_rows_per_s)
        facts.append(("engine alone, without tokenization", f"{engine} rows/s"))
    if details.rounds is not None:
        kind = "a range" if details.rounds < FEWEST_ROUNDS_FOR_INTERVAL else "a 95% interval"
        facts.append(("rounds of the proof", f"{details.rounds}: low–high of a ratio is {kind}"))
    if details.first_call_ms is not None:
        facts.append(("first call", f"{words.millis(details.first_call_ms)} ms"))
    if details.latency_table_error is not None:
        error = f"{details.latency_table_error:.1%} between predicted and measured time"
        facts.append(("latency table error", error))
    return facts


def recipe_yaml(result: OptimizationResult) -> str:
    return yaml.safe_dump(result.recipe, sort_keys=False, allow_unicode=True).strip()


def _speed_sentence(result: OptimizationResult) -> str:
    compared = _comparisons(result)
    ending = f": {' and '.join(compared)}." if compared else "."
    return f"{_own_speed(result)}{ending}"


def _own_speed(result: OptimizationResult) -> str:
    speed, size = result.speed, result.size_bytes
    if judged_by_latency(result):
        return f"p99 latency {words.millis(speed.latency_ms.p99)} ms"
    throughput = f"{words.rate(speed.throughput_rows_per_s)} rows/s"
    if speed.objective == "size":
        return f"{words.size(size.optimized)} instead of {words.size(size.original)}, {throughput}"
    return throughput


def _comparisons(result: OptimizationResult) -> list[str]:
    comparisons = []
    best = judged_rival(result)
    if best is not None and (triple := judged_ratio(result, best[1])) is not None:
        comparisons.append(f"{words.times(triple)} the speed of {best[0]}, the best rival,")
    if (triple := judged_ratio(result, result.speed.baseline)) is not None:
        original = "the speed of the uncompressed original in our best runtime"
        comparisons.append(f"{words.times(triple)} {original}")
    if best is None and not any(rival.keeps_limit for rival in result.speed.rivals.values()):
        comparisons.append("no rival keeps the limit")
    return comparisons


def _quality_sentence(result: OptimizationResult) -> str:
    quality, metric = result.quality, metric_name(result)
    return (
        f"{metric[:1].upper()}{metric[1:]} {words.score(quality.optimized)} instead of "
        f"{words.score(quality.original)} on {quality.rows:,} test rows: the loss is most likely "
        f"{words.score(quality.drop)} (95% interval {words.interval(quality.drop_interval_95)}) "
        f"and {verdict(result)}."
    )
