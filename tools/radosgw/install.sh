#!/usr/bin/env bash
# Installs Ceph's object gateway and what it stands on from Debian's packages, for the tests against a second real S3
# store. Does nothing where all of it is there. Needs apt-get and root (about 60 MB to download).
set -euo pipefail
. "$(dirname "$0")/../apt.sh"

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
apt_required radosgw "${packages[*]} (Ceph 16 or newer)" "${packages[@]}"
apt_install "${packages[@]}"
echo "radosgw: $(radosgw --version)"
