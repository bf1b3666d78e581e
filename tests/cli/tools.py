"""Ways to call the command line, and settings under which a run takes a second."""

import subprocess
import sys
from typing import NamedTuple

FAST = ("dim=8", "n_neg=8", "batch_size=64", "epochs=10", "patience=50", "ks=5,10",
        "monitor=recall@10", "tau=0.2", "adv_interval=2", "adv_lr=0.05")  # fmt: skip


class Answer(NamedTuple):
    """What a command said."""

    status: int
    out: str
    err: str


def settings(*more: str) -> list[str]:
    """Options that set `FAST` and more, on one thread, which never waits for another."""
    return ["--threads", "1", *(word for text in (*FAST, *more) for word in ("--set", text))]


def command(*arguments: object) -> list[str]:
    """The command line that runs a command in a process of its own."""
    code = "import sys; from contrarec.cli import main; sys.exit(main())"
    return [sys.executable, "-c", code, *map(str, arguments)]


def run_process(*arguments: object) -> Answer:
    """Run a command in a process of its own."""
    done = subprocess.run(command(*arguments), capture_output=True, text=True, timeout=120)
    return Answer(done.returncode, done.stdout, done.stderr)
