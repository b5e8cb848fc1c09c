"""``server``: the dedicated video server's state, and what changes it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_provider_modelslab.cli.common import command, confirm, print_record
from airflow_provider_modelslab.cli.connections import open_hook

if TYPE_CHECKING:
    from argparse import Namespace

__all__ = ["server"]

_WHAT_IT_DOES = {
    "restart": "Running jobs of all users may be lost. Their retries pay for new jobs.",
    "clear-cache": "Models are loaded again, so the next jobs take longer. Costs nothing.",
    "clear-queue": "The queued jobs of all users are deleted, and the server restarts. Their retries pay for new jobs.",
}


@command
def server(args: Namespace) -> None:
    """Print the state, or ask and do what was named."""
    hook = open_hook(args.conn_id)
    if args.action == "status":
        print_record(hook.system_details(), args.output)
        return
    confirm(
        f"{args.action} at {hook.base_url}: {_WHAT_IT_DOES[args.action]} Continue?",
        yes=args.yes,
        undone="Nothing was done",
    )
    calls = {"restart": hook.restart_server, "clear-cache": hook.clear_cache, "clear-queue": hook.clear_queue}
    print_record({"action": args.action, "message": calls[args.action]()}, args.output)
