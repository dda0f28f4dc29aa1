"""The whole application on generated trials, command by command."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Sequence

from common.config import Parsed, UserError
from common.engine.logging import Console
from rodent_behavior.config import DemoConfig
from rodent_behavior.synth import generate

VIDEOS, TRIALS = 8, 3
TRIGGER = "paw_withdraw=0.5"


def main(parsed: Parsed[DemoConfig]) -> int:
    """Generate, examine, train, evaluate, predict, stream and replay; return the first exit code not 0."""
    config, console = parsed.config, Console()
    home = config.out
    run = home / "runs" / "demo"
    if (run / "checkpoints").is_dir():
        raise UserError(f"--out {home}: holds a demo already; remove it or choose another folder")
    console.line("demo", f"{VIDEOS} videos of {TRIALS} trials into {home}")
    generate(home, videos=VIDEOS, trials=TRIALS, seed=config.seed)
    recording = home / "Recording"
    recording.mkdir(exist_ok=True)
    for path in (home / "Videos").glob("mouse_1*"):
        shutil.copy(path, recording)
    data = ["--annotations", str(home / "Annotations"), "--videos", str(home / "Videos")]
    model = str(home / "best_model_multitask.pt")
    train = (
        f"--backbone none --causal --epochs {config.epochs} --lr 1e-3 --train_T 180 --num_workers 0 "
        "--val_share 0.25"
    )
    predict = ["--format", "table", "bouts", "--video", "--out", str(home / "predictions")]
    session = str(home / "session")
    poses = str(next(recording.glob("*DLC*.csv")))
    live = ["--poses", poses, "--trigger", TRIGGER, "--record", session]
    commands = (
        ["doctor", *data],
        ["train", *data, *train.split(), "--run_dir", str(run)],
        ["evaluate", "--checkpoint", model, *data, "--out", str(home / "evaluation")],
        ["predict", str(recording), "--checkpoint", model, *predict],
        ["live", "--checkpoint", model, *live],
        ["replay", session, "--checkpoint", model],
    )
    return next((code for code in map(_run, commands) if code), 0)


def _run(command: Sequence[str]) -> int:
    from rodent_behavior.cli import main as run_command  # the command line knows this module

    Console().line("run", f"rodent-behavior {shlex.join(command)}")
    return run_command(command)
