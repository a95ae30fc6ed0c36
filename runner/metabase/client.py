"""Metabase over its REST API: one call a method, each error one clear message, and the API key in none of them."""

from __future__ import annotations

import logging
import os
import re
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Final, Literal, TypeVar
from urllib.parse import urlsplit

import msgspec

from ..errors import MetabaseError, UsageError

try:
    import httpx
except ModuleNotFoundError:
    raise MetabaseError("clickmart metabase needs httpx; install it by: pip install 'clickmart[metabase]'") from None

# At their finest these show headers, and a server may answer with the key in one.
for _name in ("httpx", "httpcore"):
    logging.getLogger(_name).setLevel(logging.WARNING)

URL_VARIABLE: Final = "METABASE_URL"
KEY_VARIABLE: Final = "METABASE_API_KEY"

_T = TypeVar("_T")
Method = Literal["GET", "POST", "PUT"]
Query = Mapping[str, str | list[str]]

#: Seconds for one call: saving a card may wait for the columns of its query.
_TIMEOUT: Final = 60.0
_TRIES: Final = 4
#: The longest that a server may ask to wait, in seconds.
_LONGEST_WAIT: Final = 30.0
_BUSY: Final = frozenset({500, 502, 503, 504})
_MESSAGE_LENGTH: Final = 300


class _Key(httpx.Auth):
    """Puts the key into each request, and stands nowhere else: no header of the client's has it."""

    def __init__(self, key: str) -> None:
        self._header = key

    def auth_flow(self, request: httpx.Request) -> Any:
        request.headers["X-API-Key"] = self._header
        yield request


class Metabase:
    """A Metabase at its URL. Reads are tried again where the server or the network fails, writes never are, but for
    429, by which the server says that it did nothing. Redirects aren't followed: the key is for one host alone."""

    def __init__(self, url: str, key: str, *, sleep: Callable[[float], None] = time.sleep) -> None:
        self.url = checked_url(url)
        _refuse_key(key)
        self._secrets = [key]
        self.sleep = sleep
        self._http = httpx.Client(base_url=self.url, auth=_Key(key), timeout=_TIMEOUT, follow_redirects=False)

    def __repr__(self) -> str:
        return f"Metabase({self.url!r})"

    def __enter__(self) -> Metabase:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._http.close()

    def hide(self, secret: str) -> None:
        """From now on no message shows this text."""
        if secret:
            self._secrets.append(secret)

    def get(self, path: str, to: type[_T], query: Query | None = None) -> _T:
        """What the path answers, as that type. Raises MetabaseError."""
        return self._converted("GET", path, self._call("GET", path, query=query), to)

    def write(self, method: Method, path: str, body: Mapping[str, Any]) -> Mapping[str, Any]:
        """What the write answers. Raises MetabaseError; a write that was not answered may still have happened."""
        answer = self._call(method, path, body=body)
        return answer if isinstance(answer, Mapping) else {}

    def _call(
        self, method: Method, path: str, *, query: Query | None = None, body: Mapping[str, Any] | None = None
    ) -> Any:
        for attempt in range(1, _TRIES + 1):
            wait = min(2.0 ** (attempt - 1), _LONGEST_WAIT)
            try:
                response = self._http.request(method, path, params=query, json=body)
            except (httpx.TransportError, httpx.InvalidURL) as error:
                if method == "GET" and attempt < _TRIES and isinstance(error, httpx.TransportError):
                    self.sleep(wait)
                    continue
                problem = self._one_line(str(error)) or type(error).__name__
                done = "" if method == "GET" else "; whether it was done is unknown, push again to find out"
                raise MetabaseError(f"{method} {self.url}{path}: no answer ({problem}){done}") from None
            again = response.status_code == 429 or (method == "GET" and response.status_code in _BUSY)
            if again and attempt < _TRIES:
                self.sleep(min(_retry_after(response) or wait, _LONGEST_WAIT))
                continue
            return self._answer(method, path, response)
        raise AssertionError("the last try returns or raises")

    def _answer(self, method: Method, path: str, response: httpx.Response) -> Any:
        where, status = f"{method} {self.url}{path}", response.status_code
        if response.is_redirect:
            to = self._one_line(response.headers.get("location", "nowhere"))
            raise MetabaseError(f"{where}: is redirected to {to}; give the URL that Metabase itself answers at")
        if response.is_error:
            problem = self._one_line(_message(response))
            advice = {
                401: f"; is {KEY_VARIABLE} a key of this Metabase?",
                403: "; the key's group needs curate access to the collection, native queries on the database, and to"
                " be Administrators for --create-database",
                429: "; try again later",
            }.get(status, "")
            raise MetabaseError(f"{where}: {status} {problem}{advice}", status=status)
        if not response.content:
            return None
        try:
            return msgspec.json.decode(response.content)
        except msgspec.DecodeError:
            raise MetabaseError(f"{where}: answers no JSON; is this the URL of Metabase itself?") from None

    def _converted(self, method: Method, path: str, answer: Any, to: type[_T]) -> _T:
        try:
            return msgspec.convert(answer, to)
        except msgspec.ValidationError as error:
            raise MetabaseError(f"{method} {self.url}{path}: not the answer that Metabase gives: {error}") from None

    def _one_line(self, text: str) -> str:
        line = " ".join(text.split())
        for secret in self._secrets:
            line = line.replace(secret, "***")
        return line if len(line) <= _MESSAGE_LENGTH else f"{line[:_MESSAGE_LENGTH]}..."


def checked_url(url: str) -> str:
    """The URL without its last slash. Raises UsageError, which doesn't show it, where a name or password is in it."""
    parts = urlsplit(url)
    if "@" in parts.netloc:
        raise UsageError(f"the URL of Metabase holds a user or a password; leave it out, the key is in {KEY_VARIABLE}")
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise UsageError(f"{url!r} is no URL of a Metabase; write https://metabase.example.com")
    return url.rstrip("/")


def find_metabase(url: str | None) -> Metabase:
    """The Metabase at `url`, else at METABASE_URL, with the key in METABASE_API_KEY. Raises UsageError."""
    url = url or os.environ.get(URL_VARIABLE)
    if not url:
        raise UsageError(f"no Metabase named; give --url or set {URL_VARIABLE}")
    key = os.environ.get(KEY_VARIABLE)
    if not key:
        raise UsageError(
            f"{KEY_VARIABLE} is not set; Metabase makes keys under Admin settings, Authentication, API keys"
        )
    return Metabase(url, key)


def _refuse_key(key: str) -> None:
    # httpx shows a header's value where it can't be one.
    if not re.fullmatch(r"[!-~]+", key):
        raise UsageError(f"{KEY_VARIABLE} holds a character that no key has")


def _message(response: httpx.Response) -> str:
    """What Metabase says of an error: a text, or JSON with a message or the errors by field."""
    try:
        answer = msgspec.json.decode(response.content)
    except msgspec.DecodeError:
        text = response.text.strip()
        return text if not text.startswith("<") else response.reason_phrase
    if isinstance(answer, Mapping):
        if isinstance(answer.get("message"), str):
            return str(answer["message"])
        for key in ("specific-errors", "errors"):
            if answer.get(key):
                return msgspec.json.encode(answer[key]).decode()
        return str(answer.get("cause") or response.reason_phrase)
    return str(answer)


def _retry_after(response: httpx.Response) -> float | None:
    """Seconds that the server asks to wait; None where it asks nothing, or names a date."""
    text = response.headers.get("retry-after", "")
    return float(text) if text.isascii() and text.isdigit() else None
