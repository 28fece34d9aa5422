"""Where passwords come from: generated, a file, a prompt or the environment, but never the command line."""

from __future__ import annotations

import os
import secrets
import string
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

_LENGTH = 24

FileOption = Annotated[
    str | None,
    typer.Option(
        "--password-file",
        metavar="FILE",
        help="Take passwords from a file, a line a user; '-' is stdin. Else ARGOSY_PASSWORD, if set.",
    ),
]
AskOption = Annotated[bool, typer.Option("--ask-password", help="Ask for the password at the terminal.")]


def generated() -> str:
    """Letters and digits only, so that it can be pasted anywhere; about 140 bits."""
    alphabet = string.ascii_letters + string.digits
    return "".join(secrets.choice(alphabet) for _ in range(_LENGTH))


def chosen(users: Sequence[str], file: str | None, *, ask: bool) -> list[str] | None:
    """One for each user as the person gave them, None when they gave none and one is to be generated.

    Raises typer.BadParameter when there are too few or too many.
    """
    if not users:
        return None
    if ask:
        return [_asked(user) for user in users]
    if file is not None:
        lines = _lines(file)
        if len(lines) != len(users):
            raise typer.BadParameter(
                f"{file} has {len(lines)} passwords, one a line, and there are {len(users)} users.",
                param_hint="--password-file",
            )
        return lines
    inherited = os.environ.get("ARGOSY_PASSWORD")
    if not inherited:
        return None
    if len(users) > 1:
        raise typer.BadParameter(
            f"ARGOSY_PASSWORD is one password and there are {len(users)} users: use --password-file."
        )
    return [inherited]


def asked_once(user: str) -> str:
    """For a password that exists already."""
    from getpass import getpass

    return getpass(f"Password of {user}: ")


def _asked(user: str) -> str:
    if not sys.stdin.isatty():
        raise typer.BadParameter(
            "there is no terminal to ask at: use --password-file -.", param_hint="--ask-password"
        )
    answer: str = typer.prompt(f"Password of {user}", hide_input=True, confirmation_prompt=True)
    return answer


def _lines(file: str) -> list[str]:
    try:
        text = sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise typer.BadParameter(f"{file} cannot be read: {error}.", param_hint="--password-file") from error
    return [line for line in text.splitlines() if line]
