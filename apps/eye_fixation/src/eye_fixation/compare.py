"""Losses under identical conditions: train each with each seed, judge on test, compare, report."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from common.config import Parsed, UserError, to_yaml
from common.engine.checkpoint import CheckpointError
from common.engine.command import choose_device, use_deterministic_kernels
from common.engine.fit import ResumeError
from common.engine.folder_lock import RunFolderError
from common.engine.logging import Console
from common.engine.manifest import replace_text
from common.engine.run import next_run_folder
from common.engine.state import changed_settings
from eye_fixation import results
from eye_fixation.checks import Config, check_comparison, losses_of, require_no_run, seeds_of
from eye_fixation.config import PRESETS, CompareConfig, TrainConfig
from eye_fixation.console_table import table_lines
from eye_fixation.data.pt import find_folder
from eye_fixation.fitting import apply_bias, build_network, index_loaders, network_config, start_bias
from eye_fixation.losses import blanking_rule, build_loss, positive_share
from eye_fixation.prepare import main as prepare
from eye_fixation.prepare_config import PrepareConfig
from eye_fixation.report import write_report
from eye_fixation.study import Sequences, open_study
from eye_fixation.training import INTERRUPTED, PLACES, RESULT, JudgedRun, Setting, load_judged, train_one
from eye_fixation.yardsticks import Yardsticks, measure

RUNS = Path("runs") / "eye_fixation"
REPORT, SUMMARY, CONFIG = "report.html", "summary.json", "config.yaml"
SLOW_HOURS = 2.0
MEASURED_STEPS = 3
ISOLATED = (CheckpointError, RuntimeError, ValueError, ArithmeticError, MemoryError)
"""What may end one training without ending the others: damaged files, torch's own errors, numbers.

