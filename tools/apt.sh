# What the install.sh of the tools share; they source it. Programs come from Debian's packages, which takes apt-get and
# root.
#
#   apt_required NAME OTHERWISE PACKAGE...  ends the script with advice where this cannot be; sets $sudo for commands
#   apt_install PACKAGE...                  installs them; what apt-get says is shown when it fails

apt_required() {
    local name=$1 otherwise=$2
    shift 2
    if ! command -v apt-get >/dev/null; then
        echo "$name: this machine has no apt-get; install $otherwise in its own way" >&2
        exit 1
    fi
    sudo=()
    if [ "$(id -u)" -ne 0 ]; then
        if ! sudo -n true 2>/dev/null; then
            echo "$name: needs root; run as root: apt-get install --no-install-recommends $*" >&2
            exit 1
        fi
        sudo=(sudo -n)
    fi
}

apt_install() {
    local log
    log=$(mktemp)
    if ! {
        "${sudo[@]}" apt-get update -qq &&
            # env: sudo drops the caller's variables, and a question would wait for ever.
            "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@"
    } >"$log" 2>&1; then
        cat "$log" >&2
        rm "$log"
        exit 1
    fi
    rm "$log"
}
