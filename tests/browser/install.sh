#!/usr/bin/env bash
# What the browser tests need, on Debian: its own Chromium, and Python's playwright in an environment of its own.
# Usage: tests/browser/install.sh PYTHON
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
if ! command -v "${CHROMIUM:-chromium}" > /dev/null; then
    become=""
    [ "$(id -u)" = 0 ] || become=sudo
    command -v apt-get > /dev/null || { echo "No chromium and no apt-get here: install Chromium and set CHROMIUM to its path." >&2; exit 1; }
    $become apt-get update -qq && $become apt-get install -y -qq --no-install-recommends chromium fonts-dejavu-core
fi
stamp="$here/.venv/.installed"
if [ ! "$stamp" -nt "$here/requirements.txt" ]; then
    "$1" -m venv "$here/.venv"
    "$here/.venv/bin/python" -m pip install --quiet --disable-pip-version-check -r "$here/requirements.txt"
    touch "$stamp"
fi