TypeError, LookupError, AttributeError and AssertionError are left out on purpose: they are mistakes in the
program, which would spoil every training alike and must leave with their traceback. The trainings done
before are in the result file already, and --resume keeps them.
"""
_log = logging.getLogger("eye_fixation")


@dataclass(frozen=True, eq=False)
class Comparison:
    """A comparison under way: what was asked for, what has been measured."""

    setting: Setting
    bench: results.Bench
    folder: Path
    command: Sequence[str]
    runs: dict[str, list[JudgedRun]] = field(default_factory=dict)

    @property
    def results_file(self) -> Path:
        """Return where the results go."""
        return self.setting.config.run.results_file or self.folder / results.FILE_NAME

    def content(self) -> dict[str, Any]:
        """Return the contents of the result file as they are now."""
        names = losses_of(self.setting.config)
        return results.assemble(self.setting, self.bench, self.runs, self.command, names)


def main(parsed: Parsed[Any]) -> int:
    """Run `train` or `compare`; return the exit code: 0 done, 1 a loss failed, 130/143 signal."""
    check_comparison(parsed)
    code, _ = run(parsed.config, sys.argv, parsed.typed)
    return code


def run_comparison(config: CompareConfig | TrainConfig) -> dict[str, Any]:
    """Run a comparison and return the contents of its result file; raises UserError for bad input."""
    check_comparison(Parsed(config))
    return run(config, ["run_comparison"])[1]


def run(
    config: Config, command: Sequence[str], typed: frozenset[str] = frozenset()
) -> tuple[int, dict[str, Any]]:
    """Train, judge, compare and report; return exit code and the contents of the result file.

    `typed` names the settings that the demo leaves alone.
    """
    if not (isinstance(config, CompareConfig) and config.demo):
        find_folder(config.data.data_dir)
    try:
        folder = open_folder(config)
    except OSError as error:
        raise UserError(f"--out: {error}") from error
    console = Console()
    console.line("run", str(folder))
    if isinstance(config, CompareConfig) and config.demo:
        config = simulate(config, folder, typed)
    prepare_machine(config)
    comparison = open_comparison(config, folder, command, console)
    code = train_all(comparison)
    if code > INTERRUPTED:
        return code, comparison.content()
    return finish(comparison, code)


def open_folder(config: Config) -> Path:
    """Return the folder of the run: the one to resume, the one asked for, or the next."""
    run = config.run
    if run.resume is not None:
        check_resumed(config, run.resume)
        return run.resume
    if run.out is None:
        folder = next_run_folder(RUNS)
    else:
        require_no_run(run.out)
        folder = run.out
        folder.mkdir(parents=True, exist_ok=True)
    if run.results_file is not None:
        run.results_file.parent.mkdir(parents=True, exist_ok=True)
        if run.results_file.is_dir():
            raise UserError(f"--results-file {run.results_file}: is a folder")
    replace_text(folder / CONFIG, to_yaml(config))
    return folder


def check_resumed(config: Config, folder: Path) -> None:
    """Raise a UserError unless `folder` holds a comparison with the same settings."""
    held = folder / CONFIG
    if not held.is_file():
        raise UserError(f"--resume {folder}: holds no comparison ({CONFIG} not found)")
    changed = changed_settings(held.read_text(encoding="utf-8"), to_yaml(config), PLACES)
    if changed:
        raise UserError(f"--resume {folder}: other settings:\n       " + "\n       ".join(changed))


def simulate(config: CompareConfig, folder: Path, typed: frozenset[str]) -> CompareConfig:
    """Write simulated data into the run folder and return the settings of the demo, typed ones kept."""
    data = folder / "data"
    if config.run.resume is None or not data.is_dir():
        prepare(Parsed(PrepareConfig(out=data)))
    values = {name: value for name, value in PRESETS["smoke"].items() if name not in typed}

    def preset(group: Any) -> Any:
        return replace(group, **{name: value for name, value in values.items() if hasattr(group, name)})

    return replace(
        config,
        network=replace(preset(config.network), preset="smoke"),
        data=replace(preset(config.data), data_dir=data),
        optimization=preset(config.optimization),
    )


def prepare_machine(config: Config) -> None:
    """Set threads and determinism."""
    if config.run.num_threads:
        torch.set_num_threads(config.run.num_threads)
    if config.run.deterministic:
        use_deterministic_kernels()


def open_comparison(config: Config, folder: Path, command: Sequence[str], console: Console) -> Comparison:
    """Read the data, judge the baselines, say what is about to happen."""
    device = choose_device(config.run.device)
    study = open_study(config.data, console)
    network_config(config.network, config.data, study.metadata.img_size)
    started = time.monotonic()
    yardsticks = measure(study, config.data) if config.judging.baselines else Yardsticks()
    if yardsticks.scores:
        console.line("baseline", f"{', '.join(yardsticks.scores)}  {time.monotonic() - started:.0f} s")
    setting = Setting(config, study, yardsticks, device, console)
    comparison = Comparison(setting, results.Bench(setting), folder, list(command))
    announce(comparison)
    return comparison


def announce(comparison: Comparison) -> None:
    """Print network, steps, projected time and how each loss begins."""
    setting = comparison.setting
    config, console = setting.config, setting.console
    names, seeds = losses_of(config), seeds_of(config)
    settings = network_config(config.network, config.data, setting.img_size)
    model = build_network(settings, config.network, seeds[0])
    parameters = sum(p.numel() for p in model.parameters())
    steps = len(index_loaders(len(setting.study.splits.train), 1, config.optimization.batch_size, 0).batches)
    console.line(
        "model",
        f"SimVP {settings.model_type}  {parameters:,} parameters  {settings.in_len} -> {settings.out_len} "
        f"frames  {setting.device}",
    )
    total = steps * config.optimization.epochs * len(names) * len(seeds)
    seconds = total * step_seconds(setting, names[0], seeds[0])
    console.line(
        "plan",
        f"{len(names)} losses x {len(seeds)} seeds x {config.optimization.epochs} epochs x {steps} steps = "
        f"{total} steps, about {seconds / 60:.0f} min",
    )
    if seconds > 3600 * SLOW_HOURS and setting.device.type == "cpu":
        console.line("plan", f"that is {seconds / 3600:.1f} hours on the CPU; --preset small is for it")
    for name in names:
        console.line("balance", balance_line(setting, name))
        if name in ("sparsity", "composite"):
            console.line("balance", blanking_rule(config.loss_options.sparsity_penalty))


def balance_line(setting: Setting, name: str) -> str:
    """Return how much of a loss the lit cells are at the start, and what lifts them."""
    config = setting.config
    bias = start_bias(name, config.network, setting.img_size)
    share = positive_share(name, config.loss_options, setting.img_size, logit=bias or 0.0)
    shown = "coupled over the batch" if share is None else f"{share:.3%}".replace("%", " %")
    return (
        f"{name:<18} lit cells' share of the initial loss {shown}   "
        f"prior bias {'none' if bias is None else f'{bias:.3f}'}"
    )


def step_seconds(setting: Setting, loss: str, seed: int) -> float:
    """Return the time of one step, measured on a network that is thrown away."""
    config = setting.config
    settings = network_config(config.network, config.data, setting.img_size)
    network = build_network(settings, config.network, seed).to(setting.device)
    apply_bias(network, start_bias(loss, config.network, setting.img_size))
    function = build_loss(loss, config.loss_options, setting.img_size)
    train = Sequences.of(setting.study.splits.train, config.data, setting.device)
    index = torch.arange(min(config.optimization.batch_size, len(train)), device=setting.device)
    times = []
    for _ in range(MEASURED_STEPS + 1):
        started = time.monotonic()
        targets, mask = train.targets(index)
        value = function(network(train.inputs(index)), targets, mask)
        torch.autograd.grad(value, list(network.parameters()), allow_unused=True)[0].sum().item()
        times.append(time.monotonic() - started)
    return min(times[1:])


def train_all(comparison: Comparison) -> int:
    """Train every loss with every seed; return 0, 1 when one failed, or 128 + a signal.

    The result file is written after each, so that a later failure loses nothing.
    """
    setting, failed = comparison.setting, False
    for loss in losses_of(setting.config):
        for seed in seeds_of(setting.config):
            folder = comparison.folder / loss / f"seed{seed}"
            judged = load_judged(folder / RESULT) if setting.config.run.resume else None
            if judged is not None and judged.entry["data"] != setting.study.sha256:
                raise UserError(f"--resume {comparison.folder}: {folder} was trained on other data")
            if judged is None:
                setting.console.line("train", f"{loss}  seed {seed}")
                code, judged = attempt(setting, loss, seed, folder)
                if code > INTERRUPTED:
                    return code
            failed = failed or not judged.ok
            comparison.runs.setdefault(loss, []).append(judged)
            results.write(comparison.results_file, comparison.content())
    return int(failed)


def attempt(setting: Setting, loss: str, seed: int, folder: Path) -> tuple[int, JudgedRun]:
    """Train once; a failure becomes an entry with its error."""
    try:
        summary, judged = train_one(setting, loss, seed, folder)
    except RunFolderError as error:
        raise UserError(str(error)) from error
    except ResumeError as error:
        raise UserError(f"--resume {setting.config.run.resume}: {folder}: {error}") from error
    except ISOLATED as error:
        text = f"{type(error).__name__}: {error}"
        setting.console.line("failed", f"{loss}  seed {seed}  {text}")
        return 0, JudgedRun(loss, seed, {"seed": seed, "status": "failed", "error": text})
    if judged is None:
        return summary.exit_code, JudgedRun(loss, seed, {"seed": seed, "status": "stopped", "error": None})
    return 0, judged


def finish(comparison: Comparison, code: int) -> tuple[int, dict[str, Any]]:
    """Write results and report, print the table; a result better than possible is an error."""
    console = comparison.setting.console
    content = comparison.content()
    results.write(comparison.results_file, content)
    for line in table_lines(content):
        console.raw(line)
    console.raw(f"note     {results.CAVEAT}")
    for line in content["warnings"]:
        console.line("warning", line)
    console.raw(f"results  {comparison.results_file}")
    if results.leaking(content):
        console.line("report", "not written: a result lies above the best possible one")
        return 1, content
    results.write_film(
        comparison.setting, comparison.results_file.parent / results.FILM_NAME, comparison.runs
    )
    if content["comparison"] is not None:
        results.write(comparison.folder / SUMMARY, results.in_short(content))
        console.raw(f"report   {write_report([comparison.results_file], comparison.folder / REPORT)}")
    return code, content
