"""The command that looks for what is wrong with a data set."""

from __future__ import annotations

import json

from common.config import Parsed, writing
from common.engine.logging import Console
from rodent_behavior.config import DoctorConfig
from rodent_behavior.data import index_settings, probe_video
from rodent_behavior.doctor import SplitSettings, examine


def main(parsed: Parsed[DoctorConfig]) -> int:
    """Print the report, write it as JSON; return 1 when something stops training."""
    config, console = parsed.config, Console()
    settings = index_settings(
        config.trials,
        config.pose,
        config.split,
        need_video=False,
        need_pose=config.pose.pose_features != "none",
    )
    split = SplitSettings.of(config.split, config.seed)
    found = examine(settings, probe_video, split, max_gap=config.pose.max_gap)
    for line in found.lines():
        console.raw(line)
    if config.json is not None:
        with writing(f"--json {config.json}"):
            config.json.write_text(json.dumps(found.to_dict(), indent=1) + "\n", encoding="utf-8")
    return found.exit_code(config.strict)
