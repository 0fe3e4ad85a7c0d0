"""What a release shares with those that are on the host: it is neither fetched nor written again, unless it is not what was
signed."""

import random
import re

import pytest

import fault_proxy as faults
import formats
import sandbox

ARTIFACT = r"/artifact\.tar\.zst"
N_FILES, FILE_BYTES = 40, 50_000  # several frames
CHANGED = "static/20"


@pytest.fixture(scope="module")
def proxy(s3):
    with faults.FaultProxy(sandbox.SERVER_ADDRESS, s3.address, tls=s3.tls_context()) as proxy:
        yield proxy


@pytest.fixture(scope="module")
def follower(make_follower, proxy):
    follower = make_follower(proxy.endpoint)
    follower.start()
    follower.publish(release := make(follower, {}))
    follower.wait_live(release)
    return follower


def make(follower, changed, version="shared"):
    """A release with many files, of which some have a content of their own."""
    files = [formats.Entry("static", "d")]
    for n in range(N_FILES):
        path = f"static/{n:02}"
        files.append(formats.Entry(path, content=random.Random(changed.get(path, path)).randbytes(FILE_BYTES)))
    return follower.make(sorted([*follower.entries(version), *files], key=lambda e: e.path.encode()))


def deploy(follower, proxy, release):
    """Returns what it said of what was here, and the requests for its artifact."""
    proxy.clear()
    follower.cursor = follower.host.journal_cursor()
    follower.publish(release)
    follower.wait_live(release)
    n = re.escape(release.payload["release"]["id"])
    said = follower.host.wait_journal(rf"(\d+) files of release {n} were here already; (\d+) of (\d+) bytes",
                                      unit="slipwayd.service", after=follower.cursor)
    follower.assert_nothing_left()
    return [int(number) for number in said.groups()], proxy.seen(ARTIFACT)


def live(follower):
    return f"/srv/web/releases/r{follower.lived[-1]}"


def inode(follower, directory, path):
    return follower.host.run(["stat", "-c", "%d %i", f"{directory}/{path}"]).stdout


def assert_whole(follower, release):
    """By the agent's word, and by our own."""
    name = release.payload["release"]["id"]
    follower.host.run(["slipway", "verify", "web", name])
    for file in formats.Index.unpack(release.index).files:
        if file.type == "f":
            assert formats.sha256(follower.host.read_bytes(f"/srv/web/releases/{name}/{file.path}")) == file.sha256, file.path


def test_few_changes(follower, proxy):
    before = live(follower)
    release = make(follower, {CHANGED: "other"})
    (n_here, n_fetched, n_bytes), requests = deploy(follower, proxy, release)
    assert n_here > N_FILES - 2
    assert n_fetched < n_bytes / 3
    assert sum(r.n_body_bytes for r in requests) <= n_fetched
    assert_whole(follower, release)
    for path in ("static/00", "static/39", "version.json"):
        assert inode(follower, before, path) == inode(follower, live(follower), path)
    assert inode(follower, before, CHANGED) != inode(follower, live(follower), CHANGED)


def test_nothing_but_the_id(follower, proxy):
    deploy(follower, proxy, make(follower, {CHANGED: "first"}))
    release = make(follower, {CHANGED: "first"})
    (_, n_fetched, _), requests = deploy(follower, proxy, release)
    assert (n_fetched, requests) == (0, [])
    assert not proxy.seen(rf"/releases/{re.escape(release.payload['release']['id'])}/")
    assert_whole(follower, release)


def test_damaged_index(follower, proxy):
    """That of the release before is not what it was: the new one's comes from the store."""
    before = make(follower, {CHANGED: "indexed"})
    deploy(follower, proxy, before)
    kept = f"/var/lib/slipway/web.index/{before.payload['release']['id']}"
    follower.host.run(["dd", "if=/dev/zero", f"of={kept}", "bs=1", "seek=100", "count=8", "conv=notrunc", "status=none"])
    release = make(follower, {CHANGED: "indexed"})
    deploy(follower, proxy, release)
    assert len(proxy.seen(rf"/releases/{re.escape(release.payload['release']['id'])}/index$", "GET")) == 1
    assert_whole(follower, release)


def test_damaged_here(follower, proxy):
    """Bytes, with size and time as they were: on a disk that fails, or by a careless hand."""
    deploy(follower, proxy, make(follower, {CHANGED: "second"}))
    before = live(follower)
    follower.host.run(["sh", "-c", f"cd {before}/static && cp -p 05 /tmp/kept && cp --preserve=all 05 05.new && mv 05.new 05 && "
                                   "printf damaged | dd of=05 bs=1 seek=25000 conv=notrunc && touch -r /tmp/kept 05"])
    release = make(follower, {CHANGED: "third"})
    (_, n_fetched, n_bytes), _ = deploy(follower, proxy, release)
    follower.wait_said(rf"1 files or parts of files .* not what was signed, .*'static/05' of release {before.rpartition('/')[2]}")
    assert 2 * FILE_BYTES < n_fetched < n_bytes
    assert_whole(follower, release)
    assert inode(follower, before, "static/05") != inode(follower, live(follower), "static/05")


def test_old_ones_go(follower, proxy):
    """A release stays whole when those go that it shares files with, and one can go back to it."""
    releases = []
    for n in range(6):
        releases.append(make(follower, {CHANGED: f"{n}"}))
        deploy(follower, proxy, releases[-1])
    names = [r["release"] for r in follower.status()["state"]["releases"]]
    assert len(names) == 5
    assert_whole(follower, releases[-1])
    follower.host.run(["slipway", "rollback", "web"])
    follower.wait_live(releases[-2])
    assert_whole(follower, releases[-2])
    [app] = [follower.status()]
    sizes = {r["release"]: (r["size"], r["own"]) for r in app["state"]["releases"]}
    size, own = sizes[releases[-1].payload["release"]["id"]]
    assert own < size / 4
    assert sum(own for _, own in sizes.values()) < 2 * size


def test_users_can_not_write(follower):
    result = follower.host.run(["sh", "-c", f"find {live(follower)} ! -user slipway-unpack -o ! -type l -perm /022"])
    assert result.stdout == ""
