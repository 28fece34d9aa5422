#!/usr/bin/env bash
# Make a virtual environment with Argosy (editable) and the tools of its tests. Usage: tools/setup.sh VENV
# Python 3.11 or newer is all it asks for: Debian's python3 comes without pip and ensurepip, so pip is taken
# from Debian's own package, unpacked in a temporary place. Nothing is installed outside of VENV.
set -euo pipefail
venv=$1
python=$(command -v python3.11 || command -v python3 || true)
[ -n "$python" ] || { echo "argosy needs Python 3.11 or newer: apt-get install python3" >&2; exit 1; }
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
  { echo "argosy needs Python 3.11 or newer; $("$python" --version) is too old" >&2; exit 1; }

# A machine that is busy, or a mirror that is, may keep pip waiting for longer than it does by itself.
export PIP_RETRIES=10 PIP_DEFAULT_TIMEOUT=60

# refresh: bring Debian's lists of packages up to date, if we may; whoever else is at it has them locked for a while.
refresh() {
  [ "$(id -u)" = 0 ] || return 1
  for _ in 1 2 3 4 5 6; do
    apt-get -qq -o Acquire::Retries=3 update && return
    sleep 10
  done
  return 1
}

# with_debian_pip: put pip into the environment from the package python3-pip-whl.
with_debian_pip() {
  local work
  work=$(mktemp -d)
  trap 'rm -rf "$work"' RETURN
  chmod 755 "$work"
  fetch() { (cd "$work" && apt-get -qq -o Acquire::Retries=3 -o APT::Sandbox::User=root download python3-pip-whl); }
  # Lists may be missing, or so old that the version in them is not in the archive any more.
  fetch 2>/dev/null || { refresh && fetch; } || return 1
  (cd "$work" && dpkg -x ./*.deb .) || return 1
  "$venv/bin/python" "$(echo "$work"/usr/share/python-wheels/pip-*.whl)/pip" install --quiet pip
}

if ! "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
  echo "Making the virtual environment $venv"
  rm -rf "$venv"
  if ! "$python" -m venv "$venv" >/dev/null 2>&1; then
    rm -rf "$venv"
    "$python" -m venv --without-pip "$venv"
    with_debian_pip || { echo "there is no pip to be had: install python3-venv and run again" >&2; rm -rf "$venv"; exit 1; }
  fi
fi
echo "Installing Argosy and the tools of its tests into $venv (a minute, once)"
"$venv/bin/python" -m pip install --quiet --upgrade 'pip>=25.1'
"$venv/bin/python" -m pip install --quiet --editable . --group dev
touch "$venv/.ready"
