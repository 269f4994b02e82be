"""Small spreadsheets, written by hand as Excel and LibreOffice would."""

import base64
import gzip
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from xml.sax.saxutils import escape

Cells = Sequence[Sequence[str | float | bool | None]]
_MAIN = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
_RELATIONS = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
_PACKAGE = "http://schemas.openxmlformats.org/package/2006/relationships"
_OPEN = "urn:oasis:names:tc:opendocument:xmlns"


def write_xlsx(path: Path, sheets: Mapping[str, Cells], hidden: Sequence[str] = ()) -> Path:
    """Sheets by name, in order."""
    names, links = "", ""
    with zipfile.ZipFile(path, "w") as archive:
        for number, (name, cells) in enumerate(sheets.items(), 1):
            state = ' state="hidden"' if name in hidden else ""
            names += f'<sheet name="{name}" sheetId="{number}"{state} r:id="r{number}"/>'
            target = f'Target="worksheets/sheet{number}.xml"'
            links += f'<Relationship Id="r{number}" Type="{_RELATIONS}/worksheet" {target}/>'
            rows = "".join(_row(row, place) for place, row in enumerate(cells, 1))
            sheet = f'<worksheet xmlns="{_MAIN}"><sheetData>{rows}</sheetData></worksheet>'
            archive.writestr(f"xl/worksheets/sheet{number}.xml", sheet)
        book = (
            f'<workbook xmlns="{_MAIN}" xmlns:r="{_RELATIONS}"><sheets>{names}</sheets></workbook>'
        )
        archive.writestr("xl/workbook.xml", book)
        relations = f'<Relationships xmlns="{_PACKAGE}">{links}</Relationships>'
        archive.writestr("xl/_rels/workbook.xml.rels", relations)
        link = (
            f'<Relationship Id="r1" Type="{_RELATIONS}/officeDocument" Target="xl/workbook.xml"/>'
        )
        archive.writestr("_rels/.rels", f'<Relationships xmlns="{_PACKAGE}">{link}</Relationships>')
    return path


def _row(row: Sequence[str | float | bool | None], number: int) -> str:
    cells = "".join(_cell(value, f"{chr(65 + i)}{number}") for i, value in enumerate(row))
    return f'<row r="{number}">{cells}</row>'


def _cell(value: str | float | bool | None, place: str) -> str:
    if value is None:
        return f'<c r="{place}"/>'
    if isinstance(value, str):
        text = f'<is><t xml:space="preserve">{escape(value)}</t></is>'
        return f'<c r="{place}" t="inlineStr">{text}</c>'
    kind = ' t="b"' if isinstance(value, bool) else ""
    return f'<c r="{place}"{kind}><v>{float(value):g}</v></c>'


def write_ods(path: Path, cells: Cells) -> Path:
    """One sheet of texts."""
    rows = "".join(
        "<table:table-row>"
        + "".join(
            f'<table:table-cell office:value-type="string"><text:p>{escape(str(cell))}</text:p>'
            "</table:table-cell>"
            for cell in row
        )
        + "</table:table-row>"
        for row in cells
    )
    spaces = " ".join(f'xmlns:{name}="{_OPEN}:{name}:1.0"' for name in ("office", "table", "text"))
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("mimetype", "application/vnd.oasis.opendocument.spreadsheet")
        archive.writestr("META-INF/manifest.xml", f'<m:manifest xmlns:m="{_OPEN}:manifest:1.0"/>')
        archive.writestr(
            "content.xml",
            f"<office:document-content {spaces}><office:body><office:spreadsheet>"
            f'<table:table table:name="rows">{rows}</table:table>'
            "</office:spreadsheet></office:body></office:document-content>",
        )
    return path


def write_xls(path: Path) -> Path:
    """An Excel 97 file of four rows: see the test that reads it."""
    path.write_bytes(gzip.decompress(base64.b64decode("".join(_EXCEL_97.split()))))
    return path


_EXCEL_97 = """
H4sIAAAAAAACA+1YTWgTQRT+Znfza5omNRVaoYSAVWMvIoKXNipoTobqRatCTZo9hIZEk0hUUKs13sSCJ8VLoRcvVS/+oAe9
eRAqehAFIbEX0ZOg4KHN+ubthqaaQwNa/NkvzDdv33yz87Izb/bnxVywOn23t4YfMAQVdcMDZ5NPUPE0DgKgdsOQZqN2UzFs
/FXwuGkinQ486njuknMo57sGBXe0p8TAeypHcRyJfE4PryJ2cwxJIWMYJBa4SR4/ejiqLuYx5rXMt1n5mHkne64wD5K2Kg5j
LpaI7rBW8SElwm1+yPPe5z5v2bMV3XgmV/H5KWFqHdhVyCSzf2ZDn+bDDGje4npOLySzVYRoAmfw1QgDXxqZ+iRs+1fXL0D+
b8v9rhb+a4oGTMA4xgu8Ah8+qrJFQyFfLi4gzunoZA9K+qmSA8gmU3rWA/Hm6oep7SdPjPqM6MjZkTXlywlK5GIykw5HivnI
QLhUzozptFySVFJeuXNzpgeWZXoHZ4CPOI1OtoOcBwHayxdufX65LzUcG2XPBO/u5j1ggwwbBi7IHtTZzy0OZqmNMm9hvshn
Xc92L3OIlFT3D3dbxt5J1lzi1n4aZxvjVWxjk72J7Mqn/Q/6KvOxzWTPxmtnQrOvY9OI0D0pTf3lbxIDYkDcuC7xMNaohbVf
vGPu+WnvcCsBK3bDutF1YhFeNoPM5pG8OsLSixZ6wXp5xnOKl+MJ8lWWeqWFXmG9aumXrr7Uqy30Kus1S6+y/ohi6rUWeo31
cl4cipuOzPiHlC7ck8PQPrkEL2zYsGHDhg0bNmz8DxDWM7tqvmTw06J8ZnVZ33UWqdTtzyT/LA4gT78SvZjuQY7qAk63tX7W
wSEa5xIr7NP4XihxkEYvYBwpjmO87fVLb3ai+f+suGPg16VQu+PX24nzN4//HSUOE1QAFgAA
"""
