"""What the analyzer says on the console."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from uav_landing.analysis import Analysis, ClassTable, Estimate, Unmapped
from uav_landing.data.photos import PhotoSet
from uav_landing.labels import LANDING_NAMES
from uav_landing.weights import GUIDE_WEIGHTS

SEVERE, HIGH = 100, 10
VERY_RARE, RARE = 0.01, 0.05
SATURATED, NOTICEABLE = 1.05, 2.0
MOST_VALUES = 10
MOST_FILES = 5


def header_lines(photos: PhotoSet, split: str, how: str, ids: Sequence[str]) -> Iterator[str]:
    """Yield the data set, the split and the files counted of the files present."""
    table = photos.table
    yield f"data     {photos.format}   {photos.root}   table {table.name}, {len(table.ids)} classes"
    yield f"split    {split}{how}   {len(ids)} of {len(photos.ids)} files counted"
    if split == "all":
        yield "         weights for training must come from the train split: --split train"


def analysis_lines(analysis: Analysis, void: str) -> Iterator[str]:
    """Yield the report line by line; weights and advice are for `--void` train or ignore."""
    sections = (
        _original(analysis),
        _mapped(analysis),
        _ratios(analysis),
        _weights(analysis, void),
        _void_check(analysis),
        _unmapped(analysis),
        _summary(analysis),
        _advice(analysis, void),
    )
    for section in sections:
        yield ""
        yield from section


def _original(analysis: Analysis) -> Iterator[str]:
    table = analysis.photos.table
    ranked = analysis.by_frequency()
    width = max(len(name) for name in table.names)
    yield f"Original classes ({analysis.pixels:,} pixels)"
    yield f"  {'id':>3}  {'name':<{width}}  {'pixels':>14}  {'share':>10}  {'images':>6}  landing"
    for item in ranked:
        if analysis.fine[item.id]:
            share = 100 * analysis.fine[item.id] / analysis.pixels
            landing = LANDING_NAMES[item.landing] if item.landing < len(LANDING_NAMES) else "never counted"
            yield (
                f"  {item.id:>3}  {item.name:<{width}}  {analysis.fine[item.id]:>14,}  {share:>8.4f} %  "
                f"{analysis.fine_images[item.id]:>6}  {landing}"
            )
    absent = [f"{item.id} {item.name}" for item in ranked if not analysis.fine[item.id]]
    if absent:
        yield f"  without a pixel: {', '.join(absent)}"


def _mapped(analysis: Analysis) -> Iterator[str]:
    table = analysis.with_void
    images = table.statistics.presence_counts
    yield "Mapped classes"
    for index, count in enumerate(table.statistics.counts):
        low, high = table.shares.low[index], table.shares.high[index]
        interval = "" if np.isnan(low) else f"   95 % interval {100 * low:.4f}-{100 * high:.4f} %"
        share = 100 * table.shares.value[index]
        yield f"{_name(index)}: {count:,} pixels ({share:.4f} %)   {images[index]} images{interval}"
    if analysis.ignored:
        yield f"never counted: {analysis.ignored:,} pixels of classes that the table always ignores"


def _ratios(analysis: Analysis) -> Iterator[str]:
    for table, which in ((analysis.with_void, "included"), (analysis.without_void, "excluded")):
        ratio = None if table is None else table.ratio
        text = "n/a, fewer than two classes" if ratio is None else f"{ratio:.1f}:1 {_level(ratio)}"
        yield f"Imbalance ratio: {text} (void {which})"


def _level(ratio: float) -> str:
    return "SEVERE" if ratio > SEVERE else "HIGH" if ratio > HIGH else "moderate"


def _weights(analysis: Analysis, void: str) -> Iterator[str]:
    table = analysis.table(void)
    intervals = "95 % interval over photos" if analysis.bootstrap else "no intervals"
    yield f"Recommended class weights (--void {void}; mean weight 1 per pixel; {intervals})"
    if table is None:
        yield "  none: no pixel has class 1, 2 or 3"
        return
    rows = [(scheme, _cells(estimate)) for scheme, estimate in table.weights.items()]
    names = [_name(index) for index in table.class_ids]
    widths = [max(len(cell) for cell in column) for column in zip(names, *(cells for _, cells in rows))]
    for scheme, cells in [("", names), *rows]:
        line = "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True))
        note = "  no effect at these counts" if scheme and _saturated(table, scheme) else ""
        yield f"  {scheme:<16}  {line.rstrip()}{note}"


def _cells(estimate: Estimate) -> list[str]:
    return [
        "n/a (no pixels)"
        if np.isnan(value)
        else f"{value:.4f}"
        if np.isnan(low)
        else f"{value:.4f} [{_short(low)}, {_short(high)}]"
        for value, low, high in zip(estimate.value, estimate.low, estimate.high)
    ]


def _short(value: float) -> str:
    return f"{value:.1f}" if value >= 100 else f"{value:.2f}" if value >= 10 else f"{value:.4f}"


def _saturated(table: ClassTable, scheme: str) -> bool:
    weights = table.weights[scheme].value
    spread = np.nanmax(weights) / np.nanmin(weights)
    return bool(spread < SATURATED and (table.ratio or 1) > NOTICEABLE)


def _void_check(analysis: Analysis) -> Iterator[str]:
    void = analysis.void
    yield f"Void check: {void.verdict}"
    if void.share_near_edge is None or void.share_by_photo is None or void.median_component is None:
        yield "  no pixel is void"
        return
    yield (
        f"  {void.pixels:,} void pixels in {void.photos} of {len(analysis.ids)} masks; "
        f"{100 * void.share_near_edge:.2f} % (mean of photos {100 * void.share_by_photo:.2f} %) "
        "within 3 px of another class at 1280 px width"
    )
    at_1280 = "" if void.median_at_1280 == void.median_component else f" ({void.median_at_1280:.1f} at 1280)"
    yield (
        f"  {void.components:,} components, median area {void.median_component:g} px{at_1280}; "
        f"median of the photos' medians {void.median_by_photo:g} px"
    )
    if void.verdict == "seam":
        weight = analysis.with_void.weights["balanced"].value[0]
        yield (
            f"  class 0 is annotation seam; training on it with weight {weight:.4g} multiplies label noise; "
            "use --void ignore"
        )
    else:
        yield "  class 0 holds unlabelled regions"


def _unmapped(analysis: Analysis) -> Iterator[str]:
    if not analysis.unmapped:
        yield "Unmapped classes: all classes are mapped"
        return
    total = sum(item.pixels for item in analysis.unmapped)
    yield (
        f"Unmapped classes: {len(analysis.unmapped)} values outside table {analysis.photos.table.name}, "
        f"{total:,} pixels ({100 * total / analysis.pixels:.4f} %), left out of the mapped classes"
    )
    for item in analysis.unmapped[:MOST_VALUES]:
        yield f"  {_unmapped_line(item, analysis.pixels)}"
    if len(analysis.unmapped) > MOST_VALUES:
        yield f"  and {len(analysis.unmapped) - MOST_VALUES} more values"


def _unmapped_line(item: Unmapped, pixels: int) -> str:
    kind = "id" if isinstance(item.value, int) else "colour"
    files = ", ".join(path.name for path in item.files[:MOST_FILES])
    more = f" and {len(item.files) - MOST_FILES} more" if len(item.files) > MOST_FILES else ""
    return (
        f"{kind} {item.value}: {item.pixels:,} pixels ({100 * item.pixels / pixels:.4f} %) in {files}{more}"
    )


def _summary(analysis: Analysis) -> Iterator[str]:
    yield "Summary"
    for index, share in enumerate(analysis.with_void.shares.value):
        yield f"  {_name(index)}: {_rarity(float(share))}"


def _rarity(share: float) -> str:
    if share == 0:
        return "NO SAMPLES"
    level = "very rare (< 1 %), " if share < VERY_RARE else "rare (< 5 %), " if share < RARE else ""
    return f"{level}{100 * share:.2f} %"


def _advice(analysis: Analysis, void: str) -> Iterator[str]:
    yield "Advice"
    ratio = analysis.with_void.ratio or 1.0
    seam = analysis.void.verdict == "seam"
    table = analysis.table("ignore" if seam else void) or analysis.with_void
    if ratio > HIGH:
        yield f"  ratio {ratio:.1f}:1 is above {HIGH}:1: explicit handling is needed"
    if seam:
        yield f"  --void ignore: void is seam; without it the ratio is {table.ratio or 1:.1f}:1"
    if ratio > HIGH:
        yield "  --loss balanced_focal --class-weights balanced: every class weighs the same in the loss"
        yield "  or --loss logit_adjusted --class-weights none: the same aim through the class shares"
    for level, text in table.statistics.advice():
        if level == "warning":
            yield f"  {text}"
        elif not seam:
            yield f"  in general: {text}"
    yield from _far_from_guide(analysis)


def _far_from_guide(analysis: Analysis) -> Iterator[str]:
    measured = analysis.with_void.weights["balanced"].value
    far = [
        f"class {index} {documented:g} against {own:.4f}"
        for index, (documented, own) in enumerate(zip(GUIDE_WEIGHTS, measured))
        if not np.isnan(own) and not 0.5 <= documented / own <= 2
    ]
    if far:
        yield f"  --class-weights guide is more than 2x off the balanced weights here: {', '.join(far)}"


def _name(index: int) -> str:
    return f"Class {index} ({LANDING_NAMES[index]})"
