#!/usr/bin/env bash
# Installs Ceph's object gateway and what it stands on from Debian's packages, for the tests against a second real S3
# store. Does nothing where all of it is there. Needs apt-get and root (about 60 MB to download).
set -euo pipefail

programs=(radosgw radosgw-admin ceph ceph-mon ceph-osd ceph-authtool monmaptool)
packages=(radosgw ceph-mon ceph-osd ceph-common)

missing=()
for program in "${programs[@]}"; do
    command -v "$program" >/dev/null || missing+=("$program")
done
if [ ${#missing[@]} -eq 0 ]; then
    echo "radosgw: $(radosgw --version)"
    exit 0
fi
echo "radosgw: missing ${missing[*]}"
if ! command -v apt-get >/dev/null; then
    echo "radosgw: this machine has no apt-get; install ${packages[*]} (Ceph 16 or newer) in its own way" >&2
    exit 1
fi
sudo=()
if [ "$(id -u)" -ne 0 ]; then
    if ! sudo -n true 2>/dev/null; then
        echo "radosgw: needs root; run as root: apt-get install --no-install-recommends ${packages[*]}" >&2
        exit 1
    fi
    sudo=(sudo -n)
fi
"${sudo[@]}" apt-get update -qq
# env: sudo drops the caller's variables, and a question would wait for ever.
"${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${packages[@]}"
echo "radosgw: $(radosgw --version)"
