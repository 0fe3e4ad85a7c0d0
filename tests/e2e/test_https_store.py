"""https:// stores: what was published to a bucket, shown by a web server to anybody, here the S3 server itself."""

import json

import pytest

import formats
import slipway
import toy

MANIFEST = r"/manifest\.json"


@pytest.fixture
def public_store(s3, bucket):
    client = s3.client()
    client.put_bucket_policy(Bucket=bucket, Policy=json.dumps({"Version": "2012-10-17", "Statement": [
        {"Effect": "Allow", "Principal": "*", "Action": "s3:GetObject", "Resource": f"arn:aws:s3:::{bucket}/*"}]}))
    return formats.S3Store(client, bucket)


def test_agent_follows_it(s3, s3_proxy, bucket, public_store, host):
    """Without credentials; polls that find nothing new bring no body, and no reports are written."""
    web = toy.Toy(host, public_store)
    web.release()
    toy.start([web], url=f"{s3_proxy.endpoint}/{bucket}/deploy", environment={"AWS_CA_BUNDLE": str(s3.authority.path)},
              report=True)
    web.assert_whole("r1")
    web.release()
    web.assert_whole("r2")
    n = len(s3_proxy.seen(MANIFEST))
    web.wait(lambda _: len([r for r in s3_proxy.seen(MANIFEST) if r.status]) > n + 1, "polls that find nothing new")
    assert s3_proxy.seen(MANIFEST)[n + 1].status == 304
    assert {r.method for r in s3_proxy.requests} == {"GET"}
    assert not any(name.lower() == "authorization" or name.lower().startswith("x-amz")
                   for r in s3_proxy.requests for name in r.headers)
    assert not [line for line in slipway.status(host)["apps"] if line["poll"]["ok"] is not True]


def test_nothing_is_published_to_it(s3, bucket, public_store, make_publisher, tmp_path):
    publisher = make_publisher(f"{s3.tls_endpoint}/{bucket}/deploy", {"AWS_CA_BUNDLE": str(s3.authority.path)})
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/file").write_text("x", encoding="ascii")
    result = publisher.release(tmp_path / "tree", "one", check=False)
    assert result.rc == 1 and result.stderr.strip()
    result = publisher.run("log", *publisher.channel_args(), check=False)
    assert result.rc == 1 and "can only be read" in result.stderr
