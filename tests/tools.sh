#!/usr/bin/env bash
# The programs beside Python that the tests run: docs/restore-by-hand.md uses some, deploy/ others.
set -euo pipefail
cd "$(dirname "$0")/.."

missing=()
for pair in age:age zstd:zstd sqlite3:sqlite3 aws:awscli unshare:util-linux systemd-analyze:systemd faketime:faketime pg_config:postgresql; do
    command -v "${pair%%:*}" >/dev/null || missing+=("${pair##*:}")
done
if [ ${#missing[@]} -gt 0 ]; then
    if [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null; then
        apt-get update -qq
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}"
    else
        echo "The tests need these packages: ${missing[*]}" >&2
        echo "Install them, on Debian and Ubuntu with: sudo apt-get install ${missing[*]}" >&2
        exit 1
    fi
fi

# Of Debian's prometheus only this program: the whole package would also start a server.
fetch_promtool() {
    local folder
    folder=$(mktemp -d)
    (
        cd "$folder"
        apt-get -qq -o APT::Sandbox::User=root download prometheus &&
            dpkg-deb --fsys-tarfile prometheus_*.deb | tar -x ./usr/bin/promtool
    ) && install -m 755 "$folder/usr/bin/promtool" .venv/bin/promtool
    local outcome=$?
    rm -rf "$folder"
    return $outcome
}
if ! PATH="$PWD/.venv/bin:$PATH" command -v promtool >/dev/null; then
    if ! command -v apt-get >/dev/null; then
        echo "The tests need promtool, of Prometheus: put it on the PATH." >&2
        exit 1
    fi
    fetch_promtool || { apt-get update -qq && fetch_promtool; }
fi
