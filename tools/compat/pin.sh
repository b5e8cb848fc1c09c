#!/usr/bin/env bash
# Resolves everything that tools/compat/run.sh installs beside a version of Airflow, for each Python that the package supports:
#   tools/compat/pin.sh 3.1 tools/compat/pins-3.1.txt    3.1.0 and the lowest of each requirement that goes with it
#   tools/compat/pin.sh 3.2 tools/compat/pins-3.2.txt    the newest 3.2 and the newest of everything
#   tools/compat/pin.sh 3.4 tools/compat/pins-3.4.txt    the same of 3.4; a pre-release where there is no release
# The second argument is the file that is written. UV names uv, which is installed for this run otherwise.
set -euo pipefail
cd "$(dirname "$0")/../.."
version=$1
options=()
case $version in
  3.1)
    wanted="apache-airflow==3.1.0"
    options+=(--resolution lowest-direct)
    ;;
  *) wanted="apache-airflow>=$version.0b1,==$version.*" ;;
esac
limits=tools/compat/limits-$version.txt
if [ -e "$limits" ]; then options+=(--constraint "$limits"); fi

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
if [ -z "${UV:-}" ]; then
  "${PYTHON:-python3}" -m venv "$folder/venv"
  "$folder/venv/bin/python" -m pip install -qq uv
  UV=$folder/venv/bin/uv
fi
echo "$wanted" > "$folder/airflow.in"
"$UV" pip compile --quiet --system-certs --universal --python-version 3.11 --no-header --no-annotate --extra endpoint \
  "${options[@]}" --output-file "$folder/pins.txt" pyproject.toml tools/compat/tools.in "$folder/airflow.in"
{
  echo "# What tools/compat/run.sh $version installs. Written by tools/compat/pin.sh."
  cat "$folder/pins.txt"
} > "$2"
