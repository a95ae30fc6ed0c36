"""A stand-in for Metabase: a real HTTP server that keeps state as Metabase does, and checks every request and every
answer of its own against Metabase's published description where that is at hand."""

from __future__ import annotations

import copy
import json
import random
import re
import string
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import jsonschema

DESCRIPTION = Path(__file__).parents[2] / "shared" / "metabase" / "openapi.strict.json"
KEY = "mb_a-key+that/must=stay_secret"
Json = dict[str, Any]


class RefusedError(Exception):
    """An answer of Metabase's that is an error."""

    def __init__(self, status: int, body: Any, headers: dict[str, str] | None = None) -> None:
        super().__init__(status)
        self.status = status
        self.body = body
        self.headers = headers or {}


class DroppedError(Exception):
    """The connection ends without an answer."""


@dataclass
class StandIn:
    """What it keeps, and how it behaves. `version` is 60 of 0.60; `tag_list` answers template-tags as a list."""

    version: int = 60
    tag_list: bool = False
    described: bool = field(default_factory=DESCRIPTION.exists)
    calls: list[tuple[str, str]] = field(default_factory=list)
    bodies: list[Any] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    #: Asked before each call: raises RefusedError or DroppedError to fail it; the number is that of the write, from 1.
    before: Callable[[str, str, int], None] = lambda method, path, write: None
    after: Callable[[str, str, int], None] = lambda method, path, write: None
    sync_polls: int = 2
    readonly_group: bool = False

    def __post_init__(self) -> None:
        self.collections: dict[int, Json] = {}
        self.cards: dict[int, Json] = {}
        self.dashboards: dict[int, Json] = {}
        self.databases: dict[int, Json] = {}
        self.polls: dict[int, int] = {}
        self.lock = threading.RLock()
        self._last = 0
        self._random = random.Random(7)
        self.url = ""

    # What tests ask and do

    def writes(self) -> Counter[str]:
        return Counter(method for method, _ in self.calls if method != "GET")

    def add_database(self, name: str = "clickmart", engine: str = "postgres", **more: Any) -> int:
        return self._keep(
            self.databases,
            {"name": name, "engine": engine, "details": {}, "initial_sync_status": "complete", "tables": []} | more,
        )

    def card(self, name: str) -> Json:
        """The card of that name, of those that aren't in the trash."""
        (row,) = [row for row in self.cards.values() if row["name"] == name and not row["archived"]]
        return row

    def dashboard(self, name: str) -> Json:
        (row,) = [row for row in self.dashboards.values() if row["name"] == name and not row["archived"]]
        return row

    def add_collection(self, name: str, description: str | None = None) -> int:
        return int(self._make_collection(body={"name": name, "description": description})["id"])

    def add_card(self, name: str, sql: str, tags: Json | None = None, **more: Any) -> Json:
        """A card as a person makes it in the browser."""
        query = {"type": "native", "database": 1, "native": {"query": sql, "template-tags": tags or {}}}
        body = {"name": name, "display": "table", "visualization_settings": {}, "dataset_query": query}
        number = self._make_card(body=body | more)["id"]
        return self.cards[number]

    def add_clicked_card(self, name: str) -> Json:
        """A card that was built by clicking, and has no SQL."""
        card = self.add_card(name, "select 1")
        card["dataset_query"] = {"database": 1, "mbql": True, "tags": []}
        return card

    def place(self, dashboard: Json, card: Json | None, settings: Json | None = None, **more: Any) -> Json:
        """Puts a card, or a text where it is None, on a dashboard as a person does."""
        row = {"id": self._next(), "dashboard_id": dashboard["id"], "entity_id": self._entity()}
        row |= {"card_id": card and card["id"], "row": 30, "col": 0, "size_x": 12, "size_y": 6}
        tab = dashboard["tabs"][0]["id"] if dashboard["tabs"] else None
        row |= {"visualization_settings": settings or {}, "parameter_mappings": [], "series": []}
        row |= {"inline_parameters": [], "dashboard_tab_id": tab} | more
        dashboard["dashcards"].append(row)
        return row

    def state(self) -> Json:
        """All that it keeps, to compare."""
        return copy.deepcopy(
            {"collections": self.collections, "cards": self.cards, "dashboards": self.dashboards, "db": self.databases}
        )

    def content(self) -> Any:
        """All that a reader sees and that isn't in the trash, by names and without ids, to compare two servers."""
        names = {card["id"]: card["name"] for card in self.cards.values()}

        def shown(value: Any) -> Any:
            if isinstance(value, dict):
                return {
                    key: names.get(inner) if key == "card_id" else shown(inner)
                    for key, inner in value.items()
                    if key not in ("id", "entity_id", "dashboard_id", "collection_id", "dashboard_tab_id", "created_at")
                }
            if isinstance(value, list):
                return [shown(inner) for inner in value]
            return value

        things = {}
        for kind in ("collections", "cards", "dashboards"):
            rows = [shown(row) for row in getattr(self, kind).values() if not row["archived"]]
            things[kind] = sorted(rows, key=lambda row: json.dumps(row, sort_keys=True))
        return things

    # The server

    @contextmanager
    def running(self) -> Iterator[StandIn]:
        standin = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True
            wbufsize = -1

            def do(self) -> None:
                length = int(self.headers.get("content-length") or 0)
                raw = self.rfile.read(length)
                try:
                    status, body, headers = standin.handle(self.command, self.path, dict(self.headers), raw)
                except DroppedError:
                    self.close_connection = True
                    return
                payload = b"" if body is None else json.dumps(body).encode()
                self.send_response(status)
                for name, value in {"content-type": "application/json", **headers}.items():
                    self.send_header(name, value)
                self.send_header("content-length", str(len(payload)))
                self.end_headers()
                self.wfile.write(payload)
                self.wfile.flush()

            do_GET = do_POST = do_PUT = do_DELETE = do  # noqa: N815

            def log_message(self, *_: Any) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        self.url = f"http://127.0.0.1:{server.server_port}"
        try:
            yield self
        finally:
            server.shutdown()
            server.server_close()
            thread.join()
        assert not self.faults, "\n".join(self.faults)

    def handle(self, method: str, target: str, headers: dict[str, str], raw: bytes) -> tuple[int, Any, dict[str, str]]:
        parts = urlsplit(target)
        body = json.loads(raw) if raw else None
        given = {name.lower(): value for name, value in headers.items()}
        with self.lock:
            self.calls.append((method, target))
            self.bodies.append(body)
            write = len([one for one, _ in self.calls if one != "GET"])
        try:
            self.before(method, parts.path, write)
            if parts.path not in ("/api/session/properties", "/api/health"):
                if given.get("x-api-key") != KEY:
                    raise RefusedError(401, "Unauthenticated")
                if self.readonly_group and method != "GET":
                    raise RefusedError(403, "You don't have permissions to do that.")
            with self.lock:
                self._check_request(method, parts.path, parse_qs(parts.query), body)
                answer = self._route(method, parts.path, parse_qs(parts.query), body)
                answer = copy.deepcopy(answer)
                self._check_answer(method, parts.path, answer)
            self.after(method, parts.path, write)
        except RefusedError as refused:
            return refused.status, refused.body, refused.headers
        return 200, answer, {}

    # The description

    def _check_request(self, method: str, path: str, query: dict[str, list[str]], body: Any) -> None:
        operation = _operation(method, path) if self.described else None
        if operation is None:
            if self.described:
                self.faults.append(f"{method} {path}: no operation of the description")
            return
        known = {row["name"]: row["schema"] for row in operation.get("parameters", []) if row["in"] == "query"}
        for name, values in query.items():
            value: Any = values if name == "models" else {"true": True, "false": False}.get(values[0], values[0])
            if name in ("limit", "offset"):
                continue  # every list takes these, and the description of none says so
            if name not in known:
                self.faults.append(f"{method} {path}: query {name} is in no description")
            else:
                self._check(f"{method} {path}?{name}", known[name], value)
        content = operation.get("requestBody", {}).get("content", {}).get("application/json")
        if content is not None:
            self._check(f"{method} {path} body", content["schema"], body)

    def _check_answer(self, method: str, path: str, answer: Any) -> None:
        operation = _operation(method, path) if self.described else None
        if operation is None:
            return
        answers = operation["responses"].get("2XX") or operation["responses"]["200"]
        schema = answers.get("content", {}).get("application/json", {}).get("schema")
        # Of queries the description at hand knows those in SQL alone.
        clicked = isinstance(answer, dict) and answer.get("query_type") == "query"
        if schema is not None and not clicked:
            self._check(f"{method} {path} answer", schema, answer)

    def _check(self, where: str, schema: Json, value: Any) -> None:
        validator = jsonschema.Draft202012Validator({**schema, "components": _description()["components"]})
        for error in validator.iter_errors(value):
            self.faults.append(f"{where}: {error.json_path}: {error.message[:500]}")

    # The operations

    def _route(self, method: str, path: str, query: dict[str, list[str]], body: Any) -> Any:
        for pattern, operation in _ROUTES.items():
            if found := re.fullmatch(pattern, f"{method} {path}"):
                ids = [int(part) if part.isdigit() else part for part in found.groups()]
                return operation(self, *ids, query=query, body=body)
        raise RefusedError(404, "API endpoint does not exist.")

    def _properties(self, **_: Any) -> Json:
        return {"version": {"tag": f"v0.{self.version}.1"}, "setup-token": None, "has-user-setup": True}

    def _user(self, **_: Any) -> Json:
        return {"id": 1, "email": "api-key@example.com", "is_superuser": True, "common_name": "A key"}

    def _list_databases(self, **_: Any) -> Json:
        return {"data": list(self.databases.values()), "total": len(self.databases)}

    def _make_database(self, *, body: Json, **_: Any) -> Json:
        row = {"name": body["name"], "engine": body["engine"], "details": body["details"], "tables": []}
        number = self._keep(self.databases, row | {"initial_sync_status": "incomplete"})
        self.polls[number] = self.sync_polls
        return self._hidden(self.databases[number])

    def _database(self, number: int, **_: Any) -> Json:
        row = self._at(self.databases, number)
        if row["initial_sync_status"] == "incomplete":
            self.polls[number] = self.polls.get(number, self.sync_polls) - 1
            if self.polls[number] < 0:
                row["initial_sync_status"] = "complete"
        return self._hidden(row)

    def _hidden(self, row: Json) -> Json:
        details = {name: "**MetabasePass**" if name == "password" else value for name, value in row["details"].items()}
        return row | {"details": details}

    def _sync(self, number: int, **_: Any) -> Json:
        self._at(self.databases, number)
        return {"status": "ok"}

    def _list_collections(self, *, query: dict[str, list[str]], **_: Any) -> list[Json]:
        archived = query.get("archived") == ["true"]
        root = [] if archived else [{"id": "root", "name": "Our analytics"}]
        return root + [row for row in self.collections.values() if row["archived"] == archived]

    def _make_collection(self, *, body: Json, **_: Any) -> Json:
        row = {"name": body["name"], "description": body.get("description"), "archived": False}
        row |= {"location": "/", "parent_id": body.get("parent_id"), "slug": body["name"].lower()}
        return self.collections[self._keep(self.collections, row)]

    def _collection(self, number: int | str, **_: Any) -> Json:
        if number == "root":
            return {"id": "root", "name": "Our analytics"}
        return self._at(self.collections, number)

    def _put_collection(self, number: int, *, body: Json, **_: Any) -> Json:
        row = self._at(self.collections, number)
        if "archived" in body and body["archived"] != row["archived"]:
            # Its content goes with it, but not what was thrown away by itself before.
            for thing in (*self.cards.values(), *self.dashboards.values()):
                if thing["collection_id"] == number and not thing["archived_directly"]:
                    thing["archived"] = body["archived"]
        row.update({name: body[name] for name in ("name", "description", "archived") if body.get(name) is not None})
        return row

    def _items(self, number: int | str, *, query: dict[str, list[str]], **_: Any) -> Json:
        home = None if number == "root" else number
        archived = query.get("archived") == ["true"]
        rows = []
        for model, things in (("card", self.cards), ("dashboard", self.dashboards)):
            for row in things.values():
                inside = row["collection_id"] == home and row["archived"] == archived and not row["archived_directly"]
                if inside and model in query.get("models", [model]) and row.get("dashboard_id") is None:
                    names = ("id", "name", "description", "entity_id", "collection_id", "archived")
                    rows.append({name: row[name] for name in names} | {"model": model})
        limit, offset = (int(query[name][0]) if name in query else None for name in ("limit", "offset"))
        data = rows if limit is None else rows[offset or 0 :][:limit]
        return {"data": data, "total": len(rows), "limit": limit, "offset": offset, "models": ["card", "dashboard"]}

    def _list_cards(self, *, query: dict[str, list[str]], **_: Any) -> list[Json]:
        archived = query.get("f") == ["archived"]
        return [self._answered(row) for row in self.cards.values() if row["archived"] == archived]

    def _make_card(self, *, body: Json, **_: Any) -> Json:
        wanted = body.get("entity_id") if self.version >= 53 else None
        if wanted and any(row["entity_id"] == wanted for row in self.cards.values()):
            raise RefusedError(500, {"message": "duplicate key value violates unique constraint"})
        query = self._stored_query(body["dataset_query"])
        row = {
            "name": body["name"],
            "description": body.get("description"),
            "display": body["display"],
            "type": body.get("type") or "question",
            "visualization_settings": body["visualization_settings"],
            "dataset_query": query,
            "collection_id": body.get("collection_id"),
            "dashboard_id": body.get("dashboard_id"),
            "archived": False,
            "archived_directly": False,
            "parameters": [],
        }
        number = self._keep(self.cards, row)
        if wanted:
            self.cards[number]["entity_id"] = wanted
        return self._answered(self.cards[number])

    def _card(self, number: int, **_: Any) -> Json:
        return self._answered(self._at(self.cards, number))

    def _put_card(self, number: int, *, body: Json, **_: Any) -> Json:
        row = self._at(self.cards, number)
        if body.get("dataset_query"):
            row["dataset_query"] = self._stored_query(body["dataset_query"])
        names = ("name", "display", "visualization_settings", "collection_id", "dashboard_id")
        row.update({name: body[name] for name in names if body.get(name) is not None})
        row |= {"description": body["description"]} if "description" in body else {}
        self._archive(row, body)
        return self._answered(row)

    def _stored_query(self, query: Json) -> Json:
        """A query as it is kept: its text, its tags in their order, and whether it is SQL at all."""
        if query["database"] not in self.databases:
            raise RefusedError(404, "Not found.")
        if query.get("type") == "native":
            inner, sql = query["native"], query["native"]["query"]
        else:
            inner, sql = query["stages"][0], query["stages"][0]["native"]
        tags = inner.get("template-tags") or {}
        rows = tags if isinstance(tags, list) else list(tags.values())
        for name in re.findall(r"\{\{\s*([\w.-]+)\s*\}\}", sql):
            if name not in [tag["name"] for tag in rows]:
                self.faults.append(f"a query with {{{{{name}}}}} and no tag of that name")
        return {"database": query["database"], "sql": sql, "tags": rows}

    def _answered(self, row: Json) -> Json:
        """A card as this version answers it."""
        kept = row["dataset_query"]
        more = {"database_id": kept["database"], "creator_id": 1, "table_id": None, "query_type": "native"}
        if "mbql" in kept:
            stage = {"lib/type": "mbql.stage/mbql", "source-table": 1}
            return row | more | {"query_type": "query", "dataset_query": {"lib/type": "mbql/query", "stages": [stage]}}
        tags = kept["tags"] if self.tag_list else {tag["name"]: tag for tag in kept["tags"]}
        if self.version >= 57:
            stage = {"lib/type": "mbql.stage/native", "native": kept["sql"], "template-tags": tags}
            query: Json = {"lib/type": "mbql/query", "database": kept["database"], "stages": [stage]}
        else:
            native = {"query": kept["sql"], "template-tags": tags}
            query = {"type": "native", "database": kept["database"], "native": native}
        return row | more | {"dataset_query": query}

    def _list_dashboards(self, *, query: dict[str, list[str]], **_: Any) -> list[Json]:
        archived = query.get("f") == ["archived"]
        rows = [row for row in self.dashboards.values() if row["archived"] == archived]
        return [{name: value for name, value in row.items() if name not in ("dashcards", "tabs")} for row in rows]

    def _make_dashboard(self, *, body: Json, **_: Any) -> Json:
        row = {
            "name": body["name"],
            "description": body.get("description"),
            "collection_id": body.get("collection_id"),
            "parameters": body.get("parameters") or [],
            "archived": False,
            "archived_directly": False,
            "creator_id": 1,
            "width": "fixed",
            "auto_apply_filters": True,
            "enable_embedding": False,
            "public_uuid": None,
            "cache_ttl": None,
            "dashcards": [],
            "tabs": [],
        }
        return self.dashboards[self._keep(self.dashboards, row)]

    def _dashboard(self, number: int, **_: Any) -> Json:
        row = self._at(self.dashboards, number)
        # A card in the trash is on no dashboard.
        shown = [card for card in row["dashcards"] if not self.cards.get(card["card_id"], {}).get("archived")]
        return row | {"dashcards": shown}

    def _put_dashboard(self, number: int, *, body: Json, **_: Any) -> Json:
        row = self._at(self.dashboards, number)
        names = ("name", "parameters", "width", "auto_apply_filters", "collection_id")
        if body.get("dashcards") is not None:
            if row["archived"]:
                raise RefusedError(404, "The object has been archived.")
            self._replace_dashcards(row, body)
        row.update({name: body[name] for name in names if body.get(name) is not None})
        row |= {"description": body["description"]} if "description" in body else {}
        self._archive(row, body)
        return self._dashboard(number)

    def _replace_dashcards(self, row: Json, body: Json) -> None:
        """All of them at once: what isn't named is gone, with its tab, and negative ids are new."""
        tabs, known = [], {tab["id"]: tab for tab in row["tabs"]}
        real: dict[int, int] = {}
        for position, tab in enumerate(body.get("tabs") or []):
            if tab["id"] < 0:
                real[tab["id"]] = self._next()
                made = {"id": real[tab["id"]], "dashboard_id": row["id"], "entity_id": self._entity()}
            elif tab["id"] in known:
                made = known[tab["id"]]
            else:
                raise RefusedError(400, "no such tab")
            tabs.append(made | {"name": tab["name"], "position": position})
        there = {card["id"]: card for card in row["dashcards"]}
        dashcards = []
        for card in body["dashcards"]:
            tab = real.get(card.get("dashboard_tab_id"), card.get("dashboard_tab_id"))
            tab = tabs[0]["id"] if tab is None and len(tabs) == 1 else tab
            if (tab is None) != (not tabs) or (tab is not None and tab not in [one["id"] for one in tabs]):
                raise RefusedError(400, "This dashboard has tab, makes sure every card has a tab")
            if card.get("card_id") is not None and self._at(self.cards, card["card_id"])["archived"]:
                raise RefusedError(404, "The object has been archived.")
            for mapping in card.get("parameter_mappings") or []:
                self._check_mapping(body.get("parameters", row["parameters"]), mapping)
            made = there.get(card["id"]) or {"id": self._next(), "dashboard_id": row["id"], "entity_id": self._entity()}
            defaults = {"visualization_settings": {}, "parameter_mappings": [], "series": [], "inline_parameters": []}
            names = ("card_id", "row", "col", "size_x", "size_y", "visualization_settings", "parameter_mappings")
            said = {name: card.get(name) for name in (*names, "series", "inline_parameters") if name in card}
            dashcards.append({"card_id": None, **defaults, **made, **said, "dashboard_tab_id": tab})
        row |= {"tabs": tabs, "dashcards": dashcards}

    def _check_mapping(self, parameters: list[Json], mapping: Json) -> None:
        """Metabase takes a mapping to nothing, and shows a filter that filters nothing: here it is a fault."""
        if mapping["parameter_id"] not in [row["id"] for row in parameters]:
            self.faults.append(f"a mapping of no parameter: {mapping}")
        kind, target = mapping["target"][:2]
        if kind == "variable":
            tags = self._at(self.cards, mapping["card_id"])["dataset_query"]["tags"]
            if target[1] not in [tag["name"] for tag in tags]:
                self.faults.append(f"a mapping to no variable: {mapping}")

    def _archive(self, row: Json, body: Json) -> None:
        if body.get("archived") is not None:
            row |= {"archived": body["archived"], "archived_directly": body["archived"]}

    def _keep(self, things: dict[int, Json], row: Json) -> int:
        number = self._next()
        things[number] = {"id": number, "entity_id": self._entity()} | row
        return number

    def _next(self) -> int:
        self._last += 1
        return self._last

    def _entity(self) -> str:
        return "".join(self._random.choices(string.ascii_letters + string.digits + "_-", k=21))

    def _at(self, things: dict[int, Json], number: Any) -> Json:
        if number not in things:
            raise RefusedError(404, "Not found.")
        return things[number]


