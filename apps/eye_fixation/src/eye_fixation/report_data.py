"""Result files as the report reads them: checked, several side by side, every model with its own colour."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.config import UserError
from common.reporting.plots import DASHES, INK, PALETTE, Line, palette_color
from eye_fixation.console_table import mean_of, summary_of
from eye_fixation.results import FILE_NAME, FILM_NAME, leaking
from eye_fixation.yardsticks import HUMAN, KERNEL, ORACLE

KIND = "loss_comparison"
RUNS = Path("runs/eye_fixation")
_SOURCES = {"real": "real data, recorded gaze", "simulated": "simulated data"}

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Film:
    """Densities of a few test sequences, in the files' types: see `FILM_NAME` beside the results.

    `coordinates` [n, T, 2] in cells, `mask` [n, T], the first `in_len` frames are inputs; `densities` by name
    [n, T_out, S, S].
    """

    coordinates: NDArray[Any]
    mask: NDArray[Any]
    in_len: int
    densities: Mapping[str, NDArray[Any]]


@dataclass(frozen=True, eq=False)
class Result:
    """One result file. `label` is empty unless there are several."""

    path: Path
    content: Mapping[str, Any]
    label: str
    film: Film | None

    @property
    def data(self) -> Mapping[str, Any]:
        """Return the facts of the data."""
        data: Mapping[str, Any] = self.content["data"]
        return data

    def named(self, name: str) -> str:
        """Return the name of a model as it is shown."""
        return f"{name} ({self.label})" if self.label else name


@dataclass(frozen=True, eq=False)
class Model:
    """One loss of one file with its results and its line on every plot; `label` is unique on the page."""

    name: str
    label: str
    entry: Mapping[str, Any]
    compat: Mapping[str, Any]
    color: str
    dash: str

    @property
    def summary(self) -> Mapping[str, Any]:
        """Return mean and interval of every metric."""
        return summary_of(self.entry)

    @property
    def runs(self) -> list[Mapping[str, Any]]:
        """Return the finished runs."""
        return [run for run in self.entry["runs"] if run["status"] == "ok"]

    @property
    def bits(self) -> float:
        """Return the headline."""
        return mean_of(self.summary, "bits")

    def curve(self, name: str) -> FloatArray:
        """Return a curve of the predictions that count, the mean over seeds; empty where there is none."""
        judged = [run["metrics"]["calibrated"] or run["metrics"]["raw"] for run in self.runs]
        curves = [scores["curves"].get(name) or [] for scores in judged]
        same = [curve for curve in curves if curve and len(curve) == len(curves[0])]
        return numbers(same).mean(axis=0) if same else np.zeros(0)

    def line(self, steps: Sequence[int] = (), values: Sequence[float] = ()) -> Line:
        """Return the model's line."""
        return Line(self.label, steps, values, color=self.color, dash=self.dash)


@dataclass(frozen=True, eq=False)
class Reference:
    """A prediction that the models are held against, drawn in ink."""

    name: str
    summary: Mapping[str, Any]
    color: str
    dash: str


@dataclass(frozen=True, eq=False)
class Evidence:
    """All results of a page; `models` have most bits first."""

    results: tuple[Result, ...]
    models: tuple[Model, ...]
    references: tuple[Reference, ...]

    @property
    def first(self) -> Result:
        """Return the file whose data and references stand for all."""
        return self.results[0]

    @property
    def data(self) -> Mapping[str, Any]:
        """Return the facts of the data, the same of all files where it matters."""
        return self.first.data

    @property
    def source(self) -> str:
        """Return what the frames are, in words: never real unless the data say so."""
        return _SOURCES.get(str(self.data["source"]), "data of unknown source")

    @property
    def kernel(self) -> Reference | None:
        """Return the history kernel, if it was judged."""
        return next((part for part in self.references if part.name == KERNEL), None)

    def counts(self) -> str:
        """Return the n of all that is measured on the test split."""
        entries = [model.summary["bits"] for model in self.models if "bits" in model.summary]
        groups = next((f"{entry['n_groups']:,} groups" for entry in entries), "")
        seeds = sorted({int(entry["n_seeds"]) for entry in entries})
        parts = [
            f"{self.data['valid_target_frames']['test']:,} target frames",
            f"{self.data['sequences']['test']:,} test sequences",
            groups,
            f"{' or '.join(map(str, seeds))} seed{'' if seeds == [1] else 's'} per loss" if seeds else "",
        ]
        return ", ".join(part for part in parts if part)


