#!/usr/bin/env bash
# Set up everything the tests need (virtual environment, requirements, a browser) and run them.
#   bash tests/run.sh [pytest arguments]      VENV=folder chooses the virtual environment (default .venv)
set -euo pipefail
cd "$(dirname "$0")/.."
venv=${VENV:-.venv}

as_root() { [ "$(id -u)" = 0 ]; }
apt_install() { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "$@" >/dev/null; }

if [ ! -x "$venv/bin/python" ]; then
  # Debian and Ubuntu keep ensurepip in a package of its own.
  if ! python3 -c 'import ensurepip' 2>/dev/null && as_root; then apt_install python3-venv; fi
  python3 -m venv "$venv"
fi
"$venv/bin/pip" install --quiet --disable-pip-version-check -r tests/requirements.txt

# On Ubuntu the packages named chromium are stubs that only point to a snap, so a browser counts if it starts.
starts() { timeout 60 "$1" --headless --no-sandbox --disable-gpu --dump-dom about:blank 2>/dev/null | grep "<html" >/dev/null; }
find_browser() {
  for name in chromium chromium-browser google-chrome; do
    if command -v "$name" >/dev/null && starts "$name"; then command -v "$name" && return; fi
  done
  return 1
}
install_browser() {
  if ! as_root; then "$venv/bin/playwright" install chromium; return; fi
  if command -v apt-get >/dev/null && apt_install chromium && CHROMIUM=$(find_browser); then return; fi
  "$venv/bin/playwright" install --with-deps chromium
}
if [ -z "${CHROMIUM:-}" ]; then CHROMIUM=$(find_browser) || install_browser >&2; fi
export CHROMIUM # empty where it is Playwright's own

# Threads that wait must not spin: they would take the processor from those that work.
export OMP_WAIT_POLICY=${OMP_WAIT_POLICY:-PASSIVE}
if [ $# -gt 0 ]; then exec "$venv/bin/python" -m pytest "$@"; fi

# The browser's tests wait most of the time, so the others run beside them; what they print comes when both are done.
printed=$(mktemp)
trap 'rm -f "$printed"' EXIT
"$venv/bin/python" -m pytest tests/unit >"$printed" 2>&1 &
unit=$!
passed=0
"$venv/bin/python" -m pytest tests/browser || passed=$?
wait "$unit" || passed=$?
cat "$printed"
exit "$passed"
