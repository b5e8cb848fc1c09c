#!/usr/bin/env bash
# Installs Redis and PostgreSQL from Debian's packages, for the run on CeleryExecutor. Does nothing where both are there,
# and starts no service: the stack starts its own, on data of its own. Needs apt-get and root (about 20 MB to download).
set -euo pipefail

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
if ! command -v apt-get >/dev/null; then
    echo "celery: this machine has no apt-get; install Redis 6 and PostgreSQL 13, or newer, in its own way" >&2
    exit 1
fi
sudo=()
if [ "$(id -u)" -ne 0 ]; then
    if ! sudo -n true 2>/dev/null; then
        echo "celery: needs root; run as root: apt-get install --no-install-recommends ${missing[*]}" >&2
        exit 1
    fi
    sudo=(sudo -n)
fi

# Debian starts a service when its package is installed, unless this program says no.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    trap '"${sudo[@]}" rm -f "$policy"' EXIT
    printf '#!/bin/sh\nexit 101\n' | "${sudo[@]}" tee "$policy" >/dev/null
    "${sudo[@]}" chmod 755 "$policy"
fi
log=$(mktemp)
if ! {
    "${sudo[@]}" apt-get update -qq &&
        # env: sudo drops the caller's variables, and a question would wait for ever.
        "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}"
} >"$log" 2>&1; then
    cat "$log" >&2
    exit 1
fi
rm "$log"
found
