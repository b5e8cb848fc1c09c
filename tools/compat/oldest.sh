#!/usr/bin/env bash
# Writes constraints-oldest.txt: Airflow 3.1.0 with the lowest version of each requirement of pyproject.toml that resolves.
set -euo pipefail
cd "$(dirname "$0")/../.."
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3.11}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install -qq uv
"$folder/venv/bin/uv" pip compile --quiet --system-certs --python-version 3.11 --resolution lowest-direct \
  --no-header --no-annotate --extra endpoint --constraint tools/compat/oldest-limits.txt \
  --output-file "$folder/pins.txt" pyproject.toml tools/compat/oldest.in
{
  echo "# The oldest versions that are supported, pinned: Airflow 3.1.0 and the lowest of each requirement of pyproject.toml that"
  echo "# goes with it. For tools/compat/run.sh; regenerate with tools/compat/oldest.sh."
  cat "$folder/pins.txt"
} > constraints-oldest.txt
