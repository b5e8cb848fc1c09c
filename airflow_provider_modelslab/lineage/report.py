"""What every operator of this package tells of its work, from what it read and what it returned."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from functools import wraps
from typing import TYPE_CHECKING, Any, TypeVar, cast

if TYPE_CHECKING:
    from airflow.providers.openlineage.extractors import OperatorLineage
    from airflow.sdk import Context

    from airflow_provider_modelslab.api.endpoint_request import EndpointRequest
    from airflow_provider_modelslab.lineage.uris import Output

__all__ = ["Report", "reported", "request_of"]

log = logging.getLogger(__name__)

_Method = TypeVar("_Method", bound=Callable[..., dict[str, Any]])

_UNTOLD = frozenset({"init_video", "webhook", "track_id"})
"""Attributes that are no part of how a video was made: the clip is an input, and a webhook may have a secret."""


class Report:
    """A base of operators: lineage and asset events of what a task returns.

    OpenLineage, where it is installed, asks the instance of the process in which the task ends, which is a new one
    after a deferral; so what it tells comes from what that process knows.
    """

    outlets: Any
    _result: Mapping[str, Any] | None = None
    _reused: bool = False

    def get_openlineage_facets_on_start(self) -> OperatorLineage[Any, Any] | None:
        """The clips, and how they are asked for."""
        return self._lineage()

    def get_openlineage_facets_on_complete(self, task_instance: object) -> OperatorLineage[Any, Any] | None:
        """The clips, what landed, and how it was made."""
        return self._lineage()

    def get_openlineage_facets_on_failure(self, task_instance: object) -> OperatorLineage[Any, Any] | None:
        """What is known: the job that is paid for, and of a batch what landed all the same."""
        return self._lineage()

    def _lineage(self) -> OperatorLineage[Any, Any] | None:
        try:
            from airflow_provider_modelslab.lineage.openlineage import operator_lineage
        except ImportError:
            return None
        return operator_lineage(self._read(), self._made(), self._facts())

    def _report(self, context: Context, result: Mapping[str, Any]) -> None:
        """Tell of a task's result, once, also when one of the task's methods calls another."""
        if result is self._result:
            return
        self._result = result
        if not self.outlets:
            return
        try:
            extra, landed = self._extra(), self._landed(context)
        except Exception as error:  # noqa: BLE001 - what has landed is paid for: the news of it must not fail the task
            log.warning("The asset events do not tell what landed: %s: %s", type(error).__name__, error)
        else:
            from airflow_provider_modelslab.lineage.assets import emit_assets

            emit_assets(self.outlets, context, extra, landed)

    # -- what the kinds of operators know -------------------------------------------------------------------------

    def _read(self) -> list[str]:
        """The clips: places, which may hold secrets yet."""
        raise NotImplementedError

    def _made(self) -> list[Output]:
        """What is in S3."""
        raise NotImplementedError

    def _facts(self) -> dict[str, Any]:
        """The fields of the run facet."""
        raise NotImplementedError

    def _extra(self) -> dict[str, Any]:
        """The metadata for the events of declared outlets."""
        raise NotImplementedError

    def _landed(self, context: Context) -> list[tuple[str, dict[str, Any]]]:
        """The assets for aliases: URIs, each with its event's metadata."""
        raise NotImplementedError


def reported(method: _Method) -> _Method:
    """A method that ends a task: what it returns is told, see :class:`Report`."""

    @wraps(method)
    def reporting(self: Report, context: Context, *args: Any, **kwargs: Any) -> dict[str, Any]:
        result = method(self, context, *args, **kwargs)
        self._report(context, result)
        return result

    return cast("_Method", reporting)


def request_of(given: object, model: type[EndpointRequest] | None = None) -> dict[str, Any]:
    """The attributes that were given, as the endpoint gets them; without the clip and without secrets.

    :param given: a mapping, or an operator.
    :param model: the endpoint's request; video2video by default.
    """
    from airflow_provider_modelslab.api.errors import InvalidRequestError
    from airflow_provider_modelslab.api.redaction import scrub
    from airflow_provider_modelslab.api.request import Video2VideoRequest

    model = model or Video2VideoRequest
    names = [name for name in model.attributes() if name not in _UNTOLD]
    values = given if isinstance(given, Mapping) else {name: getattr(given, name, None) for name in names}
    told = {name: values[name] for name in names if values.get(name) is not None}
    required = {name: "-" for name, field in model.model_fields.items() if field.is_required()}
    try:  # templates render to text, and here "512" is a number
        record = model(**required | told).record()
    except InvalidRequestError:
        record = scrub(told)
    return {name: record[name] for name in told}
