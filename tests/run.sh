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

find_browser() {
  for name in chromium chromium-browser google-chrome; do command -v "$name" && return; done
  return 1
}
if [ -z "${CHROMIUM:-}" ] && ! CHROMIUM=$(find_browser); then
  if as_root && command -v apt-get >/dev/null && apt_install chromium && CHROMIUM=$(find_browser); then :; else
    "$venv/bin/playwright" install chromium
    CHROMIUM=
  fi
fi
export CHROMIUM

exec "$venv/bin/python" -m pytest "$@"
