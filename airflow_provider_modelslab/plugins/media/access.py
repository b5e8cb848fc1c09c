"""Authentication and authorization with Airflow's own login and permissions, the same in every Airflow version."""

from __future__ import annotations

from typing import Annotated

from airflow.api_fastapi.app import get_auth_manager
from airflow.api_fastapi.auth.managers.base_auth_manager import COOKIE_NAME_JWT_TOKEN
from airflow.api_fastapi.auth.managers.models.base_user import BaseUser
from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity, DagDetails
from airflow.api_fastapi.core_api.security import resolve_user_from_token
from fastapi import Depends, HTTPException, Request
from pydantic import StringConstraints

from airflow_provider_modelslab.compat import team_of

__all__ = ["MAX_INDEX", "Id", "may_read", "require_reader", "user_of"]

Id = Annotated[str, StringConstraints(max_length=250, pattern=r"^[^\x00]*$")]
"""Of a Dag, a run or a task: PostgreSQL refuses a text with a NUL."""

MAX_INDEX = 2**31 - 1
"""What the database's integers hold."""

_NEEDED = (DagAccessEntity.TASK_INSTANCE, DagAccessEntity.XCOM)


async def user_of(request: Request) -> BaseUser:
    """The user, from the ``Authorization`` header of a program or the cookie of a browser.

    Airflow's own dependencies are not used: those of 3.1 search for the Dag in the path only, and those of its first
    releases ignore the cookie, which is what a browser sends when it follows a link.

    :raises HTTPException: 401 without a user, 403 for a token that is not Airflow's.
    """
    kind, _, token = request.headers.get("Authorization", "").partition(" ")
    cookie = request.cookies.get(COOKIE_NAME_JWT_TOKEN)
    return await resolve_user_from_token(token.strip() if kind.lower() == "bearer" else cookie)


def may_read(dag_id: str, user: BaseUser) -> bool:
    """Whether the user may read the Dag's task instances and XComs: its arguments and its results."""
    manager, details = get_auth_manager(), DagDetails(id=dag_id, team_name=team_of(dag_id))
    return all(
        manager.is_authorized_dag(method="GET", access_entity=entity, details=details, user=user) for entity in _NEEDED
    )


def require_reader(user: Annotated[BaseUser, Depends(user_of)], dag_id: Id) -> None:
    """Require a user who may read the Dag's task instances and XComs.

    It is no coroutine, so it runs in a thread: the calls to database and auth manager block.

    :raises HTTPException: 401 without a user, 403 without the permission. Neither reveals whether the Dag exists.
    """
    if not may_read(dag_id, user):
        raise HTTPException(403, "Forbidden")
