"""Workbooks: XLSX files made by hand, so that tests say all that is in them."""

import zipfile
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

_MAIN = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
_RELATIONS = "http://schemas.openxmlformats.org/package/2006/relationships"
_OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
_TYPES = "http://schemas.openxmlformats.org/package/2006/content-types"
_SHEET_TYPE = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet.main+xml"
# Number formats of cells, in the order of their styles: general, a date, a time, leading zeros.
DATE, TIME, PADDED = 1, 2, 3
_PADDED_FORMAT = '<numFmts count="1"><numFmt numFmtId="165" formatCode="00000"/></numFmts>'
_STYLES = (
    '<fonts count="1"><font/></fonts><fills count="1"><fill/></fills>'
    '<borders count="1"><border/></borders><cellStyleXfs count="1"><xf/></cellStyleXfs>'
    '<cellXfs count="4"><xf numFmtId="0"/><xf numFmtId="14"/><xf numFmtId="22"/>'
    '<xf numFmtId="165"/></cellXfs>'
)


def text(value: str) -> str:
    """Write a cell of text."""
    return f't="inlineStr"><is><t xml:space="preserve">{escape(value)}</t></is>'


def number(value: float, style: int = 0) -> str:
    """Write a cell of a number, of which a style may make a date."""
    return f's="{style}"><v>{value!r}</v>'


def truth(*, value: bool) -> str:
    """Write a cell of a truth value."""
    return f't="b"><v>{int(value)}</v>'


def formula(value: str) -> str:
    """Write a cell of a formula whose value is a text."""
    return f't="str"><f>UPPER(A1)</f><v>{escape(value)}</v>'


def sheet(
    rows: Sequence[Sequence[str | None]],
    merged: Sequence[str] = (),
    first: int = 1,
) -> str:
    """Write a sheet; None is no cell."""
    lines = []
    for line, row in enumerate(rows, first):
        cells = (
            f'<c r="{chr(65 + column)}{line}" {cell}</c>'
            for column, cell in enumerate(row)
            if cell is not None
        )
        lines.append(f'<row r="{line}">{"".join(cells)}</row>')
    ranges = "".join(f'<mergeCell ref="{name}"/>' for name in merged)
    cells = f"<sheetData>{''.join(lines)}</sheetData>"
    return cells + (f"<mergeCells>{ranges}</mergeCells>" if merged else "")


def people(rows: Sequence[Sequence[str]]) -> str:
    """Write a sheet of texts."""
    return sheet([[text(cell) for cell in row] for row in rows])


def write_workbook(
    path: Path,
    sheets: Mapping[str, str],
    *,
    hidden: Sequence[str] = (),
    padded: bool = False,
    extra: Mapping[str, bytes] | None = None,
) -> bytes:
    """Write a workbook of sheets by name; return its bytes."""
    names = list(enumerate(sheets, 1))
    parts = {
        "[Content_Types].xml": f'<Types xmlns="{_TYPES}"><Default Extension="rels"'
        ' ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
        '<Default Extension="xml" ContentType="application/xml"/><Override'
        f' PartName="/xl/workbook.xml" ContentType="{_SHEET_TYPE}"/></Types>',
        "_rels/.rels": f'<Relationships xmlns="{_RELATIONS}"><Relationship Id="rId1"'
        f' Type="{_OFFICE}/officeDocument" Target="xl/workbook.xml"/></Relationships>',
        "xl/workbook.xml": f'<workbook xmlns="{_MAIN}" xmlns:r="{_OFFICE}"><sheets>'
        + "".join(
            f'<sheet name="{name}" sheetId="{i}" r:id="rId{i}"'
            + (' state="hidden"/>' if name in hidden else "/>")
            for i, name in names
        )
        + "</sheets></workbook>",
        "xl/_rels/workbook.xml.rels": f'<Relationships xmlns="{_RELATIONS}">'
        + "".join(
            f'<Relationship Id="rId{i}" Type="{_OFFICE}/worksheet"'
            f' Target="worksheets/sheet{i}.xml"/>'
            for i, _ in names
        )
        + f'<Relationship Id="styles" Type="{_OFFICE}/styles" Target="styles.xml"/>'
        "</Relationships>",
        "xl/styles.xml": f'<styleSheet xmlns="{_MAIN}">{_PADDED_FORMAT if padded else ""}'
        f"{_STYLES}</styleSheet>",
    }
    for i, name in names:
        parts[f"xl/worksheets/sheet{i}.xml"] = (
            f'<worksheet xmlns="{_MAIN}">{sheets[name]}</worksheet>'
        )
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as package:
        for name, content in parts.items():
            package.writestr(name, f'<?xml version="1.0"?>{content}')
        for name, data in (extra or {}).items():
            package.writestr(name, data)
    return path.read_bytes()
