"""Files that are read as one text, and files that are written whole or not at all."""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from pathlib import Path

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
    """Puts the content in the place of what stands at `path`, at once, and with its rights: a failure leaves that as it
    was.

    What is no plain file, such as /dev/stdout or a pipe, is written to. A link stays one, and what it leads to is
    written, unless somebody else has put it there. Raises OSError.
    """
    if path.is_symlink() and path.lstat().st_uid not in (os.geteuid(), 0):
        raise OSError(errno.EPERM, "it is a link that another user has put there", str(path))
    if path.exists() and not path.is_file():
        path.write_bytes(content)
        return
    target = path.resolve()
    temporary = target.with_name(f".{target.name[:100]}.{os.urandom(8).hex()}")
    file = temporary.open("xb")  # never what somebody else has put there
    try:
        with file:
            file.write(content)
        if target.exists():
            temporary.chmod(target.stat().st_mode & 0o777)
        temporary.replace(target)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise
