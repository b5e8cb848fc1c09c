#!/usr/bin/env bash
# Installs the package beside another Airflow and runs there what depends on Airflow's version and does not need torch:
#   tools/compat/run.sh 3.1            3.1.0 and the oldest versions that are supported (pins-3.1.txt)
#   tools/compat/run.sh 3.2            3.2 (pins-3.2.txt)
#   tools/compat/run.sh 3.3            3.3 with the versions of constraints.txt
#   tools/compat/run.sh 3.4            3.4 (pins-3.4.txt)
# NEWEST=1 takes the newest of everything instead, for 3.2 and later. The environment is .venv-<version> (VENV names
# another); PYTHON names the interpreter. Further arguments are pytest's.
set -euo pipefail
cd "$(dirname "$0")/../.."
version=$1
venv=${VENV:-.venv-$version}
began=$SECONDS

temporary=$(mktemp -d)
trap 'rm -rf "$temporary"' EXIT
pins=tools/compat/pins-$version.txt
if [ "$version" = 3.3 ]; then pins=constraints.txt; fi
if [ -n "${NEWEST:-}" ]; then
  pins=$temporary/pins.txt
  PYTHON=${PYTHON:-python3} tools/compat/pin.sh "$version" "$pins"
fi

if ! cmp -s <(cat pyproject.toml "$pins") "$venv/.installed"; then
  rm -rf "$venv"
  "${PYTHON:-python3}" -m venv "$venv"
  "$venv/bin/python" -m pip install -qq uv
  install=("$venv/bin/uv" pip install --quiet --system-certs --python "$venv/bin/python")
  if [ "$pins" = constraints.txt ]; then
    "${install[@]}" --constraint "$pins" --editable ".[endpoint]" --requirement tools/compat/tools.in
  else  # the pins are complete, so nothing is resolved
    "${install[@]}" --no-deps --requirement "$pins" --editable .
  fi
  if [ "$version" = 3.4 ]; then "${install[@]}" --constraint constraints.txt playwright; fi
  cat pyproject.toml "$pins" > "$venv/.installed"
fi
echo "Airflow $version: installed after $((SECONDS - began)) s"

export AIRFLOW_HOME="$temporary/airflow" OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
"$venv/bin/python" -m pip check
"$venv/bin/python" -m tools.compat.modules
"$venv/bin/airflow" providers list 2>/dev/null | grep airflow-provider-modelslab

# Operators, triggers, pages and Dags. What imports no Airflow is tested with the versions of constraints.txt, and with
# the oldest of each requirement.
tests=(
  tests/unit/{decorators,hooks,jobs,lineage,links,operators,plugins,sensors,testing,triggers}
  tests/unit/test_{compat,dags_examples,loops,provider}.py
  tests/integration/plugins/test_{access,gallery_recent,own_records,webhook_events}.py
  tests/system/compat
)
case $version in
  3.1) tests+=(tests/unit/{api,client}) ;;
  3.2) ;;
  *) tests+=(tests/unit/test_retry_policy.py tests/integration/plugins/test_odd_records.py) ;;  # retry policies are new in 3.3
esac
# The pages in a browser; they are skipped where there is none (make chromium). make test has them on 3.3.
if [ "$version" = 3.4 ]; then tests+=(tests/system/pages/test_{gallery,links}.py); fi
# Warnings are errors on the pinned versions only: other versions of other people's packages have their own.
MODELSLAB_TEST_COMPAT=1 "$venv/bin/python" -m pytest -q --numprocesses "${WORKERS:-2}" --no-loadscope-reorder \
  -o filterwarnings=default -p no:cacheprovider --timeout 600 "${tests[@]}" "${@:2}"
echo "Airflow $version: done after $((SECONDS - began)) s"
