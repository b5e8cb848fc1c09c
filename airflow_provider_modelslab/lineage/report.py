"""Lineage and asset events of this package's operators, from their arguments and their return values."""

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
"""Attributes that are left out of the request facet: the clip is an input, and a webhook may contain a secret."""


class Report:
    """Base class of operators: lineage and asset events for a task's return value.

    OpenLineage, if installed, calls the operator instance of the process in which the task ends. After a deferral that
    is a new instance, so the events use only what that process knows.
    """

    outlets: Any
    _result: Mapping[str, Any] | None = None
    _reused: bool = False

    def get_openlineage_facets_on_start(self) -> OperatorLineage[Any, Any] | None:
        """The input clips, and the request."""
        return self._lineage()

    def get_openlineage_facets_on_complete(self, task_instance: object) -> OperatorLineage[Any, Any] | None:
        """The input clips, the landed results, and the request."""
        return self._lineage()

    def get_openlineage_facets_on_failure(self, task_instance: object) -> OperatorLineage[Any, Any] | None:
        """The known facts: the job that is paid for, and the results of a batch that landed before the failure."""
        return self._lineage()

    def _lineage(self) -> OperatorLineage[Any, Any] | None:
        try:
            from airflow_provider_modelslab.lineage.openlineage import operator_lineage
        except ImportError:
            return None
        return operator_lineage(self._read(), self._made(), self._facts())

    def _report(self, context: Context, result: Mapping[str, Any]) -> None:
        """Emit the events of a task's result, once, even if one of the task's methods calls another."""
        if result is self._result:
            return
        self._result = result
        if not self.outlets:
            return
        try:
            extra, landed = self._extra(), self._landed(context)
        except Exception as error:  # noqa: BLE001 - what has landed is paid for: the news of it must not fail the task
            log.warning("The asset events have no details of the results: %s: %s", type(error).__name__, error)
        else:
            from airflow_provider_modelslab.lineage.assets import emit_assets

            emit_assets(self.outlets, context, extra, landed)

    # -- defined by each kind of operator -------------------------------------------------------------------------

    def _read(self) -> list[str]:
        """The input clips: URIs, which may still contain secrets."""
        raise NotImplementedError

    def _made(self) -> list[Output]:
        """The outputs in S3."""
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
    """Decorator of a method that ends a task: its return value is reported, see :class:`Report`."""

    @wraps(method)
    def reporting(self: Report, context: Context, *args: Any, **kwargs: Any) -> dict[str, Any]:
        result = method(self, context, *args, **kwargs)
        self._report(context, result)
        return result

    return cast("_Method", reporting)


def request_of(given: object, model: type[EndpointRequest] | None = None) -> dict[str, Any]:
    """The given attributes as sent to the endpoint, without the clip and without secrets.

    :param given: a mapping, or an operator.
    :param model: the endpoint's request; video2video by default.
    """
    from airflow_provider_modelslab.api.errors import InvalidRequestError
    from airflow_provider_modelslab.api.redaction import scrub
    from airflow_provider_modelslab.api.request import Video2VideoRequest

    model = model or Video2VideoRequest
    names = [name for name in model.attributes() if name not in _UNTOLD]
    values = given if isinstance(given, Mapping) else {name: getattr(given, name, None) for name in names}
    attributes = {name: values[name] for name in names if values.get(name) is not None}
    required = {name: "-" for name, field in model.model_fields.items() if field.is_required()}
    try:  # templates render to text: "512" has to become a number
        record = model(**required | attributes).record()
    except InvalidRequestError:
        record = scrub(attributes)
    return {name: record[name] for name in attributes}
