"""Frozen dataclasses become command lines and YAML files; needs neither torch nor numpy."""

from common.config.commands import LevelFormatter, Verb, run_main, run_verbs
from common.config.errors import UserError, writing
from common.config.findings import Finding, check, has_no_effect
from common.config.parsing import Parsed, Presets, cli, from_yaml, parse
from common.config.ranges import NOT_NEGATIVE, POSITIVE, SHARE, Range, out_of_range
from common.config.schema import REQUIRED, Also, Flag, flags
from common.config.vocabulary import Aliases
from common.config.yaml_file import to_yaml

__all__ = [
    "NOT_NEGATIVE",
    "POSITIVE",
    "REQUIRED",
    "SHARE",
    "Aliases",
    "Also",
    "Finding",
    "Flag",
    "LevelFormatter",
    "Parsed",
    "Presets",
    "Range",
    "UserError",
    "Verb",
    "check",
    "cli",
    "flags",
    "from_yaml",
    "has_no_effect",
    "out_of_range",
    "parse",
    "run_main",
    "run_verbs",
    "to_yaml",
    "writing",
]
