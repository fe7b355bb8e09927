#!/bin/sh
# What the console's package holds beside its virtual environment. usage: console.sh DESTINATION
set -eu
to=$1
units=$to/usr/lib/systemd/system
mkdir -p "$units" "$to/usr/lib/postkeep-console"
for unit in appliance/systemd/*.service appliance/systemd/*.timer appliance/systemd/*.path appliance/systemd/*.socket; do
  [ ! -e "$unit" ] || install -m 644 "$unit" "$units/"
done
if [ -d appliance/systemd/tmpfiles.d ]; then
  mkdir -p "$to/usr/lib/tmpfiles.d"
  install -m 644 appliance/systemd/tmpfiles.d/* "$to/usr/lib/tmpfiles.d/"
fi
# Power-operation and freeze scripts of open-vm-tools.
if [ -d appliance/vmware ]; then
  for script in appliance/vmware/*; do
    [ ! -f "$script" ] || install -m 755 "$script" "$to/usr/lib/postkeep-console/"
  done
fi
