#!/usr/bin/env bash
# The programs beside Python that the tests run: docs/restore-by-hand.md uses each of them.
set -euo pipefail
missing=()
for pair in age:age zstd:zstd sqlite3:sqlite3 aws:awscli unshare:util-linux; do
    command -v "${pair%%:*}" >/dev/null || missing+=("${pair##*:}")
done
[ ${#missing[@]} -eq 0 ] && exit 0
if [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null; then
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}"
else
    echo "The tests need these packages: ${missing[*]}" >&2
    echo "Install them, on Debian and Ubuntu with: sudo apt-get install ${missing[*]}" >&2
    exit 1
fi
