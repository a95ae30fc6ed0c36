"""Files wherever Hadoop finds them, by the JVM of the Spark session: which there are, their bytes, their checksum.

Of a path whose file system is the local one, the same files are found, under the same names, as by every load.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from .errors import LoadError, UsageError
from .paths import HIDDEN, STANDARD_INPUT, Format, find_files

_SCHEME: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:/")
_NO_HOST: Final = re.compile(r"\A([A-Za-z0-9+.-]+:)///")
_WILDCARD: Final = re.compile(r"[*?\[{]")
_HEAD_BYTES: Final = 2**16


@dataclass(frozen=True, slots=True)
class FileStatus:
    """A file's state at a moment: `path` opens it, `uri` is what Spark calls it, `modified` are milliseconds."""

    path: str
    uri: str
    size: int
    modified: int


class HadoopFiles:
    """The files that a Spark session can read; `jvm` and `configuration` are its own."""

    def __init__(self, jvm: Any, configuration: Any) -> None:
        self._jvm = jvm
        self._configuration = configuration

    def find(self, paths: Iterable[str]) -> list[str]:
        """The files that the paths stand for, each once, as `paths.find_files` does. Raises LoadError."""
        found: dict[str, str] = {}
        for path in paths:
            if path == STANDARD_INPUT:
                raise UsageError("Spark can't read standard input: give `clickmart load` what comes there")
            for name in self._expand(path):
                found.setdefault(self._uri(name), name)
        return list(found.values())

    def status(self, name: str) -> FileStatus:
        """Raises LoadError where the file isn't there or is no file."""
        with java_errors():
            path = self._path(name)
            status = self._system(path).getFileStatus(path)
            if not status.isFile():
                raise LoadError("it is no file")
            own = status.getPath()
            if not _SCHEME.match(name) and own.toUri().getScheme() == "file" and not Path(name).is_file():
                raise LoadError("it is no regular file, which Spark needs: give it to `clickmart load`")
            if own.getName().startswith(HIDDEN):
                raise LoadError("Spark passes over files whose names start with a dot or an underscore: rename it")
            uri = uri_of(own.toUri().toString())
            return FileStatus(own.toString(), uri, status.getLen(), status.getModificationTime())

    def checksum(self, name: str) -> str:
        """SHA-256 of the file's bytes."""
        with self._open(name) as stream:
            return str(self._jvm.org.apache.commons.codec.digest.DigestUtils.sha256Hex(stream))

    def head(self, name: str) -> bytes:
        """The first bytes of the file."""
        with self._open(name) as stream:
            return bytes(stream.readNBytes(_HEAD_BYTES))

    @contextmanager
    def _open(self, name: str) -> Iterator[Any]:
        with java_errors():
            path = self._path(name)
            stream = self._system(path).open(path)
            try:
                yield stream
            finally:
                stream.close()

    def _path(self, name: str) -> Any:
        try:
            name.encode()
        except UnicodeEncodeError:
            raise LoadError("its name is not UTF-8, which Spark needs: give it to `clickmart load`") from None
        # Java knows nothing of a change of the current folder, and a bare name may hold a colon.
        local = not _SCHEME.match(name) and self._is_local()
        return self._jvm.org.apache.hadoop.fs.Path(f"file:{Path(name).absolute()}" if local else name)

    def _system(self, path: Any) -> Any:
        return path.getFileSystem(self._configuration)

    def _is_local(self) -> bool:
        """Whether paths without a scheme are local ones."""
        return str(self._configuration.get("fs.defaultFS", "file:///")).startswith("file:")

    def _uri(self, name: str) -> str:
        if not _SCHEME.match(name) and self._is_local():
            return str(Path(name).resolve())
        return name

    def _expand(self, path: str) -> list[str]:
        if not _SCHEME.match(path) and self._is_local():
            return find_files([path])
        with java_errors(path):
            hadoop_path = self._jvm.org.apache.hadoop.fs.Path(path)
            system = self._system(hadoop_path)
            if system.exists(hadoop_path):
                statuses = [system.getFileStatus(hadoop_path)]
            elif _WILDCARD.search(path):
                statuses = [
                    status
                    for status in system.globStatus(hadoop_path) or ()
                    if not status.getPath().getName().startswith(HIDDEN)
                ]
            else:
                raise LoadError("no such file or folder")
            named = len(statuses) == 1 and statuses[0].isFile()
            files: list[str] = []
            for status in statuses:
                if status.isFile():
                    files.append(status.getPath().toString())
                else:
                    files += self._below(system, status.getPath())
            if named:
                Format.of(files[0])
            files = [file for file in files if _is_known(file)]
            if not files:
                raise LoadError("no file with a known extension there")
            return files

    def _below(self, system: Any, folder: Any) -> list[str]:
        """All files below a folder, none whose name or folder's name says that it is not for others."""
        files: list[str] = []
        for status in sorted(system.listStatus(folder), key=lambda status: str(status.getPath().toString())):
            path = status.getPath()
            if path.getName().startswith(HIDDEN):
                continue
            files += self._below(system, path) if status.isDirectory() else [path.toString()]
        return files


def uri_of(text: str) -> str:
    """The URI in one of the two ways in which it is written where it names no host: file:/a and file:///a."""
    return _NO_HOST.sub(r"\1/", text)


def _is_known(name: str) -> bool:
    try:
        Format.of(name)
    except LoadError:
        return False
    return True


@contextmanager
def java_errors(path: str = "") -> Iterator[None]:
    """Turns an exception of Java into a LoadError, and puts the path before it."""
    prefix = f"{path}: " if path else ""
    try:
        yield
    except UsageError:
        raise
    except LoadError as error:
        raise LoadError(f"{prefix}{error}") from error.__cause__
    except Exception as error:
        # Spark has classes of its own for some exceptions of Java, py4j one for all others.
        exception = getattr(error, "java_exception", None)
        message = str(exception.getMessage() or exception.toString()) if exception else str(error)
        raise LoadError(f"{prefix}{message.strip().partition(chr(10))[0]}") from error
