#!/bin/sh
# Installs Chromium where apt can; elsewhere it says that the tests of the report will be skipped.
if command -v apt-get >/dev/null && [ "$(id -u)" = 0 ]; then
    apt-get update --quiet=2 && apt-get install --yes --quiet=2 --no-install-recommends chromium
else
    echo "No Chromium, and apt cannot be used: tests that need a browser are skipped (with CI set they fail)." >&2
fi
