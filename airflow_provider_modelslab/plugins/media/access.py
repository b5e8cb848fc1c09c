"""Who is there, and may they see this task: Airflow's own login and permissions, in every version the same way."""

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
    """Who is there, by the header of a program or the cookie of a browser.

    Airflow's own dependencies are not used, because those of 3.1 look for the Dag in the path alone, and those of its
    first releases ignore the cookie, with which a browser follows a link.

    :raises HTTPException: 401 for nobody, 403 for a token that is not Airflow's.
    """
    kind, _, token = request.headers.get("Authorization", "").partition(" ")
    cookie = request.cookies.get(COOKIE_NAME_JWT_TOKEN)
    return await resolve_user_from_token(token.strip() if kind.lower() == "bearer" else cookie)


def may_read(dag_id: str, user: BaseUser) -> bool:
    """Whether the user may read the Dag's task instances and XComs: what was asked for and what came of it."""
    manager, details = get_auth_manager(), DagDetails(id=dag_id, team_name=team_of(dag_id))
    return all(
        manager.is_authorized_dag(method="GET", access_entity=entity, details=details, user=user) for entity in _NEEDED
    )


def require_reader(user: Annotated[BaseUser, Depends(user_of)], dag_id: Id) -> None:
    """Let only those on who are logged in and may read the Dag's task instances and XComs.

    It is no coroutine, so it runs in a thread: database and auth manager are asked in a blocking way.

    :raises HTTPException: 401 for nobody, 403 for somebody else. They tell nothing of the Dag, not even whether it is
        there.
    """
    if not may_read(dag_id, user):
        raise HTTPException(403, "Forbidden")
