#!/usr/bin/env bash
# Make a virtual environment with Argosy (editable) and the tools of its tests. Usage: tools/setup.sh VENV
# Python 3.11 or newer is all it asks for; Debian's python3 without python3-venv is helped with virtualenv.
set -euo pipefail
venv=$1
python=$(command -v python3.11 || command -v python3 || true)
[ -n "$python" ] || { echo "argosy needs Python 3.11 or newer: apt-get install python3" >&2; exit 1; }
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "argosy needs Python 3.11 or newer, $("$python" --version) is too old" >&2; exit 1; }
if [ ! -x "$venv/bin/pip" ]; then
  echo "Making the virtual environment $venv"
  rm -rf "$venv"
  if ! "$python" -m venv "$venv" 2>/dev/null; then
    rm -rf "$venv"
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
      apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends python3-venv >/dev/null
      "$python" -m venv "$venv"
    else
      "$python" -m pip install --quiet --user virtualenv 2>/dev/null ||
        { echo "cannot make a virtual environment: install python3-venv (apt-get install python3-venv) and run again" >&2; exit 1; }
      "$python" -m virtualenv --quiet "$venv"
    fi
  fi
fi
echo "Installing Argosy and the tools of its tests into $venv (a minute, once)"
"$venv/bin/python" -m pip install --quiet --upgrade 'pip>=25.1'
"$venv/bin/python" -m pip install --quiet --editable . --group dev
touch "$venv/.ready"
