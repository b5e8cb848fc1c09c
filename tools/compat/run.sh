#!/usr/bin/env bash
# Installs the package beside another Airflow and runs what does not need torch there:
#   tools/compat/run.sh 3.1            3.1.0 with the oldest versions that are supported (constraints-oldest.txt)
#   tools/compat/run.sh 3.2            the newest 3.2 with the newest of everything, but for limits-3.2.txt
#   tools/compat/run.sh 3.3            the versions of constraints.txt
#   tools/compat/run.sh 3.4            the newest 3.4, pre-releases included, with the newest of everything
# The environment is .venv-<version> (VENV names another); PYTHON names the interpreter.
set -euo pipefail
cd "$(dirname "$0")/../.."
version=$1
venv=${VENV:-.venv-$version}
case $version in
  3.1) pins=constraints-oldest.txt ;;
  3.2) pins=tools/compat/limits-3.2.txt ;;
  3.3) pins=constraints.txt ;;
  *) pins=/dev/null ;;
esac
tools=(
  av boto3-stubs[s3] flask flask-cors greenlet hypothesis "moto[s3]" numpy pillow pytest pytest-asyncio pytest-timeout
  pytest-xdist trustme
)

if ! cmp -s <(cat pyproject.toml "$pins") "$venv/.installed"; then
  rm -rf "$venv"
  "${PYTHON:-python3}" -m venv "$venv"
  if [ "$version" = 3.1 ]; then  # the pins are complete, so pip need not resolve anything
    "$venv/bin/python" -m pip install -qq --no-deps --requirement "$pins"
    "$venv/bin/python" -m pip install -qq --no-deps --editable .
  else
    # A pre-release counts where there is no release yet.
    "$venv/bin/python" -m pip install -qq --constraint "$pins" --editable ".[endpoint]" \
      "apache-airflow>=$version.0b1,==$version.*" "${tools[@]}"
  fi
  cat pyproject.toml "$pins" > "$venv/.installed"
fi

home=$(mktemp -d)
trap 'rm -rf "$home"' EXIT
export AIRFLOW_HOME="$home" OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
"$venv/bin/python" -m pip check
"$venv/bin/python" -m tools.compat.modules
"$venv/bin/airflow" providers list 2>/dev/null | grep airflow-provider-modelslab

tests=(
  tests/unit/{api,client,hooks,operators,sensors,triggers}
  tests/unit/test_{compat,dags_examples,loops,provider}.py
)
case $version in
  3.1) ;;  # the oldest pins hold no tools for the tests of pages
  *) tests+=(tests/unit/{jobs,links,plugins} tests/integration/plugins/test_{access,gallery_recent,own_records,webhook_events}.py) ;;
esac
case $version in
  3.1 | 3.2) ;;
  *) tests+=(tests/unit/test_retry_policy.py) ;;  # Airflow has retry policies since 3.3
esac
# Warnings are errors on the pinned versions only: other versions of other people's packages have their own.
MODELSLAB_TEST_COMPAT=1 "$venv/bin/python" -m pytest -q --numprocesses "${WORKERS:-2}" --no-loadscope-reorder \
  -o filterwarnings=default -p no:cacheprovider --timeout 600 "${tests[@]}" tests/system/compat "${@:2}"
