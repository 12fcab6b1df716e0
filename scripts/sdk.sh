#!/usr/bin/env bash
# Does the official SDK drive it? The unmodified PyPI package `flexprice` calls every one of its operations on
# `checkoutd dev`: those that are served with all their fields, filters and errors, the others to be told so
# (docs/compatibility.md). Everything is on loopback and in a temporary directory. Needs cargo, curl and python3;
# the package is installed under target/ on the first run.
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/journey/lib.sh

begin cargo curl python3

step "Build, and the SDK"
build
built=$(now)
tools=$target/sdk
sdk=flexprice==2.1.43
install "$sdk"
export PYTHONDONTWRITEBYTECODE=1
ready=$(now)
say "PyPI: $sdk"

step "The table of what is not served, and docs/compatibility.md"
"$python" scripts/sdk/operations.py --check

step "checkoutd dev, and every operation of the SDK"
shop=$work/shop
mkdir -m 711 "$shop"
start_dev CHECKOUTD_RATE_LIMIT_PER_SECOND=0 CHECKOUTD_FAILED_AUTHENTICATIONS_PER_MINUTE=0
"$python" scripts/sdk/run.py "$api" "$key" "$sandbox"

step "Ctrl-C"
stop_dev
finished=$(now)
printf '\nsdk: passed. %s s; before it %s s of build, %s s for the package\n' "$(calculate "$finished - $ready")" \
    "$(calculate "$built - $from")" "$(calculate "$ready - $built")"
