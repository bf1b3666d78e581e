"""A real PostgreSQL for the tests, on loopback, with pgvector where it has it.

The programs come from the package pgserver, whose Python code is not used: it changes permissions
up to the root of the file system and makes users. Without it, the machine's own are taken.
"""

import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

USER = "tester"
PASSWORD = secrets.token_hex(8)
_SECONDS = 60  # a busy machine takes a while


@pytest.fixture(scope="session")
def postgres_uri() -> Iterator[str]:
    """`postgresql://user:password@127.0.0.1:port/postgres` of a server that is empty at first.

    It lives as long as the session, so a test takes names of its own for its tables. The user may
    do anything. Without PostgreSQL the test is skipped.
    """
    programs = find_programs()
    if programs is None:
        pytest.skip("no PostgreSQL is here: pip install pgserver")
        return
    with running(programs) as uri:
        yield uri


@pytest.fixture(scope="session")
def pgvector_uri(postgres_uri: str) -> str:
    """`postgres_uri`, where the type `vector` is known; without the extension: skipped."""
    from adbc_driver_postgresql import dbapi

    with dbapi.connect(postgres_uri, autocommit=True) as connection, connection.cursor() as cursor:
        try:
            cursor.execute("CREATE EXTENSION IF NOT EXISTS vector")
        except dbapi.Error as error:
            pytest.skip(f"PostgreSQL has no pgvector here: pip install pgserver ({error})")
    return postgres_uri


def find_programs() -> Path | None:
    """The folder with `initdb` and `postgres`; None if there is none."""
    package = find_spec("pgserver")
    if package and package.origin:
        return Path(package.origin).parent / "pginstall" / "bin"
    candidates = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    if found := shutil.which("initdb"):
        candidates.insert(0, Path(found).resolve().parent)
    return next((folder for folder in candidates if (folder / "initdb").exists()), None)


@contextmanager
def running(programs: Path) -> Iterator[str]:
    """Start a server on a free port of loopback, with a password; stop it afterwards."""
    # pytest's own folders can be read by nobody else, and the server must not run as root
    folder = Path(tempfile.mkdtemp(prefix="contrarec-postgres-"))
    try:
        who: dict[str, Any] = {}
        if os.geteuid() == 0:
            nobody = pwd.getpwnam("nobody")
            who = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
            os.chown(folder, nobody.pw_uid, nobody.pw_gid)
            programs = _reachable(programs, folder, who)
        data = folder / "data"
        with (folder / "log").open("w+b") as log:
            told: dict[str, Any] = {"stdout": log, "stderr": log, "cwd": folder, **who}
            with tempfile.NamedTemporaryFile("w", dir=folder) as password:
                password.write(PASSWORD)
                password.flush()
                os.chmod(password.name, 0o644)
                command = [programs / "initdb", "--no-sync", "-D", data, "-U", USER]
                command += ["--pwfile", password.name, "--auth=scram-sha-256", "--encoding=UTF8"]
                subprocess.run([*command, "--locale=C"], check=True, timeout=_SECONDS, **told)
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                port = free.getsockname()[1]
            values = {"port": port, "listen_addresses": "127.0.0.1", "fsync": "off"}
            values |= {"unix_socket_directories": "", "shared_buffers": "16MB"}
            options = [word for key, value in values.items() for word in ("-c", f"{key}={value}")]
            server = subprocess.Popen([programs / "postgres", "-D", data, *options], **told)
            try:
                _await_ready(server, port, folder / "log")
                yield f"postgresql://{USER}:{PASSWORD}@127.0.0.1:{port}/postgres"
            finally:
                server.send_signal(signal.SIGQUIT)  # at once: nothing of it is needed again
                server.wait(_SECONDS)
    finally:
        shutil.rmtree(folder)


def _reachable(programs: Path, folder: Path, who: dict[str, Any]) -> Path:
    """Where the server's user can run the programs: there, or in a copy (in a home, say)."""
    try:
        subprocess.run([programs / "postgres", "--version"], capture_output=True, **who)
    except PermissionError:
        package = programs.parents[1]  # pgserver/pginstall/bin, its libraries beside pgserver
        for source in (package, package.with_name(f"{package.name}.libs")):
            shutil.copytree(source, folder / source.name)
        return folder / programs.relative_to(package.parent)
    return programs


def _await_ready(server: subprocess.Popen[bytes], port: int, log: Path) -> None:
    """Wait until the server takes connections: its log says so after start-up is done."""
    end = time.monotonic() + _SECONDS
    while "ready to accept connections" not in log.read_text():
        if server.poll() is not None or time.monotonic() > end:
            raise RuntimeError(f"PostgreSQL does not start on port {port}:\n{log.read_text()}")
        time.sleep(0.02)
