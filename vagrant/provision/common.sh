# Shared by the scripts of this folder: sourced, never run. They run as root, in a virtual machine, or in a chroot where
# nothing can be started (then they only put things in their places).
# shellcheck shell=sh disable=SC2034 # used by those that source it

REPOSITORY=$(CDPATH='' cd -- "$(dirname -- "$0")/../.." && pwd)

say() { printf '%s\n' "$*"; }
die() {
    printf '%s\n' "$(basename -- "$0"): $*" >&2
    exit 1
}

# Whether systemd runs here.
booted() { [ -d /run/systemd/system ]; }

# Enables a unit; starts it, or starts it again, where that is possible.
enable_unit() {
    systemctl enable --quiet "$1"
    if booted; then systemctl restart "$1"; fi
}

# Tries a command once a second until it succeeds, at most so many times.
patiently() { # patiently TIMES COMMAND...
    times=$1
    shift
    until "$@"; do
        times=$((times - 1))
        [ "$times" -gt 0 ] || return 1
        sleep 1
    done
}
