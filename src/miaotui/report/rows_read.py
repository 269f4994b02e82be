"""One line of what was read of a file."""

from miaotui.tasks.rows_read import RowsRead

_MOST_CLASSES = 6
_LONGEST_NAME = 24


def read_line(read: RowsRead) -> str:
    """File, rows, columns, task, classes with counts (of many the first), lengths, left out."""
    columns = f" ({', '.join(read.columns)})" if read.columns else ""
    facts = [_labels(read), _lengths(read)]
    if read.dropped:
        facts.append(f"{read.dropped:,} left out")
    told = "; ".join(fact for fact in facts if fact)
    return f"{read.source}: {read.rows:,} rows{columns} of {read.task}; {told}"


def _labels(read: RowsRead) -> str:
    if read.values is not None:
        return "values {:g} to {:g}".format(*read.values)
    if not read.classes:
        return ""
    counted = [f"{_short(name)} {count:,}" for name, count in read.classes.items()]
    shown = counted[:_MOST_CLASSES]
    if len(counted) > _MOST_CLASSES + 1:
        rest = list(read.classes.values())[_MOST_CLASSES:]
        shown.append(f"{len(rest):,} more with {rest[0]:,} to {rest[-1]:,}")
    else:
        shown = counted
    kind = "class" if len(counted) == 1 else "classes"
    return f"{len(counted):,} {kind}: {', '.join(shown)}"


def _short(name: str) -> str:
    one_line = " ".join(name.split())
    return one_line if len(one_line) <= _LONGEST_NAME else f"{one_line[: _LONGEST_NAME - 1]}…"


def _lengths(read: RowsRead) -> str:
    among = "" if read.rows_measured == read.rows else f" among {read.rows_measured:,} of them"
    return f"{read.median_tokens} tokens in the median, {read.longest_tokens} at most{among}"
