"""`python -m bench [create] [api] [memory] [parameters] [downtime] [backup] [keystone] [cloud] [--quick]`."""

from __future__ import annotations

import argparse
import sys
import time

from bench import api, backup, cloud, create, downtime, keystone, memory, parameters, report

BENCHMARKS = {
    "create": create.measure,
    "api": api.measure,
    "memory": memory.measure,
    "parameters": parameters.measure,
    "downtime": downtime.measure,
    "backup": backup.measure,
    "keystone": keystone.measure,
}
# Only when it is named: it needs a cloud.
ELSEWHERE = {"cloud": cloud.measure}


def main() -> int:
    arguments = argparse.ArgumentParser(
        prog="python -m bench", description="Measure Argosy against its rivals."
    )
    arguments.add_argument(
        "benchmark", nargs="*", choices=[[], *BENCHMARKS, *ELSEWHERE], help="all unless some are named"
    )
    arguments.add_argument("--quick", action="store_true", help="few rounds; print, write nothing")
    asked = arguments.parse_args()
    for name in asked.benchmark or BENCHMARKS:
        began = time.monotonic()
        title, text = (BENCHMARKS | ELSEWHERE)[name](quick=asked.quick)
        print(f"\n## {title}\n\n{text}\n\n({name} took {time.monotonic() - began:.0f} s)\n", flush=True)
        if not asked.quick:
            report.write({title: text})
    if not asked.quick:
        print(f"Written to {report.RESULTS}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
