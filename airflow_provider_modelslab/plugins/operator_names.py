"""Operator names of this provider's tasks in Airflow."""

from __future__ import annotations

__all__ = ["DECORATORS", "OPERATORS"]

OPERATORS = (
    "ModelsLabVideo2VideoOperator",
    "ModelsLabVideo2VideoToS3Operator",
    "ModelsLabVideo2VideoSensor",
    "ModelsLabVideo2VideoBatchOperator",
    "LocalVideo2VideoOperator",
    "LocalVideo2VideoBatchOperator",
)
"""Class names of the operators whose tasks make, fetch or await videos."""

DECORATORS = (
    "@task.modelslab_video2video",
    "@task.modelslab_video2video_batch",
    "@task.modelslab_local_video2video",
    "@task.modelslab_local_video2video_batch",
)
"""The same tasks, made by decorators."""
