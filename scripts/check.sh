#!/bin/sh
# Formatting, lints, dependencies, documentation: each with warnings denied. All are run, the first failure's status counts.
set -eu
. "$(dirname -- "$0")/common.sh"
cd "$ROOT"

result=0
step() { # step NAME COMMAND...
    name=$1
    shift
    say "== $name"
    status=0
    "$@" || status=$?
    if [ "$status" -ne 0 ]; then
        warn "== $name: FAILED"
        if [ "$result" -eq 0 ]; then result=$status; fi
    fi
}

step format cargo fmt --all --check
step clippy cargo clippy --workspace --all-targets --locked -- -D warnings
step documentation env RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --locked --quiet
if have cargo-deny; then
    step dependencies cargo deny --workspace check
else
    say "== dependencies: skipped, cargo-deny is not installed"
fi
if have shellcheck; then
    step scripts shellcheck -x -P scripts -P vagrant/provision scripts/*.sh vagrant/provision/*.sh .ci/run
else
    say "== scripts: skipped, shellcheck is not installed"
fi
exit "$result"
