"""What all commands share: notes, JSON, tables."""

import json
import sys
import warnings

import numpy as np
import pytest

from contrarec.cli.console import output, table


def test_json_has_no_nan_and_no_numpy(capsys: pytest.CaptureFixture[str]) -> None:
    with output(as_json=True) as out:
        values = {"nan": float("nan"), "inf": np.float32("inf"), "n": np.int64(3), "t": (1, "é")}
        out.finish({"values": values}, lambda: "text")
    expected = {"values": {"nan": None, "inf": None, "n": 3, "t": [1, "é"]}, "notes": []}
    assert json.loads(capsys.readouterr().out) == expected


def test_warnings_of_the_library_become_notes_of_one_line(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def warn(message: str, module: str) -> None:
        warnings.warn_explicit(message, UserWarning, "file.py", 1, module=module)

    with output(as_json=True) as out:
        warn("two\n  lines", "contrarec.recommender")
        warn("two\n  lines", "contrarec.recommender")  # said again, heard again
        warn("Sparse CSR tensor support is in beta state.", "contrarec.kernels.propagate")
        out.finish({}, lambda: "text")
    shown = capsys.readouterr()
    assert json.loads(shown.out) == {"notes": ["two lines", "two lines"]}
    assert shown.err == "contrarec: note: two lines\n" * 2
    with pytest.raises(UserWarning, match="again"):  # as it was before
        warn("again", "contrarec.recommender")


def test_text_goes_to_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    with output(as_json=False) as out:
        print("printed")
        out.say("said")
        out.finish({"a": 1}, lambda: "text")
    assert capsys.readouterr() == ("printed\ntext\n", "contrarec: said\n")
    assert sys.stdout is not sys.stderr


def test_table_of_numbers_and_gaps() -> None:
    rows = [["metric", "x"], ["recall@5", 0.5], ["hit", None]]
    assert table(rows) == "metric         x\nrecall@5  0.5000\nhit"
