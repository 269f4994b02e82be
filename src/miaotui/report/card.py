"""The result as Markdown: `card.md` of a bundle. It says what the page says."""

import re
from collections.abc import Iterable, Sequence

from miaotui.measure.result import AcceptanceTest, OptimizationResult
from miaotui.report import sentences, words
from miaotui.report.comparison import ComparedRow, compared_rows

_HEADER = ("", "rows/s", "× ours", "p50 ms", "× ours", "p99 ms", "× ours", "drop", "keeps limit")


def card(result: OptimizationResult) -> str:
    """All of the result as Markdown, names of labels and rivals escaped."""
    sections = [
        ("Quality", _quality(result)),
        ("Speed", _speed(result)),
        ("Recipe", _fenced(sentences.recipe_yaml(result), "yaml")),
        ("Layers kept", _bullets(sentences.layers_kept(result), "No layer was changed.")),
        ("Acceptance test", _acceptance(result)),
        ("Notes", _bullets(sentences.notes(result), "None.")),
        ("Conditions", _bullets(_conditions(result), "Not recorded.")),
        ("Reproduce", _command(result)),
    ]
    body = "\n\n".join(f"## {title}\n\n{text}" for title, text in sections)
    return f"# {_safe(result.bundle)}\n\n{_safe(sentences.headline(result))}\n\n{body}\n"


def _quality(result: OptimizationResult) -> str:
    quality = result.quality
    lines = [
        f"{sentences.metric_name(result)}, original: {words.score(quality.original)}",
        f"{sentences.metric_name(result)}, optimized: {words.score(quality.optimized)}",
        f"loss: most likely {words.score(quality.drop)}, 95% interval "
        f"{words.interval(quality.drop_interval_95)}; {sentences.verdict(result)}",
        f"test rows: {quality.rows:,}",
    ]
    warning = sentences.few_rows_warning(result)
    return _bullets([*lines, *([warning] if warning else [])], "")


def _speed(result: OptimizationResult) -> str:
    size = result.size_bytes
    lines = [
        f"objective: {result.speed.objective}",
        f"size to serve: {words.size(size.optimized)}, original {words.size(size.original)}",
    ]
    rows = [_HEADER, ("---", *["---:"] * (len(_HEADER) - 1)), *map(_cells, compared_rows(result))]
    table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    explained = (
        "× ours: how many times better ours is, median (low–high) over rounds; below 1 ours is the "
        "worse. Bold: the best rival of that metric among those that keep the limit. The baseline "
        "is the uncompressed original in our best runtime. Text in, answer out; latency of one "
        "text a call."
    )
    return f"{_bullets(lines, '')}\n\n{table}\n\n{explained}"


def _cells(row: ComparedRow) -> Sequence[str]:
    def marked(text: str, metric: str) -> str:
        return f"**{text}**" if metric in row.best_at else text

    own = "1" if row.role == "ours" else None
    return (
        _safe(row.name),
        marked(words.rate(row.throughput_rows_per_s), "throughput"),
        own or words.ratio(row.throughput_ratio),
        marked(words.millis(row.p50_ms), "p50"),
        own or words.ratio(row.p50_ratio),
        marked(words.millis(row.p99_ms), "p99"),
        own or words.ratio(row.p99_ratio),
        words.score(row.drop),
        words.yes_no(row.keeps_limit),
    )


def _acceptance(result: OptimizationResult) -> str:
    return _bullets(map(_tested, result.details.acceptance), "Not recorded.")


def _tested(test: AcceptanceTest) -> str:
    verdict = "passed" if test.passed else "failed"
    return f"{test.name}: {sentences.loss(test)}, {verdict}"


def _conditions(result: OptimizationResult) -> list[str]:
    return [f"{name}: {value}" for name, value in sentences.conditions(result)]


def _command(result: OptimizationResult) -> str:
    command = result.details.command
    return "Not recorded." if command is None else _fenced(command, "sh")


def _bullets(lines: Iterable[str], otherwise: str) -> str:
    return "\n".join(f"- {_safe(line)}" for line in lines) or otherwise


def _fenced(text: str, language: str) -> str:
    """A code block whose fence is longer than any inside."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text}\n{fence}"


def _safe(text: str) -> str:
    """On one line, without HTML or Markdown of its own."""
    special = r"([\\`*\[\]<>|]|(?<!\w)_|_(?!\w))"
    return re.sub(special, r"\\\1", " ".join(text.split()))
