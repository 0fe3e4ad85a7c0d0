"""What the publisher leaves in a bucket: what S3 checks of it, versions, uploads that are interrupted, a clock that is wrong."""

import os
import pathlib
import signal

import pytest

import certificates
import fault_proxy as faults
import formats
import slipway

LOOPBACK = "127.0.0.1"
MANIFEST = "web/channels/prod/manifest.json"
HELD_TIMEOUT_SEC = 30
END_TIMEOUT_SEC = 20
FAKETIME = sorted(pathlib.Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))


@pytest.fixture
def tree(tmp_path):
    """A tree whose artifact goes up in parts: random bytes don't shrink."""
    directory = tmp_path / "tree"
    directory.mkdir()
    for n in range(7):
        (directory / f"{n}.bin").write_bytes(os.urandom(10 << 20))
    return directory


@pytest.fixture
def small_tree(tmp_path):
    directory = tmp_path / "small"
    directory.mkdir()
    (directory / "file").write_text("content", encoding="ascii")
    return directory


@pytest.fixture
def store(s3, bucket):
    return formats.S3Store(s3.client(), bucket)


@pytest.fixture
def publisher(make_publisher, store, s3):
    return make_publisher(store.url, slipway.store_environment(s3))


def uploads(boto, bucket):
    return boto.list_multipart_uploads(Bucket=bucket).get("Uploads", [])


def test_bucket_of_somebody_else(make_publisher, store, s3, small_tree):
    stranger = make_publisher(store.url, slipway.store_environment(s3, s3.users[1]))
    result = stranger.release(small_tree, "one", check=False)
    assert result.rc == 1 and "AccessDenied" in result.stderr and "permission s3:ListBucket" in result.stderr


def test_every_object_has_a_checksum_of_all_of_it(publisher, boto, bucket, tree):
    """SHA-256 where it goes up at once, CRC-64 where in parts: both were compared by the server."""
    publisher.release(tree, "one")
    kinds = {}
    for entry in boto.list_objects_v2(Bucket=bucket)["Contents"]:
        head = boto.head_object(Bucket=bucket, Key=entry["Key"], ChecksumMode="ENABLED")
        assert head["ChecksumType"] == "FULL_OBJECT", head
        kinds[entry["Key"].rpartition("/")[2]] = [name for name in head if name.startswith("Checksum") and name != "ChecksumType"]
    assert kinds.pop("artifact.tar.zst") == ["ChecksumCRC64NVME"]
    assert len(kinds) == 5 and all(names == ["ChecksumSHA256"] for names in kinds.values()), kinds


class OtherChecksum(faults.Fault):
    """Asks the server itself, which checks no signature over it, with another checksum than the client's."""

    def before(self, handler):
        for name in ("x-amz-checksum-crc64nvme", "x-amz-checksum-sha256"):
            if name in handler.headers:
                value = handler.headers[name]
                handler.headers.replace_header(name, ("B" if value[0] == "A" else "A") + value[1:])


def test_wrong_checksum_is_refused(publisher, s3, s3_proxy, boto, bucket, tree):
    """What is on its way is signed: this shows that the checksum is, too."""
    s3_proxy.fault(r"/artifact\.tar\.zst\?partNumber=2", OtherChecksum())
    result = publisher.release(tree, "one", check=False, environment=slipway.store_environment(s3, endpoint=s3_proxy.endpoint))
    assert result.rc == 1 and "SignatureDoesNotMatch" in result.stderr
    assert not uploads(boto, bucket)


