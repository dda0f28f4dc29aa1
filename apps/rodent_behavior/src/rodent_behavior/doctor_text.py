"""The doctor's report as lines of text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from rodent_behavior.doctor_checks import EdgeCheck, KeypointStatistics, PointStatistics

if TYPE_CHECKING:
    from rodent_behavior.doctor import DoctorReport

LONGEST_NAME = 40


def report_lines(report: DoctorReport) -> list[str]:
    """Return the tables of a report, then its findings, then the verdict."""
    return [
        *_recordings(report),
        *_trials(report),
        *_skips(report),
        *_counts("class frames by video", report.counts_by_video, report.classes),
        *_counts("class frames by side", report.counts_by_side, report.classes),
        *_split(report),
        *_keypoints(report.keypoints, report.max_gap),
        *_edges(report.edges),
        *_findings(report),
    ]


def _recordings(report: DoctorReport) -> Iterator[str]:
    if not report.recordings:
        return
    yield f"recordings: {len(report.recordings)}, of them {report.unlabelled} without labels"
    yield f"  {'recording':{LONGEST_NAME}} {'video':>5} {'frames':>7} {'poses':>7} {'fps':>8} {'size':>11}"
    for row in report.recordings:
        size = f"{row.width} x {row.height}"
        yield (
            f"  {_short(row.video):{LONGEST_NAME}} {'yes' if row.has_video else 'no':>5} {row.frames:7d} "
            f"{row.rows:7d} {row.fps:8.4f} {size:>11}"
        )


def _trials(report: DoctorReport) -> Iterator[str]:
    yield f"trials: {len(report.trials)}"
    if not report.trials:
        return
    yield (
        f"  {'label file':{LONGEST_NAME}} {'trial':>5} {'rows':>5} {'frames':>15} {'unknown':>7} {'stim':>5} "
        f"{'side':>5} group"
    )
    for row in report.trials:
        frames = f"[{row.start},{row.stop})"
        yield (
            f"  {_short(row.file):{LONGEST_NAME}} {row.trial:5d} {row.rows:5d} {frames:>15} {row.unknown:7d} "
            f"{row.stim_frame:5d} {row.side or '-':>5} {_short(row.group)}"
        )


def _skips(report: DoctorReport) -> Iterator[str]:
    if report.skips:
        yield f"skipped: {len(report.skips)}"
    for file, kind, _ in report.skips:
        yield f"  {_short(file):{LONGEST_NAME}} {kind}"


def _counts(title: str, counts: Mapping[str, Sequence[int]], classes: Sequence[str]) -> Iterator[str]:
    if not counts:
        return
    width = max(8, *(len(name) for name in classes))
    yield title
    yield f"  {'':{LONGEST_NAME}} " + " ".join(f"{name:>{width}}" for name in classes)
    for name, row in counts.items():
        yield f"  {_short(name):{LONGEST_NAME}} " + " ".join(f"{count:{width}d}" for count in row)


def _split(report: DoctorReport) -> Iterator[str]:
    for side, groups in (report.split or {}).items():
        if groups:
            yield f"{side}: {', '.join(groups)}"


def _keypoints(found: KeypointStatistics | None, max_gap: int) -> Iterator[str]:
    if found is None:
        return
    short = f"<= {max_gap}"
    yield f"keypoints: all visible in {found.all_visible} of {found.frames} frames"
    yield (
        f"  {'point':18} {'likelihood':>10} {'visible':>8} {'gaps':>6} {'median':>7} {short:>6} "
        f"{'hidden':>7} {'in ' + short:>9}"
    )
    for point in (*found.points, found.total):
        yield _point(point)


def _point(point: PointStatistics) -> str:
    return (
        f"  {point.name:18} {point.mean_likelihood:10.4f} {point.visible_share:8.4f} {point.gaps:6d} "
        f"{point.median_gap:7.1f} {point.fillable_gaps:6d} {point.hidden_frames:7d} "
        f"{point.fillable_frames:9d}"
    )


def _edges(checks: Sequence[EdgeCheck]) -> Iterator[str]:
    for check in checks:
        steps = ", ".join(
            f"{edge.frame}: {'hidden' if edge.step is None else f'{edge.step:.3f} px'}"
            for edge in check.edges
        )
        yield (
            f"slot edges of {_short(check.video_id)} at {check.point}: {steps}; "
            f"largest other {check.largest_other:.3f} px, median {check.median:.4f} px"
        )


def _findings(report: DoctorReport) -> Iterator[str]:
    for finding in report.findings:
        yield f"{finding.level:8} {finding.text}"
    errors, warnings = report.count("error"), report.count("warning")
    yield f"{errors} errors, {warnings} warnings" if errors or warnings else "clean"


def _short(name: str) -> str:
    """Return a name that fits its column: its end tells files apart."""
    return name if len(name) <= LONGEST_NAME else "..." + name[-(LONGEST_NAME - 3) :]
