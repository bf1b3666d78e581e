"""`contrarec serve` as a process: its start, its exchange of runs, its end; and what it refuses."""

import builtins
import json
import signal
import socket
import sys
import threading
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from cli.tools import Answer
from contrarec.recommender import Recommender
from servers import Server, served, train

Call = Callable[..., Answer]

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="no SIGHUP")


def get(server: Server, path: str) -> Any:
    with urllib.request.urlopen(server.url + path, timeout=60) as answer:
        return json.load(answer)


def connected(server: Server) -> socket.socket:
    where = urlsplit(server.url)
    return socket.create_connection((where.hostname, where.port), timeout=60)


def until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("runs")
    train(base / "a")
    train(base / "b", seed=1)
    return base


class TestProcess:
    def test_from_start_to_end(self, runs: Path, tmp_path: Path) -> None:
        now = tmp_path / "now"
        now.symlink_to(runs / "a")
        with served(now, key="hush-hush") as server:
            assert server.said["run"] == str(now)
            assert server.url == f"http://127.0.0.1:{server.said['port']}"
            assert server.said["pid"] == server.process.pid
            assert get(server, "/ready") == {"ready": True, "run": "a"}
            self._swap(server, now, runs)
            self._finish(server, runs)
            status, err = server.end()
        assert status == 0
        assert "now serving b" in err
        assert "hush" not in err
        assert "u3" not in err  # no ids of users

    def _swap(self, server: Server, now: Path, runs: Path) -> None:
        """Another run is swapped in under requests, none of which fails."""
        want = {
            name: Recommender.load(runs / name).recommend(["u3"], k=5)["item_id"].to_list()
            for name in ("a", "b")
        }
        assert want["a"] != want["b"]
        seen: list[str] = []
        done = threading.Event()

        def ask() -> None:
            request = urllib.request.Request(
                server.url + "/recommend?user=u3&k=5", headers={"X-API-Key": "hush-hush"}
            )
            while not done.is_set():
                with urllib.request.urlopen(request, timeout=60) as answer:
                    told = json.load(answer)
                items = [item["item_id"] for item in told["results"][0]["items"]]
                assert items == want[told["run"]]
                seen.append(told["run"])

        asking = threading.Thread(target=ask)
        asking.start()
        try:
            until(lambda: len(seen) > 2)
            now.unlink()
            now.symlink_to(runs / "b")
            server.signal(signal.SIGHUP)
            until(lambda: "b" in seen[-1:] or not asking.is_alive())
        finally:
            done.set()
            asking.join(60)
        assert seen == sorted(seen)
        assert set(seen) == {"a", "b"}

    def _finish(self, server: Server, runs: Path) -> None:
        """SIGTERM comes in the middle of a request, which is answered all the same."""
        body = b'{"users": ["u3"], "k": 5}'
        with connected(server) as connection:
            head = (
                "POST /recommend HTTP/1.1\r\nHost: x\r\nX-API-Key: hush-hush\r\n"
                f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
            )
            connection.sendall(head.encode() + body[:5])
            get(server, "/health")  # the head has arrived before this
            server.signal(signal.SIGTERM)
            until(lambda: _refused(server))
            connection.sendall(body[5:])
            answer = connection.makefile("rb").read()
        assert answer.startswith(b"HTTP/1.1 200")
        told = json.loads(answer.partition(b"\r\n\r\n")[2])
        want = Recommender.load(runs / "b").recommend(["u3"], k=5)["item_id"].to_list()
        assert [item["item_id"] for item in told["results"][0]["items"]] == want

    def test_a_watched_link(self, runs: Path, tmp_path: Path) -> None:
        now = tmp_path / "now"
        now.symlink_to(runs / "a")
        with served(now, "--watch", 0.05) as server:
            now.unlink()
            now.symlink_to(runs / "b")
            until(lambda: get(server, "/ready")["run"] == "b")
            status, _ = server.end()
        assert status == 0

    def test_ctrl_c(self, runs: Path) -> None:
        with served(runs / "a") as server:
            server.signal(signal.SIGINT)
            out, err = server.process.communicate(timeout=60)
        assert server.process.returncode == 130
        assert (out, err.strip()) == ("", "")


def _refused(server: Server) -> bool:
    try:
        connected(server).close()
    except OSError:
        return True
    return False


class TestRefusals:
    @pytest.mark.parametrize(
        ("arguments", "says"),
        [
            (["nowhere"], "nowhere: not a run"),
            ([".", "--port", "0"], "not a run"),
            (["nowhere", "--port", "65536"], "`port` must lie in [0, 65535], got 65536"),
            (["nowhere", "--host", "no.such.host.invalid"], "cannot listen on no.such.host"),
            (["nowhere", "--max-k", "0"], "`max_k` must be at least 1, got 0"),
            (["nowhere", "--watch", "-1"], "`watch` must not be negative, got -1.0"),
            (["nowhere", "--grace", "-1"], "`grace` must not be negative, got -1"),
            (["nowhere", "--threads", "0"], "`threads` must be at least 1, got 0"),
        ],
    )
    def test_one_line(
        self, contrarec: Call, arguments: list[str], says: str, tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:  # fmt: skip
        monkeypatch.chdir(tmp_path)
        answer = contrarec("serve", *arguments)
        self._is_refusal(answer, says)

    def test_a_port_in_use(self, contrarec: Call, runs: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as other:
            port = other.getsockname()[1]
            answer = contrarec("serve", runs / "a", "--port", port)
        self._is_refusal(answer, f"cannot listen on 127.0.0.1 port {port}: Address already in use")

    @pytest.mark.parametrize("key", ["", " key", "schlüssel", "a\tb"])
    def test_a_key_that_no_header_can_hold(
        self, contrarec: Call, runs: Path, key: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("CONTRAREC_API_KEY", key)
        answer = contrarec("serve", runs / "a")
        self._is_refusal(answer, "CONTRAREC_API_KEY must be")
        assert not key or key.strip() not in answer.err

    def test_without_the_packages(self, contrarec: Call, monkeypatch: pytest.MonkeyPatch) -> None:
        plain = builtins.__import__

        def without(name: str, *more: Any, **named: Any) -> Any:
            if name.partition(".")[0] in ("uvicorn", "fastapi"):
                raise ImportError(f"No module named {name!r}")
            return plain(name, *more, **named)

        for name in [name for name in sys.modules if name.startswith("contrarec.serving")]:
            monkeypatch.delitem(sys.modules, name)
        monkeypatch.setattr(builtins, "__import__", without)
        self._is_refusal(contrarec("serve", "nowhere"), "pip install 'contrarec[serve]'")

    def _is_refusal(self, answer: Answer, says: str) -> None:
        assert answer.status == 2
        assert answer.out == ""
        assert says in answer.err
        assert len(answer.err.splitlines()) == 1
