"""Which files a call means, and what each is by its name."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple, NoReturn

from .errors import LoadError

if TYPE_CHECKING:
    from .mappings import SourceMapping

STANDARD_INPUT: Final = "-"

_EXTENSION: Final = re.compile(
    r"\.(?:(?P<text>jsonl|ndjson|json|csv)(?:\.(?P<packing>gz|zst|zip))?"
    r"|(?P<parquet>parquet)(?:\.(?P<gz>gz))?"
    r"|(?P<zip>zip))$",
    re.IGNORECASE,
)
_PACKING: Final = re.compile(r"\.(gz|zst)$", re.IGNORECASE)
_KNOWN: Final = ".jsonl, .ndjson, .json, .csv (each also .gz, .zst, .zip), .parquet, .parquet.gz"
_WILDCARD: Final = re.compile(r"[*?\[]")
#: Names that start so are passed over: systems and other programs keep notes of their own in such files.
HIDDEN: Final = (".", "_")


class Format(NamedTuple):
    """What a file holds, and how it is packed; each is empty where the name doesn't say."""

    content: str
    packing: str

    @classmethod
    def of(cls, path: str, otherwise: str = "") -> Format:
        """The format by the path's extension; `otherwise` is the content where that is not known. Raises LoadError if
        neither tells."""
        match = _EXTENSION.search(path)
        if match is None:
            if otherwise:
                return cls(otherwise, "".join(_PACKING.findall(path)).lower())
            raise LoadError(f"the extension is not known: rename the file to what it is, one of {_KNOWN}")
        content = (match["text"] or match["parquet"] or "").lower()
        packing = (match["packing"] or match["gz"] or match["zip"] or "").lower()
        return cls("jsonl" if content == "ndjson" else content, packing)

    def __str__(self) -> str:
        return ".".join(filter(None, self))


def find_files(paths: Iterable[str | os.PathLike[str]], *, may_be_none: bool = False, otherwise: str = "") -> list[str]:
    """The files that the paths stand for, each once: files, folders with all below them, wildcards, "-".

    Below a folder or a wildcard only files with a known extension count, or all where `otherwise` says what the others
    hold, and none whose name, or folder's name, starts with a dot or an underscore. Raises LoadError for a path that
    stands for nothing, and for a link below it that leads elsewhere: who may put files there must not choose what else
    is read. `may_be_none`: a folder or a wildcard may stand for nothing so far.
    """
    found: dict[str, str] = {}
    for path in paths:
        name = os.fspath(path)
        with naming(name):
            for file in _expand(name, may_be_none, otherwise):
                found.setdefault(file if file == STANDARD_INPUT else os.path.realpath(file), file)
    return list(found.values())


def main_files(files: Iterable[str], mapping: SourceMapping | None) -> list[str]:
    """The files without those that a main one beside them brings along."""
    parts = tuple(mapping.parts) if mapping else ()
    return [file for file in files if not (parts and Path(file).name.startswith(parts))]


def partner_files(file: str, mapping: SourceMapping) -> dict[str, str]:
    """Of each part of the source the file that belongs to a main one: beside it, and named alike but for the part.
    Raises LoadError for a file that is no main one."""
    name = Path(file).name
    if mapping.parts and not name.startswith(mapping.main):
        names = ", ".join(f"{part}..." for part in (mapping.main, *mapping.parts))
        raise LoadError(f"the files of source {mapping.name} are named {names}")
    return {part: str(Path(file).with_name(part + name.removeprefix(mapping.main))) for part in mapping.parts}


@contextmanager
def naming(path: str) -> Iterator[None]:
    """Put the path before the message of a LoadError, and turn the system's errors into one."""
    try:
        yield
    except LoadError as error:
        raise LoadError(f"{path}: {error}") from error.__cause__
    except OSError as error:
        where = f" ({error.filename})" if error.filename and str(error.filename) != path else ""
        raise LoadError(f"{path}: {error.strerror or error}{where}") from error


def _expand(path: str, may_be_none: bool, otherwise: str) -> list[str]:
    if path == STANDARD_INPUT:
        return [path]
    if path and Path(path).is_dir():
        files = _below(Path(path), otherwise)
        if not files and not may_be_none:
            raise LoadError(f"no file in this folder has a known extension: {_KNOWN}")
        return files
    if path and os.path.lexists(path):
        Format.of(path, otherwise)
        return [path]
    if not _WILDCARD.search(path):
        raise LoadError("no such file or folder")
    files = _matching(path, otherwise)
    if not files and not may_be_none:
        raise LoadError(f"no file with a known extension matches: {_KNOWN}")
    return files


def _below(folder: Path, otherwise: str) -> list[str]:
    """All files below the folder whose format is known, in the order of their paths."""
    files = []
    for directory, folders, names in os.walk(folder, onerror=_raise):
        folders[:] = [name for name in folders if not name.startswith(HIDDEN)]
        found = [Path(directory, name) for name in names if _is_known(name, otherwise) and not name.startswith(HIDDEN)]
        # A linked folder is not entered: where it leads to one below, that is read anyway.
        _refuse_links_out(folder, [*found, *(Path(directory, name) for name in folders)])
        files += found
    # A link that leads nowhere stays, to be an error; what is no file at all, such as a socket, goes.
    return sorted(str(file) for file in files if file.is_file() or not file.exists())


def _is_known(name: str, otherwise: str) -> bool:
    return bool(otherwise or _EXTENSION.search(name))


def _matching(pattern: str, otherwise: str) -> list[str]:
    """All files that match or are below a folder that does; the pattern may ask for hidden names by how they start."""
    parts = Path(pattern).parts
    first = next(index for index, part in enumerate(parts) if _WILDCARD.search(part))
    base, wild = Path(*parts[:first]), parts[first:]
    hidden = tuple(set(HIDDEN) - {part[0] for part in wild})
    try:
        matches = sorted(base.glob(str(Path(*wild))))
    except ValueError as error:
        raise LoadError(f"no such file, and no pattern either: {error}") from error
    files: list[str] = []
    for match in matches:
        if any(part.startswith(hidden) for part in match.relative_to(base).parts):
            continue
        if match.is_dir() or _is_known(match.name, otherwise):
            _refuse_links_out(base, [match, *list(match.parents)[: len(match.relative_to(base).parts) - 1]])
        if match.is_dir():
            files += _below(match, otherwise)
        elif _is_known(match.name, otherwise):
            files.append(str(match))
    return files


def _refuse_links_out(folder: Path, paths: Iterable[Path]) -> None:
    """Raises LoadError where one of the paths below the folder is a link that leads out of it."""
    for path in paths:
        if path.is_symlink():
            target = os.path.realpath(path)
            if not Path(target).is_relative_to(os.path.realpath(folder)):
                raise LoadError(f"{path} is a link that leads out of {folder}, to {target}: name it itself to load it")


def _raise(error: OSError) -> NoReturn:
    raise error
