#!/bin/sh
# All tests that have to do with TLS, on a program built with the feature fast-tls (AWS-LC): the same tests that
# scripts/test.sh runs with the system's OpenSSL. Exits with the status of the first that failed.
#
#   PROFILE=dev      cargo profile (dev or release)
#   TEST_ARGS=...    handed to the runner, for instance a name
#
# The build has a folder of its own: the features of dependencies differ, and each change would build everything anew.
set -eu
. "$(dirname -- "$0")/common.sh"
cd "$ROOT"

profile
FAST=$TARGET/fast-tls
cargo nextest --version >/dev/null 2>&1 || die "cargo-nextest is needed: cargo install cargo-nextest --locked"

# Units, and whole nodes by the word of sslscan and the openssl command, which use the system's library.
result=0
# shellcheck disable=SC2086 # words
cargo nextest run --target-dir "$FAST" --cargo-profile "$PROFILE" --locked --no-fail-fast --features fast-tls \
    -p cygnet -p cygnet-netlink -E 'package(cygnet) + test(/^ssl::/)' ${TEST_ARGS:-} || result=$?
# Scenarios: the lab is built as always, and is a client with the system's library.
CYGNET_BIN=$(readlink -f "$FAST/$folder/cygnet")
export CYGNET_BIN
# shellcheck disable=SC2086
cargo nextest run --cargo-profile "$PROFILE" --locked --no-fail-fast -p cygnet-cluster-tests \
    -E 'binary(pen_compat) + binary(pen) + test(/tls/)' ${TEST_ARGS:-} || result=$?
exit "$result"
