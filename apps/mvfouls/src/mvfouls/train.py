"""Training, from settled settings to a judged model. `train` tells the story; each step is one call."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import torch

from common.balancing.samplers import ShardedEvalSampler, ShuffleSampler
from common.config import Parsed, UserError, check, to_yaml
from common.engine.checkpoint import find_checkpoint, load_checkpoint
from common.engine.command import run_training, use_deterministic_kernels
from common.engine.distributed import World
from common.engine.fit import Summary, fit
from common.engine.loading import Batches, Loaders, make_loader
from common.engine.logging import Console
from common.engine.randomness import seed_everything
from common.engine.run import Run
from common.engine.state import Provenance
from common.engine.step import TrainingError
from common.engine.task import Batch
from common.engine.wandb import WandbSink
from common.freezing.driver import Freezer
from common.video import VideoError
from mvfouls.augment_device import InModelAugment
from mvfouls.balance import BalancePlan, plan_balance
from mvfouls.card import describe
from mvfouls.checks_modular import check_modular
from mvfouls.config_modular import ModularConfig
from mvfouls.data import FoulData, open_data
from mvfouls.dataset import FoulDataset, Sample, collate
from mvfouls.failures import explain
from mvfouls.features import FeatureDataset, collate_features, compute_features, reusable
from mvfouls.header import print_header
from mvfouls.model import FoulModel, build_model
from mvfouls.objective import Objective
from mvfouls.outcome import epoch_block, finish
from mvfouls.predictor import Collector
from mvfouls.projection import missing_heads
from mvfouls.resolve_modular import resolve
from mvfouls.run_folder import open_run, placed
from mvfouls.scores import score_of
from mvfouls.settings import RunSettings
from mvfouls.smaller_batch import ShrinkingFreezer
from mvfouls.task import FoulTask, Judging

FIXED = ("application", "model", "tasks", "scores", "pixels", "views", "projection", "junk_ids", "cosine")
"""What a checkpoint must say like the run that continues it."""
NEEDED = ("application", "tasks", "junk_ids", "cosine")
"""What it must say even where settings may change."""
FREE_SETTINGS = frozenset(
    {
        "_typed", "dataset_root", "cache_dir", "cache_format", "epochs", "num_workers", "worker_timeout",
        "prefetch_factor", "pin_memory", "save_dir", "resume", "resume_best_acc", "memory_cleanup_interval",
        "enable_data_optimization", "disable_data_optimization", "device", "wandb", "overwrite",
        "enable_config_validation", "strict_config_validation", "allow_config_change", "compile",
        "channels_last", "activation_checkpointing", "weights_dir", "train_dir", "val_dir",
        "train_annotations", "val_annotations", "output_dir", "backbone_checkpointing", "eval_freq",
        "save_val_logits", "verbose",
    }
)  # fmt: skip


_log = logging.getLogger("mvfouls")


def main_modular(parsed: Parsed[ModularConfig]) -> int:
    """Train as `train_modular.py` says; return the exit code: 0 done, 1 failed, 130 or 143 for a signal."""
    cuda = torch.cuda.is_available() and parsed.config.run.device != "cpu"
    check(check_modular(parsed, cuda=cuda), parsed.config.validation.strict_config_validation, _log)
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    return main(resolve(parsed, cuda=cuda, processes=processes), to_yaml(parsed.config, typed=parsed.typed))


def main(settings: RunSettings, config: str) -> int:
    """Train; `config` is the YAML text of the command line's settings."""

    def run(world: World) -> Summary:
        with placed(settings, world) as settled:
            return train(settled, config, world)

    return run_training(run, settings.device, bad_input=(VideoError,), explain=explain)


def train(settings: RunSettings, config: str, world: World) -> Summary:
    """Read, check, build, fit, judge."""
    console = Console(enabled=world.main)
    data = open_data(settings)
    training = data.training(settings)
    labels = {task: training.presented_labels(task) for task in data.tasks}
    plan = plan_balance(
        settings.balance, settings.losses, labels, data.tasks, epochs=settings.fit.epochs, seed=settings.seed
    )
    refuse_overcorrection(plan)
    seed_everything(settings.seed, world.rank)
    if settings.deterministic:
        use_deterministic_kernels()
    model = build_network(settings, data).to(world.device)
    freezer = build_freezer(settings, data, model, world)
    loaders = build_loaders(settings, data, training, plan, model, world, console)
    task = build_task(settings, data, plan, model, freezer, world)
    card = describe(settings, data.class_names(), model)
    provenance = Provenance(
        config=config,
        metadata=card.to_dict(),
        statistics={task: each.to_dict() for task, each in plan.statistics.items()},
        free_settings=FREE_SETTINGS,
        fixed_metadata=NEEDED if settings.allow_config_change else FIXED,
        allow_changes=settings.allow_config_change,
    )
    with open_run(settings, config, world) as run:
        print_header(run, settings, data, training, plan, freezer, loaders, world)
        summary = fit(
            run,
            task,
            loaders,
            replace(settings.fit, resume_best=settings.resume_best),
            provenance=provenance,
            world=world,
            resume=settings.resume,
            sink=open_wandb(settings, config, run, world),
            freezer=freezer,
        )
        if world.main:
            finish(run, settings, data, task, summary)
            if settings.test_run and not summary.exit_code:
                check_saved(run, model)
    return summary


def refuse_overcorrection(plan: BalancePlan) -> None:
    """Raise UserError with every correction that must not be trained."""
    errors = [text for level, text in plan.findings() if level == "error"]
    if errors:
        raise UserError("\n       ".join(errors))


