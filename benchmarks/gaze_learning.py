"""Does the gaze network learn what can be learned? Eight sequences by heart, and simulated gaze to its limit.

Part one trains the small network on eight sequences with each loss and counts the frames whose most probable
cell is the true one. Part two trains it on simulated gaze whose best possible prediction is known, and
compares the bits of the best epoch with it.
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

import torch
from torch import Tensor

from common.config import Parsed, UserError, run_main
from common.engine.manifest import library_versions
from common.losses.sparse_map import SparseMapLoss
from eye_fixation.cli import main as eye_fixation
from eye_fixation.frames import create_sparse_frames
from eye_fixation.losses import build_loss, readout_bias
from eye_fixation.simvp import SimVP, create_model, set_prior_bias
from eye_fixation.synthetic import Simulator

RESULTS = Path(__file__).parent / "results"
SEQUENCES, IN_LEN, OUT_LEN, SIDE = 8, 10, 10, 32
STEPS = {"composite": 600}
USUAL_STEPS = 300
CHECKED = (50, 100, 200, 300, 600)


@dataclass(frozen=True, kw_only=True)
class LearningConfig:
    """Learn eight sequences by heart, and simulated gaze as well as anything could."""

    losses: tuple[str, ...] = ("softmax_ce", "bce", "focal", "weighted_mse", "dice", "composite")
    """Losses that learn eight sequences by heart; `none` for none."""
    lr: float = 1e-3
    """Learning rate of part one."""
    paths: int = 5000
    """Simulated training paths of part two; 0 leaves it out."""
    epochs: int = 6
    """Epochs of part two."""
    json: Path | None = None
    """Result file. Default: benchmarks/results/gaze_learning-<date>.json."""


def learn(parsed: Parsed[LearningConfig]) -> int:
    """Run both parts; print and write what was found."""
    config = parsed.config
    names = () if config.losses == ("none",) else config.losses
    content: dict[str, Any] = {"versions": library_versions(), "by_heart": []}
    for name in names:
        content["by_heart"].append(by_heart(name, config.lr))
        print(json.dumps(content["by_heart"][-1]), flush=True)
    if config.paths:
        with tempfile.TemporaryDirectory() as folder:
            content["smooth"] = smooth(config, Path(folder))
        print(json.dumps(content["smooth"]))
    path = config.json or RESULTS / f"gaze_learning-{datetime.now(UTC).date()}.json"
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return 0


def by_heart(name: str, lr: float) -> dict[str, Any]:
    """Train one loss on eight sequences; return the share of frames found after so many steps."""
    inputs, targets = eight_sequences()
    torch.manual_seed(0)
    network = create_model("small")
    bias = readout_bias(name, "auto", SIDE)
    if bias is not None:
        set_prior_bias(network, bias)
    loss = build_loss(name)
    optimizer = torch.optim.AdamW(network.parameters(), lr=lr)
    found = {}
    for step in range(1, STEPS.get(name, USUAL_STEPS) + 1):
        network.train()
        optimizer.zero_grad()
        total_loss(loss, network(inputs), targets).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        if step in CHECKED:
            found[step] = top1(network, inputs, targets)
    return {"loss": name, "top1": found}


def eight_sequences() -> tuple[Tensor, Tensor]:
    """Return frames [8, 10, 1, 32, 32] that are given, and those that follow."""
    paths = torch.from_numpy(Simulator().sample(SEQUENCES, IN_LEN + OUT_LEN, split=0))
    frames = create_sparse_frames(paths, torch.ones(paths.shape[:2]), SIDE)
    return frames[:, :IN_LEN], frames[:, IN_LEN:]


def total_loss(loss: SparseMapLoss, output: Tensor, targets: Tensor) -> Tensor:
    """Return the value that is minimised."""
    terms = loss.terms(output, targets, torch.ones(targets.shape[:2], dtype=torch.bool))
    return torch.stack([term.weight * term.total / term.count for term in terms.values()]).sum()


@torch.no_grad()
def top1(network: SimVP, inputs: Tensor, targets: Tensor) -> float:
    """Return the share of frames whose highest cell is the true one, in evaluation mode."""
    network.eval()
    hit = network(inputs).flatten(2).argmax(2) == targets.flatten(2).argmax(2)
    return float(hit.float().mean())


def smooth(config: LearningConfig, home: Path) -> dict[str, Any]:
    """Train on smooth simulated gaze; return the bits of the best epoch beside the best possible ones."""
    simulated = f"--sim-kind smooth --n-train {config.paths} --n-val 500 --n-test 500".split()
    _run(["prepare", *simulated, "--out", str(home / "data")])
    plan = f"--preset small --epochs {config.epochs} --losses softmax_ce --seeds 1 --device cpu".split()
    _run(["compare", "--data-dir", str(home / "data"), *plan, "--out", str(home / "run")])
    results = json.loads((home / "run" / "loss_comparison.json").read_text())
    run = results["losses"]["softmax_ce"]["runs"][0]
    bits = {
        "oracle": results["oracle"]["summary"]["bits"],
        "history_kernel": results["baselines"]["history_kernel"]["summary"]["bits"],
        "softmax_ce": results["losses"]["softmax_ce"]["summary"]["bits"],
    }
    means = {name: summary["mean"] for name, summary in bits.items()}
    return {
        "sequences": results["data"]["sequences"],
        "best_epoch": run["best_epoch"],
        "bits": means,
        "gap": means["oracle"] - means["softmax_ce"],
    }


def _run(words: Sequence[str]) -> None:
    code = eye_fixation(words)
    if code:
        raise UserError(f"eye-fixation {words[0]} ended with {code}")


if __name__ == "__main__":
    sys.exit(run_main(learn, LearningConfig, prog="python benchmarks/gaze_learning.py"))
