#!/usr/bin/env bash
# Run the tests CI runs, on real engines. Arguments go to pytest; without any, everything runs.
# Images (engine software) are kept in a directory of their own between runs: ARGOSY_TEST_IMAGES.
set -euo pipefail
cd "$(dirname "$0")/.."
workers=${ARGOSY_TEST_WORKERS:-3}
# In the order of their names: the files with few long tests come first, and none of them is left for the end.
exec .venv/bin/python -m pytest -q -n "$workers" --dist loadfile --no-loadscope-reorder --durations=25 "$@"
