"""A second S3 server, and through a proxy under the host names of AWS: what the first server, by its address, can't show."""

import base64
import json
import os

import boto3
import pytest

import certificates
import fault_proxy as faults
import formats
import moto_s3
import relay
import sandbox
import slipway
import toy

LOOPBACK = "127.0.0.1"
SERVES = [toy.READY, """exec node -e 'require("http").createServer((_, r) => r.end()).listen(8080, "127.0.0.1")'"""]
REGION, OTHER_REGION = "eu-west-1", "us-east-2"
BUCKET = "acme-deploy"
AWS_NAMES = [f"{bucket}s3{kind}.{region}.amazonaws.com" for bucket in ("", "*.") for kind in ("", "-fips", ".dualstack",
             "-fips.dualstack", "-accesspoint") for region in (REGION, OTHER_REGION)]


@pytest.fixture(scope="module")
def moto(work):
    with moto_s3.MotoS3(work) as server:
        for bucket in (BUCKET, "acme.deploy"):
            server.make_bucket(bucket, REGION)
        server.make_bucket("acme-agent")
        yield server


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return certificates.Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def aws(moto, authority):
    """moto by TLS, under the names of AWS's endpoints."""
    with faults.FaultProxy(LOOPBACK, moto.address, tls=authority.context(*AWS_NAMES)) as proxy:
        yield proxy


@pytest.fixture
def connect(aws):
    """The way to it, from this side."""
    with relay.ConnectProxy(LOOPBACK, aws.server_address) as proxy:
        yield proxy


@pytest.fixture
def aws_environment(moto, authority, connect):
    environment = moto.environment(AWS_REGION=REGION, AWS_CA_BUNDLE=str(authority.path), https_proxy=connect.url)
    del environment["AWS_ENDPOINT_URL_S3"]
    return environment


def small_tree(directory):
    directory.mkdir()
    (directory / "file").write_text("content", encoding="utf-8")
    return directory


def large_tree(directory):
    """Its artifact goes up in parts: random bytes don't shrink."""
    directory.mkdir()
    for n in range(7):
        (directory / f"{n}.bin").write_bytes(os.urandom(10 << 20))
    return directory


def test_publisher_and_agent(moto, authority, make_publisher, host, tmp_path):
    """Published by Slipway, read by boto3, deployed by the agent; then the next one is written by boto3."""
    store = formats.S3Store(moto.client(), "acme-agent")
    publisher = make_publisher(store.url, moto.environment())
    publisher.release(large_tree(tmp_path / "large"), "large")
    publisher.verify()
    payload, entries = formats.read_release(store, [publisher.key.public])
    assert payload["release"]["id"] == "large" and len(entries) == 7
    listed = moto.client().list_objects_v2(Bucket="acme-agent", Prefix="deploy/web/")["Contents"]
    assert len(listed) == 6  # artifact, index, provenance, manifest, its history, halt.json
    assert not moto.client().list_multipart_uploads(Bucket="acme-agent").get("Uploads")

    web = toy.Toy(host, store)
    web.key = publisher.key
    with faults.FaultProxy(sandbox.SERVER_ADDRESS, moto.address, tls=authority.context(sandbox.SERVER_ADDRESS)) as proxy:
        environment = moto.environment(AWS_ENDPOINT_URL_S3=proxy.endpoint, AWS_CA_BUNDLE=str(authority.path))
        web.n_releases = 1
        web.release()
        toy.start([web], url=store.url, environment=environment)
        web.assert_whole("r2")
        reports = [r for r in proxy.seen("/instances/", "PUT") if r.status == 200]
        assert reports
        host.stop_unit("slipwayd.service")
    report = json.loads(store.get(f"web/channels/prod/instances/{host.name}.json"))
    assert report["state"]["current"] == "r2"


@pytest.mark.parametrize("what", ["secret", "bucket"])
def test_refusals(moto, make_publisher, what):
    wrong = {"AWS_SECRET_ACCESS_KEY": "wrong"} if what == "secret" else {}
    publisher = make_publisher(f"s3://{'no-such-bucket' if what == 'bucket' else BUCKET}/x", moto.environment(**wrong))
    result = publisher.run("log", *publisher.channel_args(), check=False)
    assert result.rc == 1
    assert ("NoSuchBucket" if what == "bucket" else "SignatureDoesNotMatch") in result.stderr


