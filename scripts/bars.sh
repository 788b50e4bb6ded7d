#!/bin/sh
# Measures everything that has a published limit, and fails when one is missed: the scenarios 20 times each, system calls per request and
# per connection, CPU per request beside HAProxy. All are run; the first failure's status counts.
set -eu
. "$(dirname -- "$0")/common.sh"
cd "$ROOT"

CYGNET_BIN=${CYGNET_BIN:-$TARGET/release/cygnet}
export CYGNET_BIN
result=0
missed=""
bar() { # bar NAME COMMAND...
    name=$1
    shift
    say "== $name"
    status=0
    "$@" || status=$?
    if [ "$status" -ne 0 ]; then
        missed="$missed, $name"
        if [ "$result" -eq 0 ]; then result=$status; fi
    fi
}

bar "scenarios, 20 times" env CYGNET_RUNS="${CYGNET_RUNS:-20}" PROFILE=release PACKAGE=cygnet-cluster-tests scripts/test.sh
bar "system calls" "$TARGET/release/cygnet-bench" calls
bar "CPU beside HAProxy" "$TARGET/release/cygnet-bench" run --limit

if [ -n "$missed" ]; then say "Missed: ${missed#, }"; else say "All bars kept."; fi
exit "$result"
