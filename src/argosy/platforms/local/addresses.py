"""Addresses for instances: hosts of a loopback network, each reserved by a file in its instance's directory."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, IPv4Network

from argosy.domain.errors import PlatformError
from argosy.domain.guest import RPC_PORT
from argosy.platforms.local.accounts import Account, account_of, separate
from argosy.platforms.local.home import Home, Place, make_directory, write_file

_FIRST = 10  # below it is room for an operator's own use


class AddressPool:
    """Gives each instance of a home one address of the network."""

    def __init__(self, home: Home, network: IPv4Network, ports: Iterable[int] = ()) -> None:
        """An address where any of these ports, or the agent's, is bound by somebody else is not given out."""
        if not 16 <= network.prefixlen <= 28:
            raise PlatformError(f"The network {network} cannot serve: choose one from /16 to /28.")
        self._home = home
        self._network = network
        self._ports = sorted({RPC_PORT, *ports})

    def reserve(self, place: Place) -> str:
        """The instance's address, from now on; the caller holds the place. Raises PlatformError when none is left."""
        address = place.reserved()
        if address is None:
            # The choice and the file that makes it known are one step to everybody else who chooses.
            with self._home.locked("addresses"):
                address = self._choose()
                write_file(place.address, f"{address}\n", 0o600, Account(os.geteuid(), os.getegid()))
        owner = account_of(address)
        make_directory(place.root, 0o750 if separate() else 0o700, Account(os.geteuid(), owner.gid))
        return address

    def _choose(self) -> str:
        taken = {self._home.place(instance_id).reserved() for instance_id in self._home.instance_ids()}
        others = 0
        for number in range(_FIRST, self._network.num_addresses - 1):
            address = str(IPv4Address(int(self._network.network_address) + number))
            if address in taken:
                continue
            if bound(address, self._ports) is None:
                return address
            others += 1
        total = self._network.num_addresses - 1 - _FIRST
        raise PlatformError(
            f"No address of {self._network} is free: of {total}, instances have {total - others} and other programs "
            f"{others}. Delete instances, or give Argosy a larger network."
        )


def bound(address: str, ports: Sequence[int]) -> int | None:
    """The first of these ports that somebody listens on, at this address or at all of them."""
    for port in ports:
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            # As servers do: connections that ended a moment ago do not count.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((address, port))
            except OSError as error:
                if error.errno == errno.EADDRINUSE:
                    return port
                raise PlatformError(f"{address} is no address of this machine: {error}.") from error
    return None
