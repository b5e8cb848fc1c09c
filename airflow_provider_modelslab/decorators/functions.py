"""Shared base of the operators behind ``@task.modelslab_...``: a function, called at the task's start."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.providers.common.compat.sdk import DecoratedOperator, determine_kwargs

from airflow_provider_modelslab.decorators.returned import attributes_in, source_in
from airflow_provider_modelslab.operators.arguments import RequestArguments

if TYPE_CHECKING:
    from airflow.sdk import Context

__all__ = ["BatchTask", "ClipTask"]

_RENDERERS = {**DecoratedOperator.template_fields_renderers, **RequestArguments.template_fields_renderers}


class _FunctionTask(DecoratedOperator):
    """A function and its templated arguments; parameters may be names of the context, as with ``@task``."""

    template_fields_renderers: ClassVar[dict[str, str]] = _RENDERERS

    def __init__(self, *, python_callable: Callable[..., Any], **arguments: Any) -> None:
        if inspect.iscoroutinefunction(python_callable):
            raise TypeError(
                f"{python_callable.__name__}: must be a plain function, not async def: it only returns "
                "the request, and the task itself does the waiting"
            )
        super().__init__(python_callable=python_callable, **arguments)

    def execute(self, context: Context) -> Any:
        """Call the function, and execute the operator with what it returned."""
        self._fill_in(context)
        return super().execute(context)

    def _fill_in(self, context: Context) -> None:
        """Apply what the function returned to the operator."""
        raise NotImplementedError

    def _called(self, context: Context) -> Any:
        known: Mapping[str, Any] = {**context, **self.op_kwargs}
        return self.python_callable(*self.op_args, **determine_kwargs(self.python_callable, self.op_args, known))

    def _apply(self, attributes: Mapping[str, Any]) -> None:
        for name, value in attributes.items():
            setattr(self, name, value)


class ClipTask(_FunctionTask):
    """The function returns attributes, which override the decorator's own."""

    _may_come_with_the_clip = RequestArguments._may_come_with_the_clip

    def __init__(
        self, *, model_id: str | None = None, prompt: str | None = None, init_video: str | None = None, **arguments: Any
    ) -> None:
        super().__init__(model_id=model_id, prompt=prompt, init_video=init_video, **arguments)

    def _fill_in(self, context: Context) -> None:
        self._apply(attributes_in(self._called(context), vars(self)))


class BatchTask(_FunctionTask):
    """The function returns the source, and optionally attributes for all clips, which override the decorator's own."""

    _filled = False

    def __init__(self, **arguments: Any) -> None:
        if "source" in arguments:
            raise TypeError("source: is returned by the function, and cannot be an argument of the decorator")
        super().__init__(source=None, **arguments)

    def _fill_in(self, context: Context) -> None:
        stored = bool(getattr(self, "deferrable", False))
        self.source, attributes = source_in(self._called(context), vars(self), stored=stored)
        self._apply(attributes)
        self._filled = True
