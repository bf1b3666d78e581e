"""Make the environments of the libraries that contrarec is compared with.

Each library group of `peers.toml` gets a virtual environment of its own: what they need excludes
each other, and contrarec needs none of it.

    python benchmarks/peers/install.py
    python benchmarks/peers/install.py --into /somewhere/else --only lightfm
"""

import argparse
import os
import subprocess
import sys
import tomllib
import venv
from pathlib import Path

HERE = Path(__file__).resolve().parent
DEFAULT = HERE.parents[1] / ".peers"


def main() -> None:
    """Install what is missing, and say what could not be installed."""
    about = tomllib.loads((HERE / "peers.toml").read_text(encoding="utf-8"))["environment"]
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--into", type=Path, default=DEFAULT, help="folder, default .peers/")
    parser.add_argument("--only", choices=sorted(about), help="this one, even if it is there")
    options = parser.parse_args()
    failed = []
    for name in [options.only] if options.only else about:
        target = options.into / name
        if (target / "complete").exists() and not options.only:
            print(f"{name}: there")
            continue
        log = install(target, about[name]["install"])
        if log:
            failed.append(name)
            print(f"{name}: failed\n{log}", file=sys.stderr)
        else:
            (target / "complete").touch()
            print(f"{name}: installed")
    if failed:
        raise SystemExit(f"not installed: {', '.join(failed)}")


def install(target: Path, groups: list[list[str]]) -> str:
    """Make one environment; return the end of pip's output if it failed, else nothing."""
    scratch = target.parent.resolve() / "tmp"
    scratch.mkdir(parents=True, exist_ok=True)
    # builds unpack gigabytes: on the disk of the environments, not in a /tmp that may be memory
    surroundings = os.environ | {"TMPDIR": str(scratch)}
    venv.create(target, clear=True, with_pip=True)
    for packages in groups:
        command = [str(target / "bin" / "python"), "-m", "pip", "install", *packages]
        done = subprocess.run(command, env=surroundings, capture_output=True, text=True)
        if done.returncode:
            lines = (done.stdout + done.stderr).splitlines()
            return "\n".join([" ".join(command), *lines[-20:]])
    return ""


if __name__ == "__main__":
    main()
