"""The console block of an epoch, and after training the judged best model with its files and report."""

from __future__ import annotations

from collections.abc import Callable

from common.engine.checkpoint import CheckpointError, find_checkpoint
from common.engine.fit import Summary
from common.engine.run import Run
from common.engine.task import EpochReport
from common.freezing.driver import Freezer
from common.reporting import write_report
from mvfouls.card import load_trained
from mvfouls.console import best_line, train_line, valid_lines
from mvfouls.data import FoulData
from mvfouls.judging import Judgement, judge
from mvfouls.outputs import write_outputs
from mvfouls.predictor import predict_all
from mvfouls.report_rows import TITLES, class_tables, summary_rows
from mvfouls.settings import RunSettings
from mvfouls.task import FoulTask

SIGNAL_BASE = 128


def epoch_block(epochs: int, headline: str, freezer: Freezer) -> Callable[[EpochReport, FoulTask], list[str]]:
    """Return what makes the documented lines of an epoch."""

    def lines(report: EpochReport, task: FoulTask) -> list[str]:
        assert task.judgement is not None
        train = {**report.train, "grad_norm": report.grad_norm}
        made = [_first_line(report, task, epochs, freezer), train_line(train, task.tasks)]
        made += valid_lines(task.judgement)
        if report.best is not None:
            made.append(best_line(report.best, report.best_epoch, headline, saved=report.improved))
        return made

    return lines


def _first_line(report: EpochReport, task: FoulTask, epochs: int, freezer: Freezer) -> str:
    rates = " ".join(f"{name.removeprefix('lr/')} {rate:.2e}" for name, rate in report.lr.items())
    parts = [
        f"epoch {report.epoch:2d}/{epochs}",
        f"{report.train_seconds + report.seconds:.1f} s",
        f"wait {100 * report.waited:.1f} %",
        f"lr {rates}",
        f"open {' '.join(freezer.open_names) or 'none'}",
    ]
    factor = task.plan.factor(task.epoch)
    if factor is not None:
        parts.append(f"f {factor:.2f}")
    if task.cleanups:
        parts.append(f"clean-ups {task.cleanups}")
    return " | ".join(parts)


def finish(run: Run, settings: RunSettings, data: FoulData, task: FoulTask, summary: Summary) -> None:
    """Judge the best model on the validation actions and write what a user takes away."""
    console = run.console
    if summary.exit_code >= SIGNAL_BASE:
        resume = "" if settings.test_run else f"; --resume {run.folder} continues"
        console.line("done", summary.reason + resume)
        return
    console.line("done", f"{summary.reason}: {summary.epochs} epochs, {summary.steps} steps")
    if summary.best is None:
        console.line("done", "no validation was finished: nothing to judge")
        return
    try:
        best = find_checkpoint("best", run.folder)
    except CheckpointError as error:
        console.line("done", f"the best model was not saved: {error}")
        return
    device = next(task.model.parameters()).device
    trained = load_trained(best, device)
    found = predict_all(
        trained.model,
        task.judging.scores,
        data.validation(settings),
        device=device,
        batch_size=settings.loader.batch_size,
        flipped=settings.judge.tta,
        limit=task.judging.limit,
    )
    judgement = judge(
        found.probabilities,
        found.actions,
        data.truth,
        data.tasks,
        settings.judge.projection,
        partial=task.judging.partial,
    )
    logits = found.logits if settings.judge.save_logits else None
    write_outputs(run.folder, judgement, logits=logits)
    write_events(run, judgement, step=trained.step, epoch=trained.epoch)
    console.line("report", str(write_report(run.folder)))


def write_events(run: Run, judgement: Judgement, *, step: int, epoch: int) -> None:
    """Write the numbers, classes and confusion of the best model as events of the report."""
    run.events.write("summary", step, epoch, {"split": "valid", "rows": summary_rows(judgement)})
    for task, title, rows, columns in class_tables(judgement):
        content = {"split": "valid", "task": task, "title": title, "columns": columns, "rows": rows}
        run.events.write("per_class", step, epoch, content)
    for name, judged in judgement.tasks.items():
        matrix, names = judged.matrix.tolist(), list(judged.labels.classes)
        content = {"split": "valid", "task": name, "title": TITLES[name], "names": names, "matrix": matrix}
        run.events.write("confusion", step, epoch, content)
