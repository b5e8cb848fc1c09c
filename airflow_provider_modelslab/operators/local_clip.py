"""One clip on this worker: make it, and put it into S3. The local operators and the last place of a fallback do so."""

from __future__ import annotations

import time
import uuid
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from airflow_provider_modelslab.api.clip_modes import EXTENSIONS
from airflow_provider_modelslab.api.errors import InvalidRequestError, JobTimeoutError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from mypy_boto3_s3 import S3Client

    from airflow_provider_modelslab.api.prices import Prices
    from airflow_provider_modelslab.api.request import Video2VideoRequest
    from airflow_provider_modelslab.hooks.modelslab import ModelsLabHook
    from airflow_provider_modelslab.local.engine import LocalEngine
    from airflow_provider_modelslab.local.stage_types import Generated
    from airflow_provider_modelslab.storage.uri import S3Uri

__all__ = ["land_clip", "make_clip", "named_as_arguments"]


def make_clip(
    engine: LocalEngine,
    request: Video2VideoRequest,
    get_s3_client: Callable[[], S3Client],
    folder: Path,
    *,
    started: float,
    timeout: float,
    is_killed: Callable[[], bool],
    on_step: Callable[[int, int], None] | None = None,
) -> Generated:
    """Read the request's clip and run the model; the result is in ``folder``.

    :param started: seconds since the epoch.
    :param timeout: seconds from then on; checked after each denoising step, of a whole clip after each context window,
        as is ``is_killed``.
    :raises JobTimeoutError: when it takes longer.
    :raises GenerationInterruptedError: when the task was killed.
    """
    from airflow_provider_modelslab.local.engine import GenerationInterruptedError
    from airflow_provider_modelslab.storage.local_files import fetch_object

    clip = fetch_object(request.init_video, get_s3_client, folder)
    output = folder / f"result.{request.output_type or 'mp4'}"
    try:
        with named_as_arguments():
            return engine.generate(
                request.model_copy(update={"init_video": clip}),
                output,
                on_step=on_step,
                should_stop=lambda: is_killed() or time.time() - started > timeout,
            )
    except GenerationInterruptedError as error:
        if is_killed():
            raise
        raise JobTimeoutError(f"The clip was not done within {timeout:g} s: {error}") from error


def land_clip(
    hook: ModelsLabHook,
    request: Video2VideoRequest,
    made: Generated,
    target: S3Uri,
    *,
    conn_id: str,
    started: float,
    prices: Prices | None,
    chain: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Put a clip that was made here into S3; the manifest and sidecar describe it in the endpoint's words.

    :param hook: with the S3 profile.
    :param conn_id: the connection whose settings made it.
    :param started: seconds since the epoch.
    :param chain: of a task that has fallen back to this worker, see :class:`~..storage.result_manifest.Job`.
    :raises LandingError: when the file is no whole video, or S3 refuses it.
    """
    from airflow_provider_modelslab.api.response import Finished
    from airflow_provider_modelslab.storage.local_files import land_file
    from airflow_provider_modelslab.storage.result_manifest import Job

    landed = land_file(made.path, target, hook.get_s3_client(), expected_type=request.output_type or "mp4")
    record = request.record()
    local = prices and prices.of_local(request.model_id)
    job = Job(
        f"local-{uuid.uuid4()}",
        conn_id,
        submitted_at=started,
        request=record,
        price=local.record() if local else None,
        chain=chain,
    )
    meta = {**made.meta, "init_video": record["init_video"]}
    manifest = hook.describe_landed(job, Finished(job.job_id, (), meta, round(made.seconds, 3)), landed)
    return manifest | _whole_facts(meta)


def _whole_facts(meta: dict[str, Any]) -> dict[str, Any]:
    """What the manifest of a whole clip says beside; the remote operator's says the same."""
    if meta.get("clip_mode") != "whole":
        return {}
    problem = {"audio_problem": meta["audio_problem"]} if "audio_problem" in meta else {}
    return {"clip_mode": "whole", "frames": meta["num_frames"], "fps": meta["fps"], "audio": meta["audio"], **problem}


@contextmanager
def named_as_arguments() -> Iterator[None]:
    """Name what is wrong as the operators' arguments are named: the engine's extension ``x_audio`` is ``audio``."""
    try:
        yield
    except InvalidRequestError as error:
        if not any(name in EXTENSIONS for name in error.fields):
            raise
        fields = {name.removeprefix("x_"): list(texts) for name, texts in error.fields.items()}
        raise InvalidRequestError.of_fields(fields) from error
