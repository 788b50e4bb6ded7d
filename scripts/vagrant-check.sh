#!/bin/sh
# Checks vagrant/ without a virtual machine: the Vagrantfile by `vagrant validate`, and each machine's provisioning by running it in
# a fresh Debian 12 (debootstrap, an overlay and namespaces for each machine), which starts nothing but must leave
# the program, its unit and its configuration in their places. Root; downloads about 100 MB the first time.
set -eu
. "$(dirname -- "$0")/common.sh"
cd "$ROOT"
WORK=$TARGET/vagrant-check
BASE=$WORK/base

[ "$(id -u)" -eq 0 ] || die "root is needed (debootstrap, chroot)"
[ -x "$TARGET/release/cygnet" ] || die "$TARGET/release/cygnet is not there: make release first"
scripts/deps.sh vagrant
mkdir -p "$WORK"

say "== vagrant validate"
# Providers are plugins that this machine need not have: their blocks are checked where they are.
(cd vagrant && VAGRANT_CWD=$ROOT/vagrant VAGRANT_HOME=$WORK/home vagrant validate --ignore-provider)

# The mirror that this machine itself uses for Debian 12, in either format of apt's sources.
mirror() {
    cat /etc/apt/sources.list /etc/apt/sources.list.d/*.list 2>/dev/null |
        sed -n 's/^deb \(\[[^]]*\] \)\{0,1\}\([^ ]*\) bookworm main.*/\2/p'
    cat /etc/apt/sources.list.d/*.sources 2>/dev/null |
        awk '/^URIs:/ { uri = $2 } /^Suites:/ { for (i = 2; i <= NF; i++) if ($i == "bookworm") print uri }'
}

if [ ! -e "$BASE/.complete" ]; then
    from=$(mirror | head -n 1)
    [ -n "$from" ] || die "apt's sources have no mirror of bookworm"
    say "== debootstrap from $from"
    rm -rf "$BASE"
    debootstrap --variant=minbase --include=ca-certificates,systemd bookworm "$BASE" "$from" >"$WORK/debootstrap.log" 2>&1 ||
        { tail -n 20 "$WORK/debootstrap.log" >&2; die "debootstrap failed"; }
    touch "$BASE/.complete"
fi

# What vagrant's rsync would bring: the files of the repository and the finished program.
SHARED=$WORK/cygnet
rm -rf "$SHARED"
mkdir -p "$SHARED/target/release"
for item in scripts packaging examples vagrant Cargo.toml; do cp -a "$item" "$SHARED/"; done
rm -rf "$SHARED/vagrant/.vagrant"
cp "$TARGET/release/cygnet" "$SHARED/target/release/"

# provision NAME SCRIPT TEST...: in an overlay over the base, in mount and process namespaces that end with it. TEST is a
# shell script, run in the chroot after the provisioning.
provision() {
    say "== $1: provision/$2"
    rm -rf "${WORK:?}/$1"
    mkdir -p "$WORK/$1/upper" "$WORK/$1/work" "$WORK/$1/root"
    # shellcheck disable=SC2016 # expanded inside
    unshare --mount --pid --fork --kill-child sh -eu -c '
        base=$1 work=$2 shared=$3 name=$4 script=$5 check=$6
        root=$work/root
        mount -t overlay overlay -o "lowerdir=$base,upperdir=$work/upper,workdir=$work/work" "$root"
        mount -t proc proc "$root/proc"
        mount -t tmpfs tmpfs "$root/tmp"
        mkdir -p "$root/cygnet"
        mount --bind "$shared" "$root/cygnet"
        mount -o remount,bind,ro "$root/cygnet"
        cp -L /etc/resolv.conf "$root/etc/resolv.conf"
        # A proxy that apt needs here, it needs there.
        apt-config dump Acquire | grep -i proxy >"$root/etc/apt/apt.conf.d/90proxy" || true
        chroot "$root" /usr/bin/env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C \
            sh -eu -c "/cygnet/vagrant/provision/$script $name && $check" </dev/null
        # This shell is all that runs in its process namespace, or something was started. (No forks while looking.)
        left=""
        for comm in "$root"/proc/[0-9]*/comm; do
            [ "$comm" != "$root/proc/1/comm" ] || continue
            read -r process <"$comm" && left="$left $process"
        done
        [ -z "$left" ] || { echo "still running:$left" >&2; exit 1; }
    ' sh "$BASE" "$WORK/$1" "$SHARED" "$1" "$2" "$3"
    rm -rf "${WORK:?}/$1"
}

# shellcheck disable=SC2016 # expanded in the chroot
BALANCER='cygnet --version
test "$(stat -c %G /etc/cygnet/node.toml)" = cygnet
cygnet config check /etc/cygnet/node.toml /etc/cygnet/cluster.toml
systemctl is-enabled cygnet.service
systemd-analyze verify --man=no cygnet.service
grep -q "^ExecStart=/usr/local/bin/cygnet run " /usr/lib/systemd/system/cygnet.service
test ! -e /usr/sbin/policy-rc.d'
SERVER='nginx -t -q
systemctl is-enabled nginx.service
grep -q "return 200" /etc/nginx/conf.d/cygnet-example.conf
test ! -e /usr/sbin/policy-rc.d'
CLIENT='curl --version | head -n 1'

provision lb1 balancer.sh "$BALANCER"
provision lb2 balancer.sh "$BALANCER"
provision s1 server.sh "$SERVER"
provision s2 server.sh "$SERVER"
provision client client.sh "$CLIENT"
say "vagrant-check: passed"
