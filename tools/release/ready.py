"""``python -m tools.release.ready COMMIT``: whether this commit may be released: it is on main, and CI passed for it.

Needs git with the branch ``origin/main``, and GitHub's ``gh``.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["is_on_main", "problem_of_runs"]


def is_on_main(commit: str) -> bool:
    """Whether ``origin/main`` contains the commit.

    :raises subprocess.CalledProcessError: when git knows one of the two not.
    """
    done = subprocess.run(["git", "merge-base", "--is-ancestor", commit, "origin/main"], check=False)
    if done.returncode not in {0, 1}:
        done.check_returncode()
    return done.returncode == 0


def problem_of_runs(runs: Sequence[Mapping[str, Any]]) -> str | None:
    """What is wrong with the runs of a workflow for one commit; ``None`` when the newest has succeeded.

    :param runs: ``status`` and ``conclusion`` of each, newest first.
    """
    if not runs:
        return "CI has not run for it"
    if runs[0]["status"] != "completed":
        return f"CI is still {runs[0]['status']} for it; run this job again when it has ended"
    return None if runs[0]["conclusion"] == "success" else f"CI ended with {runs[0]['conclusion']} for it"


def main(commit: str) -> int:
    """Exit status 0 when the commit may be released."""
    command = ["gh", "run", "list", "--workflow", "ci.yml", "--event", "push", "--branch", "main", "--commit", commit]
    listed = subprocess.run(
        [*command, "--json", "status,conclusion"], check=True, stdout=subprocess.PIPE, text=True
    ).stdout
    found = [] if is_on_main(commit) else ["it is not on main"]
    if problem := problem_of_runs(json.loads(listed)):
        found.append(problem)
    print(*(f"{commit}: {text}" for text in found or ["may be released"]), sep="\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
