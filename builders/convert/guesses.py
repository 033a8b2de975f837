"""What the columns of a table hold, from their cells; every guess can be overruled by a flag."""

import dataclasses
import enum
import re
import shlex
from collections import Counter
from collections.abc import Sequence

from builders.convert.source import Options
from builders.convert.table_file import Table
from records.decoding.table_columns import is_missing, parse_number
from records.system.table_file import listed

_MOST = 0.9  # of a column's values decide what it holds
NAMES_FROM = 20  # fewer different values are categories, however few rows there are
ROWS_OF_A_NUMBER = 5  # where a whole number has fewer rows on average, it names no class
_WORDS = 5  # a text has more words than a category's name
_MONTH = r"(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*\.?"
_CLOCK = r"\d{1,2}:\d{2}(?::\d{2}(?:\.\d+)?)?"
_DAY = (
    r"\d{4}[-/.]\d{1,2}(?:[-/.]\d{1,2})?|\d{1,2}[-/.]\d{1,2}[-/.]\d{2,4}"
    rf"|\d{{1,2}}[ -]{_MONTH}[ ,-]*\d{{2,4}}|{_MONTH} \d{{1,2}},? \d{{4}}"
)
_DATE = re.compile(
    rf"(?:(?:{_DAY})(?:[ T]+{_CLOCK} ?(?:[ap]m|z|[+-]\d{{2}}:?\d{{2}})?)?|{_CLOCK})", re.IGNORECASE
)
_FORMATTED = re.compile(r"[-−+(]?[$€£]?\s?\d{1,3}(?:[., '  ]?\d{3})*(?:[.,]\d+)?\s?[%€$£)]?")
_LABELS = (
    "label",
    "class",
    "target",
    "category",
    "y",
    "outcome",
    "diagnosis",
    "species",
    "sentiment",
    "survived",
    "churn",
    "fraud",
)
_TEXTS = ("text", "review", "sentence", "content", "message", "comment", "lyrics", "tweet", "body")
_SHOWN = 60  # characters of a cell in an error
_MOST_CLASSES = 100  # more different values are no classes, unless --label says so


class Holds(enum.Enum):
    """What a column holds."""

    NUMBERS = "number"
    CATEGORIES = "category"
    TEXTS = "text"
    NAMES = "names"
    NOTHING = "nothing"


@dataclasses.dataclass(frozen=True)
class Guess:
    """What a column holds, and what is wrong with it."""

    holds: Holds
    reason: str = ""  # why it is left out unless a flag says otherwise; "" for one that is used
    refusal: str = ""  # why nothing can be made of it without a flag; "" if something can
    note: str = ""  # what to look at


def guess_column(table: Table, name: str, options: Options) -> Guess:
    """What a column holds, by its values or by the flags."""
    if name in options.numeric:
        return Guess(Holds.NUMBERS)
    if name in options.categorical:
        return Guess(Holds.CATEGORIES)
    # Each different value once: most columns hold few.
    counts = Counter(cell.strip() for cell in table.columns[name])
    present = {v: n for v, n in counts.items() if not is_missing(v, options.missing)}
    values = Counter(present)
    if not values:
        return Guess(Holds.NOTHING, "no values")
    if not name:
        return Guess(Holds.NAMES, "no name, as the index of a data frame")
    others = [value for value in values if parse_number(value) is None]
    if not others and _are_too_long(values):
        return Guess(Holds.NAMES, "whole numbers too long to tell apart (float64), as of ids")
    if not others:
        return Guess(Holds.NUMBERS, note=_note(name, values))
    # Before the dates: 2.500 is both.
    total = values.total()
    if sum(values[value] for value in others) <= (1 - _MOST) * total:
        return Guess(Holds.NUMBERS, refusal=_mixed(table, name, others[0]))
    for pattern, what, hint in (
        (_DATE, "dates", "make numbers of them in the file (days since the first, the month)"),
        (_FORMATTED, "numbers in a form of their own", "write them plainly, as 1234.5"),
    ):
        if sum(n for v, n in values.items() if pattern.fullmatch(v)) >= _MOST * total:
            refusal = (
                f"{_place(table, name, next(iter(values)))}: expected numbers or categories, "
                f"received {what}, such as {_shown(next(iter(values)))}. Leave it out (--drop "
                f"{_quoted(name)}), {hint}, or take each value as a category (--categorical "
                f"{_quoted(name)})"
            )
            return Guess(Holds.NAMES, refusal=refusal)
    guess = _guess_texts(name, values)
    share = 1 - sum(values[value] for value in others) / total
    if guess.reason and share >= 0.5:
        said = f"{share:.0%} are numbers, others not, such as {_shown(others[0])}: mend them, or "
        return dataclasses.replace(guess, reason=f"{said}--missing {_quoted(others[0])[:60]}")
    return guess


