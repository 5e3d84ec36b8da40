"""Scenes of several objects, made so that neither the picture nor the text alone, nor their sum, tells the label."""

from interplay.data.scenes.table import SCENES, load_scenes

__all__ = ["SCENES", "load_scenes"]
