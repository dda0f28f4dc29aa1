"""Does balancing pay? Trained with and without it on generated clips, judged on balanced clips of their own.

Only motion tells the classes apart; the commonest is 50 times as frequent as the rarest. Each seed trains
every arm on the same clips from random weights, the best epoch chosen on validation; the test clips, 24 of
each class, are judged once. Intervals are over the test actions of one seed.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from common.config import Parsed, UserError, run_main
from common.engine.manifest import library_versions
from mvfouls.cli.app import main as mvfouls
from mvfouls.synthetic import write_learning_set

RESULTS = Path(__file__).parent / "results"
ARMS = {
    "plain": "--simple_training",
    "recommended": "--loss_function focal --use_class_balanced_sampler --progressive_class_balancing "
    "--label_smoothing 0.1 --augmentation_strength none",
    "sampler": "--loss_function plain --use_class_balanced_sampler --oversample_factor 50 --max_repeat 60 "
    "--label_smoothing 0 --augmentation_strength none",
    "ldam_drw": "--loss_types action_class ldam severity ldam offence ldam --ldam_drw_start 0.5 "
    "--no-use_class_balanced_sampler --label_smoothing 0 --augmentation_strength none",
}
NETWORK = (
    "--backbone_name small3d --frames_per_clip 8 --img_height 64 --img_width 112 --freezing_strategy none "
    "--num_workers 0 --device cpu --early_stopping_patience 0"
)
RARE = {"os": ("Yellow", "Red"), "action": ("Holding", "Dive")}
"""The two rarest classes of each official part."""
TEST_SEED = 1000


@dataclass(frozen=True, kw_only=True)
class BalanceConfig:
    """Train with and without balancing, and compare on other clips."""

    actions: int = 320
    """Training actions of one view."""
    epochs: int = 12
    """Epochs of each training."""
    lr: float = 1e-3
    """Learning rate of all arms."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Seeds of the clips, weights and order."""
    arms: tuple[str, ...] = tuple(ARMS)
    """Which of them to train."""
    json: Path | None = None
    """Result file. Default: benchmarks/results/mvfouls_balance-<date>.json."""


def compare(parsed: Parsed[BalanceConfig]) -> int:
    """Train every arm with every seed; print and write the table."""
    config = parsed.config
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        write_learning_set(home / "test", actions=96, imbalance=1.0, seed=TEST_SEED)
        rows = []
        for seed in config.seeds:
            data = home / f"seed{seed}"
            write_learning_set(data, actions=config.actions, seed=seed)
            shutil.copytree(home / "test" / "mvfouls" / "train", data / "mvfouls" / "test")
            for arm in config.arms:
                rows.append(judge(config, data, arm, seed))
                print(line(rows[-1]), flush=True)
    path = config.json or RESULTS / f"mvfouls_balance-{datetime.now(UTC).date()}.json"
    content = {
        "settings": {"actions": config.actions, "epochs": config.epochs, "lr": config.lr},
        "versions": library_versions(),
        "rows": rows,
    }
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return 0


def judge(config: BalanceConfig, data: Path, arm: str, seed: int) -> dict[str, Any]:
    """Train one arm on `data` and return its numbers on the test clips."""
    folder, out = data / "runs" / arm, data / f"{arm}.json"
    root = ["--dataset_root", str(data)]
    length = f"--epochs {config.epochs} --batch_size 8 --lr {config.lr} --seed {seed}"
    words = f"{NETWORK} {length} {ARMS[arm]}".split()
    _run(["train", *root, *words, "--save_dir", str(folder)])
    judged = ["--split", "test", "--mode", "strict", "--num_workers", "0", "--json", str(out)]
    _run(["evaluate", "--checkpoint", str(folder), *root, *judged])
    found = json.loads(out.read_text())["modes"]["strict"]
    classes = {part: {row["name"]: row for row in found[part]} for part in RARE}
    rare = [classes[part][name] for part, names in RARE.items() for name in names]
    return {
        "arm": arm,
        "seed": seed,
        "leaderboard": {end: found[f"leaderboard_{end}"] for end in ("value", "low", "high")},
        "rare_recall": sum(row["hits"] for row in rare) / sum(row["n"] for row in rare),
        "classes": classes,
    }


def line(row: dict[str, Any]) -> str:
    """Return one line of the table."""
    value = row["leaderboard"]
    recalls = [
        f"{name} {row['classes'][part][name]['recall']:.2f}" for part, names in RARE.items() for name in names
    ]
    return (
        f"RESULT {row['arm']:<12} seed {row['seed']}  LB {value['value']:.1f} [{value['low']:.1f}, "
        f"{value['high']:.1f}]  rare recall {row['rare_recall']:.3f}  {'  '.join(recalls)}"
    )


def _run(words: Sequence[str]) -> None:
    if mvfouls(words):
        raise UserError(f"failed: mvfouls {' '.join(words)}")


if __name__ == "__main__":
    sys.exit(run_main(compare, BalanceConfig, prog="python benchmarks/mvfouls_balance.py"))
