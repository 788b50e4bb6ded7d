#!/bin/sh
# Makes this machine a node of examples/pair: balancer.sh lb1|lb2
# Machines that are made one after the other cannot hand each other a token, so here the links between them are plain, on a
# network of their own. By hand it would be `cygnet cluster init` and `cygnet cluster join`.
set -eu
. "$(dirname -- "$0")/common.sh"

name=${1:?usage: balancer.sh NAME}
pair=$REPOSITORY/examples/pair
[ -f "$pair/$name/node.toml" ] || die "there is no $pair/$name/node.toml"
program=$REPOSITORY/target/release/cygnet
[ -x "$program" ] || die "$program is not there: make release on the host, then vagrant rsync"

"$REPOSITORY/scripts/deps.sh" run
"$program" --version >/dev/null || die "$program does not run here: build it on a Debian 12 machine"
PREFIX=/usr/local "$REPOSITORY/scripts/install.sh"

node=$(mktemp)
sed '/^\[cluster\]/,$d' "$pair/$name/node.toml" >"$node"
cat >>"$node" <<'END'
[cluster]
name = "pair"
insecure = true
[[cluster.member]]
id = 1
name = "lb1"
address = "10.1.0.21:7300"
[[cluster.member]]
id = 2
name = "lb2"
address = "10.1.0.22:7300"
END
install -D -m 0640 -g cygnet "$node" /etc/cygnet/node.toml
rm "$node"
install -D -m 0640 -g cygnet "$pair/cluster.toml" /etc/cygnet/cluster.toml
cygnet config check /etc/cygnet/node.toml /etc/cygnet/cluster.toml
enable_unit cygnet.service

# Two voters: the first node to be made cannot agree with anybody yet, the second applies the configuration for both.
if booted; then
    patiently 30 cygnet status >/dev/null || die "the node does not answer: journalctl -u cygnet"
    if [ "$name" = lb2 ]; then
        patiently 30 cygnet config apply /etc/cygnet/cluster.toml --yes || die "the configuration was not accepted"
    fi
    cygnet status || true # its exit code tells a degraded pair, which the first node is for now
fi
