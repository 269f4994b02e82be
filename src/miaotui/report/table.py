"""The comparison for the terminal, 80 columns wide."""

from rich import box
from rich.table import Table
from rich.text import Text

from miaotui.measure.result import OptimizationResult
from miaotui.report import words
from miaotui.report.comparison import ComparedRow, compared_rows
from miaotui.report.sentences import headline, judged_by_latency, metric_name

__all__ = ["headline", "rivals_table"]

_STYLES = {"ours": "bold green", "baseline": "bold", "rival": ""}


def rivals_table(result: OptimizationResult) -> Table:
    """Ours, the baseline and the rivals; a star marks the best rival of the metric."""
    judged = "p99" if judged_by_latency(result) else "throughput"
    table = Table(
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=False,
        caption=f"× ours: how many times better our {judged} is (low–high). "
        "* best rival that keeps the limit. Latency in ms, one text a call.",
        caption_justify="left",
    )
    table.add_column("", overflow="fold", min_width=12)
    for title in ("rows/s", "× ours", "p50", "p99", f"{metric_name(result)}\ndrop", "keeps\nlimit"):
        table.add_column(title, justify="right", no_wrap=True)
    for row in compared_rows(result):
        table.add_row(*map(Text, _cells(row, judged)), style=_STYLES[row.role])
    return table


def _cells(row: ComparedRow, judged: str) -> list[str]:
    ours = row.role == "ours"
    ratio = row.p99_ratio if judged == "p99" else row.throughput_ratio
    return [
        row.name,
        words.rate(row.throughput_rows_per_s) + ("*" if "throughput" in row.best_at else ""),
        "1" if ours else words.ratio(ratio),
        words.millis(row.p50_ms) + ("*" if "p50" in row.best_at else ""),
        words.millis(row.p99_ms) + ("*" if "p99" in row.best_at else ""),
        words.score(row.drop),
        words.yes_no(row.keeps_limit),
    ]