_ROUTES: dict[str, Callable[..., Any]] = {
    r"GET /api/session/properties": StandIn._properties,
    r"GET /api/user/current": StandIn._user,
    r"GET /api/database": StandIn._list_databases,
    r"POST /api/database": StandIn._make_database,
    r"GET /api/database/(\d+)": StandIn._database,
    r"POST /api/database/(\d+)/sync_schema": StandIn._sync,
    r"GET /api/collection": StandIn._list_collections,
    r"POST /api/collection": StandIn._make_collection,
    r"GET /api/collection/(\d+|root)": StandIn._collection,
    r"PUT /api/collection/(\d+)": StandIn._put_collection,
    r"GET /api/collection/(\d+|root)/items": StandIn._items,
    r"GET /api/card": StandIn._list_cards,
    r"POST /api/card": StandIn._make_card,
    r"GET /api/card/(\d+)": StandIn._card,
    r"PUT /api/card/(\d+)": StandIn._put_card,
    r"GET /api/dashboard": StandIn._list_dashboards,
    r"POST /api/dashboard": StandIn._make_dashboard,
    r"GET /api/dashboard/(\d+)": StandIn._dashboard,
    r"PUT /api/dashboard/(\d+)": StandIn._put_dashboard,
}


@cache
def _description() -> Json:
    return json.loads(DESCRIPTION.read_text(encoding="utf-8"))  # type: ignore[no-any-return]


@cache
def _operation(method: str, path: str) -> Json | None:
    for template, operations in _description()["paths"].items():
        pattern = re.sub(r"\{[^}]+\}", "[^/]+", template)
        if (
            re.fullmatch(pattern, path)
            and method.lower() in operations
            and template.count("{") == len(re.findall(r"/(\d+)(?=/|$)", path))
        ):
            found: Json = operations[method.lower()]
            return found
    return None


def wait(seconds: float) -> None:
    """A pause as clickmart makes it, in a test that has no time for it."""
    time.sleep(min(seconds, 0.001))
