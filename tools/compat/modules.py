"""``python -m tools.compat.modules``: import every module of the package that this environment can serve."""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
import sys

import airflow_provider_modelslab

__all__ = ["OPTIONAL", "failures"]

# What a module needs that is not a requirement of the package: an extra, another provider, a later Airflow.
OPTIONAL = {
    "airflow_provider_modelslab.lineage.openlineage": "airflow.providers.openlineage",
    "airflow_provider_modelslab.retry_policy": "airflow.sdk.definitions.retry_policy",
    "airflow_provider_modelslab.local": "torch",
}


def failures() -> tuple[int, list[str]]:
    """How many modules were imported, and which were not for no reason that is known."""
    imported, failed = 0, []
    package = airflow_provider_modelslab
    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        if module.name.endswith(".__main__"):
            continue
        try:
            importlib.import_module(module.name)
        except ImportError as error:
            if not any(module.name.startswith(name) and not _there(need) for name, need in OPTIONAL.items()):
                failed.append(f"{module.name}: {error}")
        else:
            imported += 1
    return imported, failed


def _there(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # one of its packages is missing
        return False


if __name__ == "__main__":
    count, problems = failures()
    print(*problems, f"{count} modules imported, {len(problems)} failed", sep="\n")
    sys.exit(1 if problems else 0)
