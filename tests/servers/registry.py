"""A stand-in that speaks the REST API of a schema registry: register, and get by id.

    async with SchemaRegistry() as registry:
        registry.url

It is an HTTP server of its own on loopback (`tests.servers.sink`), so that it can be away,
refuse and answer nonsense; Confluent's own serialisers register with it.
"""

from __future__ import annotations

import json
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import unquote, urlsplit

from tests.servers.sink import Answer, Seen, Sink

_JSON: Final = (("content-type", "application/vnd.schemaregistry.v1+json"),)


class SchemaRegistry:
    """Holds schemas in memory; `http` is the server, to stop, start and secure it.

    Attributes:
        asked: paths of the requests, in order.
        broken: a status that every request is answered with; 0 for none.
    """

    def __init__(self) -> None:
        self.http = Sink(answer=self._react)
        self.asked: list[str] = []
        self.broken = 0
        self._schemas: list[dict[str, Any]] = []
        self._subjects: dict[str, list[int]] = {}

    @property
    def url(self) -> str:
        return self.http.url

    async def __aenter__(self) -> Self:
        await self.http.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.http.stop()

    def register(self, subject: str, schema: dict[str, Any]) -> int:
        """Its number; `schema` has `schema`, `schemaType` and `references` as in REST."""
        if schema not in self._schemas:
            self._schemas.append(schema)
        number = self._schemas.index(schema) + 1
        versions = self._subjects.setdefault(subject, [])
        if number not in versions:
            versions.append(number)
        return number

    def _react(self, seen: Seen) -> Answer:
        path = urlsplit(seen.url).path
        self.asked.append(path)
        if self.broken:
            return _answer({"error_code": self.broken, "message": "broken"}, self.broken)
        parts: list[Any] = [unquote(part) for part in path.strip("/").split("/")]
        match seen.method, parts:
            case "GET", ["schemas", "ids", number]:
                return self._by_number(int(number))
            case "POST", ["subjects", subject, "versions"]:
                number = self.register(subject, json.loads(seen.body))
                return _answer({"id": number, **self._schemas[number - 1]})
            case "POST", ["subjects", subject]:
                number = self.register(subject, json.loads(seen.body))
                return self._version(subject, self._subjects[subject].index(number) + 1)
            case "GET", ["subjects", subject, "versions", version]:
                return self._version(subject, int(version))
        return _answer({"error_code": 404, "message": "HTTP 404 Not Found"}, 404)

    def _version(self, subject: str, version: int) -> Answer:
        number = self._subjects[subject][version - 1]
        about = {"subject": subject, "version": version, "id": number}
        return _answer({**about, **self._schemas[number - 1]})

    def _by_number(self, number: int) -> Answer:
        if not 0 < number <= len(self._schemas):
            return _answer({"error_code": 40403, "message": "Schema not found"}, 404)
        return _answer(self._schemas[number - 1])


def _answer(body: dict[str, Any], status: int = 200) -> Answer:
    return Answer(status, _JSON, json.dumps(body).encode())
