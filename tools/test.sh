#!/usr/bin/env bash
# Run the tests CI runs, on real engines. Arguments go to pytest; without any, everything runs.
# Images (engine software) are kept in a directory of their own between runs: ARGOSY_TEST_IMAGES.
set -euo pipefail
cd "$(dirname "$0")/.."
workers=${ARGOSY_TEST_WORKERS:-3}
exec .venv/bin/python -m pytest -q -n "$workers" --dist loadfile --durations=25 "$@"