# the URL's bucket and options, what the environment says besides, the endpoint that is to be asked
PLACES = {
    "virtual host": (BUCKET, "", {}, f"{BUCKET}.s3.{REGION}.amazonaws.com"),
    "name with dots": ("acme.deploy", "", {}, f"s3.{REGION}.amazonaws.com"),
    "path": (BUCKET, "?style=path", {}, f"s3.{REGION}.amazonaws.com"),
    "dual-stack": (BUCKET, "", {"AWS_USE_DUALSTACK_ENDPOINT": "true"}, f"{BUCKET}.s3.dualstack.{REGION}.amazonaws.com"),
    "FIPS": ("acme.deploy", "", {"AWS_USE_FIPS_ENDPOINT": "true"}, f"s3-fips.{REGION}.amazonaws.com"),
    "endpoints ignored": (BUCKET, "", {"AWS_ENDPOINT_URL": "https://192.0.2.1", "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "true"},
                          f"{BUCKET}.s3.{REGION}.amazonaws.com"),
}


@pytest.mark.parametrize("case", PLACES)
def test_places(moto, connect, aws, aws_environment, make_publisher, tmp_path, case):
    bucket, options, more, host_name = PLACES[case]
    prefix = f"p{list(PLACES).index(case)}"
    publisher = make_publisher(f"s3://{bucket}/{prefix}{options}", {**aws_environment, **more})
    publisher.release(small_tree(tmp_path / "tree"), "one")
    publisher.verify()
    assert set(connect.targets) == {f"{host_name}:443"}
    assert {r.headers["Host"] for r in aws.requests} == {host_name}
    payload, _ = formats.read_release(formats.S3Store(moto.client(), bucket, prefix), [publisher.key.public])
    assert payload["release"]["id"] == "one"


def test_endpoints_of_a_profile(moto, make_publisher, tmp_path, monkeypatch):
    """The shared files alone, as boto3 reads them."""
    files = {"AWS_CONFIG_FILE": "[profile ci]\nregion = %s\nservices = here\nendpoint_url = http://127.0.0.1:1\n"
                                "[services here]\ns3 =\n  addressing_style = path\n  endpoint_url = %s\n"
                                % (REGION, moto.endpoint),
             "AWS_SHARED_CREDENTIALS_FILE": "[ci]\naws_access_key_id = %s\naws_secret_access_key = %s\n"
                                            % (moto.user.access_key, moto.user.secret_key)}
    environment = {"AWS_PROFILE": "ci"}
    for name, text in files.items():
        (tmp_path / name).write_text(text, encoding="ascii")
        environment[name] = str(tmp_path / name)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    publisher = make_publisher(f"s3://{BUCKET}/profile", environment)
    publisher.release(small_tree(tmp_path / "tree"), "one")
    store = formats.S3Store(boto3.Session().client("s3"), BUCKET, "profile")
    assert formats.read_release(store, [publisher.key.public])[0]["release"]["id"] == "one"

    ignored = publisher.run("log", *publisher.channel_args(), check=False,
                            environment={"AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "true", "https_proxy": "http://127.0.0.1:1"})
    assert ignored.rc == 1 and f"no answer from {BUCKET}.s3.{REGION}.amazonaws.com" in ignored.stderr


def test_instance_metadata(moto, make_publisher, tmp_path):
    """A role's credentials and the region from metadata that we did not write."""
    region, bucket = "us-east-1", "acme-metadata"
    moto.client(region=region).create_bucket(Bucket=bucket)
    with moto.unchecked(), faults.FaultProxy(LOOPBACK, moto.address) as proxy:
        publisher = make_publisher(f"s3://{bucket}/deploy", {"AWS_EC2_METADATA_SERVICE_ENDPOINT": proxy.endpoint,
                                                             "AWS_ENDPOINT_URL_S3": proxy.endpoint})
        publisher.release(small_tree(tmp_path / "tree"), "one")
        asked = proxy.seen("^/latest/")
        assert [r.method for r in asked].count("PUT") == len({r.path for r in asked if r.method == "PUT"}) == 1
        tokens = {r.headers.get("X-aws-ec2-metadata-token") for r in asked if r.method == "GET"}
        assert tokens == {"fake-imdsv2-token"}, tokens
        for request in proxy.seen(f"^/{bucket}"):
            assert "Credential=test-key/" in request.headers["Authorization"]
            assert f"/{region}/s3/aws4_request" in request.headers["Authorization"]
            assert request.headers["x-amz-security-token"] == "test-session-token"
    payload, _ = formats.read_release(formats.S3Store(moto.client(region=region), bucket), [publisher.key.public])
    assert payload["release"]["id"] == "one"


def test_access_point(moto, connect, aws, aws_environment, make_publisher, tmp_path):
    """It is asked by its own host name in its own region, and leads to the bucket's objects."""
    arn = moto.make_access_point("releases", BUCKET)
    assert f":{REGION}:" in arn
    publisher = make_publisher(f"s3://{arn}/point", {**aws_environment, "AWS_REGION": OTHER_REGION})
    publisher.release(large_tree(tmp_path / "tree"), "one")
    publisher.verify()
    assert {r.headers["Host"] for r in aws.requests} == {f"releases-{moto_s3.ACCOUNT}.s3-accesspoint.{REGION}.amazonaws.com"}
    payload, _ = formats.read_release(formats.S3Store(moto.client(), BUCKET, "point"), [publisher.key.public])
    assert payload["release"]["id"] == "one"


def test_encrypted_by_a_kms_key(moto, make_publisher, tmp_path):
    key = f"arn:aws:kms:{REGION}:{moto_s3.ACCOUNT}:key/1234abcd-12ab-34cd-56ef-1234567890ab"
    publisher = make_publisher(f"s3://{BUCKET}/encrypted?kms-key={key}", moto.environment(AWS_REGION=REGION))
    publisher.release(large_tree(tmp_path / "tree"), "one")
    boto = moto.client()
    for entry in boto.list_objects_v2(Bucket=BUCKET, Prefix="encrypted/")["Contents"]:
        head = boto.head_object(Bucket=BUCKET, Key=entry["Key"])
        assert (head.get("ServerSideEncryption"), head.get("SSEKMSKeyId")) == ("aws:kms", key), entry["Key"]
    publisher.verify()


def test_options_of_the_url(connect, aws, aws_environment, make_publisher, tmp_path):
    key = f"arn:aws:kms:{REGION}:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab"
    publisher = make_publisher(f"s3://{BUCKET}/options?kms-key={key}&requester-pays=true&owner=123456789012", aws_environment)
    publisher.release(large_tree(tmp_path / "tree"), "one")
    assert {(r.headers.get("x-amz-request-payer"), r.headers.get("x-amz-expected-bucket-owner")) for r in aws.requests} == {
        ("requester", "123456789012")}
    for request in aws.requests:
        makes = (request.method == "PUT" and "partNumber" not in request.path) or "?uploads" in request.path
        assert request.headers.get("x-amz-server-side-encryption-aws-kms-key-id") == (key if makes else None), request


class OnlyIn(faults.Fault):
    """The bucket is in one region: asked elsewhere, S3 says where, in one of its ways."""

    def __init__(self, region, way):
        self.region, self.way = region, way

    def before(self, handler):
        if f".{self.region}." in handler.headers["Host"]:
            return None
        region = {"x-amz-bucket-region": self.region}
        if handler.command == "HEAD":
            assert "Authorization" not in handler.headers
            return faults.Answer(301, "", region, body=b"").before(handler)
        return {"301": faults.Answer(301, "PermanentRedirect", region),
                "307": faults.Answer(307, "TemporaryRedirect", {**region, "Location": f"https://{BUCKET}.s3.amazonaws.com/"}),
                "400": faults.Answer(400, body=b"<Error><Code>AuthorizationHeaderMalformed</Code><Region>%s</Region></Error>"
                                     % self.region.encode()),
                "unsaid": faults.Answer(400, "IllegalLocationConstraintException"),
                }[self.way].before(handler)


@pytest.mark.parametrize("way", ["301", "307", "400", "unsaid"])
def test_bucket_in_another_region(connect, aws, aws_environment, make_publisher, tmp_path, way):
    """Asked once in the wrong one; for a redirect that is temporary, each time."""
    aws.fault("", OnlyIn(REGION, way))
    publisher = make_publisher(f"s3://{BUCKET}/moved-{way}", {**aws_environment, "AWS_REGION": OTHER_REGION,
                                                             "AWS_SESSION_TOKEN": ""})
    result = publisher.release(small_tree(tmp_path / "tree"), "one", check=False)
    assert result.rc == 0, result.stderr
    away = [r for r in aws.requests if REGION not in r.headers["Host"]]
    if way == "307":
        assert len(away) == len(aws.requests) / 2
    else:
        assert [r.method for r in away] == (["GET", "HEAD"] if way == "unsaid" else ["GET"])
        assert result.stderr.count(f"is in region {REGION}, not in {OTHER_REGION}") == 1
    assert {t.partition(":")[0] for t in connect.targets} == {f"{BUCKET}.s3.{r}.amazonaws.com" for r in (REGION, OTHER_REGION)}


def test_region_that_leads_in_circles(aws, aws_environment, make_publisher):
    aws.fault("", faults.Answer(301, "PermanentRedirect", {"x-amz-bucket-region": OTHER_REGION}))
    publisher = make_publisher(f"s3://{BUCKET}/circles", aws_environment)
    result = publisher.run("log", *publisher.channel_args(), check=False)
    assert result.rc == 1 and f"the bucket is in region {OTHER_REGION}" in result.stderr
    assert len(aws.requests) == 2


def test_proxy_that_wants_a_password(moto, aws, aws_environment, make_publisher):
    secret = base64.b64encode(b"user:pass word").decode()
    with relay.ConnectProxy(LOOPBACK, aws.server_address, authorization=f"Basic {secret}") as proxy:
        publisher = make_publisher(f"s3://{BUCKET}/none", aws_environment)
        place = proxy.url.removeprefix("http://")
        refused = publisher.run("log", *publisher.channel_args(), check=False, environment={"https_proxy": proxy.url})
        assert refused.rc == 1 and "407" in refused.stderr and not proxy.targets
        taken = publisher.run("log", *publisher.channel_args(), check=False,
                              environment={"https_proxy": f"http://user:pass%20word@{place}"})
        assert "nothing was published" in taken.stderr and "pass" not in taken.stderr
        assert proxy.targets == [f"{BUCKET}.s3.{REGION}.amazonaws.com:443"]


def test_proxy_by_tls(authority, aws, aws_environment, make_publisher):
    with relay.ConnectProxy(LOOPBACK, aws.server_address, tls=authority.context(LOOPBACK)) as proxy:
        publisher = make_publisher(f"s3://{BUCKET}/none", {**aws_environment, "https_proxy": proxy.url})
        result = publisher.run("log", *publisher.channel_args(), check=False)
        assert proxy.targets == [f"{BUCKET}.s3.{REGION}.amazonaws.com:443"] and "nothing was published" in result.stderr


def test_only_the_store_is_asked_through_the_proxy(moto, authority, host):
    """Neither the probes of an application nor anything else on the host."""
    web = toy.Toy(host, formats.S3Store(moto.client(), BUCKET, "proxied"))
    web.release(health={"http": [{"url": "http://127.0.0.1:8080/name", "status": 200}]}, script=SERVES)
    name = f"{BUCKET}.s3.{REGION}.amazonaws.com"
    with (faults.FaultProxy(LOOPBACK, moto.address, tls=authority.context(name)) as aws,
          relay.ConnectProxy(sandbox.SERVER_ADDRESS, aws.server_address) as connect):
        environment = moto.environment(AWS_REGION=REGION, AWS_CA_BUNDLE=str(authority.path), https_proxy=connect.url,
                                       http_proxy=connect.url)
        del environment["AWS_ENDPOINT_URL_S3"]
        toy.start([web], url=web.store.url, environment=environment)
        web.assert_whole("r1")
        host.stop_unit("slipwayd.service")
        assert set(connect.targets) == {f"{name}:443"}
