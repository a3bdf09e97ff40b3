#!/usr/bin/env bash
# The programs that the benchmarks measure ours beside. What cannot be installed is said, and
# the benchmarks leave it out. AWS's command and Litestream go into an environment of their own.
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
packages=()
for pair in rclone:rclone restic:restic sqlite3:sqlite3; do
    command -v "${pair%%:*}" >/dev/null || packages+=("${pair##*:}")
done
if [ ${#packages[@]} -gt 0 ]; then
    if [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null; then
        apt-get update -qq
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${packages[@]}"
    else
        echo "To measure these too, install them: ${packages[*]}" >&2
        echo "On Debian and Ubuntu: sudo apt-get install ${packages[*]}" >&2
    fi
fi
peers=$here/.peers
if [ ! -f "$peers/.done" ] || [ "$here/peers.txt" -nt "$peers/.done" ]; then
    python=${PYTHON:-python3}
    "$python" -m venv --without-pip "$peers" &&
        "$peers/bin/python" "$here/../deploy/dependencies.py" install "$here/peers.txt" &&
        touch "$peers/.done" ||
        echo "The programs of benchmarks/peers.in are left out. To try again: make bench" >&2
fi
exit 0
