#!/usr/bin/env bash
# Fetches Debian's valgrind into target/valgrind, without root and without installing it; where one is installed,
# that is enough. libc6-dbg has the symbols of the dynamic linker, which valgrind cannot do without.
set -euo pipefail
cd "$(dirname "$0")/.."
if command -v valgrind || [ -x target/valgrind/usr/bin/valgrind ]; then
    exit
fi
if ! command -v apt-get >/dev/null; then
    echo "there is no valgrind, and no apt-get to fetch it with: install it" >&2
    exit 1
fi
root=$PWD/target/valgrind
mkdir -p "$root/lists/partial" "$root/cache/archives/partial"
cd "$root"
own=(-o "Dir::State::Lists=$root/lists" -o "Dir::Cache=$root/cache" -o APT::Sandbox::User= -o Debug::NoLocking=1)
apt-get -qq "${own[@]}" update
# The symbols of just the C library that is installed; a newer one's where that is no longer offered.
libc=$(dpkg-query -W -f '${Version}' libc6)
apt-get -qq "${own[@]}" download valgrind
apt-get -qq "${own[@]}" download "libc6-dbg=$libc" || apt-get -qq "${own[@]}" download libc6-dbg
for package in *.deb; do
    dpkg -x "$package" "$root"
done
# valgrind finds symbols of its own by the build's number, those fetched by the library's path.
linker=$(dirname "$(readlink -f /lib64/ld-linux-x86-64.so.2)")
mkdir -p "usr/lib/debug$linker"
ln -sf "$root"/usr/lib/debug/.build-id/*/*.debug "usr/lib/debug$linker"
rm -rf -- *.deb lists cache
