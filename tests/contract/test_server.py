"""What the server answers over HTTP, called within this process."""

import asyncio
import contextlib
import json
import re
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any
from unittest import SkipTest

import httpx
import pytest
import schemathesis
from fastapi import FastAPI
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error

from contrarec.recommender import Recommender
from contrarec.serving.app import make_app
from contrarec.serving.live import Live
from contrarec.serving.model import ServedModel
from contrarec.serving.schemas import MAX_HISTORIES, Limits
from servers import NASTY, train

KEY = "a key, not to be told"
LIMITS = Limits(max_k=40, max_ids=50, max_body=2000)
JSON = {"content-type": "application/json"}

Call = Callable[..., httpx.Response]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "first"
    train(folder)
    return folder


@pytest.fixture(scope="module")
def live(run: Path) -> Live:
    return Live(run, ServedModel.load)


def caller(app: FastAPI) -> Call:
    def call(method: str, path: str, **more: Any) -> httpx.Response:
        async def answer() -> httpx.Response:
            transport = httpx.ASGITransport(app, raise_app_exceptions=False)
            async with httpx.AsyncClient(transport=transport, base_url="http://here") as client:
                return await client.request(method, path, **more)

        return asyncio.run(answer())

    return call


@pytest.fixture(scope="module")
def app(live: Live) -> FastAPI:
    return make_app(live, limits=LIMITS)


@pytest.fixture(scope="module")
def ask(app: FastAPI) -> Call:
    return caller(app)


@pytest.fixture(scope="module")
def guarded(live: Live) -> Call:
    return caller(make_app(live, key=KEY))


def names(answer: httpx.Response, row: int = 0) -> list[str]:
    assert answer.status_code == 200, answer.text
    return [item["item_id"] for item in answer.json()["results"][row]["items"]]


class TestAnswers:
    def test_recommendations(self, ask: Call, run: Path) -> None:
        want = Recommender.load(run).recommend(["u3", "u4"], k=5)["item_id"].to_list()
        answer = ask("POST", "/recommend", json={"users": ["u3", "u4"], "k": 5})
        assert names(answer) + names(answer, 1) == want
        assert answer.json()["run"] == "first"
        assert names(ask("GET", "/recommend", params={"user": "u3", "k": 5})) == want[:5]
        unwanted = {"user": "u3", "k": 4, "exclude": [want[0], "?"]}
        assert names(ask("GET", "/recommend", params=unwanted))[:4] == want[1:5]
        body = {"users": ["u3"], "k": 4, "exclude": [want[0], "?"]}
        assert names(ask("POST", "/recommend", json=body)) == want[1:5]
        seen = ask("POST", "/recommend", json={"users": ["u3"], "k": 30, "include_seen": True})
        assert len(names(seen)) == 30
        fallback = ask("GET", "/recommend", params={"user": "nobody"}).json()["results"][0]
        assert fallback["source"] == "popularity"

    def test_neighbours_and_histories(self, ask: Call, run: Path) -> None:
        library = Recommender.load(run)
        want = library.similar_items([NASTY], k=5)["similar_item_id"].to_list()
        assert names(ask("POST", "/similar", json={"items": [NASTY], "k": 5})) == want
        assert names(ask("GET", "/similar", params={"item": NASTY, "k": 5})) == want
        want = library.fold_in([["i3", "i6"]], k=5)["item_id"].to_list()
        body = {"histories": [["i3", "i6"], []], "k": 5}
        assert names(ask("POST", "/fold-in", json=body)) == want

    def test_many_at_once_are_answered_each(self, app: FastAPI, run: Path) -> None:
        library = Recommender.load(run)

        async def all_at_once() -> list[httpx.Response]:
            transport = httpx.ASGITransport(app)
            async with httpx.AsyncClient(transport=transport, base_url="http://here") as client:
                asked = [
                    client.post("/recommend", json={"users": [f"u{n % 24}"], "k": 1 + n % 7})
                    for n in range(100)
                ]
                return await asyncio.gather(*asked)

        for n, answer in enumerate(asyncio.run(all_at_once())):
            want = library.recommend([f"u{n % 24}"], k=1 + n % 7)["item_id"].to_list()
            assert names(answer) == want

    def test_about_the_run(self, ask: Call) -> None:
        assert ask("GET", "/health").json()["status"] == "ok"
        assert ask("GET", "/ready").json() == {"ready": True, "run": "first"}
        info = ask("GET", "/info").json()
        assert (info["users"], info["items"], info["method"]) == (24, 45, "infonce")
        assert (info["max_k"], info["similar"], info["max_popularity"]) == (40, True, 24)
        assert ask("GET", "/users", params={"prefix": "u2", "limit": 3}).json()["users"] == [
            "u2",
            "u20",
            "u21",
        ]
        history = ask("GET", "/history", params={"user": "u4", "limit": 2}).json()
        assert history["items"][0] == {"item_id": "i1", "popularity": 24}
        assert ask("GET", "/history", params={"user": "?"}).status_code == 404

    def test_prometheus(self, ask: Call) -> None:
        def count(name: str) -> float:
            text = ask("GET", "/metrics").text
            return sum(float(line.split()[-1]) for line in text.splitlines() if line[0] != "#"
                       if line.startswith(name))  # fmt: skip

        asked = 'contrarec_requests_total{path="/recommend",status="200"}'
        before = [count(asked), count("contrarec_popularity_lists_total")]
        rows = count('contrarec_batch_rows_sum{kind="recommend"}')
        ask("POST", "/recommend", json={"users": ["u1", "nobody", "none"]})
        ask("GET", "/no/such/path")
        assert count(asked) == before[0] + 1
        assert count("contrarec_popularity_lists_total") == before[1] + 2
        assert count('contrarec_batch_rows_sum{kind="recommend"}') == rows + 3
        assert count('contrarec_requests_total{path="other",status="404"}') == 1
        assert count("process_resident_memory_bytes") > 0


