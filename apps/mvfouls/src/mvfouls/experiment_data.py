"""What an experiment trains on and judges by, opened and checked before anything is computed."""

from __future__ import annotations

from common.config import UserError
from common.engine.distributed import World
from common.engine.logging import Console
from common.metrics.group_bootstrap import FEWEST_GROUPS
from mvfouls.annotations import Annotations, read_annotations
from mvfouls.card import ModelCard, Trained
from mvfouls.clips import ClipSource
from mvfouls.config_shared import task_name
from mvfouls.config_verbs import ExperimentConfig, InferenceConfig
from mvfouls.dataset import FoulDataset
from mvfouls.experiment_features import FOLDER, FeatureTable, steady, stored_features
from mvfouls.experiment_training import Bench, Recipe
from mvfouls.inference import cache_of, header_lines, progress, task_labels_of
from mvfouls.labels import TaskLabels, project_label
from mvfouls.layout import find_split
from mvfouls.projection import missing_heads
from mvfouls.settings import AugmentSettings, CacheSettings, Policies
from mvfouls.split import Split, check_overlap, open_split


def open_bench(config: ExperimentConfig, trained: Trained, world: World, console: Console) -> Bench:
    """Read both splits and compute their features, or find them in `--out`.

    UserError for tasks without a head or an official label, and as the readers of splits and clips.
    """
    tasks = tasks_of(config, trained.card)
    inference = inference_of(config)
    train, judged = open_splits(config, trained.card)
    for label, text in header_lines(trained, train, inference):
        console.line(label, text)
    for text in judged.report.lines():
        console.line("data", text)
    truth = read_annotations(judged.source.annotations, unknown=config.unknown_labels, labelled=True)
    require_enough(truth)
    cache = cache_of(inference, config.dataset_root)
    training = samples(trained.card, train, AugmentSettings(), tasks, cache, policies_of(config))
    evaluated = samples(trained.card, judged, None, tasks, cache, policies_of(config))
    return Bench(
        card=trained.card,
        tasks=tasks,
        training=training,
        judged=evaluated,
        tables=(
            table_of(config, trained, training, cache, console),
            table_of(config, trained, evaluated, cache, console),
        ),
        truth=truth,
        recipe=Recipe(epochs=config.epochs, lr=config.lr, batch_size=config.batch_size),
        world=world,
    )


def tasks_of(config: ExperimentConfig, card: ModelCard) -> dict[str, TaskLabels]:
    """Return the tasks that get a head; UserError for one without a head, and too few for a score."""
    known = task_labels_of(card)
    if config.tasks is None:
        lacking, flag = missing_heads(known), f"--checkpoint {config.checkpoint}"
    else:
        known = _chosen(config, known)
        lacking, flag = missing_heads(known), f"--tasks {' '.join(known)}"
    if lacking is not None:
        raise UserError(f"{flag}: no official score without a head for the task {lacking}")
    return known


def open_splits(config: ExperimentConfig, card: ModelCard) -> tuple[Split, Split]:
    """Return the training split and the one to judge; UserError when one is absent or both share a clip."""
    train, judged = (
        open_split(
            find_split(config.dataset_root, name),
            policies_of(config),
            card.views,
            card.pixels.frames,
            labelled=True,
        )
        for name in ("train", config.split)
    )
    check_overlap(train, judged)
    return train, judged


def require_enough(truth: Annotations) -> None:
    """Raise UserError for too few actions that count officially."""
    labels = [(each.action_class, each.offence, each.severity) for each in truth.actions]
    counted = sum(project_label(*each) is not None for each in labels)
    if counted < FEWEST_GROUPS:
        raise UserError(
            f"{truth.path}: {counted} of {len(truth.actions)} actions have official labels; at least "
            f"{FEWEST_GROUPS} are needed for an interval"
        )


def samples(
    card: ModelCard,
    split: Split,
    augment: AugmentSettings | None,
    tasks: dict[str, TaskLabels],
    cache: CacheSettings,
    policies: Policies,
) -> FoulDataset:
    """Return the samples of a split; UserError when none is left."""
    clips = ClipSource(card.pixels.frames, cache, policies, jitter=0)
    dataset = FoulDataset(split, clips, card.pixels, steady(card.views), augment, tasks, seed=0)
    if not len(dataset):
        raise UserError(f"{split.source.annotations}: no action with a clip and a label is left")
    return dataset


def table_of(
    config: ExperimentConfig, trained: Trained, dataset: FoulDataset, cache: CacheSettings, console: Console
) -> FeatureTable:
    """Return the features of a data set as samples, computed unless they are in `--out`."""
    views, name = len(dataset.split.views), dataset.split.source.name
    features, reused = stored_features(
        config.out / FOLDER, trained, dataset, cache, progress(console, "features", views)
    )
    console.line("features", f"{views} views of {name} {'from ' + str(config.out) if reused else 'computed'}")
    return FeatureTable(dataset, features)


def policies_of(config: ExperimentConfig) -> Policies:
    """Return what happens to clips and labels that cannot be used."""
    return Policies(
        missing_clip=config.missing_clip, short_clip=config.short_clip, unknown_labels=config.unknown_labels
    )


def inference_of(config: ExperimentConfig) -> InferenceConfig:
    """Return where clips are and how they are read, as the other verbs say it."""
    return InferenceConfig(
        dataset_root=config.dataset_root, cache_dir=config.cache_dir, cache_format=config.cache_format
    )


def _chosen(config: ExperimentConfig, known: dict[str, TaskLabels]) -> dict[str, TaskLabels]:
    assert config.tasks is not None
    wanted = {task_name(name): name for name in config.tasks}
    foreign = [given for name, given in wanted.items() if name not in known]
    if foreign:
        raise UserError(
            f"--tasks {foreign[0]}: the checkpoint {config.checkpoint} has heads for {', '.join(known)}"
        )
    return {name: labels for name, labels in known.items() if name in wanted}
