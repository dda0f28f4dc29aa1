import json
import re
import shutil
import sys
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

import pytest

from common.reporting import write_report
from common.reporting.__main__ import main
from common.reporting.html import VOID_ELEMENTS

SVG_LEAVES = {"path", "use", "rect", "g"}
SECTIONS = {
    "summary": "summary",
    "per_class": "classes",
    "confusion": "confusion",
    "samples": "samples",
    "alarm": "alarms",
}


class Document(HTMLParser):
    """Checks that elements nest and collects what tests ask about."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.stack: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.tags: Counter[str] = Counter()
        self.text: list[str] = []
        self.feed(text)
        self.close()
        assert self.stack == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.note(tag, attrs)
        if tag not in VOID_ELEMENTS:
            self.stack.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in SVG_LEAVES, tag
        self.note(tag, attrs)

    def handle_endtag(self, tag: str) -> None:
        assert self.stack.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.stack and self.stack[-1] != "style":
            self.text.append(data)

    def note(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attrs]
        assert len(names) == len(set(names))
        self.tags[tag] += 1
        values = {name: value or "" for name, value in attrs}
        self.ids += [values["id"]] if "id" in values else []
        self.links += [values[name] for name in ("src", "href", "xlink:href") if name in values]


@pytest.fixture(scope="module")
def report(fake_run: Path) -> str:
    return write_report(fake_run).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def document(report: str) -> Document:
    return Document(report)


@pytest.fixture
def own_run(fake_run: Path, tmp_path: Path) -> Path:
    """A copy to change, with few numbers: its report has two curves."""
    folder = Path(shutil.copytree(fake_run, tmp_path / "own"))
    records = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    kept = {"kind", "step", "epoch", "seconds", "valid/miou", "valid/loss"}
    lines = [json.dumps({k: r[k] for k in kept}) for r in records if r["kind"] == "validation"]
    (folder / "metrics.jsonl").write_text("".join(line + "\n" for line in lines))
    return folder


def without_events(folder: Path, *kinds: str) -> None:
    path = folder / "events.jsonl"
    lines = [line for line in path.read_text().splitlines() if json.loads(line)["kind"] not in kinds]
    path.write_text("".join(line + "\n" for line in lines))


def render(folder: Path) -> Document:
    return Document(write_report(folder).read_text(encoding="utf-8"))


def test_ids_are_unique_and_links_stay_inside(document: Document) -> None:
    assert max(Counter(document.ids).values()) == 1
    assert len(document.links) > 20
    for link in document.links:
        assert link.startswith("data:image/png;base64,") or link.removeprefix("#") in document.ids


def test_nothing_is_requested_and_nothing_runs(report: str, document: Document) -> None:
    assert document.tags["script"] == document.tags["link"] == document.tags["iframe"] == 0
    assert re.search(r"https?:|//[a-z]+\.|@import|url\((?!#)", report) is None


def test_head_line_says_what_the_number_means(document: Document) -> None:
    text = " ".join(document.text)
    assert "toy_segmentation_0142" in text
    assert "14 March 2025, 09:26 UTC" in text
    assert "Epoch 10, step 1,200: the highest of 12 validations. The last one was " in text
    assert "Mean over classes of intersection over union" in text


def test_numbers_come_from_the_files(document: Document) -> None:
    text = " ".join(document.text)
    for expected in (
        "0.571 to 0.674",
        "204.9 : 1",
        "28.4 %",
        "74.6 %",
        "52,110 ignored",
        "610k",
        "3 epochs, 3 to 5",
    ):
        assert expected in text
    assert "25.4 % of its 3,545" in text
    assert "--model 'compact net'" in text
    assert "optimizer.lr" in text


def test_shares_of_the_confusion_matrix_are_by_row(report: str) -> None:
    assert '--share:0.924" title="background predicted as background: 610,022 of 660,004"' in report
    assert '--share:0.254" title="person predicted as grass &amp; gravel: 902 of 3,545"' in report


def test_unknown_values_are_said_and_absent_images_are_named(document: Document) -> None:
    assert document.text.count("n/a") == 2
    assert "Image not found: samples/lost.png" in document.text
    assert document.tags["img"] == 4


@pytest.mark.parametrize(("kind", "anchor"), SECTIONS.items())
def test_a_section_is_there_if_and_only_if_its_events_are(
    own_run: Path, document: Document, kind: str, anchor: str
) -> None:
    assert anchor in document.ids
    without_events(own_run, kind)
    reduced = render(own_run)
    assert anchor not in reduced.ids
    assert f"#{anchor}" not in reduced.links
    assert {*document.ids} & {*SECTIONS.values(), "curves", "balance"} == {
        anchor, *reduced.ids
    } & {*SECTIONS.values(), "curves", "balance"}  # fmt: skip


def test_balance_without_a_budget_shows_the_distribution(own_run: Path) -> None:
    without_events(own_run, "balance")
    titles = render(own_run).text
    assert "Class distribution" in titles
    assert "Effective prior" not in titles
    without_events(own_run, "statistics")
    assert "balance" not in render(own_run).ids


def test_each_task_has_a_budget_under_its_name(own_run: Path) -> None:
    lines = [json.loads(line) for line in (own_run / "events.jsonl").read_text().splitlines()]
    held = {line["kind"]: line for line in lines if line["kind"] in ("statistics", "balance")}
    without_events(own_run, *held)
    with (own_run / "events.jsonl").open("a") as file:
        for task, title in (("near", "Near things"), ("far", "Far things")):
            for event in held.values():
                file.write(json.dumps({**event, "task": task, "title": title}) + "\n")
    text = " ".join(render(own_run).text)
    parts = text.split("Imbalance ratio")
    assert len(parts) == 3
    assert "Near things" in parts[0]
    assert "Far things" in parts[1]
    assert text.count("As printed at the start") == 1


def test_metrics_alone_make_a_report_of_curves(own_run: Path) -> None:
    for name in ("events.jsonl", "config.yaml", "environment.json"):
        (own_run / name).unlink()
    assert [name for name in render(own_run).ids if not name.startswith("f")] == ["curves"]


def test_events_alone_make_a_report_without_curves(own_run: Path) -> None:
    (own_run / "metrics.jsonl").unlink()
    ids = render(own_run).ids
    assert "curves" not in ids
    assert "confusion" in ids


def test_an_empty_run_is_a_page_without_sections(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text("")
    document = render(tmp_path)
    assert document.ids == []
    assert document.tags["section"] == document.tags["nav"] == 0


def test_every_text_of_a_user_is_escaped(own_run: Path) -> None:
    attack = '"><script>alert(1)</script><img src=x onerror=y>'
    events = (own_run / "events.jsonl").read_text()
    names = (
        "person",
        "miou",
        "class_zero",
        "expected cost",
        "recall",
        "Worst",
        "photo 0",
        "micro-batch",
        "focal",
    )
    for name in names:
        events = events.replace(name, json.dumps(attack)[1:-1])
    (own_run / "events.jsonl").write_text(events)
    metrics = (
        (own_run / "metrics.jsonl").read_text().replace("valid/miou", f"valid/{json.dumps(attack)[1:-1]}")
    )
    (own_run / "metrics.jsonl").write_text(metrics)
    (own_run / "config.yaml").write_text(json.dumps({attack: attack}))
    (own_run / "environment.json").write_text(json.dumps({"command": attack, "device": attack}))
    evil = own_run.rename(own_run.with_name('<b onclick="x">'))
    document = render(evil)
    assert document.tags["script"] == document.tags["b onclick"] == 0
    assert document.tags["img"] == 4
    assert sum(text.count("<script>alert(1)</script>") for text in document.text) >= len(names)


def test_an_image_outside_the_run_is_not_embedded(own_run: Path) -> None:
    shutil.copy(own_run / "samples" / "0.png", own_run.parent / "secret.png")
    events = own_run / "events.jsonl"
    events.write_text(events.read_text().replace("samples/0.png", "../secret.png"))
    document = render(own_run)
    assert "Image not found: ../secret.png" in document.text
    assert document.tags["img"] == 3


def test_only_images_are_embedded(own_run: Path) -> None:
    events = own_run / "events.jsonl"
    events.write_text(events.read_text().replace("samples/0.png", "config.yaml"))
    with pytest.raises(ValueError, match=r"config\.yaml: sample images are \.png"):
        write_report(own_run)


def test_many_classes_list_confusions_instead_of_a_matrix(own_run: Path) -> None:
    count = 41
    matrix = [[5 if i == j else int(j == i + 1) for j in range(count)] for i in range(count)]
    event = {"kind": "confusion", "step": 1, "epoch": 1, "seconds": 1.0, "split": "valid"}
    line = json.dumps(event | {"names": [f"c{i}" for i in range(count)], "matrix": matrix})
    (own_run / "events.jsonl").write_text(line + "\n")
    document = render(own_run)
    assert document.tags["table"] == 0
    assert "16.7 %" in " ".join(document.text)


def test_a_matrix_that_does_not_fit_its_names_is_refused(own_run: Path) -> None:
    events = own_run / "events.jsonl"
    events.write_text(events.read_text().replace("610022, ", ""))
    with pytest.raises(ValueError, match="4 names and a matrix of another shape"):
        write_report(own_run)


def test_writing_again_gives_the_same_bytes(fake_run: Path, report: str) -> None:
    assert write_report(fake_run).read_text(encoding="utf-8") == report
    assert sorted(path.name for path in fake_run.glob("report*")) == ["report.html"]


def test_command_line(
    own_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main([str(own_run)]) == 0
    assert capsys.readouterr().out == f"{own_run / 'report.html'}\n"
    assert main([str(tmp_path / "absent")]) == 2
    assert capsys.readouterr().err == f"error: {tmp_path / 'absent'}: no such run folder\n"
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert main([str(own_run)]) == 1
    assert "imbalance-common[report]" in capsys.readouterr().err