@pytest.fixture
def hangup():
    """nohup has SIGHUP ignored, and so do the programs that are started then."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.usefixtures("hangup")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_interrupted_upload_is_taken_back(publisher, s3, s3_proxy, boto, bucket, tree, number):
    gate = faults.Gate()
    s3_proxy.fault(r"partNumber=3", gate)
    args = ["release", *publisher.channel_args(), "--key", publisher.key_path, "--id", "one", tree]
    with publisher.popen(*args, environment=slipway.store_environment(s3, endpoint=s3_proxy.endpoint)) as child:
        gate.wait_held(HELD_TIMEOUT_SEC)
        assert uploads(boto, bucket)
        child.send_signal(number)
        assert child.wait(END_TIMEOUT_SEC) == -number
    assert not uploads(boto, bucket)
    assert "Contents" not in boto.list_objects_v2(Bucket=bucket)
    assert publisher.release(tree, "one")["serial"] == 1


def test_interrupted_though_the_store_hangs(publisher, s3, s3_proxy, boto, bucket, tree):
    """Nobody waits for long: a lifecycle rule of the bucket removes what is left."""
    gate = faults.Gate()
    s3_proxy.fault(r"partNumber=3", gate)
    s3_proxy.fault(r"uploadId=", faults.StallAfter(0), method="DELETE")
    args = ["release", *publisher.channel_args(), "--key", publisher.key_path, "--id", "one", tree]
    with publisher.popen(*args, environment=slipway.store_environment(s3, endpoint=s3_proxy.endpoint)) as child:
        gate.wait_held(HELD_TIMEOUT_SEC)
        child.send_signal(signal.SIGTERM)
        assert child.wait(END_TIMEOUT_SEC) == -signal.SIGTERM


@pytest.mark.parametrize("fault", [faults.CloseAfter(None), faults.CloseAfter(10)], ids=["no answer", "half an answer"])
def test_every_answer_to_the_end_gets_lost(publisher, s3, s3_proxy, boto, bucket, tree, fault):
    """The first try completes the upload, the last one ends without an answer: what is there is ours."""
    s3_proxy.fault(r"/artifact\.tar\.zst\?uploadId=", fault, method="POST")
    result = publisher.release(tree, "one", check=False, environment=slipway.store_environment(s3, endpoint=s3_proxy.endpoint))
    assert result.rc == 0, result.stderr
    assert len(s3_proxy.seen(r"/artifact\.tar\.zst$", "GET")) == 1
    assert publisher.verify()["verified"] and not uploads(boto, bucket)


def test_versioned_bucket(publisher, store, boto, bucket, small_tree):
    """Conditions hold there as well; a manifest that was deleted is missing, and is published anew."""
    boto.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    try:
        publisher.release(small_tree, "one")
        publisher.release(small_tree, "two")
        assert publisher.verify()["verified"]
        key = store.url.removeprefix(f"s3://{bucket}/") + f"/{MANIFEST}"
        assert len(boto.list_object_versions(Bucket=bucket, Prefix=key)["Versions"]) == 2
        boto.delete_object(Bucket=bucket, Key=key)
        missing = publisher.verify(check=False)
        assert missing.rc != 0 and missing.stderr
        assert publisher.release(small_tree, "three")["serial"] == 3
        assert formats.read_release(store, [publisher.key.public])[0]["release"]["id"] == "three"
    finally:
        versions = boto.list_object_versions(Bucket=bucket)
        for entry in versions.get("Versions", []) + versions.get("DeleteMarkers", []):
            boto.delete_object(Bucket=bucket, Key=entry["Key"], VersionId=entry["VersionId"])


@pytest.mark.skipif(not FAKETIME, reason="libfaketime is not installed")
@pytest.mark.parametrize("offset", ["+3600", "-3600"])
def test_clock_wrong_by_an_hour(s3, bucket, make_publisher, small_tree, tmp_path, offset):
    """The server refuses the first signature; by its own clock it takes the rest, and it is said once."""
    authority = certificates.Authority(tmp_path / "authority")
    with faults.FaultProxy(LOOPBACK, s3.address, tls=authority.context(LOOPBACK)) as proxy:
        environment = {**slipway.store_environment(s3, endpoint=proxy.endpoint), "AWS_CA_BUNDLE": str(authority.path),
                       "LD_PRELOAD": str(FAKETIME[0]), "FAKETIME": offset, "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
        publisher = make_publisher(f"s3://{bucket}/deploy", environment)
        result = publisher.release(small_tree, "one", check=False)
        assert result.rc == 0, result.stderr
        side = "ahead of" if offset[0] == "+" else "behind"
        assert result.stderr.count("this host's clock is") == 1 and f"seconds {side} S3's" in result.stderr
        assert [r.status for r in proxy.requests].count(403) == 1
