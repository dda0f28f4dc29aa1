"""Contradictions and flags that cannot act, found before anything is read or trained."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from typing import Any

from common.config import NOT_NEGATIVE, Finding, Parsed, Range, UserError, check, has_no_effect, out_of_range
from eye_fixation.config import CompareConfig, TrainConfig
from eye_fixation.losses import LOSSES, build_loss, loss_info, loss_names, readout_bias
from eye_fixation.simvp_config import INERT, canonical_model_type

_log = logging.getLogger("eye_fixation")

LOSS_FIELDS = tuple(dict.fromkeys(field for info in LOSSES.values() for field in info.options))
RANGES = {
    Range(1): ("epochs", "batch_size"),
    NOT_NEGATIVE: (
        "max_train", "max_val", "max_test", "bootstrap", "num_threads", "plateau_patience",
        "early_stopping_patience", "lr", "weight_decay", "clip_norm", "input_sigma",
    ),
    Range(0, 1, above=True, below=True): ("ci", "plateau_factor"),
}  # fmt: skip

Config = TrainConfig | CompareConfig


def losses_of(config: Config) -> tuple[str, ...]:
    """Return the names of the losses; UserError for an unknown or repeated one."""
    if isinstance(config, CompareConfig):
        return loss_names(config.losses)
    loss_info(config.loss)
    return (config.loss,)


def seeds_of(config: Config) -> tuple[int, ...]:
    """Return the seeds."""
    return config.seeds if isinstance(config, CompareConfig) else (config.seed,)


def check_comparison(parsed: Parsed[Any]) -> None:
    """Raise one UserError for everything that cannot be; log what is only odd."""
    config: Config = parsed.config
    names = losses_of(config)
    if not names:
        raise UserError("--losses: at least one is expected")
    config.loss_options.check()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for name in names:
            build_loss(name, config.loss_options)
            if config.network.init_from is None:
                readout_bias(name, config.network.prior_bias, 32)
    for text in dict.fromkeys(str(entry.message) for entry in caught):
        _log.warning("%s", text)
    findings = [
        *out_of_range(config, RANGES),
        *_seeds(config),
        *_loss_flags(parsed, names),
        *_model_flags(parsed, names),
        *_other_flags(parsed),
    ]
    check(findings, False, _log)


def _error(text: str) -> Finding:
    return Finding("error", text)


def _seeds(config: Config) -> Iterator[Finding]:
    seeds = seeds_of(config)
    if not seeds:
        yield _error("--seeds: at least one is expected")
    for seed in sorted({seed for seed in seeds if seeds.count(seed) > 1}):
        yield _error(f"--seeds: {seed} is listed twice")
    for seed in seeds:
        if seed < 0:
            yield _error(f"seed {seed}: a number from 0 is expected")


def _loss_flags(parsed: Parsed[Any], names: tuple[str, ...]) -> Iterator[Finding]:
    read = {field for name in names for field in LOSSES[name].options}
    for field in LOSS_FIELDS:
        if field in parsed.typed and field not in read:
            yield _error(has_no_effect(field, f"none of the losses {', '.join(names)} reads it"))


def _model_flags(parsed: Parsed[Any], names: tuple[str, ...]) -> Iterator[Finding]:
    network = parsed.config.network
    kind = canonical_model_type(network.model_type)
    for field in INERT[kind]:
        if field in parsed.typed:
            yield _error(has_no_effect(field, f"--model-type is {kind}"))
    if "prior_bias" not in parsed.typed:
        return
    if network.init_from is not None:
        yield _error(has_no_effect("prior_bias", f"--init-from {network.init_from} holds the readout"))
    elif not any(
        LOSSES[name].prior_bias or (network.prior_bias == "all" and LOSSES[name].kind == "bernoulli")
        for name in names
    ):
        yield _error(has_no_effect("prior_bias", f"none of the losses {', '.join(names)} takes one"))


def _other_flags(parsed: Parsed[Any]) -> Iterator[Finding]:
    config, typed = parsed.config, parsed.typed
    scheduler = config.optimization.scheduler
    for field in ("plateau_patience", "plateau_factor"):
        if field in typed and scheduler != "plateau":
            yield _error(has_no_effect(field, f"--scheduler is {scheduler}"))
    if "ci" in typed and not config.judging.bootstrap:
        yield _error(has_no_effect("ci", "--bootstrap is 0"))
    if "wandb_project" in typed and not config.run.wandb:
        yield _error(has_no_effect("wandb_project", "--wandb is off"))
    if config.run.resume is not None and config.run.out not in (None, config.run.resume):
        yield _error(f"--out {config.run.out} with --resume {config.run.resume}, which is another folder")
    if isinstance(config, CompareConfig) and config.demo:
        for field in ("data_dir", "preset"):
            if field in typed:
                yield _error(
                    f"--demo brings its own data and preset: --{field.replace('_', '-')} excludes it"
                )


def require_no_run(folder: Any) -> None:
    """Raise a UserError for a folder that holds results already."""
    if (folder / "loss_comparison.json").exists() or any(folder.glob("*/seed*")):
        raise UserError(f"--out {folder}: holds results already; --resume {folder} continues them")
