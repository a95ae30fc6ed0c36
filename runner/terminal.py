"""Results and progress on a terminal, by rich: colours, and columns that fit its width. Imported only for a terminal.

Everything is shown as the text that it is: nothing is read as rich's markup, and what a terminal would obey is escaped.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, Final, Literal

from rich import box
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.measure import Measurement
from rich.padding import Padding
from rich.progress import BarColumn, ProgressColumn, SpinnerColumn, Task, TaskID, TimeElapsedColumn
from rich.progress import Progress as LiveProgress
from rich.table import Column
from rich.table import Table as RichTable
from rich.text import Text

from .progress import NOTICE
from .tables import Block, Cell, Columns, Line, Table, Tone, are_numbers, text_of

_STYLES: Final[dict[Tone | None, str]] = {
    "good": "green",
    "bad": "bold red",
    "open": "yellow",
    "quiet": "dim",
    "title": "bold",
    None: "",
}
#: Between columns.
_GAP: Final = 2
#: A text of longer words is shortened and not wrapped, to no less than this; where that isn't enough, a table is shown
#: row by row.
_LONG_WORD: Final = 16
_LEAST_WIDTH: Final = 10
_ELLIPSIS: Final = "…"


def show(blocks: Iterable[Block]) -> None:
    """Prints the blocks on the terminal that stdout is."""
    console = _console(sys.stdout)
    for block in blocks:
        console.print(_renderable(block, console.width))


@contextmanager
def live_progress() -> Iterator[None]:
    """What is logged within is a line on stderr that changes, and is gone at the end."""
    handler = _LiveHandler()
    logger = logging.getLogger(__package__)
    before = logger.level, logger.propagate
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before[0])
        logger.propagate = before[1]
        handler.close()


def _console(file: IO[str]) -> Console:
    # Left to itself rich would keep bold and dim with NO_COLOR.
    colours: Literal["auto"] | None = None if os.environ.get("NO_COLOR") else "auto"
    return Console(file=file, color_system=colours, markup=False, highlight=False, emoji=False)


def _renderable(block: Block, width: int) -> RenderableType:
    match block:
        case Line():
            return _cell(block)
        case Columns():
            return Padding(_grid(block.rows), (0, 0, 0, block.indent), expand=False)
        case Table():
            return _table(block, width)


def _grid(rows: Sequence[Sequence[object]]) -> RichTable:
    grid = RichTable.grid(padding=(0, 2, 0, 0))
    for row in rows:
        grid.add_row(*map(_cell, row))
    return grid


def _table(block: Table, width: int) -> RichTable:
    numbers = are_numbers(block.names, block.rows)
    natural, least = [], []
    for name, is_number, *values in zip(block.names, numbers, *block.rows, strict=True):
        longest, longest_word = _longest(values)
        natural.append(max(longest, cell_len(text_of(name)), 1))
        shortest = longest if is_number else longest_word if longest_word <= _LONG_WORD else _LEAST_WIDTH
        least.append(max(shortest, *map(cell_len, text_of(name).split()), 1))
    widths = fitted(natural, least, width - _GAP * (len(natural) - 1))
    if widths is None:
        return _records(block)
    table = RichTable(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    for name, is_number, column_width in zip(block.names, numbers, widths, strict=True):
        table.add_column(Text(text_of(name)), justify="right" if is_number else "left", width=column_width)
    for row in block.rows:
        table.add_row(*(_cell(value, shortened=_longest([value])[1] > _LONG_WORD) for value in row))
    return table


def fitted(natural: Sequence[int], least: Sequence[int], room: int) -> list[int] | None:
    """The widths of columns such that all have room: their natural ones, the widest made narrower, but not below the
    least ones. None where that isn't enough."""
    widths = [max(low, min(width, room)) for width, low in zip(natural, least, strict=True)]
    if sum(least) > room:
        return None
    while sum(widths) > room:
        width, index = max((width, index) for index, width in enumerate(widths) if width > least[index])
        widths[index] = width - 1
    return widths


def _longest(values: Iterable[object]) -> tuple[int, int]:
    """The longest value and the longest word of them, in cells of the terminal."""
    texts = [text_of(value) for value in values]
    words = (word for text in texts for word in text.split())
    return max(map(cell_len, texts), default=0), max(map(cell_len, words), default=0)


def _records(block: Table) -> RichTable:
    """The table row by row, each column under the other: nothing is left out."""
    rows: list[tuple[object, object]] = []
    for row in block.rows:
        rows.append(("", ""))
        rows += [(Cell(name, "title"), _text(value)) for name, value in zip(block.names, row, strict=True)]
    return _grid(rows[1:])


def _cell(value: object, *, shortened: bool = False) -> RenderableType:
    text = _text(value)
    if isinstance(value, Cell) and value.is_path:
        return _End(text)
    if shortened:
        text.no_wrap, text.overflow = True, "ellipsis"
    else:
        text.overflow = "fold"
    return text


def _text(value: object) -> Text:
    if isinstance(value, Text):
        return value
    if isinstance(value, Line):
        return Text.assemble(*map(_text, value.pieces))
    return Text(text_of(value), _STYLES[value.tone if isinstance(value, Cell) else None])


@dataclass(frozen=True, slots=True)
class _End:
    """A text of which the end is left where there is no room for the whole: a file's name says more than its folder."""

    text: Text

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        plain = self.text.plain
        if self.text.cell_len > options.max_width:
            plain = plain[-options.max_width :]
            while plain and cell_len(plain) >= options.max_width:
                plain = plain[1:]
            plain = _ELLIPSIS + plain
        yield Text(plain, self.text.style, no_wrap=True, overflow="crop")

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        length = self.text.cell_len
        return Measurement(min(length, _LEAST_WIDTH), length).clamp(max_width=options.max_width)


class _Message(ProgressColumn):
    """What goes on now, before it how many steps there are and which one this is."""

    def render(self, task: Task) -> Text:
        steps = f"{int(task.completed)}/{int(task.total)}  " if task.total else ""
        return Text(steps + task.description, no_wrap=True, overflow="ellipsis")


class _LiveHandler(logging.Handler):
    """Shows the last record alone, and above it what is more than progress, which stays. Nothing is drawn before there
    is one."""

    def __init__(self) -> None:
        super().__init__()
        self._live = LiveProgress(
            SpinnerColumn("line"),
            BarColumn(bar_width=12),
            TimeElapsedColumn(),
            _Message(table_column=Column(ratio=1)),
            console=_console(sys.stderr),
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
            expand=True,
        )
        self._task: TaskID | None = None

    def emit(self, record: logging.LogRecord) -> None:
        message = text_of(record.getMessage().strip())
        if record.levelno >= NOTICE:
            self._live.console.print(message, soft_wrap=True)
            return
        done, total = getattr(record, "done", None), getattr(record, "total", None)
        if self._task is None:
            self._live.start()
            self._task = self._live.add_task(message, total=total)
        self._live.update(self._task, description=message, completed=done, total=total)

    def close(self) -> None:
        self._live.stop()
        super().close()
