#!/usr/bin/env bash
# Run OpenStack's scenarios for Trove against an Argosy of its own. Usage: tools/tempest.sh [REGEX...].
# tempest lives in an environment of its own, for it wants other versions of what Argosy uses too.
set -euo pipefail
cd "$(dirname "$0")/.."
venv=.venv-tempest
wanted="tempest==47.0.0 trove-tempest-plugin==2.8.0 pymysql psycopg2-binary"
if [ "$(cat $venv/.ready 2>/dev/null)" != "$wanted" ]; then
  rm -rf $venv
  .venv/bin/python -m venv $venv
  # shellcheck disable=SC2086 # they are several words
  $venv/bin/pip install -q $wanted
  echo "$wanted" > $venv/.ready
fi
PYTHONPATH=$PWD/src:$PWD exec .venv/bin/python -m tests.tempest "$@"
