"""Does balancing pay? Trained with and without it on generated clips, judged on balanced clips of their own.

Only motion tells the classes apart, the commonest is 50 times as frequent as the rarest, of which there are
as many clips as of red cards in the real training set, and the classes overlap as those of real fouls do:
where a clip leaves a doubt, the prior decides, and without balancing it decides against the rare classes.
The clips are seen twice only: a network that knows its few rare clips by heart has no doubts left that
weights could turn.

All arms start from one network that was trained on other clips, balanced and without overlap, as real
trainings start from one that knows human motion. Each seed trains every arm on the same clips for the same
number of steps, without augmentation or smoothing; the best epoch is chosen on validation. The test clips, as
many of each class, are judged once. Intervals are over resampled test actions and seeds; differences to
`plain` are paired.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from common.config import Parsed, UserError, run_main
from common.engine.logging import read_events, read_metrics
from common.engine.manifest import library_versions
from common.metrics.group_bootstrap import GroupResamples, GroupSums, percentile_interval
from common.metrics.report import divide
from mvfouls.annotations import read_annotations
from mvfouls.card import load_trained
from mvfouls.cli.app import main as mvfouls
from mvfouls.official import OfficialScores, PartScores, judge_official
from mvfouls.submission import read_predictions
from mvfouls.synthetic import write_learning_set

RESULTS = Path(__file__).parent / "results"
PLAIN = "--loss_function plain --no-use_class_balanced_sampler"
LDAM = f"{PLAIN} --loss_types action_class ldam severity ldam offence ldam"
ARMS = {
    "plain": PLAIN,
    # the 15 of 50 epochs of the documented transition are shortened like the training
    "recommended": "--loss_function focal --use_class_balanced_sampler --progressive_class_balancing "
    "--progressive_epochs 1",
    "sampler": "--loss_function plain --use_class_balanced_sampler --oversample_factor 50",
    "ldam": LDAM,
    "ldam_drw": f"{LDAM} --ldam_drw_start 0.5",
    "logit_adjusted": f"{PLAIN} --logit_adjustment",
}
NETWORK = (
    "--backbone_name small3d --frames_per_clip 4 --img_height 64 --img_width 96 --freezing_strategy none "
    "--augmentation_strength none --label_smoothing 0 --early_stopping_patience 0 --batch_size 8 "
    "--num_workers 0 --cache_format jpeg --device cpu"
)
OS = {"No card": False, "No offence": False, "Yellow": True, "Red": True}
ACTION = {"Standing tackling": False, "Challenge": False, "Dive": True, "Holding": True}
"""The classes of each official part, the commonest first, and whether they count as rare."""
RARE = np.array([*OS.values(), *ACTION.values()])
FIRST = f"{PLAIN} --auxiliary_task_weight 3"
"""The three tasks of the network that all arms start from weigh the same."""
TEST_SEED, FIRST_SEED = 1000, 2000

Floats = NDArray[np.float64]
Hits = tuple[Floats, Floats]
"""Hits and counts [N, 8] of N test actions by class."""


@dataclass(frozen=True, kw_only=True)
class BalanceConfig:
    """Train with and without balancing, and compare on other clips."""

    actions: int = 2000
    """Training actions of one view."""
    first_actions: int = 1200
    """Actions that the network all arms start from was trained on, for `first_epochs`."""
    first_epochs: int = 5
    """Epochs of that training."""
    test_actions: int = 192
    """Test actions, as many of each class."""
    imbalance: float = 50.0
    """How often the commonest class of training occurs for one of the rarest."""
    overlap: float = 0.35
    """How much the classes look alike; 0: not at all."""
    epochs: int = 2
    """Epochs of each training."""
    lr: float = 1e-3
    """Learning rate of all trainings."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Seeds of the clips, weights and order."""
    arms: tuple[str, ...] = tuple(ARMS)
    """Which of them to train; differences are to the first."""
    json: Path | None = None
    """Result file. Default: benchmarks/results/mvfouls_balance-<date>.json."""


