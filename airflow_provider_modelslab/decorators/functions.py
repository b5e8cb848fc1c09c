"""What the operators behind ``@task.modelslab_...`` share: a function, called when the task starts, says what to do."""

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
    """A function and its arguments, which are templated; it may take names of the context, as with ``@task``."""

    template_fields_renderers: ClassVar[dict[str, str]] = _RENDERERS

    def __init__(self, *, python_callable: Callable[..., Any], **arguments: Any) -> None:
        if inspect.iscoroutinefunction(python_callable):
            raise TypeError(
                f"{python_callable.__name__}: must be a plain function; async def is not taken, since it only says "
                "what is to be made, and the wait is the task's"
            )
        super().__init__(python_callable=python_callable, **arguments)

    def execute(self, context: Context) -> Any:
        """Call the function, and do what it says."""
        self._fill_in(context)
        return super().execute(context)

    def _fill_in(self, context: Context) -> None:
        """Take over what the function returns."""
        raise NotImplementedError

    def _called(self, context: Context) -> Any:
        known: Mapping[str, Any] = {**context, **self.op_kwargs}
        return self.python_callable(*self.op_args, **determine_kwargs(self.python_callable, self.op_args, known))

    def _take(self, attributes: Mapping[str, Any]) -> None:
        for name, value in attributes.items():
            setattr(self, name, value)


class ClipTask(_FunctionTask):
    """The function returns attributes, which go before the decorator's own."""

    _may_come_with_the_clip = RequestArguments._may_come_with_the_clip

    def __init__(
        self, *, model_id: str | None = None, prompt: str | None = None, init_video: str | None = None, **arguments: Any
    ) -> None:
        super().__init__(model_id=model_id, prompt=prompt, init_video=init_video, **arguments)

    def _fill_in(self, context: Context) -> None:
        self._take(attributes_in(self._called(context), vars(self)))


class BatchTask(_FunctionTask):
    """The function returns the source, and perhaps attributes for all clips, which go before the decorator's own."""

    _filled = False

    def __init__(self, **arguments: Any) -> None:
        if "source" in arguments:
            raise TypeError("source: is what the function returns, and no argument of the decorator")
        super().__init__(source=None, **arguments)

    def _fill_in(self, context: Context) -> None:
        stored = bool(getattr(self, "deferrable", False))
        self.source, attributes = source_in(self._called(context), vars(self), stored=stored)
        self._take(attributes)
        self._filled = True
