"""`slipway-publish verify --all` on a real S3 server: long lists, what is spoilt in the bucket, and what can't be read."""

import json

import pytest

import fault_proxy as faults
import formats
import slipway

FAILED, UNVERIFIED = 1, 4
N_INSTANCES = 1100  # more than a page of a list


@pytest.fixture
def store(s3, bucket):
    return formats.S3Store(s3.client(), bucket)


@pytest.fixture
def publisher(make_publisher, store, s3, tmp_path):
    """Two releases in prod, which was refreshed, and one of them in staging."""
    publisher = make_publisher(store.url, slipway.store_environment(s3))
    for name in ("one", "two"):
        tree = tmp_path / name
        tree.mkdir()
        (tree / "file").write_text(name, encoding="utf-8")
        publisher.release(tree, name)
    publisher.run("refresh", *publisher.channel_args(), "--key", publisher.key_path)
    publisher.run("promote", "--store", store.url, "--app", "web", "--from", "prod", "--to", "staging", "--key", publisher.key_path)
    return publisher


def audit(publisher, environment=None):
    result = publisher.run("verify", "--all", "--store", publisher.url, "--trust", publisher.root_path, "--json", check=False,
                           environment=environment)
    return result, json.loads(result.stdout)


def found(publisher, rc):
    result, document = audit(publisher)
    assert (result.rc, document["verified"]) == (rc, rc == 0), result.stdout + result.stderr
    return [(f["weight"], f["object"]) for f in document["findings"]]


def test_all_is_well(publisher, store, s3_proxy, s3):
    """Also where the list has several pages."""
    for i in range(N_INSTANCES):
        store.put(f"web/channels/prod/instances/i-{i}.json", b"{}")
    s3_proxy.clear()
    result, document = audit(publisher, slipway.store_environment(s3, endpoint=s3_proxy.endpoint))
    assert result.rc == 0 and document["findings"] == [], result.stderr
    assert (document["channels"], document["manifests"], document["releases"]) == (2, 4, 2)
    assert len(s3_proxy.seen(r"continuation-token=", method="GET")) >= 1


def test_each_object(publisher, store, boto, bucket):
    """A bit in each, and then none of it."""
    names = [entry["Key"].removeprefix("deploy/") for entry in boto.list_objects_v2(Bucket=bucket, Prefix="deploy/")["Contents"]]
    names = [name for name in names if not name.endswith("halt.json")]
    assert len(names) == 2 * 3 + 3 + 1 + 2
    for name in names:
        good = store.get(name)
        said = name.rpartition("/")[0] if name.endswith(("/artifact.tar.zst", "/index")) else name
        bad = bytearray(good)
        bad[len(good) // 2] ^= 1
        store.put(name, bytes(bad))
        assert {f for f in found(publisher, UNVERIFIED) if f[0] != "note"} == {("failed", said)}, name
        boto.delete_object(Bucket=bucket, Key=f"deploy/{name}")
        newest = name in ("web/channels/prod/history/3.json", "web/channels/staging/history/1.json")
        assert {f for f in found(publisher, 0 if newest else UNVERIFIED)} >= {("note" if newest else "failed", said)}, name
        store.put(name, good)
    assert found(publisher, 0) == []


def test_what_can_not_be_read(publisher, s3_proxy, s3):
    """That is not said to be well, nor to be wrong."""
    environment = slipway.store_environment(s3, endpoint=s3_proxy.endpoint)
    for path, text in ((r"/one/artifact\.tar\.zst", "web/releases/one/artifact.tar.zst"), (r"/history/1\.json", "history/1.json"),
                       (r"/trust/2\.json", "trust/2.json"), (r"list-type=2.*prefix=deploy%2F(&|$)", "s3:ListBucket")):
        s3_proxy.fault(path, faults.Answer(403, "AccessDenied"), method="GET")
        result, document = audit(publisher, environment)
        assert result.rc == FAILED and text in result.stderr, result.stderr
        assert "verified" not in document and document["exit"] == FAILED
        s3_proxy.clear()