def compare(parsed: Parsed[BalanceConfig]) -> int:
    """Train every arm with every seed; print and write the table."""
    config = parsed.config
    path = config.json or RESULTS / f"mvfouls_balance-{datetime.now(UTC).date()}.json"
    rows: list[dict[str, Any]] = []
    hits: dict[str, list[Hits]] = {arm: [] for arm in config.arms}
    with tempfile.TemporaryDirectory() as folder:
        weights = train_first(Path(folder) / "first", config)
        test = write_test(Path(folder) / "test", config)
        for seed in config.seeds:
            with tempfile.TemporaryDirectory(dir=folder) as home:
                write_learning_set(
                    Path(home),
                    actions=config.actions,
                    seed=seed,
                    imbalance=config.imbalance,
                    overlap=config.overlap,
                )
                for arm in config.arms:
                    train = train_words(config.epochs, config.lr, seed)
                    train += f" --weights {weights} {ARMS[arm]}"
                    row, found = judge(train, Path(home), test, arm, seed)
                    rows.append(row)
                    hits[arm].append(found)
                    print(line(row), flush=True)
                    write(path, config, rows, [])
    summary = summarise(hits)
    print("\n".join(map(summary_line, summary)))
    write(path, config, rows, summary)
    return 0


def write_test(folder: Path, config: BalanceConfig) -> Path:
    """Write the balanced test clips; return the root of their data set."""
    write_learning_set(
        folder, actions=config.test_actions, imbalance=1.0, overlap=config.overlap, seed=TEST_SEED
    )
    split = (folder / "mvfouls" / "train").rename(folder / "mvfouls" / "test")
    annotations = split / "annotations.json"
    annotations.write_text(json.dumps(json.loads(annotations.read_text()) | {"Set": "test"}))
    return folder


def train_first(folder: Path, config: BalanceConfig) -> Path:
    """Train the network that all arms start from; return the file of its weights."""
    write_learning_set(folder, actions=config.first_actions, imbalance=1.0, seed=FIRST_SEED)
    words = f"{train_words(config.first_epochs, config.lr, FIRST_SEED)} {FIRST}".split()
    _run(["train", "--dataset_root", str(folder), *words, "--save_dir", str(folder / "run")])
    print(f"RESULT first network: {course(folder / 'run')}", flush=True)
    path = folder / "weights.pth"
    trained = load_trained(folder / "run", torch.device("cpu"))
    torch.save(trained.model.backbone.network.state_dict(), path)
    return path


def train_words(epochs: int, lr: float, seed: int) -> str:
    """Return the flags that say how all networks are trained."""
    return f"{NETWORK} --epochs {epochs} --lr {lr} --seed {seed}"


def judge(train: str, data: Path, test: Path, arm: str, seed: int) -> tuple[dict[str, Any], Hits]:
    """Train one arm on `data`; return its numbers and hits on the test clips."""
    folder, out = data / "runs" / arm, data / f"{arm}.json"
    _run(["train", "--dataset_root", str(data), *train.split(), "--save_dir", str(folder)])
    asked = ["--dataset_root", str(test), "--split", "test", "--num_workers", "0", "--batch_size", "8"]
    _run(["submit", "--checkpoint", str(folder), *asked, "--device", "cpu", "--out", str(out)])
    truth = read_annotations(test / "mvfouls" / "test" / "annotations.json")
    found = hits_of(judge_official(truth, read_predictions(out)))
    recall = divide(found[0].sum(0), found[1].sum(0))
    row = {
        "arm": arm,
        "seed": seed,
        **_named(_measures(recall)),
        "recall": dict(zip([*OS, *ACTION], recall.tolist(), strict=True)),
        **course(folder),
    }
    return row, found


def course(folder: Path) -> dict[str, Any]:
    """Return how a training went: loss and leaderboard value by epoch, steps skipped as not finite."""
    metrics = read_metrics(folder / "metrics.jsonl")
    steps = [entry["train/grad_norm"] for entry in metrics if entry["kind"] == "step"]
    return {
        "losses": [entry["train/loss"] for entry in metrics if entry["kind"] == "epoch"],
        "valid": [100 * entry["valid/leaderboard"] for entry in metrics if entry["kind"] == "validation"],
        "largest_gradient": max(steps),
        "skipped_steps": sum(event["kind"] == "nonfinite" for event in read_events(folder / "events.jsonl")),
    }


