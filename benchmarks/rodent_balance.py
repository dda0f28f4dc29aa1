"""Does the guide's balancing pay? Trained with and without it on generated trials, judged on other videos.

Each seed trains twice on the same videos: with the documented repetition, class weights, focal exponent and
smoothing, and with all of them neutral. Both are judged once on videos of another seed; intervals are over
those videos.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from common.config import Parsed, UserError, run_main
from common.engine.manifest import library_versions
from rodent_behavior.cli import main as rodent_behavior
from rodent_behavior.synth import generate

RESULTS = Path(__file__).parent / "results"
ARMS = {
    "guide": "",
    "plain": "--rare_boost_cap 1 --class_weighting none --loss ce --label_smoothing 0",
}
TEST_SEED = 1000


@dataclass(frozen=True, kw_only=True)
class BalanceConfig:
    """Train with and without the guide's balancing, and compare on other videos."""

    videos: int = 16
    """Videos of three trials to train and validate on."""
    test_videos: int = 12
    """Videos to judge on."""
    epochs: int = 20
    """Epochs of each training."""
    lr: float = 1e-3
    """Learning rate of both arms."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Seeds of the trials, weights and order."""
    json: Path | None = None
    """Result file. Default: benchmarks/results/rodent_balance-<date>.json."""


def compare(parsed: Parsed[BalanceConfig]) -> int:
    """Train every arm with every seed; print and write the table."""
    config = parsed.config
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        test = home / "test"
        generate(test, videos=config.test_videos, seed=TEST_SEED, render=False)
        rows = []
        for seed in config.seeds:
            data = home / f"seed{seed}"
            generate(data, videos=config.videos, seed=seed, render=False)
            for arm, words in ARMS.items():
                rows.append(judge(config, data, test, arm, words.split(), seed))
                print(line(rows[-1]), flush=True)
    path = config.json or RESULTS / f"rodent_balance-{datetime.now(UTC).date()}.json"
    content = {
        "settings": {"videos": config.videos, "epochs": config.epochs, "lr": config.lr},
        "versions": library_versions(),
        "rows": rows,
    }
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return 0


def judge(
    config: BalanceConfig, data: Path, test: Path, arm: str, words: Sequence[str], seed: int
) -> dict[str, Any]:
    """Train one arm on `data` and return its numbers on `test`."""
    train = f"--backbone none --epochs {config.epochs} --lr {config.lr} --num_workers 0 --seed {seed}"
    folders = ["--annotations", str(data / "Annotations"), "--videos", str(data / "Videos")]
    _run(["train", *folders, *train.split(), *words, "--run_dir", str(data / "runs" / arm)])
    model, out = data / "best_model_multitask.pt", data / "evaluation" / arm
    judged = ["--annotations", str(test / "Annotations"), "--videos", str(test / "Videos")]
    _run(["evaluate", "--checkpoint", str(model), *judged, "--split", "all", "--out", str(out)])
    report = json.loads((out / "report.json").read_text())
    summary = {row["name"]: row for row in report["summary"]}
    classes = {row["name"]: row["F1"] | {"support": row["support"]} for row in report["classes"]}
    return {
        "arm": arm,
        "seed": seed,
        "macro_f1": summary["macro_f1"],
        "segment_f1_0.3": summary["segment_f1_0.3"],
        "classes": classes,
    }


def line(row: dict[str, Any]) -> str:
    """Return one line of the table."""
    macro, withdraw = row["macro_f1"], row["classes"]["paw_withdraw"]
    return (
        f"RESULT {row['arm']:<6} seed {row['seed']}  macro F1 {macro['value']:.3f} "
        f"[{macro['low']:.3f}, {macro['high']:.3f}]  paw_withdraw F1 {withdraw['value']:.3f} "
        f"[{withdraw['low']:.3f}, {withdraw['high']:.3f}]"
    )


def _run(words: Sequence[str]) -> None:
    if rodent_behavior(words):
        raise UserError(f"failed: rodent-behavior {' '.join(words)}")


if __name__ == "__main__":
    sys.exit(run_main(compare, BalanceConfig, prog="python benchmarks/rodent_balance.py"))
