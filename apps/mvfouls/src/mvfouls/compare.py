"""The verb `compare`: runs judged on the same validation actions, with paired intervals of what differs."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from common.config import Finding, Parsed, Range, UserError, check, out_of_range, writing
from common.engine.logging import Console
from common.metrics.group_bootstrap import FEWEST_GROUPS
from mvfouls.annotations import Annotations
from mvfouls.compare_numbers import KEYS, Comparison, Difference, Group, Value
from mvfouls.compare_page import write_page
from mvfouls.compare_runs import Candidate, judge_candidate, read_candidates, short_names
from mvfouls.compare_settings import differences, same_but_seed
from mvfouls.compare_text import content_lines
from mvfouls.config_verbs import CompareConfig
from mvfouls.console import red_text
from mvfouls.judging import LEVEL, RED, RESAMPLES
from mvfouls.official import OfficialScores
from mvfouls.outputs import write_result
from mvfouls.submission import shown

PAGE = "comparison.html"
SEED = 0
_log = logging.getLogger("mvfouls")


def main(parsed: Parsed[CompareConfig]) -> int:
    """Read, judge, compare, print and write; return exit code 0."""
    config, console = parsed.config, Console()
    check(findings(parsed), False, _log)
    candidates, truth = read_candidates(config.runs, config.annotations, config.unknown_labels)
    baseline = 0 if config.baseline is None else _place(config.baseline, config.runs)
    content = compare(candidates, truth, baseline, resamples=config.bootstrap)
    for line in content_lines(content):
        console.raw(line)
    page = config.out / PAGE
    with writing(f"--out {config.out}"):
        write_page(page, content)
    console.line("page", str(page))
    if config.json is not None:
        write_result(config.json, content)
        console.line("json", str(config.json))
    return 0


def findings(parsed: Parsed[CompareConfig]) -> Iterator[Finding]:
    """Yield every error about the settings themselves; no run is read."""
    config = parsed.config
    yield from out_of_range(config, {Range(1): ("bootstrap",)})
    if len(config.runs) < 2:
        yield Finding("error", "RUNS: two runs or more are compared")
    places = [path.resolve() for path in config.runs]
    for place, path in enumerate(config.runs):
        if path.resolve() in places[:place]:
            yield Finding("error", f"RUNS: {path} is given twice")
    if config.baseline is not None and config.baseline.resolve() not in places:
        yield Finding("error", f"--baseline {config.baseline}: is none of the runs to compare")


def compare(
    candidates: Sequence[Candidate], truth: Annotations, baseline: int, *, resamples: int = RESAMPLES
) -> dict[str, Any]:
    """Return every number as plain types, shares, NaN where nothing can be said.

    Values of each run; of every other run the differences to the baseline; of runs that differ in their seed
    alone the mean and standard deviation, and the differences between such groups; and the settings that
    differ. UserError with fewer than five actions that count.
    """
    scores = [judge_candidate(each, truth) for each in candidates]
    first = scores[0]
    if len(first.ids) < FEWEST_GROUPS:
        raise UserError(
            f"{truth.path}: {len(first.ids)} actions have official labels, {FEWEST_GROUPS} are needed"
        )
    names = short_names([each.path for each in candidates])
    found = Comparison(scores, baseline, resamples=resamples, seed=SEED)
    members = same_but_seed([each.settings for each in candidates])
    flags, omitted = differences([each.settings for each in candidates])
    return {
        "annotations": {"path": str(truth.path), "sha256": candidates[0].annotations_sha256},
        "actions": len(truth.actions),
        "counted": len(first.ids),
        "baseline": names[baseline],
        "bootstrap": {"resamples": resamples, "seed": SEED, "level": LEVEL},
        "n": found.counts(),
        "runs": [
            _run(name, each, found.values(place))
            for place, (name, each) in enumerate(zip(names, candidates, strict=True))
        ],
        "differences": {names[run]: _differences(each) for run, each in found.differences().items()},
        "groups": [
            _group(each, names, candidates)
            for each in (found.groups(members) if len(members) < len(names) else ())
        ],
        "settings": {"differ": {row.flag: list(row.values) for row in flags}, "left_out": omitted},
        "notes": list(_notes(candidates, truth, first, members, names)),
    }


def _run(name: str, candidate: Candidate, values: Mapping[str, Value]) -> dict[str, Any]:
    settings = candidate.settings
    return {
        "name": name,
        "path": str(candidate.path),
        "frontend": None if settings is None else settings.frontend,
        "seed": None if settings is None else settings.seed,
        "values": {key: values[key]._asdict() for key in KEYS},
    }


def _differences(found: Mapping[str, Difference]) -> dict[str, dict[str, Any]]:
    return {
        key: {name: part for name, part in each._asdict().items() if part is not None}
        for key, each in found.items()
    }


def _group(group: Group, names: Sequence[str], candidates: Sequence[Candidate]) -> dict[str, Any]:
    runs = [candidates[place].settings for place in group.members]
    columns = zip(KEYS, group.mean, group.sd, group.low, group.high, strict=True)
    return {
        "name": names[group.members[0]],
        "runs": [names[place] for place in group.members],
        "seeds": [settings.seed for settings in runs if settings is not None],
        "values": {
            key: dict(zip(("mean", "sd", "low", "high"), map(float, numbers), strict=True))
            for key, *numbers in columns
        },
        "differences": None if group.differences is None else _differences(group.differences),
    }


def _notes(
    candidates: Sequence[Candidate],
    truth: Annotations,
    scores: OfficialScores,
    members: Sequence[Sequence[int]],
    names: Sequence[str],
) -> Iterator[str]:
    """Yield what limits the comparison."""
    yield from truth.warnings
    if scores.unpredicted:
        number = len(scores.unpredicted)
        yield f"{number} actions without a prediction, counted as wrong: {shown(scores.unpredicted)}"
    if scores.unasked:
        yield f"{len(scores.unasked)} predictions for actions that are not annotated: {shown(scores.unasked)}"
    for places in members:
        held = (candidates[place].settings for place in places)
        seeds = [settings.seed for settings in held if settings is not None]
        if len(set(seeds)) < len(seeds):
            runs = ", ".join(names[place] for place in places)
            yield f"{runs}: a seed occurs twice, so the standard deviation over seeds is too small"
    red = red_text(int(scores.os.count[RED]))
    if red is not None:
        yield red


def _place(baseline: Path, runs: Sequence[Path]) -> int:
    return [path.resolve() for path in runs].index(baseline.resolve())
