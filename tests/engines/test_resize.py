"""A running server takes the settings of another size: at once where it can, else by one restart."""

from __future__ import annotations

import pytest

from argosy.domain.errors import EngineError
from argosy.engines.base import ChecksSize, Configurable, Engine, RootAccess
from tests.support.engines import Guest

GROUPS = {
    "postgresql": {"shared_buffers": "77MB"},
    "mariadb": {"innodb_buffer_pool_size": "80M"},
    "valkey": {"maxmemory": "77mb"},
}


def take(engine: Engine) -> bool:
    """What the agent's job does; whether it took a restart."""
    assert isinstance(engine, Configurable)
    engine.apply_settings()
    waits = bool(engine.pending_resize())
    if waits:
        engine.stop()
        engine.start()
    assert engine.pending_resize() == []
    return waits


def test_it_has_what_a_server_started_at_that_size_has(guest: Guest) -> None:
    pid = guest.engine.server.pid
    small = guest.adapter.cache_mb(guest.host)
    for memory_mb in (768, 256):
        restarted = take(guest.resize(memory_mb))
        assert restarted is (guest.datastore.engine == "postgresql")
        if not restarted:
            assert guest.engine.server.pid == pid
        taken = guest.adapter.cache_mb(guest.host)
        guest.engine.stop()
        guest.engine.start()
        pid = guest.engine.server.pid
        assert taken == pytest.approx(guest.adapter.cache_mb(guest.host), abs=8)
        assert (taken > small) is (memory_mb > 512)


def test_what_the_owner_chose_is_kept_at_every_size(guest: Guest) -> None:
    assert isinstance(guest.engine, Configurable)
    guest.engine.apply_parameters(GROUPS[guest.datastore.engine])
    take(guest.engine)
    guest.engine.stop()
    guest.engine.start()
    chosen = guest.adapter.cache_mb(guest.host)
    assert chosen == pytest.approx(78, abs=4)
    take(guest.resize(768))
    assert guest.adapter.cache_mb(guest.host) == chosen


def test_data_that_would_not_fit_is_told_before_anything_is_changed(guest: Guest) -> None:
    if not isinstance(guest.engine, ChecksSize):
        pytest.skip(f"{guest.datastore.title} keeps its data on the volume")
    guest.engine.check_size(64)
    assert isinstance(guest.engine, RootAccess)
    guest.engine.enable_root("Fill-it-up-77")
    with guest.connect(guest.engine.root_name, "Fill-it-up-77") as session:
        for number in range(60):
            session.write(f"k{number}", "x" * 2**20)
    with pytest.raises(EngineError, match=r"holds \d+ MB and at the new size it may hold 48 MB"):
        guest.engine.check_size(64)
    guest.engine.check_size(256)
