"""Settings of the verbs: every flag has a help text, and reading them needs no heavy package."""

import subprocess
import sys

import pytest

from common.config import cli, flags
from mvfouls import config_verbs
from mvfouls.config_verbs import (
    AnalyzeConfig,
    CompareConfig,
    EvaluateConfig,
    PredictConfig,
    PrepareConfig,
    SubmitConfig,
)

CLASSES = [
    getattr(config_verbs, f"{verb}Config")
    for verb in "Analyze Compare Doctor Evaluate Experiment Predict Prepare Submit".split()
]


@pytest.mark.parametrize("config_class", CLASSES)
def test_every_flag_says_what_it_does(config_class):
    assert all(flag.help.endswith(".") for flag in flags(config_class))


@pytest.mark.parametrize(
    ("config_class", "line"),
    [
        (
            PrepareConfig,
            "--dataset_root D --cache_dir C --window 59 90 --cache_format jpeg --max_cache_gb 3 --workers 4",
        ),
        (PrepareConfig, "--synthetic DIR --actions 24 --seed 0"),
        (EvaluateConfig, "--checkpoint C --split valid --mode compat"),
        (EvaluateConfig, "--predictions P.json --annotations A.json --mode strict"),
        (CompareConfig, "runs/a runs/b P.json --baseline runs/b --annotations A.json --json R.json --out C"),
        (PredictConfig, "--checkpoint C --clips a.mp4 b.mp4 --top_k 2 --tta"),
        (PredictConfig, "--checkpoint C --action_dir DIR"),
        (SubmitConfig, "--checkpoint C --split challenge --out F.json --allow_missing_clips"),
        (AnalyzeConfig, "--annotations A.json --val_logits F.npz"),
    ],
)
def test_the_documented_lines_parse(config_class, line):
    assert isinstance(cli(config_class, line.split(), prog="mvfouls"), config_class)


def test_neither_torch_nor_numpy_is_imported():
    code = "import sys, mvfouls.config_verbs; sys.exit(bool({'torch', 'numpy'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
