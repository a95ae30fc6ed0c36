"""Files that are read as one text, and files that are written whole or not at all."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from .errors import ProjectError


def read_text(path: Path, name: str) -> str:
    """The text of a project's file, which messages call `name`.

    Raises ProjectError where it can't be read or is not UTF-8; FileNotFoundError or NotADirectoryError where there is
    none.
    """
    try:
        return decoded(path.read_bytes(), name)
    except (FileNotFoundError, NotADirectoryError):
        raise
    except OSError as error:
        raise ProjectError(f"{name}: can't be read: {error.strerror}") from None


def decoded(content: bytes, name: str) -> str:
    """The content of a project's file as text, without a byte order mark. Raises ProjectError where it is not UTF-8."""
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ProjectError(f"{name}: not UTF-8 text ({error.reason} at byte {error.start})") from None


def write_whole(path: Path, content: bytes) -> None:
    """Puts the content in the place of what stands at `path`, as writing_whole does."""
    with writing_whole(path) as file:
        file.write(content)


@contextmanager
def writing_whole(path: Path) -> Iterator[BinaryIO]:
    """A file to write to, which takes the place of what stands at `path` at the end, at once, and with its rights: a
    failure leaves that as it was.

    What is no plain file, such as /dev/stdout or a pipe, is written to. A link stays one, and what it leads to is
    written, unless somebody else has put it there. Raises OSError.
    """
    if path.is_symlink() and path.lstat().st_uid not in (os.geteuid(), 0):
        raise OSError(errno.EPERM, "it is a link that another user has put there", str(path))
    if path.exists() and not path.is_file():
        with path.open("wb") as file:
            yield file
        return
    target = path.resolve()
    temporary = target.with_name(f".{target.name[:100]}.new")
    with _open_alone(temporary) as file:
        try:
            file.truncate(0)
            yield file
            file.flush()
            if target.exists():
                temporary.chmod(target.stat().st_mode & 0o777)
            temporary.replace(target)
        except BaseException:
            with suppress(OSError):
                temporary.unlink()
            raise


def _open_alone(path: Path) -> BinaryIO:
    """The file to be written, locked against others who write it too: so it needs no name of its own, under which a
    process that is killed would leave it behind."""
    import fcntl

    while True:
        # A link that someone has put there would lead elsewhere.
        file = open(path, "ab", opener=lambda name, flags: os.open(name, flags | os.O_NOFOLLOW, 0o666))  # noqa: SIM115
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
            status = path.stat()
        except FileNotFoundError:
            status = None
        except BaseException:
            file.close()
            raise
        # Else whoever had it before has put it in its place, or removed it.
        if status and os.path.samestat(status, os.fstat(file.fileno())):
            if status.st_uid in (os.geteuid(), 0):
                return file
            file.close()
            raise OSError(errno.EPERM, "another user's file is in the way", str(path))
        file.close()
