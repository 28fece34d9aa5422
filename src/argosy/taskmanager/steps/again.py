"""What every step is: recorded by DBOS, and done again when the metadata database went away in the middle of it.

Workflows wait for a database that is away (`Store.patience_s`), at the beginning of a transaction. One that was cut off
tells its step by an error, which would be recorded as the step's own and fail the operation.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import sqlalchemy as sa
import structlog
from dbos import DBOS

log = structlog.get_logger()

AGAIN_S = 1.0

P = ParamSpec("P")
R = TypeVar("R")


def step(*, name: str, **options: Any) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """`DBOS.step`, for what may be done twice, as all steps may: whether the lost transaction counted nobody knows."""

    def made(act: Callable[P, R]) -> Callable[P, R]:
        @DBOS.step(name=name, **options)
        @wraps(act)
        def run(*args: P.args, **kwargs: P.kwargs) -> R:
            while True:
                try:
                    return act(*args, **kwargs)
                except sa.exc.DBAPIError as error:
                    if not error.connection_invalidated:
                        raise
                    log.warning(
                        "the metadata database went away during a step, which is done again",
                        step=name,
                        error=str(error.orig),
                    )
                    time.sleep(AGAIN_S)

        return run

    return made
