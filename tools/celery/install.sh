#!/usr/bin/env bash
# Installs Redis and PostgreSQL from Debian's packages, for the run on CeleryExecutor. Does nothing where both are there,
# and starts no service: the stack starts its own, on data of its own. Needs apt-get and root (about 20 MB to download).
set -euo pipefail
. "$(dirname "$0")/../apt.sh"

where() { # where PROGRAM: its path; Debian keeps PostgreSQL's server outside of PATH, one folder for each version
    command -v "$1" || compgen -G "/usr/lib/postgresql/*/bin/$1" | sort -V | tail -n 1 | grep .
}

found() {
    echo "celery: $(redis-server --version | cut -d' ' -f1-3), $("$(where postgres)" --version)"
}

missing=()
where redis-server >/dev/null || missing+=(redis-server)
{ where initdb && where postgres; } >/dev/null || missing+=(postgresql)
if [ ${#missing[@]} -eq 0 ]; then
    found
    exit 0
fi
echo "celery: missing ${missing[*]}"
apt_required celery "Redis 6 and PostgreSQL 13, or newer," "${missing[@]}"

# Debian starts a service when its package is installed, unless this program says no.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    trap '"${sudo[@]}" rm -f "$policy"' EXIT
    printf '#!/bin/sh\nexit 101\n' | "${sudo[@]}" tee "$policy" >/dev/null
    "${sudo[@]}" chmod 755 "$policy"
fi
apt_install "${missing[@]}"
found
