"""The settings of a project: what templates see as `settings`."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Final

from .errors import ProjectError

FILE_NAME: Final = "clickmart.toml"
MAX_TOP_PAGES: Final = 1_000_000
PATTERNS: Final = ("product", "cart", "payment", "confirmation")


@dataclass(frozen=True, slots=True)
class Settings:
    """Values of the `[settings]` table of clickmart.toml; the defaults are SPEC's.

    product, cart, payment, confirmation: regular expressions of PostgreSQL on the page path, the first that matches
    is the view's step. purchase_window: an interval of PostgreSQL. top_pages: rows of cdm.top_pages.
    """

    product: str = "^product_"
    cart: str = "^cart(/|$)"
    payment: str = "^payment(/|$)"
    confirmation: str = "^confirmation(/|$)"
    purchase_window: str = "1 day"
    top_pages: int = 10

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


DEFAULT_FILE: Final = f"""\
# Settings of this clickmart project. What is left out has the value shown here.

[settings]
# Steps of the purchase: regular expressions of PostgreSQL on the page path (no leading slashes, no query).
# A page's step is the first that matches.
{"".join(f"{name} = '{getattr(Settings(), name)}'{chr(10)}" for name in PATTERNS)}
# How long before its confirmation a view still counts for a purchase: an interval of PostgreSQL.
purchase_window = "{Settings().purchase_window}"

# Rows of cdm.top_pages.
top_pages = {Settings().top_pages}
"""


def read_settings(path: Path) -> Settings:
    """The settings of the file; the defaults where there is no such file.

    Raises ProjectError, with the file and its line, for an unknown name or a value of the wrong type. Whether
    PostgreSQL takes a pattern or an interval is asked of the server later: `line_of` finds the line for that.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        return Settings()
    except UnicodeDecodeError as error:
        raise ProjectError(f"{FILE_NAME}: not UTF-8 text ({error.reason} at byte {error.start})") from None
    except OSError as error:
        raise ProjectError(f"{FILE_NAME}: can't be read: {error.strerror}") from None
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        message = str(error)
        line = message.rpartition("line ")[2].partition(",")[0] if "line " in message else str(text.count("\n") + 1)
        raise ProjectError(f"{FILE_NAME}:{line}: {message}") from None

    for name in document:
        if name != "settings":
            where = f"{FILE_NAME}:{line_of(text, name)}"
            raise ProjectError(f"{where}: unknown name {name!r}; the file has [settings] only")
    table = document.get("settings", {})
    if not isinstance(table, Mapping):
        raise ProjectError(f"{FILE_NAME}:{line_of(text, 'settings')}: settings is no table; write [settings]")
    known: dict[str, type] = {field.name: type(field.default) for field in fields(Settings)}
    for name, value in table.items():
        where = f"{FILE_NAME}:{line_of(text, name)}"
        if name not in known:
            raise ProjectError(f"{where}: unknown setting {name!r}; there are {', '.join(known)}")
        if type(value) is not known[name]:
            kind = "a whole number" if known[name] is int else "a text"
            raise ProjectError(f"{where}: {name} must be {kind}, found {value!r}")
        if "\0" in str(value):
            raise ProjectError(f"{where}: {name} holds a NUL character")
    settings = Settings(**table)
    if not 1 <= settings.top_pages <= MAX_TOP_PAGES:
        where = f"{FILE_NAME}:{line_of(text, 'top_pages')}"
        raise ProjectError(f"{where}: top_pages must be from 1 to {MAX_TOP_PAGES}, found {settings.top_pages}")
    return settings


def line_of(text: str, name: str) -> int:
    """The line, from 1, on which a TOML text sets the key or opens the table `name`; 1 where that isn't to be seen."""
    for number, line in enumerate(text.splitlines(), start=1):
        key = line.strip().lstrip("[").partition("=")[0].partition("]")[0].strip().strip("\"'")
        if key == name or key.startswith(f"{name}.") or key.endswith(f".{name}"):
            return number
    return 1
