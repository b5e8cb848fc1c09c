"""Who may see what in the gallery: Airflow's own login and its permissions on Dags, nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from airflow.api_fastapi.app import get_auth_manager
from airflow.api_fastapi.auth.managers.base_auth_manager import COOKIE_NAME_JWT_TOKEN
from airflow.api_fastapi.auth.managers.models.base_user import BaseUser
from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity, DagDetails
from airflow.api_fastapi.core_api.security import resolve_user_from_token
from airflow.models.dag import DagModel
from fastapi import Depends, Request

from airflow_provider_modelslab.plugins.media_access import require_reader

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["MAY_SEE_TASK", "User", "readable_dags", "visible"]

MAY_SEE_TASK: list[Any] = [Depends(require_reader)]
"""Dependencies of each route below ``{dag_id}``: what a task returned and what it was asked for are both shown."""

_NEEDED = (DagAccessEntity.TASK_INSTANCE, DagAccessEntity.XCOM)


async def _user(request: Request) -> BaseUser:
    """Who is there, by the header of a program or the cookie of a browser.

    :raises HTTPException: 401 for nobody.
    """
    kind, _, token = request.headers.get("Authorization", "").partition(" ")
    cookie = request.cookies.get(COOKIE_NAME_JWT_TOKEN)
    return await resolve_user_from_token(token.strip() if kind.lower() == "bearer" else cookie)


User = Annotated[BaseUser, Depends(_user)]


def readable_dags(user: BaseUser) -> set[str]:
    """The Dags that the user may read at all."""
    return set(get_auth_manager().get_authorized_dag_ids(user=user, method="GET"))


def visible(dag_ids: Iterable[str], user: BaseUser) -> set[str]:
    """Those of the Dags whose task instances and XComs the user may read."""
    return {dag_id for dag_id in set(dag_ids) if _may_see(dag_id, user)}


def _may_see(dag_id: str, user: BaseUser) -> bool:
    manager, details = get_auth_manager(), DagDetails(id=dag_id, team_name=DagModel.get_team_name(dag_id))
    return all(
        manager.is_authorized_dag(method="GET", access_entity=entity, details=details, user=user) for entity in _NEEDED
    )
