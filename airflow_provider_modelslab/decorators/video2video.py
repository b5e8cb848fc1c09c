"""``@task.modelslab_video2video`` and the other decorators, which Airflow finds by the provider's metadata.

They can also be imported from here, which type checkers understand better.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from airflow.sdk.bases.decorator import task_decorator_factory

if TYPE_CHECKING:
    from airflow.sdk.bases.decorator import TaskDecorator

__all__ = [
    "modelslab_local_video2video_batch_task",
    "modelslab_local_video2video_task",
    "modelslab_video2video_batch_task",
    "modelslab_video2video_task",
]


def modelslab_video2video_task(
    python_callable: Callable[..., Any] | None = None, multiple_outputs: bool | None = None, **arguments: Any
) -> TaskDecorator:
    """Make a task of a function that returns a request.

    The function returns a mapping of the endpoint's attributes, optionally with ``clip_version``, or a
    :class:`~airflow_provider_modelslab.api.request.Video2VideoRequest`. Its values override the attributes of the
    decorator; ``None`` unsets one. They are checked before anything is sent. The function is called once when the task
    starts, even if the task is deferrable.

    :param python_callable: the function. Its arguments are templated, may come from other tasks, be mapped with
        ``.expand()``, or be names of the context.
    :param multiple_outputs: push each entry of the manifest as an XCom of its own.
    :param arguments: those of :class:`~airflow_provider_modelslab.operators.video2video.ModelsLabVideo2VideoOperator`;
        attributes are defaults for those that the function does not return.
    :raises InvalidRequestError: when the task runs, naming each field at fault.
    """
    from airflow_provider_modelslab.decorators.remote import Video2VideoDecoratedOperator

    return _decorator(Video2VideoDecoratedOperator, python_callable, multiple_outputs, arguments)


def modelslab_video2video_batch_task(
    python_callable: Callable[..., Any] | None = None, multiple_outputs: bool | None = None, **arguments: Any
) -> TaskDecorator:
    """Make a task of a function that returns the source of a batch.

    The function returns what :class:`~airflow_provider_modelslab.operators.batch.ModelsLabVideo2VideoBatchOperator`
    accepts as ``source``: a prefix, a manifest file, a list of clips (texts, mappings, requests), the summary of
    another batch; or a mapping with ``source`` and attributes for all clips, which override the decorator's own.

    :param python_callable: see :func:`modelslab_video2video_task`.
    :param multiple_outputs: push each entry of the summary as an XCom of its own.
    :param arguments: those of the operator, without ``source``.
    :raises InvalidRequestError: when the task runs, naming each field at fault.
    """
    from airflow_provider_modelslab.decorators.remote import Video2VideoBatchDecoratedOperator

    return _decorator(Video2VideoBatchDecoratedOperator, python_callable, multiple_outputs, arguments)


def modelslab_local_video2video_task(
    python_callable: Callable[..., Any] | None = None, multiple_outputs: bool | None = None, **arguments: Any
) -> TaskDecorator:
    """:func:`modelslab_video2video_task`, on a GPU of your own.

    :param arguments: those of :class:`~airflow_provider_modelslab.operators.local.LocalVideo2VideoOperator`.
    """
    from airflow_provider_modelslab.decorators.local import LocalVideo2VideoDecoratedOperator

    return _decorator(LocalVideo2VideoDecoratedOperator, python_callable, multiple_outputs, arguments)


def modelslab_local_video2video_batch_task(
    python_callable: Callable[..., Any] | None = None, multiple_outputs: bool | None = None, **arguments: Any
) -> TaskDecorator:
    """:func:`modelslab_video2video_batch_task`, on a GPU of your own.

    :param arguments: those of :class:`~airflow_provider_modelslab.operators.local_batch.LocalVideo2VideoBatchOperator`,
        without ``source``.
    """
    from airflow_provider_modelslab.decorators.local import LocalVideo2VideoBatchDecoratedOperator

    return _decorator(LocalVideo2VideoBatchDecoratedOperator, python_callable, multiple_outputs, arguments)


def _decorator(
    operator: type[Any], function: Callable[..., Any] | None, multiple_outputs: bool | None, arguments: dict[str, Any]
) -> TaskDecorator:
    # Not guessed from the function's annotations as elsewhere: it returns the request, and the task the manifest.
    return task_decorator_factory(
        python_callable=function,
        multiple_outputs=bool(multiple_outputs),
        decorated_operator_class=operator,
        **arguments,
    )
