# Shared by the scripts of this folder: sourced, never run.
# shellcheck shell=sh disable=SC2034 # used by those that source it

# The root of the repository, and the folder in which cargo builds.
ROOT=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
TARGET=${CARGO_TARGET_DIR:-$ROOT/target}

# rustup installs here; a shell that was not logged in (CI, sudo) does not have it in PATH.
case ":$PATH:" in
    *":${CARGO_HOME:-${HOME:-/root}/.cargo}/bin:"*) ;;
    *) PATH=${CARGO_HOME:-${HOME:-/root}/.cargo}/bin:$PATH ;;
esac
# Debian keeps ip, nft, haproxy and nginx where an ordinary user's PATH does not look.
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
export PATH

say() { printf '%s\n' "$*"; }
warn() { printf '%s\n' "$*" >&2; }
die() {
    warn "$(basename -- "$0"): $*"
    exit 1
}
have() { command -v "$1" >/dev/null 2>&1; }

# Runs a command as root.
as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    elif have sudo; then
        sudo "$@"
    else
        die "root is needed for: $* (run as root, or install sudo)"
    fi
}

# Sets PROFILE, unless it is set, and `folder`: where cargo puts what it builds with that profile, below the target folder.
profile() {
    PROFILE=${PROFILE:-dev}
    case $PROFILE in
        dev) folder=debug ;;
        *) folder=$PROFILE ;;
    esac
}