def build_network(settings: RunSettings, data: FoulData) -> FoulModel:
    """Return the network with its weights; UserError for clips or weights that do not fit it."""
    classes = {task: len(names) for task, names in data.class_names().items()}
    cosine = [task for task, loss in settings.losses.items() if loss.kind == "ldam"]
    pixels = settings.data.pixels
    return build_model(settings.model, classes, cosine, pixels.frames.count, (pixels.height, pixels.width))


class ProbeBatches:
    """The same training batches every time, as they are, without any change."""

    def __init__(self, dataset: FoulDataset, settings: RunSettings, world: World) -> None:
        self.dataset, self.size, self.number = dataset, settings.loader.batch_size, settings.probe_batches
        self.sampler = ShuffleSampler(len(dataset), seed=settings.seed, rank=world.rank, world=world.size)

    def __iter__(self) -> Iterator[Batch]:
        self.sampler.set_epoch(0)
        held: list[Sample] = []
        made = 0
        for key in self.sampler:
            held.append(self.dataset[key])
            if len(held) == self.size:
                yield collate(held)
                held, made = [], made + 1
                if made == self.number:
                    return
        if held:
            yield collate(held)


def build_freezer(settings: RunSettings, data: FoulData, model: FoulModel, world: World) -> Freezer:
    """Return what opens and closes the backbone's blocks."""
    probe, largest = ProbeBatches(data.plain(settings), settings, world), settings.loader.unfreeze_batch
    try:
        if largest is not None:
            return ShrinkingFreezer(
                model, model.blocks(), settings.freezing, settings.rates, largest=largest, probe=probe
            )
        return Freezer(model, model.blocks(), settings.freezing, settings.rates, probe=probe)
    except ValueError as error:
        raise UserError(f"freezing: {error}") from error


def build_loaders(
    settings: RunSettings,
    data: FoulData,
    training: FoulDataset,
    plan: BalancePlan,
    model: FoulModel,
    world: World,
    console: Console,
) -> Loaders:
    """Return balanced training batches and validation batches, of features when no clip is needed twice."""
    loader, judged = settings.loader, data.validation(settings)
    sampler = plan.sampler(world.rank, world.size)
    if loader.train_batches is not None:
        sampler.length = min(sampler.length, loader.train_batches * loader.batch_size * world.size)
    limit = validation_limit(settings, world)
    count = len(judged) if limit is None else min(limit, len(judged))
    batches = Batches(sampler, loader.batch_size)
    evaluation = Batches(ShardedEvalSampler(count, rank=world.rank, world=world.size), loader.batch_size)
    held: list[FoulDataset | FeatureDataset] = [training, judged]
    joined: Callable[[Sequence[Sample]], Sample] = collate
    if reusable(settings):
        joined = collate_features
        held = [_with_features(dataset, model, world, console) for dataset in (training, judged)]
    made = [
        make_loader(
            dataset,
            each,
            workers=loader.workers,
            collate=joined,
            pin_memory=loader.pin_memory,
            prefetch_factor=loader.prefetch,
            timeout=loader.timeout,
            persistent=loader.optimized,
        )
        for dataset, each in zip(held, (batches, evaluation), strict=True)
    ]
    return Loaders(made[0], sampler, batches, made[1], copy_ahead=loader.optimized)


def validation_limit(settings: RunSettings, world: World) -> int | None:
    """Return how many validation samples are judged; None: all."""
    batches = settings.judge.batches
    return None if batches is None else batches * settings.loader.batch_size * world.size


def _with_features(dataset: FoulDataset, model: FoulModel, world: World, console: Console) -> FeatureDataset:
    features = compute_features(model, dataset, world.device)
    console.line(
        "features", f"{len(features)} views of {dataset.split.source.name}: the backbone never trains"
    )
    return FeatureDataset(dataset, features)


def build_task(
    settings: RunSettings,
    data: FoulData,
    plan: BalancePlan,
    model: FoulModel,
    freezer: Freezer,
    world: World,
) -> FoulTask:
    """Return losses and metrics around the network."""
    judge = settings.judge
    collector = Collector(
        data.validation(settings), {t: len(c) for t, c in data.class_names().items()}, world.device
    )
    judging = Judging(
        collector,
        data.truth,
        data.tasks,
        {task: score_of(loss) for task, loss in settings.losses.items()},
        projection=judge.projection,
        headline=judge.headline,
        official=missing_heads(data.tasks) is None,
        limit=validation_limit(settings, world),
        flipped=judge.tta,
    )
    return FoulTask(
        model,
        Objective(settings.losses, plan).to(world.device),
        plan,
        data.tasks,
        judging=judging,
        augment=InModelAugment(settings.augment),
        cleanup_interval=settings.loader.cleanup_interval,
        lines=epoch_block(settings.fit.epochs, judge.headline, freezer),
        weighting=settings.task_weighting,
    )


def check_saved(run: Run, model: FoulModel) -> None:
    """Read the last checkpoint of a test run again; TrainingError when it is not what was trained."""
    checkpoint = load_checkpoint(find_checkpoint("last", run.folder))
    own = model.state_dict()
    if any(not torch.equal(value, own[name].cpu()) for name, value in checkpoint.model.items()):
        raise TrainingError(f"{checkpoint.path}: the weights read back are not those that were trained")
    run.console.line(
        "test run", f"checkpoint of step {checkpoint.step} written, read back equal; all is removed"
    )


def open_wandb(settings: RunSettings, config: str, run: Run, world: World) -> WandbSink | None:
    """Start the optional copy of the metrics; nothing on other ranks."""
    if not (settings.wandb and world.main):
        return None
    sink = WandbSink(
        "mvfouls",
        mode="auto",
        name=run.folder.name,
        tags=[settings.frontend, settings.model.backbone],
        config={"config": config},
        folder=run.folder,
    )
    return sink.start(run.console)
