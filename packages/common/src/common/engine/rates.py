"""The learning rate of every parameter group at every step."""

from __future__ import annotations

from common.engine.course import Course
from common.engine.settings import FitConfig
from common.schedulers.learning_rate import Schedule


class Rates:
    """Schedules of one run, and with a freezer the base rates and warm-ups that its state asks for."""

    def __init__(self, course: Course, config: FitConfig) -> None:
        self.course, self.config = course, config
        self._schedules: dict[float, Schedule] = {}
        self.refresh()

    def refresh(self) -> None:
        """Take over the base rates of what is open; the place in the schedule stays."""
        course, optimization = self.course, self.course.optimization
        if course.freezer is not None:
            optimization.base_lrs = course.freezer.base_lrs(
                optimization.optimizer.param_groups, min_lr=self.config.schedule.min_lr
            )
        steps = course.steps_per_epoch
        self._schedules = {
            rate: Schedule(
                config=self.config.schedule,
                base_lr=rate,
                total_steps=self.config.epochs * steps,
                steps_per_epoch=steps,
                mode=course.task.headline.mode,
            )
            for rate in optimization.base_lrs
        }

    def factors(self) -> list[float]:
        """Return what each group's base rate is multiplied by in the next step."""
        course, progress, freezer = self.course, self.course.progress, self.course.freezer
        history = progress.history if freezer is None else freezer.history(progress.history)
        place = (progress.step, progress.epoch, history)
        scaled = {
            rate: schedule.factor(*place) * progress.lr_scale for rate, schedule in self._schedules.items()
        }
        factors = [scaled[rate] for rate in course.optimization.base_lrs]
        if freezer is None:
            return factors
        epochs = progress.epoch + progress.batch / len(course.loaders.batches)
        warmups = freezer.warmups(course.optimization.optimizer.param_groups, epochs)
        return [factor * warmup for factor, warmup in zip(factors, warmups, strict=True)]
