"""A Dag with one batch, for tests of what happens to it between its tries, runs and deferrals."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_provider_modelslab.operators.batch import ModelsLabVideo2VideoBatchOperator
from tests.integration.tasks.conftest import FRAMES
from tests.support.samples import small_mp4

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


class Dag:
    """Makes the task as each parse of the Dag does: deferrable, and so impatient that it defers at once.

    :param given: arguments of the task, in place of or beside those below; ``arguments`` may be changed later.
    """

    def __init__(self, s3: S3Client, bucket: str, **given: Any) -> None:
        self._s3 = s3
        self.bucket = bucket
        self.arguments: dict[str, Any] = {
            "model_id": "dark-sushi-mix",
            "prompt": "a fox",
            "source": f"s3://{bucket}/in/",
            "destination": f"s3://{bucket}/out/",
            "num_frames": FRAMES,
            "poll_interval": 0.02,
            "max_poll_interval": 0.1,
            "timeout": 600,
            "deferrable": True,
            "defer_after": 0.05,
            **given,
        }

    def add(self, *names: str) -> None:
        """Clips that arrive."""
        for name in names:
            self._s3.put_object(Bucket=self.bucket, Key=f"in/{name}.mp4", Body=small_mp4())

    def __call__(self, **changes: Any) -> ModelsLabVideo2VideoBatchOperator:
        """The task.

        :param changes: arguments for this parse alone.
        """
        return ModelsLabVideo2VideoBatchOperator(task_id="restyle", **{**self.arguments, **changes})
