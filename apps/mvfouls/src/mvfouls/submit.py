"""The verb `submit`: official predictions of a split as the challenge takes them."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

from common.config import Finding, Parsed, check
from common.engine.logging import Console
from mvfouls.config_verbs import SubmitConfig
from mvfouls.inference import (
    cache_of,
    calibration_for,
    check_target,
    header_lines,
    inference_findings,
    official_entries,
    open_trained,
    policies_of,
)
from mvfouls.layout import find_split
from mvfouls.official import ACTION, OFFENCE, SEVERITY
from mvfouls.split import open_split
from mvfouls.submission import refuse_absent, write_submission

_log = logging.getLogger("mvfouls")


def main(parsed: Parsed[SubmitConfig]) -> int:
    """Predict every action of the split, write the file, read it again and check it; return exit code 0."""
    config, console = parsed.config, Console()
    inference = config.inference
    check(findings(parsed), False, _log)
    check_target(config.out, "--out")
    source = find_split(inference.dataset_root, config.split)
    trained = open_trained(config.checkpoint, inference.device)
    card = trained.card
    calibration = calibration_for(card, config.calibration)
    split = open_split(
        source,
        policies_of(inference),
        card.views,
        card.pixels.frames,
        labelled=False,
        allow_no_view=True,
    )
    for label, text in header_lines(trained, split, inference):
        console.line(label, text)
    if not config.allow_missing_clips:
        refuse_absent(split.report.no_view)
    cache = cache_of(inference, inference.dataset_root)
    entries = official_entries(
        trained, split, inference, cache=cache, calibration=calibration, console=console
    )
    ids = [action.id for action in split.actions]
    absent = write_submission(
        config.out, entries, ids, config.split, allow_missing_clips=config.allow_missing_clips
    )
    for line in _lines(entries.values()):
        console.line("counts", line)
    if absent:
        console.line("warning", f"no readable view: commonest labels for action {', '.join(absent)}")
    console.line("written", f"{config.out}   {len(ids)} actions, read again and valid")
    return 0


def findings(parsed: Parsed[SubmitConfig]) -> Iterator[Finding]:
    """Yield every error about the settings themselves; files are not looked at."""
    config = parsed.config
    if config.out.suffix.lower() != ".json":
        yield Finding("error", f"--out {config.out}: a name that ends in .json is expected")
    yield from inference_findings(config.inference)


def _lines(entries: Iterable[Mapping[str, str]]) -> Iterator[str]:
    """Yield how often each class was predicted: a model that says one thing only shows here."""
    held = list(entries)
    actions = Counter(values[ACTION] for values in held)
    cards = Counter(f"{values[OFFENCE]} {values[SEVERITY]}".rstrip() for values in held)
    for counts in (actions, cards):
        yield "   ".join(f"{name} {count}" for name, count in counts.most_common())
