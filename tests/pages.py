"""The code of the documentation, done as a reader would do it: a page from its top to its end."""

import json
import os
import re
import shlex
import subprocess
import time
import tomllib
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import typer

from contrarec.cli import app, main
from servers import Server, served

ROOT = Path(__file__).resolve().parents[1]
COMMANDS = ("", "console")
"""Languages of blocks with command lines: what names none, and what has prompts."""
_BLOCK = re.compile(r"^```([^\n]*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_INCLUDED = re.compile(r'^--8<-- "(.+)"$', re.MULTILINE)
_INLINE = re.compile(r"`contrarec ([a-z][^`]*)`")


@dataclass(frozen=True, kw_only=True)
class Rules:
    """What a test does differently from a reader; of keys that begin a line the first counts."""

    not_run: Mapping[str, str]
    """→ why such a line, or block of Python, is only looked at."""
    added: Mapping[str, str]
    """→ words at the end of such a command, so that it takes a moment."""
    instead: Mapping[str, str]
    """Any text → what stands for it here: the address of a database, say."""


def blocks(page: Path) -> list[tuple[str, str]]:
    """The language and the text of each code block of a page; what it includes is in it."""
    text = page.read_text(encoding="utf-8")
    return [(language, _INCLUDED.sub(_include, code)) for language, code in _BLOCK.findall(text)]


def lines(block: str) -> list[str]:
    """The command lines of a block, without prompts, those of several lines in one."""
    whole = block.replace("\\\n", " ").splitlines()
    return [line.removeprefix("$ ") for line in whole if line.strip()]


def inline(page: Path) -> list[str]:
    """What stands behind `contrarec` in the commands within a page's sentences."""
    return _INLINE.findall(page.read_text(encoding="utf-8"))


def first(table: Mapping[str, str], text: str) -> str | None:
    """The value of the first key that the text begins with."""
    return next((value for key, value in table.items() if text.startswith(key)), None)


@dataclass
class Reader:
    """Does what a page says, in the present folder."""

    rules: Rules
    names: dict[str, object]
    """Of the page's Python; it adds to them."""
    server: Server | None = None
    """The last `contrarec serve` of the page; stopped at its end."""
    _stack: ExitStack = field(default_factory=ExitStack)

    def read(self, page: Path) -> None:
        """Run the blocks in order; raises where one fails."""
        with self._stack:
            for language, text in blocks(page):
                if language == "text":  # a listing
                    continue
                if language == "python":
                    self._python(page.name, text)
                    continue
                assert language in COMMANDS, f"what is a block of {language!r}?\n{text}"
                for line in lines(text):
                    self._line(line)

    def _python(self, name: str, text: str) -> None:
        for old, new in self.rules.instead.items():
            text = text.replace(old, new)
        if first(self.rules.not_run, text):
            compile(f"{{{text}}}", name, "eval")  # a row of a table
            return
        exec(compile(text, name, "exec"), self.names)

    def _line(self, line: str) -> None:
        for old, new in self.rules.instead.items():
            line = line.replace(old, new)
        if first(self.rules.not_run, line):
            look_at(line)
            return
        added = first(self.rules.added, line)
        program, *words = shlex.split(line, comments=True)
        if program == "contrarec" and words[0] == "serve":
            look_at(line)
            self.server = self._stack.enter_context(served(Path(words[1]), *words[2:]))
        elif program == "contrarec":
            assert main([*words, *shlex.split(added or "")]) == 0, line
        elif program == "curl":
            self._ask(words)
        else:
            assert program in ("ln", "kill"), f"{program} is neither run nor in the table: {line}"
            pid = str(self.server.process.pid) if self.server else ""
            subprocess.run(["bash", "-euc", line], check=True, env=os.environ | {"PID": pid})
            if program == "kill":
                self._await_swap()

    def _ask(self, words: list[str]) -> None:
        """Ask the page's server what curl would ask, for there may be no curl."""
        assert self.server, "nothing is served yet"
        headers, body, url = {}, None, ""
        rest = iter(words)
        for word in rest:
            if word == "-H":
                name, _, value = next(rest).partition(": ")
                headers[name] = value
            elif word == "-d":
                body = next(rest).encode()
            elif word != "-s":
                url = word.replace("localhost:8000", self.server.url)
        with urlopen(Request(url, body, headers), timeout=60) as answer:
            results = json.load(answer)["results"]
        assert all(found["items"] for found in results)
        assert results

    def _await_swap(self) -> None:
        """Wait until the run that the served link points to is the one that answers."""
        assert self.server
        want, end = Path(self.server.said["run"]).resolve().name, time.monotonic() + 60
        while self._ready() != want:
            assert time.monotonic() < end, f"{want} is not served"
            time.sleep(0.02)

    def _ready(self) -> str:
        assert self.server
        with urlopen(f"{self.server.url}/ready", timeout=60) as answer:
            return str(json.load(answer)["run"])


def look_at(line: str) -> None:
    """See that what a line names exists: commands and their options, files, extras, targets."""
    program, *words = shlex.split(line, comments=True)
    if "=" in program:  # a variable for the command behind it
        program, *words = words
    if program == "contrarec":
        command, rest = find_command(words)
        command.make_context("contrarec", rest)  # reads the options, and runs nothing
    elif program == "pip":
        project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        for extra in re.findall(r"\[([\w,]+)\]", " ".join(words)):
            assert set(extra.split(",")) <= set(project["optional-dependencies"]), line
    elif program == "make":
        targets = (ROOT / "Makefile").read_text(encoding="utf-8")
        assert re.search(rf"^{words[0]}:", targets, re.MULTILINE), line
    elif program == "ray":
        assert words[0] in ("up", "attach", "down", "start", "stop"), line
        assert all((ROOT / word).is_file() for word in words if word.endswith(".yaml")), line
    elif words[0] == "-m":
        assert find_spec(words[1]), line
    else:
        assert program in ("python", "bash", ".", "export"), line
        text = "" if program in (".", "export") else (ROOT / words[0]).read_text(encoding="utf-8")
        assert all(f'"{word}"' in text for word in words if word.startswith("--")), line


def find_command(words: list[str]) -> tuple[Any, list[str]]:
    """The command that is meant, and the words behind its name."""
    command: Any = typer.main.get_command(app)
    rest = list(words)
    while hasattr(command, "get_command") and rest:
        name = rest.pop(0)
        command = command.get_command(None, name)
        assert command, f"contrarec {' '.join(words)}: there is no {name}"
    return command, rest


def options(command: Any) -> set[str]:
    """The options that a command has."""
    return {name for parameter in command.params for name in parameter.opts} | {"--help"}


def _include(found: re.Match[str]) -> str:
    return (ROOT / found[1]).read_text(encoding="utf-8")
