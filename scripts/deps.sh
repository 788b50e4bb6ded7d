#!/bin/sh
# Installs what is missing on Debian 12, and only that. Does nothing, quickly, when all is there.
#
#   scripts/deps.sh            what building, the demo and the tests need
#   scripts/deps.sh run        what a node needs to run (no compiler)
#   scripts/deps.sh bench      the same, and what the benchmarks need: nginx, wrk, strace
#   scripts/deps.sh fast-tls   the same as without a word, and what `--features fast-tls` needs: cmake, clang
#   scripts/deps.sh vagrant    what `make vagrant-check` needs
#   scripts/deps.sh server     a machine of vagrant/: a web server; client: the like
#   scripts/deps.sh --check .. says what is missing and exits 1, installs nothing
#
# It starts no service: haproxy, nginx and keepalived come as Debian packages which would start a daemon (and start it
# again at each boot); policy-rc.d holds them back while they are installed, and the units are disabled afterwards.
set -eu
. "$(dirname -- "$0")/common.sh"

POLICY=/usr/sbin/policy-rc.d
KEPT=$POLICY.kept-by-cygnet
STREAM=/usr/lib/nginx/modules/ngx_stream_module.so

missing=""
want() { # want PACKAGE TEST...: the package is needed unless the test succeeds
    package=$1
    shift
    "$@" >/dev/null 2>&1 || missing="$missing $package"
}

want_run() {
    want iproute2 have ip
    want nftables have nft
    want procps have sysctl
    want libssl3 test -e "/usr/lib/$(uname -m)-linux-gnu/libssl.so.3"
}

want_build() {
    want_run
    want build-essential have cc
    want pkg-config have pkg-config
    want libssl-dev pkg-config --exists openssl
    want protobuf-compiler have protoc
    want util-linux have unshare
    # The tests let the real daemons hold the address, and serve beside us.
    want keepalived have keepalived
    want haproxy have haproxy
    want ucarp have ucarp
    want pen have pen
    # What Pen's own test suite calls.
    want psmisc have killall
    want bind9-dnsutils have dig
    want curl have curl
    # What is on the wire by another's word than ours.
    want tcpdump have tcpdump
    want openssl have openssl
    want sslscan have sslscan
}

want_bench() {
    want_build
    want nginx-light have nginx
    want libnginx-mod-stream test -e "$STREAM"
    want wrk have wrk
    want strace have strace
}

want_fast_tls() {
    want_build
    want cmake have cmake
    # The bindings to AWS-LC are made by the build.
    want clang have clang
    want libclang-dev test -n "$(find /usr/lib/llvm-*/lib -name 'libclang.so*' 2>/dev/null)"
}

want_vagrant() {
    want vagrant have vagrant
    want debootstrap have debootstrap
    want util-linux have unshare
}

# The units of the packages which were asked for just now: nobody wanted these daemons to run.
units_of() {
    for package in $1; do
        case $package in
            haproxy | keepalived | pen | ucarp) say "$package.service" ;;
            nginx-light) say nginx.service ;;
            nftables) ;; # its unit is disabled as it comes
        esac
    done
}

restore_policy() {
    as_root rm -f "$POLICY"
    if [ -e "$KEPT" ]; then as_root mv "$KEPT" "$POLICY"; fi
}

# Holds every service back. A policy that refuses already (a container's) is left alone.
forbid_starting() {
    if [ -e "$KEPT" ]; then restore_policy; fi # an earlier run was killed
    if [ -x "$POLICY" ]; then
        status=0
        "$POLICY" haproxy start >/dev/null 2>&1 || status=$?
        if [ "$status" -eq 101 ]; then return; fi
        as_root mv "$POLICY" "$KEPT"
    fi
    trap restore_policy EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM HUP
    printf '#!/bin/sh\nexit 101\n' | as_root tee "$POLICY" >/dev/null
    as_root chmod 0755 "$POLICY"
}

install_missing() {
    have apt-get || die "missing:$missing. This script installs Debian packages; install their like, and try again."
    say "deps: installing:$missing"
    forbid_starting
    # A mirror of something else that is down must not stop us: the install below says if a package is out of reach.
    as_root apt-get update -qq </dev/null || warn "deps: apt-get update had errors, going on"
    log=$(mktemp)
    # shellcheck disable=SC2086 # one word a package
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing </dev/null >"$log" 2>&1 ||
        { tail -n 30 "$log" >&2; rm -f "$log"; die "apt-get install failed: see above"; }
    rm -f "$log"
    if have systemctl; then
        for unit in $(units_of "$missing"); do
            as_root systemctl disable --quiet "$unit" 2>/dev/null || true
        done
    fi
}

# The oldest toolchain that builds us stands in Cargo.toml.
check_rust() {
    needed=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' "$ROOT/Cargo.toml")
    found=""
    if have cargo; then found=$(cd "$ROOT" && cargo --version 2>/dev/null | cut -d' ' -f2); fi
    oldest=$(printf '%s\n%s\n' "$needed" "${found:-0}" | sort -V | head -n 1)
    if [ "$oldest" = "$needed" ]; then return; fi
    warn "deps: Rust $needed or newer is needed, ${found:-no cargo} was found."
    warn "  With rustup (Debian 13: apt install rustup; else https://rustup.rs): rustup toolchain install stable"
    warn "  Debian 12's own packages (cargo, rustc 1.63) are too old. Nothing was downloaded for you."
    exit 1
}

only_check=""
if [ "${1:-}" = "--check" ]; then
    only_check=1
    shift
fi
level=${1:-build}
case $level in
    run) want_run ;;
    build) want_build ;;
    bench) want_bench ;;
    fast-tls) want_fast_tls ;;
    vagrant) want_vagrant ;;
    server) want nginx-light have nginx ;;
    client) want curl have curl ;;
    *) die "unknown level '$level': see the head of this script" ;;
esac

if [ -n "$missing" ]; then
    if [ -n "$only_check" ]; then die "missing:$missing"; fi
    install_missing
fi
case $level in build | bench | fast-tls) check_rust ;; esac
