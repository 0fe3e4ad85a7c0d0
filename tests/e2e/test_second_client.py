"""Stores that boto3 alone wrote, from the documented formats: Slipway's own publisher has no part in them."""

import os

import pytest

import formats
import slipway
import toy

MTIME = 1_700_000_000
LONG = "a directory with a rather long name/" * 6 + "ü" * 100
ENTRIES = [
    formats.Entry("bin", "d"),
    formats.Entry("bin/tool", content=b"#!/bin/sh\necho tool\n", mode=0o755),
    formats.Entry("bin/tool-2", "l", link="tool"),
    formats.Entry("empty", content=b""),
    formats.Entry("large", content=os.urandom(9 << 20) + b"the end"),
    formats.Entry("up", "d"),
    formats.Entry("up/link", "l", link="../bin/tool"),
]


def long_path():
    parts = LONG.split("/")
    directories = [formats.Entry("/".join(parts[:n]), "d") for n in range(1, len(parts))]
    return [*directories, formats.Entry(LONG, content=b"far away\n")]


def tree_of(directory):
    return {e.path: (e.type, e.content, e.link, e.file_mode) for e in formats.tree_entries(directory)}


@pytest.fixture
def channel(s3, bucket, host):
    """A toy whose store is in a bucket; its environment."""
    return toy.Toy(host, formats.S3Store(s3.client(), bucket)), slipway.store_environment(s3)


@pytest.mark.parametrize("key_type", ["ed25519", "ecdsa-p256"])
def test_agent_deploys_it(channel, key_type):
    web, environment = channel
    web.key = formats.Key.new(key_type)
    web.release(more=[*long_path(), *ENTRIES])
    toy.start([web], url=web.store.url, environment=environment)
    web.assert_whole("r1")
    directory = web.host.work / "srv/web/releases/r1"
    _, said = formats.read_release(web.store, [web.key.public])
    assert tree_of(directory) == {e.path: (e.type, e.content, e.link, e.file_mode) for e in said.values()}
    assert {p.lstat().st_mtime for p in directory.rglob("*")} == {MTIME}

    # The next one of the same key: only the end of the large file differs.
    changed = formats.Entry("large", content=ENTRIES[4].content + b" is later")
    web.release(more=[*long_path(), *(changed if e.path == "large" else e for e in ENTRIES)])
    web.assert_whole("r2")
    assert (web.host.work / "srv/web/releases/r2/large").read_bytes() == changed.content


def test_two_of_two_keys(channel):
    """A trust root with a threshold: one signature is not enough, two by different algorithms are."""
    web, environment = channel
    other = formats.Key.new("ecdsa-p256")
    web.release()
    toy.configure([web], url=web.store.url, environment=environment)
    web.host.write("/etc/slipway/trust/root.json", formats.trust_root([web.key, other], threshold=2))
    web.host.start_unit("slipwayd.service")
    web.wait(lambda _: web.status()["poll"]["text"] and not web.status()["poll"]["ok"], "one signature to be refused")
    assert not web.host.exists("/srv/web/current")
    both = formats.make_release(toy.entries("r2", toy.GOOD), "r2", serial=2, deployment=2,
                                activate={"units": [{"name": web.unit, "action": "restart"}], "health": {"bake": "100ms"}})
    formats.publish(web.store, both, [web.key, other])
    web.assert_whole("r2")
