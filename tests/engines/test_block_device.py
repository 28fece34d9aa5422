"""A machine's data volume is formatted if it is blank, never otherwise. On files in the place of disks."""

from __future__ import annotations

import os
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from argosy.agent import block_device
from argosy.domain.errors import PlatformError

UUID = str(uuid.UUID(int=7))
SIZE = 64 << 20


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    disk = tmp_path / "disk"
    with disk.open("wb") as file:
        file.truncate(SIZE)
    return disk


class Place:
    def __init__(self, directory: Path) -> None:
        self.point = directory / "volume"
        self.begun = directory / "formatting"

    def mount(self, disk: Path, instance: str = UUID) -> None:
        block_device.mount(disk, self.point, instance, self.begun)

    def unmount(self) -> None:
        subprocess.run(["umount", self.point], check=True)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    if os.geteuid() != 0:
        pytest.skip("mounting needs root")
    place = Place(tmp_path)
    yield place
    if os.path.ismount(place.point):
        place.unmount()


def test_a_blank_disk_is_formatted_once_and_found_again_with_what_is_on_it(place: Place, disk: Path) -> None:
    place.mount(disk)
    (place.point / "data").write_text("kept")
    place.mount(disk)
    place.unmount()
    place.mount(disk)
    assert (place.point / "data").read_text() == "kept"
    assert not place.begun.exists()


def test_a_disk_with_another_instances_data_is_not_touched(place: Place, disk: Path) -> None:
    place.mount(disk)
    place.unmount()
    before = disk.read_bytes()
    with pytest.raises(PlatformError, match=r"a file system \(ext4\) of another, and is not touched"):
        place.mount(disk, str(uuid.UUID(int=8)))
    assert disk.read_bytes() == before


@pytest.mark.parametrize("offset", [0, 4096, (4 << 20) - 1, SIZE - 512])
def test_a_disk_with_anything_at_either_end_is_not_blank(place: Place, disk: Path, offset: int) -> None:
    with disk.open("r+b") as file:
        file.seek(offset)
        file.write(b"x")
    with pytest.raises(PlatformError, match="holds something, and is not touched"):
        place.mount(disk)


def test_a_disk_with_a_partition_table_is_not_blank(place: Place, disk: Path) -> None:
    with disk.open("r+b") as file:
        file.seek(510)
        file.write(b"\x55\xaa")
    with pytest.raises(PlatformError, match="is not touched"):
        place.mount(disk)


def test_a_machine_that_died_while_it_formatted_formats_again(place: Place, disk: Path) -> None:
    place.begun.write_text(UUID)
    with disk.open("r+b") as file:
        file.write(b"half a file system")
    place.mount(disk)
    place.unmount()
    with disk.open("r+b") as file:
        file.seek(1024)
        file.write(bytes(1024))  # no superblock any more
    with pytest.raises(PlatformError, match="is not touched"):
        place.mount(disk)


def test_a_device_is_found_by_the_part_of_its_serial_number_that_virtio_shows(tmp_path: Path) -> None:
    serial = "5b1f7c3e-52f4-4e0b-9a0e-0c6f1c9d3b11"
    for name, told in {"vda": "", "vdb": f"{serial[:20]}\n"}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "serial").write_text(told)
    assert block_device.find(serial, block=tmp_path) == Path("/dev/vdb")
    with pytest.raises(PlatformError, match="another is not attached to this machine: it has vda, vdb"):
        block_device.find("another", timeout_s=0, block=tmp_path)
