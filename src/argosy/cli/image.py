"""`argosy image build`: make the image that machines of a cloud boot from, on this machine."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

from argosy.cli.call import Call, command

PANEL = "Administration"


def add_to(app: typer.Typer) -> None:
    group = typer.Typer(help="Images that machines of a cloud boot from.", no_args_is_help=True)
    app.add_typer(group, name="image", rich_help_panel=PANEL)
    command(
        group,
        "build",
        examples=(
            "argosy image build postgresql 17 --output postgresql.qcow2",
            "argosy image build postgresql 15 17 mariadb 11.8 --register",
        ),
    )(build)


def build(
    call: Call,
    software: Annotated[
        list[str],
        typer.Argument(
            metavar="DATASTORE VERSION...", help="What it is to hold; more than one datastore may be named."
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Where the image goes; with --register it need not stay here."),
    ] = None,
    kind: Annotated[str, typer.Option("--format", metavar="qcow2|raw", help="qcow2 or raw.")] = "qcow2",
    size_gb: Annotated[
        int, typer.Option(metavar="N", help="Size of its disk, which grows to that of a server's flavor.")
    ] = 2,
    register: Annotated[
        bool, typer.Option("--register", help="Upload it to Glance, for servers to be made from.")
    ] = False,
    name: Annotated[
        str | None, typer.Option(metavar="NAME", help="Its name in Glance; by default that of its software.")
    ] = None,
    cloud: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="The cloud to register it with, instead of the one in argosy.toml."
        ),
    ] = None,
    direct_kernel: Annotated[
        bool, typer.Option(help="Have Nova hand the kernel to the machine, which boots faster.")
    ] = True,
    ssh_key: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Public keys of those who may log in as root; without, nobody may."
        ),
    ] = None,
    snapshot: Annotated[
        str | None, typer.Option(metavar="TIMESTAMP", help="Debian as of a moment, such as 20251101T000000Z.")
    ] = None,
    package_list: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The packages of an earlier image, as written beside it."),
    ] = None,
    kernel_option: Annotated[
        list[str] | None,
        typer.Option(metavar="OPTION", help="Another option for the kernel; may be repeated."),
    ] = None,
    install_missing: Annotated[
        bool, typer.Option("--install-missing", help="Install the programs that building takes.")
    ] = False,
) -> int:
    """Build an image with the software of these versions and the agent, and say what it is made of.

    Beside it go its facts, the list of its packages, an SBOM (SPDX), and the kernel and initrd it is booted by.
    """
    arguments = ["build", *software, "--format", kind, "--size-gb", str(size_gb)]
    given = {
        "--output": output,
        "--name": name,
        "--cloud": cloud or call.cloud_name,
        "--ssh-key": ssh_key,
        "--snapshot": snapshot,
        "--package-list": package_list,
    }
    for option, value in given.items():
        arguments += [] if value is None else [option, str(value)]
    for value in kernel_option or []:
        # One argument, since options of the kernel may look like ours.
        arguments.append(f"--kernel-option={value}")
    arguments += ["--register"] if register else []
    arguments += ["--install-missing"] if install_missing else []
    arguments += [] if direct_kernel else ["--no-direct-kernel"]
    # Without -P a directory named argosy in the working directory would be run instead.
    done = subprocess.run(
        [sys.executable, "-P", "-m", "argosy.processes.image", *arguments, "--home", str(call.home)],
        stdout=subprocess.PIPE,
        # What it is at is for people; what is wrong comes last, and is said by us.
        stderr=subprocess.PIPE if call.out.quiet or call.out.as_json else None,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        return _failed(call, done)
    built = json.loads(done.stdout)
    call.out.fields(built, _shown(built), name=built.get("id") or built["image"])
    return 0


def _failed(call: Call, done: subprocess.CompletedProcess[str]) -> int:
    from argosy.cli import exits

    if done.stderr is not None:
        last = done.stderr.strip().splitlines()[-1:] or ["It ended without a word."]
        call.out.failure(last[0].removeprefix("argosy: "), "image-not-built")
    return exits.USAGE if done.returncode == exits.USAGE else exits.FAILED


def _shown(built: dict[str, object]) -> dict[str, object]:
    return {
        key.replace("_", " "): ", ".join(value) if isinstance(value, list) else value
        for key, value in built.items()
    }
