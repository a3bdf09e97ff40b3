#!/usr/bin/env bash
# The browser that the tests of the page drive: the distribution's own Chromium.
set -euo pipefail
command -v chromium >/dev/null || command -v chromium-browser >/dev/null && exit 0
if [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null; then
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium fonts-dejavu-core
else
    echo "The browser tests need Chromium." >&2
    echo "Install it, on Debian and Ubuntu with: sudo apt-get install chromium" >&2
    exit 1
fi
