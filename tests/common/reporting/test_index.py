import json
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest

from common.reporting import IndexEntry, write_index
from common.reporting.__main__ import main


class Links(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.text: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [value or "" for name, value in attrs if name in ("href", "src")]

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def report_in(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "report.html").write_text("x")
    return folder / "report.html"


def test_links_are_relative_and_lead_to_the_reports(tmp_path: Path) -> None:
    reports = [report_in(tmp_path / "runs" / name) for name in ("a b#1", "c%20")]
    entries = [
        IndexEntry(f"<app {i}>", [("miou", 0.5), ("loss", None)], path) for i, path in enumerate(reports)
    ]
    page = write_index(tmp_path / "demo" / "index.html", entries, "Demo & more")
    links = Links(page.read_text())
    assert [(page.parent / unquote(link)).resolve() for link in links.found] == reports
    assert all(link.startswith("../runs/") for link in links.found)
    assert "#" not in links.found[0]
    for expected in ("Demo & more", "<app 0>", "miou", "0.500", "n/a", "2 reports. Each opens on one page."):
        assert expected in links.text


def test_an_entry_without_numbers_is_a_link(tmp_path: Path) -> None:
    page = write_index(tmp_path / "index.html", [IndexEntry("a", [], report_in(tmp_path / "a"))], "one")
    assert Links(page.read_text()).found == ["a/report.html"]


def test_a_missing_report_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="the report of 'gone' does not exist"):
        write_index(tmp_path / "index.html", [IndexEntry("gone", [], tmp_path / "no.html")], "t")


def test_an_index_of_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least one report"):
        write_index(tmp_path / "index.html", [], "t")


def test_a_finished_page_is_linked_with_its_summary(tmp_path: Path) -> None:
    page = report_in(tmp_path / "study")
    (tmp_path / "study" / "summary.json").write_text('{"bits": -8.25, "gaze": "simulated"}')
    index = tmp_path / "index.html"
    assert main([str(page), "--index", str(index), "--titles", "gaze"]) == 0
    links = Links(index.read_text())
    assert links.found == ["study/report.html"]
    assert page.read_text() == "x"
    for expected in ("gaze", "bits", "-8.250", "simulated"):
        assert expected in links.text


def test_values_that_are_not_known_are_left_out(tmp_path: Path) -> None:
    values = {"score": 0.25, "lost": None, "second": 0.5, "third": 0.75, "fourth": 1.5, "fifth": 2.5}
    rows = [{"name": name, "value": value} for name, value in values.items()]
    event = {"kind": "summary", "step": 1, "epoch": 1, "seconds": 0.0, "split": "valid", "rows": rows}
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "events.jsonl").write_text(json.dumps(event) + "\n")
    assert main([str(tmp_path / "run"), "--index", str(tmp_path / "index.html")]) == 0
    text = Links((tmp_path / "index.html").read_text()).text
    assert [name for name in values if name in text] == ["score", "second", "third", "fourth"]
    assert "n/a" not in text
