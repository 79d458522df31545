#!/usr/bin/env bash
# The page of `muse studio`, of the debug build that `cargo test --all-features` leaves, in a headless Chromium:
# scripts/studio.sh [folder for screenshots]. Playwright goes below target/; where there is no Chromium, Debian's is
# fetched there too, without root and without installing it.
set -euo pipefail
cd "$(dirname "$0")/.."
python=target/studio/bin/python
[ -x "$python" ] || python3 -m venv target/studio
"$python" -m pip install --quiet "playwright>=1.50,<2"

chromium=$(command -v chromium chromium-browser google-chrome | head -n 1 || true)
if [ -z "$chromium" ]; then
    root=$PWD/target/chromium
    chromium=$root/chromium
    if [ ! -x "$chromium" ]; then
        if ! command -v apt-get >/dev/null; then
            echo "there is no Chromium, and no apt-get to fetch it with: install it" >&2
            exit 1
        fi
        mkdir -p "$root/lists/partial" "$root/cache/archives/partial"
        own=(-o "Dir::State::Lists=$root/lists" -o "Dir::Cache=$root/cache" -o APT::Sandbox::User= -o Debug::NoLocking=1)
        apt-get -qq "${own[@]}" update
        # With those of its libraries that are not installed.
        apt-get -qq "${own[@]}" install --download-only --no-install-recommends --yes chromium fonts-dejavu-core
        for package in "$root"/cache/archives/*.deb; do
            dpkg -x "$package" "$root"
        done
        rm -rf "$root/lists" "$root/cache"
        cat >"$root/fonts.conf" <<FONTS
<fontconfig><dir>$root/usr/share/fonts</dir><dir>/usr/share/fonts</dir><cachedir>$root/fonts</cachedir></fontconfig>
FONTS
        cat >"$chromium" <<START
#!/bin/sh
libraries=$root/usr/lib/x86_64-linux-gnu
export LD_LIBRARY_PATH=\$libraries:\$libraries/pulseaudio:$root/lib/x86_64-linux-gnu FONTCONFIG_FILE=$root/fonts.conf
exec $root/usr/lib/chromium/chromium "\$@"
START
        chmod +x "$chromium"
    fi
fi

exec "$python" tests/studio_page.py --muse target/debug/muse --chromium "$chromium" ${1:+--screenshots "$1"}
