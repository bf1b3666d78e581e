"""The page of losses has every method, and no other."""

import re
from pathlib import Path

from contrarec.methods import method_table

PAGE = Path(__file__).resolve().parents[2] / "docs" / "losses.md"


def test_every_method_is_on_the_page_and_no_other() -> None:
    text = PAGE.read_text(encoding="utf-8")
    headings = " ".join(re.findall(r"^### (.+)$", text, flags=re.M))
    there = set(re.findall(r"`([a-z-]+)`", headings))
    controls = {"infonce-kneg", "infonce-random", "infonce-popularity"}
    assert there == set(method_table()) - controls
    assert all(f"`{name.removeprefix('infonce')}`" in text or name in text for name in controls)
