"""Authorization of the gallery: only Airflow's own login and its permissions on Dags."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from airflow.api_fastapi.app import get_auth_manager
from airflow.api_fastapi.auth.managers.models.base_user import BaseUser
from fastapi import Depends

from airflow_provider_modelslab.plugins.media.access import may_read, require_reader, user_of

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["MAY_SEE_TASK", "User", "readable_dags", "visible"]

MAY_SEE_TASK: list[Any] = [Depends(require_reader)]
"""Dependencies of each route below ``{dag_id}``: both the task's return value and its arguments are shown."""

User = Annotated[BaseUser, Depends(user_of)]


def readable_dags(user: BaseUser) -> set[str]:
    """The Dags that the user may read at all."""
    return set(get_auth_manager().get_authorized_dag_ids(user=user, method="GET"))


def visible(dag_ids: Iterable[str], user: BaseUser) -> set[str]:
    """Those of the Dags whose task instances and XComs the user may read."""
    return {dag_id for dag_id in set(dag_ids) if may_read(dag_id, user)}
