"""Cells of the CSV files that we write, safe to open in a spreadsheet."""

from __future__ import annotations

# A spreadsheet takes a cell that begins so for a formula and runs it
# (owasp.org/www-community/attacks/CSV_Injection).
_BEGINS_A_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def as_text(cell: str) -> str:
    """A text as a cell: with a "'" in front where a spreadsheet would take it for a formula.

    A number stays as it is: "-1" is a class's name or a value, and no formula.
    """
    if not cell.startswith(_BEGINS_A_FORMULA):
        return cell
    try:
        float(cell)
    except ValueError:
        return "'" + cell
    return cell
