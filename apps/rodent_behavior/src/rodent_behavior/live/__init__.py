"""Live behaviour: poses in, actions and triggers out."""

from rodent_behavior.live.processor import BehaviorProcessor
from rodent_behavior.live.trigger import Trigger

__all__ = ["BehaviorProcessor", "Trigger"]