def _are_too_long(values: Counter[str]) -> bool:
    """Whether different whole numbers would become one."""
    whole = {int(value) for value in values if value.lstrip("+-").isdecimal() and len(value) < 99}
    return len(set(map(float, whole))) < len(whole)


def _note(name: str, values: Counter[str]) -> str:
    is_whole = all(value.lstrip("+-").isdigit() for value in values)
    of_one_length = len(set(map(len, values))) == 1 < len(next(iter(values)))
    if is_whole and of_one_length and any(value.startswith("0") for value in values):
        return f" (leading zeros: if it is a code, --categorical {_quoted(name)})"
    if is_whole and len(values) > NAMES_FROM and len(values) == values.total():
        return f" (no value twice: if it is an id, --drop {_quoted(name)})"
    return ""


def _place(table: Table, name: str, value: str) -> str:
    row = [cell.strip() for cell in table.columns[name]].index(value)
    return f"{table.place(row)}, column {name!r}"


def _mixed(table: Table, name: str, value: str) -> str:
    return (
        f"{_place(table, name, value)}: expected a number as in most rows, received "
        f"{_shown(value)}. If "
        f"it stands for a missing value: --missing {_quoted(value)}; if the column holds "
        f"categories: --categorical {_quoted(name)}; else mend it, or --drop {_quoted(name)}"
    )


def _guess_texts(name: str, values: Counter[str]) -> Guess:
    total = values.total()
    if len(values) > max(NAMES_FROM, total / 2):
        words = sum(len(value.split()) * n for value, n in values.items()) / total
        if words >= _WORDS or name.lower() in _TEXTS:
            return Guess(Holds.TEXTS, f"texts (--text {_quoted(name)} takes them alone)")
        return Guess(Holds.NAMES, "most values are different, as of names")
    return Guess(Holds.CATEGORIES)


def guess_label(table: Table, options: Options, others: Sequence[str]) -> tuple[str, str]:
    """(the column of the classes, how it was found); `others` have another use.

    Raises:
      ValueError: no column is it for certain; names them.
    """
    free = [name for name in table.columns if name not in others]
    for usual in _LABELS:
        for name in free:
            if name.lower() == usual:
                return name, "guessed from its name; another: --label COLUMN"
    most = min(_MOST_CLASSES, len(table.lines) / 2)
    few = [name for name in free if 2 <= len(set(table.columns[name])) <= most]
    if few and few[-1] == free[-1]:
        return few[-1], "guessed: the last column; another: --label COLUMN"
    if len(few) == 1:
        return few[0], "guessed: the only one of few values; another: --label COLUMN"
    alone = len(table.columns) == 1
    raise ValueError(
        f"convert: {table.path}: expected to know which column is to be predicted. "
        + (f"It has one column only, {listed(free)}: " if alone else "")
        + ("say what parts its columns, such as --separator ,. Or name" if alone else "Name")
        + f" it with --label, one of {listed(free)}"
    )


def check_classes(table: Table, label: str, classes: Sequence[str]) -> None:
    """Raises ValueError for a column that measures rather than names classes."""
    different = len(set(classes))
    numbers = all(parse_number(text) is not None for text in classes)
    if different > max(NAMES_FROM, len(classes) / (ROWS_OF_A_NUMBER if numbers else 2)):
        hint = "; to predict a number: --task regression" if numbers else ""
        raise ValueError(
            f"convert: {table.path}, column {label!r}: expected classes, received {different:,} "
            f"different {'numbers' if numbers else 'values'} in {len(classes):,} rows. Name "
            f"another column with --label{hint}"
        )


def _shown(value: str) -> str:
    return repr(value if len(value) <= _SHOWN else value[:_SHOWN] + "...")


def _quoted(text: str) -> str:
    return shlex.quote(text)