def read_evidence(paths: Sequence[Path]) -> Evidence:
    """Read result files, the latest run's without any.

    UserError for a file that is missing or no result file, for files judged on different test frames, and for
    a model that beats the oracle by more than chance allows.
    """
    files = [Path(path) for path in paths] or [latest_results()]
    contents = [_read(path) for path in files]
    for path, content in zip(files, contents):
        if leaking(content):
            raise UserError(f"{path}: a result lies above the best possible one: test data have leaked")
        _check_same_test(files[0], contents[0], path, content)
    labels = _labels(files)
    results = tuple(
        Result(path, content, label, read_film(path.parent / FILM_NAME))
        for path, content, label in zip(files, contents, labels)
    )
    return Evidence(results, _models(results), tuple(_references(results[0].content)))


def latest_results(runs: Path = RUNS) -> Path:
    """Return the result file of the run that `latest` names; UserError without one."""
    pointer = runs / "latest"
    path = runs / pointer.read_text(encoding="utf-8").strip() / FILE_NAME if pointer.is_file() else None
    if path is None or not path.is_file():
        raise UserError(f"no run to report: {path or pointer} not found; name a file with --results")
    return path


def read_film(path: Path) -> Film | None:
    """Return the densities beside a result file, None without any."""
    if not path.is_file():
        return None
    with np.load(path) as arrays:
        densities = {
            name.removeprefix("density."): arrays[name]
            for name in arrays.files
            if name.startswith("density.")
        }
        return Film(arrays["coordinates"], arrays["mask"] > 0, int(arrays["in_len"]), densities)


def numbers(values: object) -> FloatArray:
    """Return a list of numbers, None for NaN, or a list of such lists, as float64."""
    return np.asarray(values, dtype=np.float64)


def per_horizon(summary: Mapping[str, Any], metric: str) -> FloatArray:
    """Return a metric per horizon; empty where it was not measured."""
    return numbers((summary.get(metric) or {}).get("per_horizon") or [])


def band(summary: Mapping[str, Any], metric: str) -> FloatArray | None:
    """Return the ends of the intervals per horizon, [T_out, 2], None without any."""
    ends = (summary.get(metric) or {}).get("per_horizon_ci")
    return numbers(ends) if ends else None


def _read(path: Path) -> Mapping[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"--results: {path} not found") from None
    except (ValueError, OSError) as error:
        raise UserError(f"--results: {path} is no result file: {error}") from None
    kind = content.get("kind") if isinstance(content, dict) else None
    if kind != KIND:
        raise UserError(f"--results: {path} is no result file: kind is {kind!r}, {KIND!r} is expected")
    return dict(content)


def _check_same_test(first: Path, known: Mapping[str, Any], other: Path, content: Mapping[str, Any]) -> None:
    here, there = _frames_of(known["data"]), _frames_of(content["data"])
    for name, value in here.items():
        if value != there[name]:
            raise UserError(
                f"results cannot stand side by side: {name} is {value} in {first}, {there[name]} in {other}"
            )


def _frames_of(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return what tells the test frames of a file from those of another."""
    return {
        "hash of the test set": data["sha256"].get("test"),
        "in_len": data["in_len"],
        "out_len": data["out_len"],
        "number of valid test frames": data["valid_target_frames"]["test"],
    }


def _labels(files: Sequence[Path]) -> list[str]:
    if len(files) == 1:
        return [""]
    for shown in ([path.resolve().parent.name for path in files], [path.stem for path in files]):
        if len(set(shown)) == len(files):
            return shown
    return [str(path) for path in files]


def _models(results: Sequence[Result]) -> tuple[Model, ...]:
    found = [
        (result, name, entry)
        for result in results
        for name, entry in result.content["losses"].items()
        if not math.isnan(mean_of(summary_of(entry), "bits"))
    ]
    dashes = tuple(DASHES)
    models = [
        Model(
            name,
            result.named(name),
            entry,
            (result.content.get("seed_compat") or {}).get(name) or {},
            palette_color(place),
            dashes[place // len(PALETTE) % len(dashes)],
        )
        for place, (result, name, entry) in enumerate(found)
    ]
    return tuple(sorted(models, key=lambda model: -model.bits))


def _references(content: Mapping[str, Any]) -> Iterator[Reference]:
    styles = {KERNEL: (INK, "--"), ORACLE: (INK, "-"), HUMAN: (INK, ":")}
    given = {KERNEL: (content.get("baselines") or {}).get(KERNEL)}
    given |= {name: content.get(name) for name in (ORACLE, HUMAN)}
    for name, (color, dash) in styles.items():
        summary = summary_of(given[name])
        if not math.isnan(mean_of(summary, "bits")):
            yield Reference(name, summary, color, dash)
