"""Spreadsheets of Excel and OpenDocument, as columns of cells."""

from collections.abc import Iterator
from datetime import date, time
from pathlib import Path
from typing import Any

from python_calamine import (
    CalamineError,
    CalamineWorkbook,
    PasswordError,
    SheetTypeEnum,
    SheetVisibleEnum,
)

from miaotui.data.table import Table, table_of_strings
from miaotui.errors import DataError


def read_spreadsheet(path: Path) -> Table:
    """The first visible sheet that holds anything, its cells as the same file saved as CSV would
    have them; rows without any cell are skipped. What cannot be opened is a DataError."""
    try:
        with CalamineWorkbook.from_path(path) as workbook:
            sheets = _sheets(workbook)
    except PasswordError as error:
        raise DataError(f"{path} is locked with a password; save it without one") from error
    except (CalamineError, OSError) as error:
        reason = " ".join(str(error).split())
        raise DataError(f"{path} is not a readable spreadsheet: {reason}") from error
    if not sheets:
        raise DataError(f"{path} has no rows; give a file with at least one")
    name, cells = next(iter(sheets.items()))
    others = ", ".join(repr(other) for other in sheets if other != name)
    told = (f"{path} is read from its sheet {name!r}, not from {others}",) if others else ()
    records = _records(cells)
    return table_of_strings(path, next(records), records, told)


def _sheets(workbook: CalamineWorkbook) -> dict[str, list[list[Any]]]:
    """The cells of every visible sheet that has some."""
    cells = {
        sheet.name: workbook.get_sheet_by_name(sheet.name).to_python()
        for sheet in workbook.sheets_metadata
        if sheet.visible is SheetVisibleEnum.Visible and sheet.typ is SheetTypeEnum.WorkSheet
    }
    return {name: rows for name, rows in cells.items() if next(_records(rows), None) is not None}


def _records(cells: list[list[Any]]) -> Iterator[list[str]]:
    for row in cells:
        record = [_string(cell) for cell in row]
        if any(record):
            yield record


def _string(cell: Any) -> str:
    """As Excel shows it: whole numbers, which it stores as decimal ones, without a point."""
    if isinstance(cell, bool):
        return str(cell).upper()
    if isinstance(cell, float) and cell.is_integer():
        return str(int(cell))
    return cell.isoformat() if isinstance(cell, date | time) else str(cell)
