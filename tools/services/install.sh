#!/usr/bin/env bash
# install.sh NAME [redis] [postgresql]: installs these from Debian's packages, for the runs on Celery and Edge. Does nothing
# where they are there, and starts no service: the stack starts its own, on data of its own. Needs apt-get and root (about
# 20 MB to download). NAME is what the messages begin with.
set -euo pipefail
. "$(dirname "$0")/../apt.sh"

where() { # where PROGRAM: its path; Debian keeps PostgreSQL's server outside of PATH, one folder for each version
    command -v "$1" || compgen -G "/usr/lib/postgresql/*/bin/$1" | sort -V | tail -n 1 | grep .
}

name=$1
shift
missing=()
for wanted in "$@"; do
    case $wanted in
    redis) where redis-server >/dev/null || missing+=(redis-server) ;;
    postgresql) { where initdb && where postgres; } >/dev/null || missing+=(postgresql) ;;
    *) echo "$name: $wanted is neither redis nor postgresql" >&2; exit 1 ;;
    esac
done
if [ ${#missing[@]} -eq 0 ]; then
    exit 0
fi
echo "$name: missing ${missing[*]}"
apt_required "$name" "Redis 6 and PostgreSQL 13, or newer," "${missing[@]}"

# Debian starts a service when its package is installed, unless this program says no.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    trap '"${sudo[@]}" rm -f "$policy"' EXIT
    printf '#!/bin/sh\nexit 101\n' | "${sudo[@]}" tee "$policy" >/dev/null
    "${sudo[@]}" chmod 755 "$policy"
fi
apt_install "${missing[@]}"
