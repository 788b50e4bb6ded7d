#!/bin/sh
# Makes this machine a server that answers its name, on port 8080: server.sh s1|s2
set -eu
. "$(dirname -- "$0")/common.sh"

name=${1:?usage: server.sh NAME}
"$REPOSITORY/scripts/deps.sh" server

rm -f /etc/nginx/sites-enabled/default
cat >/etc/nginx/conf.d/cygnet-example.conf <<CONF
server {
    listen 8080;
    default_type text/plain;
    return 200 "$name answers \$remote_addr\n";
}
CONF
nginx -t -q
enable_unit nginx.service
