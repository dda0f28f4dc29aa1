"""The pieces of a landing training, made from a command line one by one."""

from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

from training_pieces import Pieces, looked_at

from common.config import parse
from common.engine.distributed import World
from common.engine.logging import Console
from common.engine.randomness import SampleKey, seed_everything
from uav_landing.balance import plan_balance, plan_rare_crops
from uav_landing.cli import ALIASES
from uav_landing.config import PRESETS, TrainConfig
from uav_landing.data.readers import find_photos
from uav_landing.landing_data import open_data
from uav_landing.train import build_loaders, build_task, fit_config, prepare_model

SHORT = (
    "--input-size 64 64 --width-multiplier 0.25 --store-scale 0.25 --workers 0 --device cpu "
    "--wandb-mode disabled --crops-per-image 2"
).split()
"""A training of a second or two on generated scenes."""
KEYS = [SampleKey(index=index, epoch=3, draw=index) for index in range(8)]
"""Eight draws of one epoch."""


class Built(Pieces):
    """The pieces of a training, each made when it is first looked at."""

    def __init__(self, words: list[str], files: Path, train: Callable[..., Any]) -> None:
        super().__init__(words, train)
        self.files = files
        parsed = parse(
            TrainConfig, words, prog="train", presets=PRESETS, default_preset="guide", aliases=ALIASES
        )
        self.config = parsed.config
        self.fit = fit_config(parsed.config, World())

    @cached_property
    def photos(self):
        return find_photos(self.config.data)

    @cached_property
    def data(self):
        config = self.config
        return open_data(
            config.data, config.split, config.store,
            unknown_labels=config.unknown_labels, void=config.loss.void,
            max_images=config.run.max_images, console=Console(enabled=False),
        )  # fmt: skip

    @cached_property
    def rare(self):
        return plan_rare_crops(self.data, self.config.crops, self.config.run.seed)

    @cached_property
    def balance(self):
        crops = self.config.crops
        return plan_balance(
            self.config.loss, self.data.statistics(), self.data.class_ids, self.rare,
            rare_fraction=crops.rare_crop_fraction,
        )  # fmt: skip

    @cached_property
    def model(self):
        seed_everything(self.config.run.seed, 0)
        return prepare_model(self.config, self.data, Console(enabled=False))

    @cached_property
    def loaders(self):
        return build_loaders(self.config, self.data, self.rare, self.model, World())

    @cached_property
    def task(self):
        return build_task(self.config, self.data, self.balance, self.model, World())

    @property
    def crops(self):
        return self.loaders.train.dataset

    @property
    def batch(self):
        return next(iter(self.loaders.train))

    @property
    def windows(self):
        return [self.crops.window(key) for key in KEYS]


def seen(given: str, files: Path, train: Callable[..., Any], look: Callable[[Built], Any]) -> Any:
    """Return what `look` sees, or the text of a refusal."""
    return looked_at(lambda: Built(given.format(tmp=files).split(), files, train), look)
