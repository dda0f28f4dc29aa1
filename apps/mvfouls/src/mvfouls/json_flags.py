"""Flags whose value is a JSON object."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from math import isfinite
from typing import Any

from common.config import UserError
from mvfouls.config_shared import task_name


def read_object(flag: str, text: str) -> dict[str, Any]:
    """Return a JSON object; UserError naming the flag for anything else, and for a key given twice."""

    def pairs(found: list[tuple[str, Any]]) -> dict[str, Any]:
        keys = [key for key, _ in found]
        if twice := [key for key in keys if keys.count(key) > 1]:
            raise UserError(f"{flag}: {twice[0]!r} is given twice")
        return dict(found)

    try:
        content = json.loads(text, object_pairs_hook=pairs)
    except json.JSONDecodeError as error:
        raise UserError(
            f"{flag}: JSON is expected; {error.msg} at column {error.colno} of {text!r}"
        ) from error
    if not isinstance(content, dict):
        raise UserError(f"{flag}: a JSON object is expected, not {text!r}")
    return content


def read_task_weights(flag: str, text: str, tasks: Collection[str]) -> dict[str, float]:
    """Return the weight of each task named; UserError for unknown tasks and weights that cannot be."""
    return {task: _number(flag, task, value) for task, value in _by_task(flag, text, tasks).items()}


def read_class_weights(flag: str, text: str, classes: Mapping[str, int]) -> dict[str, tuple[float, ...]]:
    """Return the class weights of each task named; `classes` are the tasks with their numbers of classes.

    UserError for unknown tasks, lists of another length, and weights that cannot be.
    """
    found = {}
    for task, values in _by_task(flag, text, classes).items():
        if not isinstance(values, list) or len(values) != classes[task]:
            raise UserError(f"{flag}: {task} needs a list of {classes[task]} weights, not {values}")
        found[task] = tuple(_number(flag, task, value) for value in values)
        if not sum(found[task]) > 0:
            raise UserError(f"{flag}: all weights of {task} are 0")
    return found


def _by_task(flag: str, text: str, tasks: Collection[str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for word, value in read_object(flag, text).items():
        task = task_name(word)
        if task not in tasks:
            raise UserError(f"{flag}: no task {task}; tasks are {', '.join(tasks)}")
        if task in found:
            raise UserError(f"{flag}: the task {task} is given twice")
        found[task] = value
    return found


def _number(flag: str, task: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not (isfinite(value) and value >= 0):
        raise UserError(f"{flag}: {value!r} of {task} is no weight; a number of 0 or more is expected")
    return float(value)
