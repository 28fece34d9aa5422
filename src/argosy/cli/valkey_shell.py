"""A small client for Valkey and Redis, for machines that have no valkey-cli, as the wheel of Valkey brings none."""

from __future__ import annotations

import shlex
import sys
from typing import Any

import redis

from argosy.cli.programs import Target
from argosy.client.errors import ClientError


def run(target: Target, query: str | None) -> int:
    """Run one command, or each line of stdin until its end; 1 when the server refused one that was asked alone."""
    client = redis.Redis(
        host=target.host,
        port=target.port,
        username=target.user,
        password=target.password,
        db=int(target.database or 0),
        ssl=target.ca is not None,
        ssl_ca_certs=None if target.ca is None else str(target.ca),
    )
    try:
        if query is not None:
            return _one(client, query)
        prompt = f"{target.host}:{target.port}> " if sys.stdin.isatty() else ""
        if prompt:
            import readline  # noqa: F401 - gives input() its history
        while True:
            try:
                line = input(prompt)
            except EOFError:
                return 0
            if line.strip() in {"exit", "quit"}:
                return 0
            if line.strip():
                _one(client, line)
    except redis.ConnectionError as error:
        raise ClientError(
            f"No connection to {target.host}:{target.port}: {error}.", code="unreachable"
        ) from error
    finally:
        client.close()


def _one(client: redis.Redis, line: str) -> int:
    try:
        words = shlex.split(line)
        answer = client.execute_command(*words) if words else None  # type: ignore[no-untyped-call] # redis has no type for it
    except (redis.ResponseError, redis.AuthenticationError) as error:
        print(f"(error) {error}", file=sys.stderr)
        return 1
    except ValueError as error:
        print(f"(error) the line cannot be taken apart: {error}", file=sys.stderr)
        return 1
    _show(answer)
    return 0


def _show(answer: Any, indent: str = "") -> None:
    if isinstance(answer, dict):
        answer = [each for pair in answer.items() for each in pair]
    if isinstance(answer, list | tuple | set):
        for number, each in enumerate(answer, 1):
            if isinstance(each, list | tuple | set | dict):
                print(f"{indent}{number})")
                _show(each, f"{indent}  ")
            else:
                print(f"{indent}{number}) {_text(each)}")
        return
    print(f"{indent}{_text(answer)}")


def _text(value: Any) -> str:
    if value is None:
        return "(nil)"
    if value is True:
        return "OK"
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)
