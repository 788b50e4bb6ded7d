#!/bin/sh
# Makes this machine a client of examples/pair: client.sh client
set -eu
. "$(dirname -- "$0")/common.sh"

"$REPOSITORY/scripts/deps.sh" client
if booted; then
    patiently 30 curl -s --max-time 2 http://192.0.2.100/ || die "nobody answers at 192.0.2.100"
fi
