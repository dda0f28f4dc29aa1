"""The console command `mvfouls`."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from common.config import Verb, run_verbs
from mvfouls.cli import class_weights
from mvfouls.cli.modular import TARGET
from mvfouls.config_class_weights import ALIASES as CLASS_WEIGHTS_ALIASES
from mvfouls.config_class_weights import ClassWeightsConfig
from mvfouls.config_modular import ALIASES, PRESETS, ModularConfig
from mvfouls.config_verbs import (
    AnalyzeConfig,
    CompareConfig,
    DoctorConfig,
    EvaluateConfig,
    ExperimentConfig,
    PredictConfig,
    PrepareConfig,
    SubmitConfig,
)

VERBS = {
    "doctor": Verb(DoctorConfig, "look for what is wrong with a data set", "mvfouls.doctor:main"),
    "prepare": Verb(PrepareConfig, "decode every clip once, or generate a data set", "mvfouls.prepare:main"),
    "analyze": Verb(AnalyzeConfig, "count classes and show what balancing would do", "mvfouls.analyze:main"),
    "train": Verb(
        ModularConfig,
        "train a network; --frontend modular or class_weights",
        TARGET,
        presets=PRESETS,
        aliases=ALIASES,
    ),
    "evaluate": Verb(EvaluateConfig, "judge a checkpoint or predictions officially", "mvfouls.evaluate:main"),
    "compare": Verb(CompareConfig, "compare runs on the same validation actions", "mvfouls.compare:main"),
    "experiment": Verb(
        ExperimentConfig, "compare losses and sampling on a trained backbone", "mvfouls.experiment:main"
    ),
    "predict": Verb(PredictConfig, "name the foul of every action", "mvfouls.predict:main"),
    "submit": Verb(SubmitConfig, "write the file the official evaluation takes", "mvfouls.submit:main"),
}


FRONTENDS = {
    "modular": VERBS["train"],
    "class_weights": Verb(
        ClassWeightsConfig,
        class_weights.DESCRIPTION,
        class_weights.TARGET,
        aliases=CLASS_WEIGHTS_ALIASES,
    ),
}
"""Command lines of `mvfouls train`, by the word after --frontend."""
FRONTEND = "--frontend"


def main(argv: Sequence[str] | None = None) -> int:
    """Run `mvfouls VERB ...` and return the exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    if words[:1] != ["train"]:
        return run_verbs("mvfouls", VERBS, words)
    name, rest = split_frontend(words[1:])
    if name not in FRONTENDS:
        sys.stderr.write(f"error: {FRONTEND}: one of {', '.join(FRONTENDS)} is expected; got {name!r}\n")
        return 2
    return run_verbs("mvfouls", {**VERBS, "train": FRONTENDS[name]}, ["train", *rest])


def split_frontend(words: Sequence[str]) -> tuple[str, list[str]]:
    """Return the command line that `--frontend NAME` asks for, `modular` without one, and the other words."""
    name, rest, left = "modular", [], iter(words)
    for word in left:
        option, equals, value = word.partition("=")
        if option != FRONTEND:
            rest.append(word)
        else:
            name = (value if equals else next(left, "")).replace("-", "_")
    return name, rest