class TestRefusals:
    @pytest.mark.parametrize(
        ("path", "body", "status", "says"),
        [
            ("/recommend", {"users": ["u1"], "k": 41}, 422, "`k` must be at most 40, got 41"),
            ("/recommend", {"users": ["u1"], "k": 0}, 422, "`k`"),
            ("/recommend", {"users": ["u1"], "k": 2.5}, 422, "`k`"),
            ("/recommend", {"users": []}, 422, "`users`"),
            ("/recommend", {}, 422, "`users`"),
            ("/recommend", {"users": [None]}, 422, "`users.0`"),
            ("/recommend", {"users": [True]}, 422, "`users.0`"),
            ("/recommend", {"users": [2**70]}, 422, "`users.0`"),
            ("/recommend", {"users": ["x" * 600]}, 422, "`users.0`"),
            ("/recommend", {"users": ["u1"], "ks": 3}, 422, "`ks`"),
            ("/recommend", {"users": ["u1"] * 30, "exclude": ["i1"] * 21}, 422, "50, got 51"),
            ("/recommend", ["u1"], 422, ""),
            ("/similar", {"items": ["i1", "?"]}, 404, "'?'"),
            ("/similar", {"items": ["i1"] * 51}, 422, "50, got 51"),
            ("/fold-in", {"histories": [["i1"] * 51]}, 422, "50, got 51"),
            ("/fold-in", {"histories": [[]] * (MAX_HISTORIES + 1)}, 422, "`histories`"),
            ("/fold-in", {"histories": ["i1"]}, 422, "`histories.0`"),
        ],
    )
    def test_a_question_that_is_none(
        self, ask: Call, path: str, body: Any, status: int, says: str
    ) -> None:
        answer = ask("POST", path, json=body)
        assert answer.status_code == status, answer.text
        assert set(answer.json()) == {"error"}
        assert says in answer.json()["error"]

    @pytest.mark.parametrize(
        "body", [b"", b"{", b"\xff\xfe", b"[" * 1500, b'{"users": ["\\ud800"]}', b'{"k": NaN}']
    )
    def test_what_is_not_json(self, ask: Call, body: bytes) -> None:
        answer = ask("POST", "/recommend", content=body, headers=JSON)
        assert answer.status_code in (400, 422)
        assert set(answer.json()) == {"error"}

    @pytest.mark.parametrize("chunks", [False, True])
    def test_a_body_too_large(self, ask: Call, chunks: bool) -> None:
        body = json.dumps({"users": ["u1"], "exclude": ["x" * 100] * 20}).encode()
        assert len(body) > LIMITS.max_body

        async def parts() -> AsyncIterator[bytes]:
            for start in range(0, len(body), 100):
                yield body[start : start + 100]

        content = parts() if chunks else body
        answer = ask("POST", "/recommend", content=content, headers=JSON)
        assert answer.status_code == 413
        assert answer.json() == {"error": "the body must have at most 2000 bytes."}

    def test_too_many_waiting(self, live: Live) -> None:
        app = make_app(live, limits=Limits(max_waiting=1))

        async def all_at_once() -> list[httpx.Response]:
            transport = httpx.ASGITransport(app)
            async with httpx.AsyncClient(transport=transport, base_url="http://here") as client:
                asked = [client.get("/recommend", params={"user": "u1"}) for _ in range(20)]
                return await asyncio.gather(*asked)

        answers = asyncio.run(all_at_once())
        refused = [answer for answer in answers if answer.status_code == 503]
        assert {answer.status_code for answer in answers} == {200, 503}
        assert refused[0].headers["retry-after"] == "1"
        assert "try again" in refused[0].json()["error"]

    def test_a_bug_is_not_told(self, live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
        def broken(*_: object) -> list[Any]:
            raise ZeroDivisionError("a secret")

        monkeypatch.setattr(ServedModel, "recommend", broken)
        answer = caller(make_app(live))("GET", "/recommend", params={"user": "u1"})
        assert answer.status_code == 500
        assert "secret" not in answer.text


class TestKey:
    @pytest.mark.parametrize(
        ("headers", "status"),
        [
            ({}, 401),
            ({"X-API-Key": ""}, 401),
            ({"X-API-Key": KEY[:-1]}, 401),
            ({"X-API-Key": KEY + "x"}, 401),
            ({"Authorization": f"Basic {KEY}"}, 401),
            ({"X-API-Key": KEY}, 200),
            ({"Authorization": f"Bearer {KEY}"}, 200),
        ],
    )
    def test_who_has_it_is_answered(
        self, guarded: Call, headers: dict[str, str], status: int
    ) -> None:
        for path in ("/recommend?user=u1", "/users", "/info", "/metrics", "/history?user=u1"):
            answer = guarded("GET", path, headers=headers)
            assert answer.status_code == status, path
            assert status == 200 or "API key" in answer.json()["error"]
        body = guarded("POST", "/fold-in", json={"histories": [["i1"]]}, headers=headers)
        assert body.status_code == status

    def test_health_and_the_page_are_open(self, guarded: Call) -> None:
        for path in ("/health", "/ready", "/", "/docs", "/openapi.json", "/static/page.js"):
            answer = guarded("GET", path)
            assert answer.status_code == 200
            assert KEY not in answer.text

    def test_the_description_says_where(self, guarded: Call) -> None:
        paths = guarded("GET", "/openapi.json").json()["paths"]
        assert "security" in paths["/recommend"]["post"]
        assert "security" not in paths["/health"]["get"]


class TestPages:
    def test_nothing_comes_from_elsewhere(self, ask: Call) -> None:
        for path in ("/", "/docs", "/static/page.css", "/static/page.js"):
            answer = ask("GET", path)
            text = re.sub(r"https?://www\.w3\.org/\S+", "", answer.text)
            assert not re.search(r"(src|href|url|import)\W{1,3}(https?:)?//", text)
            policy = answer.headers["content-security-policy"]
            assert "default-src 'none'" in policy
            assert "unsafe" not in policy
        assert not re.search(r"<script(?! src=)|\sstyle=|\son\w+=", ask("GET", "/").text)

    def test_the_api_is_described(self, ask: Call) -> None:
        page = ask("GET", "/docs").text
        for path in ask("GET", "/openapi.json").json()["paths"]:
            assert f" {path}</code>" in page
        shapes = set(re.findall(r'href="#(\w+)"', page))
        assert shapes <= set(re.findall(r'id="(\w+)"', page))
        assert "RecommendRequest" in shapes


@pytest.mark.parametrize("mode", list(GenerationMode))
def test_nothing_that_may_be_asked_is_a_bug(app: FastAPI, mode: GenerationMode) -> None:
    """Questions that the description allows, and ones that it does not, to every path."""
    operations = [
        found.ok() for found in schemathesis.openapi.from_asgi("/openapi.json", app)
        .get_all_operations()
    ]  # fmt: skip
    assert len(operations) == 11
    answered = set()
    for operation in operations:

        @settings(
            max_examples=10,
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=list(HealthCheck),
        )
        @given(operation.as_strategy(generation_mode=mode))
        def ask(case: Any) -> None:
            answer = case.call()
            answered.add(answer.status_code)
            case.validate_response(answer, checks=[not_a_server_error])

        with contextlib.suppress(Unsatisfiable, SkipTest):  # a path without anything to get wrong
            ask()
    assert ({200, 422} if mode == GenerationMode.POSITIVE else {422}) <= answered
