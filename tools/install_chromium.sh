#!/bin/sh
# Installs Chromium unless it is there, where apt can; elsewhere it says that tests of the report are skipped.
for browser in chromium chromium-browser google-chrome; do
    command -v "$browser" >/dev/null && exit 0
done
if command -v apt-get >/dev/null && [ "$(id -u)" = 0 ]; then
    apt-get update --quiet=2 && apt-get install --yes --quiet=2 --no-install-recommends chromium
else
    echo "No Chromium, and apt cannot be used: tests that need a browser are skipped (with CI set they fail)." >&2
fi
