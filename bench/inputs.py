"""The files that the bench loads, each made once and found again in the work folder."""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Final

from .figures import say
from .processes import run

EVENTS_PER_USER: Final = 50
DAYS: Final = 30
START: Final = date(2026, 3, 2)
LAST_DAY: Final = START + timedelta(days=DAYS - 1)
GENERATOR: Final = Path(__file__).with_name("generate.py")
#: a history is made in files of so many events, and each is deleted once it is loaded
HISTORY_FILE: Final = 2_000_000
#: the steps of a user who buys and buys again
FUNNEL: Final = ("home", "product_a", "product_b", "cart", "product_c", "cart", "payment", "confirmation", "help")


@dataclass(frozen=True, slots=True)
class Inputs:
    """The work folder; `kept` says that files stay there for the next run."""

    folder: Path
    kept: bool

    def events(self, count: int, form: str = "jsonl") -> Path:
        """So many events in one file of this format; the same events in each."""
        return self._made(
            f"events-{count}.{form}", lambda path: _generate(path, "--events", count, "--users", _users(count))
        )

    def halves(self, source: Path) -> list[Path]:
        """The lines of a file as two files."""
        names = [f"{source.stem}-half-{half}{source.suffix}" for half in (1, 2)]
        paths = [self.folder / name for name in names]
        if not all(path.exists() for path in paths):
            middle = source.stat().st_size // 2
            with source.open("rb") as file:
                first = self._made(names[0], lambda path: _copy_lines(file, path, middle))
                file.seek(first.stat().st_size)
                paths[1].unlink(missing_ok=True)
                self._made(names[1], lambda path: _copy_lines(file, path, source.stat().st_size))
        return paths

    def array(self, source: Path, size: int) -> Path:
        """The records of a file of JSON lines as one array of `size` bytes or little more, over again if need be."""
        return self._made(f"{source.stem}-array-{size}.json", lambda path: _write_array(source, path, size))

    @contextmanager
    def history(self, events: int) -> Iterator[list[Path]]:
        """So many events over DAYS days as files of equal time, deleted at the end unless files are kept."""
        count = -(-events // HISTORY_FILE)
        folder = self.folder / f"history-{events}"
        options = ("--events", events, "--users", _users(events), "--files", count)
        self._made(folder.name, lambda path: _generate(path, "--format", "jsonl", *options))
        yield sorted(folder.iterdir())
        if not self.kept:
            for path in folder.iterdir():
                path.unlink()
            folder.rmdir()

    def additions(self, history: int, events: int, count: int) -> list[Path]:
        """`count` files of new events of a history's users, from its last day on, some late and some doubled."""
        name = f"additions-{history}-{events}-{count}"
        options: list[object] = ["--users", _users(history), "--start", LAST_DAY, "--days", count, "--doubled", 0.01]
        options += ["--late", 0.01] if count > 1 else []
        files = ("--format", "jsonl", "--events", events * count, "--files", count)
        return sorted(self._made(name, lambda path: _generate(path, *options, *files)).iterdir())

    def user(self, user: str, views: int) -> Path:
        """A user with so many views, evenly over the days of a history."""
        step = timedelta(days=DAYS) / views
        at = datetime.combine(START, datetime.min.time(), UTC)

        def write(path: Path) -> None:
            with path.open("w", encoding="utf-8") as file:
                for number, page in enumerate(itertools.islice(itertools.cycle(FUNNEL), views)):
                    file.write(view(user, at + step * number, page, number))

        return self._made(f"user-{user}-{views}.jsonl", write)

    def one_view(self, user: str, number: int) -> Path:
        """One more view of a user: of a product, in the middle of the history, so that purchases may change by it."""
        at = datetime.combine(START + timedelta(days=DAYS // 2), datetime.min.time(), UTC)
        path = self.folder / "one-view.jsonl"
        path.write_text(view(user, at + timedelta(seconds=number), "product_d", -number), encoding="utf-8")
        return path

    def done(self, *paths: Path) -> None:
        """Deletes files that nothing needs any more, unless files are kept."""
        for path in paths if not self.kept else ():
            path.unlink(missing_ok=True)

    def _made(self, name: str, make: Callable[[Path], None]) -> Path:
        """The file or folder of this name; made beside its place, so that one half made is never taken for whole."""
        path = self.folder / name
        if not path.exists():
            say(f"making {name}")
            half_made = self.folder / "half-made" / name
            half_made.parent.mkdir(exist_ok=True)
            make(half_made)
            half_made.rename(path)
            with suppress(OSError):
                half_made.parent.rmdir()
        return path


def _users(events: int) -> int:
    return max(events // EVENTS_PER_USER, 10)


def _generate(path: Path, *options: object) -> None:
    days = () if "--days" in options else ("--days", DAYS)
    run([sys.executable, GENERATOR, path, *map(str, (*days, *options))])


def _copy_lines(file: Iterator[bytes], path: Path, size: int) -> None:
    """Copies whole lines until there are `size` bytes or no more lines."""
    with path.open("wb") as target:
        written = 0
        while written < size and (line := next(file, None)):
            written += target.write(line)


def _write_array(source: Path, path: Path, size: int) -> None:
    with path.open("wb") as target:
        written = target.write(b"[")
        while written < size:
            with source.open("rb") as lines:
                for line in lines:
                    if written >= size:
                        break
                    written += target.write(b",\n" + line[:-1] if written > 1 else line[:-1])
        target.write(b"]\n")


def view(user: str, at: datetime, page: str, number: int) -> str:
    """A line of the feed: one view of a page by a user."""
    event = {
        "event_id": f"{user}-{number}",
        "event_timestamp": f"{at:%Y-%m-%d %H:%M:%S.%f}",
        "event_type": "pageview",
        "page_url": f"http://shop.example.com/{page}",
        "page_url_path": f"/{page}",
        "user_domain_id": user,
    }
    return json.dumps(event) + "\n"
