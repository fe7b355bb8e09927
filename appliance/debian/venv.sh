#!/bin/sh
# A virtual environment at its final path, moved into the package.
# usage: venv.sh PACKAGE TARGET LOCK DISTRIBUTION...
#
# What the lock names is kept in ../../venvs from build to build, under the hash of lock and script.
set -eu
package=$1 target=$2 lock=$3
shift 3
kept=../../venvs/$package-$(cat "$lock" "$0" | sha256sum | cut -c 1-16)

pip() {
  python3 -m pip --python "$target/bin/python" --quiet --disable-pip-version-check "$@"
}
install() {
  pip install --no-index --find-links wheels --no-compile --no-warn-script-location --root-user-action ignore "$@"
}
tidy() { # what nobody reads on the server, and what is not the same in every build
  find "$packages" -type d \( -name tests -o -name test -o -name docs \) -prune -exec rm -rf {} +
  # Of SQLite's extras that apsw brings, the engine loads one: checksums of the database's pages.
  find "$packages" -path '*/sqlite_extra_binaries/*' ! -name cksumvfs.so -delete
  find "$packages" -type f \( -name '*.py[xi]' -o -name '*.pxd' -o -name '*.[ch]' -o -name .gitignore \) -delete
  find "$packages" -path '*.dist-info/*' \
    \( -name RECORD -o -name direct_url.json -o -name REQUESTED -o -name INSTALLER \) -delete
}

rm -rf "$target" && mkdir -p "$(dirname "$target")"
if [ -d "$kept" ]; then
  cp -a "$kept" "$target"
  packages=$(echo "$target"/lib/python3*/site-packages)
else
  system=""
  [ "$package" = postkeep ] || system=--system-site-packages # for python3-netifaces, which has no wheel
  python3 -m venv --without-pip $system "$target"
  packages=$(echo "$target"/lib/python3*/site-packages)
  install --require-hashes --only-binary :all: -r "$lock"
  tidy
  find "$target" -name '*.so' -type f -exec strip --strip-unneeded {} + -exec chmod 644 {} +
  find "$target/bin" -mindepth 1 ! -name 'python*' -delete
  rm -rf "$target/include" "$target/share" "$target/.gitignore"
  # /opt cannot be written by the service: without these each start would compile everything anew. Marked
  # as checked by nobody, so that they are the same in every build.
  "$target/bin/python" -m compileall -q -j 0 --invalidation-mode unchecked-hash "$packages"
  mkdir -p ../../venvs && rm -rf "../../venvs/$package-"*
  cp -a "$target" "$kept.new" && mv "$kept.new" "$kept"
fi

for distribution in "$@"; do
  install --no-deps "wheels/$distribution"-[0-9]*.whl
done
tidy
pip check
"$target/bin/python" -m compileall -q -j 0 --invalidation-mode unchecked-hash "$packages"

mkdir -p "debian/$package$(dirname "$target")"
cp -a "$target" "debian/$package$target"
