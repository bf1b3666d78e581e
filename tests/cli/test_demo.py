"""`contrarec demo`: the main job on a generated world."""

import json
import subprocess
import sys
from pathlib import Path


def test_the_demo_end_to_end(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "import sys; from contrarec.cli import main; sys.exit(main())"]
    command += ["demo", "--out", str(tmp_path / "demo"), "--threads", "1", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    names = {f"{b}-{m}" for b in ("mf", "lightgcn") for m in ("infonce", "advinfonce")}
    assert set(result["metrics"]) == names
    for tests in result["metrics"].values():
        assert set(tests) == {"id", "shifted", "uniform"}
        # 60 of 600 items are liked: twenty at random find 3 % of them
        assert all(metrics["recall@20"] > 0.1 for metrics in tests.values())
    assert len({row["user_id"] for row in result["recommendations"]}) == 3
    assert sum(row["liked"] for row in result["recommendations"]) >= 6
    assert all(Path(folder).is_dir() for folder in result["runs"].values())
