#!/bin/sh
# /usr/bin/postkeep: the command line with the data folder of the service. As root it takes the place of the
# folder's owner before it touches anything (postkeep.cli.owner).
if [ -z "${POSTKEEP_DATA:-}" ] && [ -r /etc/default/postkeep ]; then
  . /etc/default/postkeep
  export POSTKEEP_DATA
fi
exec /opt/postkeep/venv/bin/postkeep "$@"
