#!/bin/sh
# Installs the program, its other names (pen, penctl), the manual pages, the systemd units and their users. Starts and enables
# nothing. A pen that is there already and is not ours stays.
#   DESTDIR=  a staging root (packages, chroots)    PREFIX=/usr/local
set -eu
. "$(dirname -- "$0")/common.sh"

DESTDIR=${DESTDIR:-}
PREFIX=${PREFIX:-/usr/local}
BINARY=${CYGNET_BIN:-$TARGET/release/cygnet}
[ -x "$BINARY" ] || die "$BINARY is not there: make release first"

install -D -m 0755 "$BINARY" "$DESTDIR$PREFIX/bin/cygnet"
if [ -d "$TARGET/man" ]; then
    for page in "$TARGET"/man/*.1; do
        [ -e "$page" ] || continue
        install -D -m 0644 "$page" "$DESTDIR$PREFIX/share/man/man1/$(basename -- "$page")"
    done
fi
for name in pen penctl; do
    link=$DESTDIR$PREFIX/bin/$name
    if [ -e "$link" ] && [ "$(readlink -- "$link")" != cygnet ]; then
        warn "$link is there already and is another program: left alone"
    else
        ln -sf cygnet "$link"
    fi
    install -D -m 0644 "$ROOT/docs/man/$name.1" "$DESTDIR$PREFIX/share/man/man1/$name.1"
done
install -D -m 0644 "$ROOT/packaging/systemd/pen.sysusers" "$DESTDIR/usr/lib/sysusers.d/cygnet-pen.conf"
install -D -m 0644 "$ROOT/packaging/systemd/cygnet.sysusers" "$DESTDIR/usr/lib/sysusers.d/cygnet.conf"
install -d -m 0755 "$DESTDIR/usr/lib/systemd/system"
sed "s|/usr/bin/cygnet|$PREFIX/bin/cygnet|" "$ROOT/packaging/systemd/cygnet.service" \
    >"$DESTDIR/usr/lib/systemd/system/cygnet.service"
sed "s|/usr/bin/pen|$PREFIX/bin/pen|" "$ROOT/packaging/systemd/pen@.service" \
    >"$DESTDIR/usr/lib/systemd/system/pen@.service"
install -d -m 0755 "$DESTDIR/etc/cygnet"

if [ -z "$DESTDIR" ]; then
    if have systemd-sysusers; then systemd-sysusers cygnet.conf cygnet-pen.conf; fi
    if [ -d /run/systemd/system ]; then systemctl daemon-reload; fi
fi
say "installed $DESTDIR$PREFIX/bin/cygnet; next: /etc/cygnet/node.toml, then systemctl enable --now cygnet"
