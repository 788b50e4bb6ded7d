#!/bin/sh
# All tests, and their totals. Exits with the runner's status.
#
#   PROFILE=dev      cargo profile (dev or release)
#   TEST_ARGS=...    handed to the runner, for instance a name
#   PACKAGE=...      this package only (cygnet-cluster-tests: the scenarios)
#   CYGNET_RUNS=N    how often the scenarios repeat what they measure
#
# The dev profile is the default: it checks overflows and debug assertions; the gaps that the cluster tests measure are made
# of timers (50 ms advertisements), not of CPU.
set -eu
. "$(dirname -- "$0")/common.sh"
cd "$ROOT"

profile
LOG=$TARGET/test.log
TOTALS=$TARGET/test-totals.txt
# The scenarios write what they measured here; shown at the end, since a runner hides the output of what passes.
CYGNET_FIGURES=$TARGET/figures.txt
export CYGNET_FIGURES
mkdir -p "$TARGET"
: >"$LOG"
rm -f "$TOTALS" "$CYGNET_FIGURES"

# Cluster tests start the real program. Cargo does not build another package's binary for them, so it comes first.
cargo build --workspace --bins --profile "$PROFILE" --locked
CYGNET_BIN=${CYGNET_BIN:-$TARGET/$folder/cygnet}
export CYGNET_BIN

# Runs a command, shows its output as it comes, keeps a copy; the status is the command's, not tee's.
logged() {
    rm -f "$LOG.status"
    {
        status=0
        "$@" || status=$?
        echo "$status" >"$LOG.status"
    } 2>&1 | tee -a "$LOG"
    return "$(cat "$LOG.status")"
}

# The sum over all "test result:" lines of cargo test.
sum_results() {
    awk '/^test result:/ { for (i = 2; i <= NF; i++) {
            if ($i ~ /^passed/) passed += $(i - 1)
            if ($i ~ /^failed/) failed += $(i - 1)
            if ($i ~ /^ignored/) ignored += $(i - 1) } }
        END { printf "%d tests run: %d passed, %d failed, %d ignored\n", passed + failed, passed, failed, ignored }' "$1"
}

result=0
if cargo nextest --version >/dev/null 2>&1; then
    # .config/nextest.toml: what needs the machine for itself runs alone; no retries.
    set -- --cargo-profile "$PROFILE" --locked --no-fail-fast
    # One selection for both, or cargo would build the dependencies twice with different features.
    if [ -n "${PACKAGE:-}" ]; then set -- "$@" -E "package($PACKAGE)"; fi
    # shellcheck disable=SC2086 # words
    logged cargo nextest run --workspace "$@" ${TEST_ARGS:-} || result=$?
    totals=$(sed 's/\x1b\[[0-9;]*m//g' "$LOG" | grep -E '^ +Summary ' | tail -n 1 | sed 's/^ *//') || totals=""
    [ -n "$totals" ] || totals="the runner gave no totals: see above"
else
    say "cargo-nextest is not installed: using cargo test"
    set -- --profile "$PROFILE" --locked --no-fail-fast --all-targets
    if [ -z "${PACKAGE:-}" ]; then
        # shellcheck disable=SC2086
        logged cargo test --workspace --exclude cygnet-cluster-tests "$@" ${TEST_ARGS:-} || result=$?
    fi
    # One at a time: the scenarios measure times, and each has a small network of its own.
    # shellcheck disable=SC2086
    logged cargo test -p "${PACKAGE:-cygnet-cluster-tests}" "$@" ${TEST_ARGS:-} -- --test-threads=1 || result=$?
    totals=$(sum_results "$LOG")
fi
if [ -z "${TEST_ARGS:-}${PACKAGE:-}" ]; then # nextest has no part in these
    doctests=0
    logged cargo test --workspace --doc --profile "$PROFILE" --locked || doctests=$?
    if [ "$doctests" -ne 0 ]; then
        totals="$totals; documentation tests FAILED"
        if [ "$result" -eq 0 ]; then result=$doctests; fi
    fi
fi

say "$totals" >"$TOTALS"
if [ -s "$CYGNET_FIGURES" ]; then
    say ""
    say "Figures ($CYGNET_FIGURES):"
    cat "$CYGNET_FIGURES"
fi
say ""
say "Totals: $totals"
exit "$result"
