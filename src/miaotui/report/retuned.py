"""What `bench --retune` chose, as a sentence, and what it tried, as a table."""

from rich import box
from rich.table import Table

from miaotui.measure.retuned import Retuned
from miaotui.report import words


def retuned_sentence(found: Retuned) -> str:
    """What runs the bundle from now on, and what that gains."""
    alike = f"{found.agreement:.1%} of {found.golden_inputs} golden rows are answered alike"
    kept = f"kept for this machine in {found.kept_in}"
    return f"{_chosen(found)}; {alike}; {kept}"


def _chosen(found: Retuned) -> str:
    ratio, gain = found.times_faster, ""
    if ratio is not None:
        times = words.times((ratio.low, ratio.median, ratio.high))
        gain = f": {times} the {found.judged_by} of {found.compared_with}"
    if found.was_refused is not None:
        refusal = f"which cannot run here ({found.was_refused})"
        return f"{found.chosen} replaces {found.was}, {refusal}{gain}"
    if ratio is None:
        return f"{found.chosen} stays: nothing is clearly faster here"
    return f"{found.chosen} from now on{gain}"


def retuned_table(found: Retuned) -> Table:
    """Every way that was tried, best first, then those that are out and why."""
    slow_first = found.judged_by == "throughput"
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("tried", overflow="fold")
    table.add_column("rows/s" if slow_first else "p50, ms", overflow="fold")
    for title, value in sorted(found.speeds.items(), key=lambda e: e[1], reverse=slow_first):
        table.add_row(title, words.rate(value) if slow_first else words.millis(value))
    if found.was_refused is not None:
        table.add_row(f"{found.was}, until now", found.was_refused)
    for title, reason in found.refused.items():
        table.add_row(title, reason)
    return table