def hits_of(scores: OfficialScores) -> Hits:
    """Return hits and counts of every test action by class."""
    parts = [_part_hits(scores.os, OS), _part_hits(scores.action, ACTION)]
    return np.hstack([hits for hits, _ in parts]), np.hstack([counts for _, counts in parts])


def _part_hits(part: PartScores, names: Mapping[str, bool]) -> Hits:
    ids = np.array([part.names.index(name) for name in names])
    counts = (part.truth[:, None] == ids).astype(np.float64)
    return counts * part.hit[:, None], counts


def summarise(hits: Mapping[str, Sequence[Hits]], *, resamples: int = 2000) -> list[dict[str, Any]]:
    """Return mean, interval and paired difference to the first arm, for each arm over its seeds."""
    sums = {arm: GroupSums(*(np.stack(part) for part in zip(*found))) for arm, found in hits.items()}
    first, *_ = sums
    draws = GroupResamples(sums[first].sums.shape[1], n=resamples)
    values = {arm: _measures(data.means()) for arm, data in sums.items()}
    drawn = {arm: _measures(draws.means(data)) for arm, data in sums.items()}
    return [
        {
            "arm": arm,
            "to": first,
            **_intervals(values[arm], drawn[arm]),
            "difference": _intervals(values[arm] - values[first], drawn[arm] - drawn[first]),
            "recall": dict(zip([*OS, *ACTION], data.means().tolist(), strict=True)),
        }
        for arm, data in sums.items()
    ]


def _measures(recall: Floats) -> Floats:
    """Return leaderboard value and mean recall of the rare classes, in percent, of recalls [..., 8]."""
    leaderboard = (recall[..., : len(OS)].mean(-1) + recall[..., len(OS) :].mean(-1)) / 2
    return 100 * np.stack([leaderboard, recall[..., RARE].mean(-1)], axis=-1)


def _named(values: Floats) -> dict[str, float]:
    return dict(zip(("leaderboard", "rare_recall"), values.tolist(), strict=True))


def _intervals(values: Floats, drawn: Floats) -> dict[str, dict[str, float]]:
    low, high = map(_named, percentile_interval(drawn))
    return {
        name: {"value": value, "low": low[name], "high": high[name]} for name, value in _named(values).items()
    }


def line(row: Mapping[str, Any]) -> str:
    """Return what one training came to."""
    recalls = "  ".join(f"{name} {recall:.2f}" for name, recall in row["recall"].items())
    losses = " ".join(f"{loss:.3g}" for loss in row["losses"])
    return (
        f"RESULT {row['arm']:<14} seed {row['seed']}  LB {row['leaderboard']:.1f}  rare "
        f"{row['rare_recall']:.1f}  {recalls}  losses {losses}  skipped {row['skipped_steps']}"
    )


def summary_line(row: Mapping[str, Any]) -> str:
    """Return one line of the table over seeds."""
    own, gain = (
        f"LB {_span(part['leaderboard'])}  rare {_span(part['rare_recall'])}"
        for part in (row, row["difference"])
    )
    return f"RESULT {row['arm']:<14} {own}  to {row['to']}: {gain}"


def _span(entry: Mapping[str, float]) -> str:
    return f"{entry['value']:.1f} [{entry['low']:.1f}, {entry['high']:.1f}]"


def write(path: Path, config: BalanceConfig, rows: Sequence[object], summary: Sequence[object]) -> None:
    """Write what is known so far."""
    settings = {name: value for name, value in asdict(config).items() if name != "json"}
    content = {
        "settings": settings
        | {"network": NETWORK, "first": FIRST, "flags": {arm: ARMS[arm] for arm in config.arms}},
        "versions": library_versions(),
        "summary": summary,
        "rows": rows,
    }
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def _run(words: Sequence[str]) -> None:
    if mvfouls(words):
        raise UserError(f"failed: mvfouls {' '.join(words)}")


if __name__ == "__main__":
    sys.exit(run_main(compare, BalanceConfig, prog="python benchmarks/mvfouls_balance.py"))
