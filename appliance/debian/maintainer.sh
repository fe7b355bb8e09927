# --- shared by the maintainer scripts (debian/maintainer.sh) ---------------------------------------------
#
# How an upgrade goes, and what lies in /opt/postkeep meanwhile:
#   preinst    refuses a downgrade over a newer store; stops the engine; copies the configuration of the old
#              version to UpgradeBackups/; keeps the old code as hard links in .previous/; then makes
#              .upgrading, which holds the old version: from here on the engine does not start.
#   dpkg       unpacks the new code over the old one.
#   postinst   `postkeep upgrade` (a copy of the database is migrated, verified, swapped in); starts the engine.
#   failure    the new code goes to .failed/, the old one comes back and runs; .rolled-back holds its version.
#              `dpkg --configure postkeep` tries again with the new code. A fixed package may come instead:
#              its preinst marks .previous/superseded, and .failed/ is given up once it is unpacked.
# Every step may be interrupted and done again.

CODE=/opt/postkeep
UNIT=usr/lib/systemd/system/postkeep.service

say() { echo "postkeep: $*"; }
complain() { echo "postkeep: $*" >&2; }

data_folder() {
  (
    POSTKEEP_DATA=
    [ ! -r /etc/default/postkeep ] || . /etc/default/postkeep
    echo "${POSTKEEP_DATA:-/var/lib/postkeep}"
  )
}
DATA=$(data_folder)

# The data folder is the engine's user's, who could put links there: nobody else writes in it.
as_engine() { runuser -u postkeep -- "$@"; }

store_folder() { # DATA/store, or where the setting MailStoreDirectory has it
  folder=
  if [ -r "$DATA/mailserver.cfg" ]; then
    folder=$(sed -n 's|^ *<variable name="MailStoreDirectory">\([^<&]*\)</variable>.*|\1|p' "$DATA/mailserver.cfg" | head -n 1)
  fi
  case $folder in
    '') echo "$DATA/store" ;;
    /*) echo "$folder" ;;
    *) echo "$DATA/$folder" ;;
  esac
}

systemd_runs() { [ -d /run/systemd/system ]; }

stop_engine() { # fails when an engine still holds the folder afterwards
  ! systemd_runs || deb-systemd-invoke stop postkeep.service || true
  [ ! -e "$DATA/run/engine.lock" ] || as_engine flock --nonblock "$DATA/run/engine.lock" true
}

start_engine() {
  systemd_runs || return 0
  systemctl daemon-reload || true
  # Starts that failed a moment ago count for another version.
  systemctl reset-failed postkeep.service 2>/dev/null || true
  deb-systemd-invoke start postkeep.service
}

# The new code steps aside for the old one of .previous/.
put_old_code_back() {
  [ -d "$CODE/.previous/venv" ] || return 1
  cp -p "$CODE/.previous/version" "$CODE/.rolled-back"
  mkdir -p "$CODE/.failed"
  if [ ! -d "$CODE/.failed/venv" ]; then
    mv "$CODE/venv" "$CODE/.failed/venv"
    cp -p "/$UNIT" "$CODE/.failed/postkeep.service"
  else
    rm -rf "$CODE/venv"
  fi
  mv "$CODE/.previous/venv" "$CODE/venv"
  [ ! -e "$CODE/.previous/postkeep.service" ] || cp -p "$CODE/.previous/postkeep.service" "/$UNIT"
  sync
}

# Undoes put_old_code_back, wherever that was interrupted.
put_new_code_back() {
  [ -d "$CODE/.failed/venv" ] || return 0
  if [ -d "$CODE/venv" ]; then
    mkdir -p "$CODE/.previous"
    rm -rf "$CODE/.previous/venv"
    mv "$CODE/venv" "$CODE/.previous/venv"
  fi
  mv "$CODE/.failed/venv" "$CODE/venv"
  [ ! -e "$CODE/.failed/postkeep.service" ] || cp -p "$CODE/.failed/postkeep.service" "/$UNIT"
  rm -rf "$CODE/.failed" "$CODE/.rolled-back"
  sync
}
# ---------------------------------------------------------------------------------------------------------
