"""From a CSV of text ids to recommendations in a browser, by the README's own commands."""

import csv
import json
import shlex
from pathlib import Path

import numpy as np
import pytest

from browser import BrowserPage
from contrarec.cli import main
from pages import ROOT, blocks, lines
from servers import served

ITEMS = [f"i{number}" for number in range(38)] + ["Socken, rot/grün", "007", "ｉ１", "<b>i</b>"]


@pytest.fixture
def bought(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, set[str]]:
    """What 91 users have, as it stands in `log.csv`; that is all there is in the folder."""
    rng = np.random.default_rng(0)
    found = {
        f"u{user}": {ITEMS[item] for item in rng.choice(np.arange(user % 2, 42, 2), 9, False)}
        for user in range(90)
    } | {"kim@shop.example": {"i1", "i3", "007"}}
    monkeypatch.chdir(tmp_path)
    with Path("log.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["user_id", "item_id"])
        writer.writerows((user, item) for user, items in found.items() for item in sorted(items))
    return found


def test_the_readmes_commands_end_in_a_browser(
    browser_page: BrowserPage, bought: dict[str, set[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    (block,) = [text for _, text in blocks(ROOT / "README.md") if "runs/mine" in text]
    words = [shlex.split(line, comments=True) for line in lines(block)]
    train, update, recommend, serve = (line[1:] for line in words if line[0] == "contrarec")
    assert main([*train, "--set", "epochs=3", "--set", "eval_every=1"]) == 0
    assert main(update) == 0
    capsys.readouterr()
    assert main([*recommend, "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["recommendations"]
    page = browser_page.page
    assert serve[0] == "serve"
    with served(Path(serve[1]), *serve[2:]) as server:
        page.goto(server.url)
        page.fill("#user", "u17")
        page.wait_for_selector("#users li")
        page.keyboard.press("Enter")
        page.wait_for_selector("#recommended li")
        shown = page.locator("#recommended .id").all_text_contents()
        assert shown[:5] == [row["item_id"] for row in rows if row["user_id"] == "u17"]
        if page.is_visible("#more"):
            page.click("#more")
        history = set(page.locator("#history .id").all_text_contents())
        page.fill("#user", "kim")  # the start of one id alone: nobody types the rest
        page.wait_for_selector("#users li:only-child:has-text('kim@shop.example')")
        page.keyboard.press("Enter")
        page.wait_for_selector("#history .id:has-text('007')")
        page.wait_for_url(f"{server.url}/#user=kim%40shop.example")
    assert history == bought["u17"]
    assert not history & set(shown)
    assert browser_page.errors == []
