"""Where Slipway has its credentials from: each source, against servers that check what was given out, session tokens included."""

import contextlib
import datetime
import http.server
import json
import re
import threading

import pytest

import fault_proxy as faults
import formats
import imds_server
import moto_s3
import sandbox
import slipway
import toy
from waiting import wait_for

WITHIN_A_MINUTE_SEC = 75
NOWHERE = {"AWS_EC2_METADATA_DISABLED": "true"}


@pytest.fixture(scope="module")
def sts(s3):
    return s3.sts()


@pytest.fixture
def sts_proxy(s3, sts):
    """In front of the gateway with roles, with TLS."""
    with faults.FaultProxy(sandbox.SERVER_ADDRESS, sts.address, tls=s3.tls_context()) as proxy:
        yield proxy


@pytest.fixture
def imds():
    with imds_server.ImdsServer(sandbox.SERVER_ADDRESS) as server:
        yield server


@pytest.fixture
def tree(tmp_path):
    directory = tmp_path / "tree"
    directory.mkdir()
    (directory / "name").write_text("r1\n", encoding="ascii")
    return directory


@contextlib.contextmanager
def container(document, *, address="127.0.0.1", tls=None, token=None):
    """A container's endpoint, which gives out document() to whom has the token."""
    class Handler(http.server.BaseHTTPRequestHandler):
        def log_message(self, *_):
            pass

        def do_GET(self):
            allowed = token is None or self.headers.get("Authorization") == token
            body = json.dumps(document()).encode() if allowed else b""
            self.send_response(200 if allowed else 401)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    server = http.server.ThreadingHTTPServer((address, 0), Handler)
    server.daemon_threads = True
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"{'https' if tls else 'http'}://{address}:{server.server_port}/credentials"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def at_gateway(s3, sts, **more):
    """The environment but for credentials and region."""
    return {"AWS_ENDPOINT_URL_S3": sts.tls_endpoint, "AWS_CA_BUNDLE": str(s3.authority.path), **more}


def secrets_of(session):
    return [session["SecretAccessKey"], session["Token"]]


def assert_kept_secret(host, session):
    """Neither log nor status has a secret, and no process with one leaves a core dump or can be read by its own user."""
    said = host.journal_since_boot() + json.dumps(slipway.status(host))
    assert not [s for s in secrets_of(session) if s in said]
    for program in ("slipwayd", "slipway-fetch"):
        pid = host.run(["pidof", program]).stdout.split()[0]
        assert re.search(r"^Max core file size +0 +0 ", host.read(f"/proc/{pid}/limits"), re.M), program
        # /proc of a process that can't be dumped is root's
        assert host.run(["stat", "-c", "%u", f"/proc/{pid}/environ"]).stdout == "0\n", program


# -- the publisher

def publish(make_publisher, url, environment, tree, home=None):
    """Publishes with these settings alone; home: files of ~/.aws."""
    publisher = make_publisher(url, {**NOWHERE, **environment})
    for name, text in (home or {}).items():
        (publisher.directory / ".aws").mkdir(exist_ok=True)
        (publisher.directory / ".aws" / name).write_text(text, encoding="ascii")
    publisher.release(tree, "r1")
    assert publisher.verify()["release"] == "r1"


def test_publisher_by_profile(s3, sts, bucket, make_publisher, tree):
    """Keys and region from the files that the AWS tools share."""
    user = s3.users[0]
    home = {"credentials": f"[ci]\naws_access_key_id = {user.access_key}\naws_secret_access_key = {user.secret_key}\n",
            "config": f"[profile ci]\nregion = {s3.region}\n"}
    publish(make_publisher, f"s3://{bucket}", {"AWS_PROFILE": "ci", "AWS_ENDPOINT_URL_S3": s3.tls_endpoint,
                                               "AWS_CA_BUNDLE": str(s3.authority.path)}, tree, home)


def test_publisher_by_role_of_a_profile(s3, sts, bucket, make_publisher, tree):
    """The role is assumed by STS; the session's token is checked by S3."""
    user = s3.users[0]
    home = {"credentials": f"[keys]\naws_access_key_id = {user.access_key}\naws_secret_access_key = {user.secret_key}\n",
            "config": f"[default]\nregion = {s3.region}\nrole_arn = {sts.role}\nsource_profile = keys\n"}
    publish(make_publisher, f"s3://{bucket}", at_gateway(s3, sts, AWS_ENDPOINT_URL_STS=sts.tls_endpoint), tree, home)


def test_publisher_may_not_assume_the_role(s3, sts, bucket, make_publisher, tree):
    user = s3.users[1]
    home = {"config": f"[default]\nregion = {s3.region}\nrole_arn = {sts.role}\nsource_profile = default\n"
                      f"aws_access_key_id = {user.access_key}\naws_secret_access_key = {user.secret_key}\n"}
    with pytest.raises(AssertionError, match="can't assume the role .*AccessDenied.*trust policy"):
        publish(make_publisher, f"s3://{bucket}", at_gateway(s3, sts, AWS_ENDPOINT_URL_STS=sts.tls_endpoint), tree, home)


def test_publisher_in_a_container(s3, sts, bucket, make_publisher, tree):
    """As in CodeBuild and ECS."""
    with container(sts.session, token="Bearer x") as url:
        publish(make_publisher, f"s3://{bucket}",
                at_gateway(s3, sts, AWS_REGION=s3.region, AWS_CONTAINER_CREDENTIALS_FULL_URI=url,
                           AWS_CONTAINER_AUTHORIZATION_TOKEN="Bearer x"), tree)


def test_publisher_on_an_instance(s3, sts, imds, bucket, make_publisher, tree):
    """With nothing set: role and region are the instance's."""
    imds.role, imds.credentials, imds.region = "deploy-role", sts.session(), s3.region
    publish(make_publisher, f"s3://{bucket}",
            at_gateway(s3, sts, AWS_EC2_METADATA_DISABLED="false", **imds.environment), tree)


@pytest.mark.parametrize("address, mode", [("169.254.169.254", {}),
                                           ("fd00:ec2::254", {"AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE": "IPv6"})])
def test_where_instance_metadata_really_is(s3, sts, bucket, make_publisher, tree, address, mode):
    """At the addresses of EC2, and never by a proxy."""
    place = (f"{address}/{128 if ':' in address else 32}", "dev", "lo")
    # nodad: it is there at once
    sandbox.run("ip", "addr", "add", *place, *(["nodad"] if ":" in address else []))
    try:
        with imds_server.ImdsServer(address, 80) as imds:
            imds.role, imds.credentials, imds.region = "deploy-role", sts.session(), s3.region
            publish(make_publisher, f"s3://{bucket}",
                    at_gateway(s3, sts, AWS_EC2_METADATA_DISABLED="false", http_proxy="http://127.0.0.1:1", **mode), tree)
            assert imds.asked("PUT /latest/api/token")
    finally:
        sandbox.run("ip", "addr", "del", *place)


@pytest.fixture(scope="module")
def moto(tmp_path_factory):
    with moto_s3.MotoS3(tmp_path_factory.mktemp("moto")) as server:
        server.role = server.make_role("deploy-role")
        server.make_bucket("releases")
        yield server


def by_web_identity(moto, token_file, endpoint):
    return {"AWS_ENDPOINT_URL": endpoint, "AWS_REGION": moto.region, "AWS_ROLE_ARN": moto.role,
            "AWS_WEB_IDENTITY_TOKEN_FILE": str(token_file)}


def test_publisher_with_a_web_identity(moto, make_publisher, tree, tmp_path):
    """As with GitHub Actions' OIDC: a token in a file, which STS takes for a session; S3 checks the session's token. (STS and S3
    are moto's here, and it takes any token.)"""
    (tmp_path / "token").write_text("eyJhbGciOiJSUzI1NiJ9.e30.c2ln\n", encoding="ascii")
    publisher = make_publisher("s3://releases/publisher", {**NOWHERE, **by_web_identity(moto, tmp_path / "token", moto.endpoint)})
    moto.take_web_identity()
    publisher.release(tree, "r1")
    # without a session nothing is taken
    result = publisher.release(tree, "r2", check=False)
    assert result.rc == 1 and "there are no AWS credentials (web identity): can't assume the role" in result.stderr
    moto.take_web_identity()
    assert publisher.verify()["release"] == "r1"


def test_publisher_with_a_broken_token(s3, sts, bucket, make_publisher, tree):
    """So the tests above do show that the token is checked."""
    def forged():
        session = sts.session()
        return {**session, "Token": session["Token"][:-8] + "AAAAAAA="}

    with container(forged) as url, pytest.raises(AssertionError, match=r"can't list s3://\S+: AccessDenied"):
        publish(make_publisher, f"s3://{bucket}",
                at_gateway(s3, sts, AWS_REGION=s3.region, AWS_CONTAINER_CREDENTIALS_FULL_URI=url), tree)


@pytest.mark.parametrize("environment, said", [
    ({}, "there are no AWS credentials: set AWS_ACCESS_KEY_ID"),
    ({"AWS_ACCESS_KEY_ID": "x"}, "AWS_SECRET_ACCESS_KEY is not set"),
    ({"AWS_PROFILE": "ci"}, "profile 'ci' is neither in"),
    ({"AWS_WEB_IDENTITY_TOKEN_FILE": "/nonexistent", "AWS_ROLE_ARN": "arn:aws:iam::123456789012:role/x"},
     "can't read the web identity token /nonexistent: No such file"),
])
def test_publisher_without_credentials(make_publisher, tree, environment, said):
    publisher = make_publisher("s3://bucket", {**NOWHERE, "AWS_REGION": "eu-west-1", **environment})
    result = publisher.release(tree, "r1", check=False)
    assert result.rc == 1 and said in result.stderr


# -- the agent

def test_agent_with_an_instance_role_that_comes_late(s3, sts, imds, bucket, host):
    """A plain instance: no key, no region, not even a role yet. It has a long interval, and is not kept waiting by it."""
    web = toy.Toy(host, formats.S3Store(s3.client(), bucket))
    web.release()
    imds.region = s3.region
    toy.start([web], url=web.store.url, environment=at_gateway(s3, sts, **imds.environment),
              poll={"interval": "1h", "jitter": "0%"})
    wait_for(lambda: "no role, or not yet" in web.status()["poll"]["text"], toy.WAIT_SEC, "the role to be missed")
    assert imds.asked(r"PUT /latest/api/token")
    imds.role, imds.credentials = "deploy-role", sts.session()
    wait_for(lambda: web.state().get("current") == "r1", WITHIN_A_MINUTE_SEC, "the role to be found")
    web.assert_whole("r1")
    assert_kept_secret(host, imds.credentials)


def test_agent_renews_credentials(s3, sts, sts_proxy, imds, bucket, host):
    """In time before their end; at once when S3 says that they have ended; never more often than that."""
    def ending(sec):
        end = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=sec)
        return {**sts.session(), "Expiration": end.strftime("%Y-%m-%dT%H:%M:%SZ")}

    def given_out():
        return len(imds.asked(r"GET /latest/meta-data/iam/security-credentials/deploy-role"))

    web = toy.Toy(host, formats.S3Store(s3.client(), bucket))
    web.release()
    imds.role, imds.region, imds.credentials = "deploy-role", s3.region, ending(10)
    toy.start([web], url=web.store.url, environment=at_gateway(s3, sts, AWS_ENDPOINT_URL_S3=sts_proxy.endpoint,
                                                               **imds.environment))
    web.assert_whole("r1")
    imds.credentials = ending(3600)
    n = given_out()
    wait_for(lambda: given_out() > n, 15, "credentials to be renewed before their end")
    n = given_out()
    web.release()
    web.assert_whole("r2")
    assert given_out() == n

    imds.credentials = ending(3600)
    # to a request that reads no errors (common/http-recheck.h), and to the one after it
    rule = sts_proxy.fault(r"/channels/", faults.Answer(400, "ExpiredToken"), method="GET", times=2)
    wait_for(lambda: rule.hits, toy.WAIT_SEC, "the token to end")
    wait_for(lambda: given_out() == n + 1, toy.WAIT_SEC, "others to be asked for")
    web.release()
    web.assert_whole("r3")
    assert web.status()["poll"]["ok"] and given_out() == n + 1

    # The metadata service goes: what is here lasts.
    imds.close()
    web.release()
    web.assert_whole("r4")
    imds.open()
    assert_kept_secret(host, imds.credentials)


@pytest.mark.parametrize("document", [
    b'{"Code": "Failed", "Message": "not now"}',
    b'{"AccessKeyId": "a", "SecretAccessKey": "b\\nX: y", "Token": "c", "Expiration": "2036-01-01T00:00:00Z"}',
    b'{"AccessKeyId": "a", "SecretAccessKey": "b", "AccessKeyId": "c"}',
    b"<html>",
    imds_server.ENDLESS,
])
def test_agent_with_malformed_credentials(s3, sts, imds, bucket, host, document):
    """They are refused with a reason, and the next ones are taken."""
    web = toy.Toy(host, formats.S3Store(s3.client(), bucket))
    web.release()
    imds.role, imds.region, imds.credentials = "deploy-role", s3.region, sts.session()
    imds.fault(r"security-credentials/deploy-role", document)
    toy.start([web], url=web.store.url, environment=at_gateway(s3, sts, **imds.environment))
    wait_for(lambda: "there are no AWS credentials (instance role)" in web.status()["poll"]["text"], toy.WAIT_SEC,
             "the credentials to be refused")
    imds.heal()
    wait_for(lambda: web.state().get("current") == "r1", WITHIN_A_MINUTE_SEC, "the next ones to be taken")


def test_agent_in_a_container(s3, sts, bucket, host):
    web = toy.Toy(host, formats.S3Store(s3.client(), bucket))
    web.release()
    session = sts.session()
    with container(lambda: session, address=sandbox.SERVER_ADDRESS, tls=s3.tls_context(), token="Basic x") as url:
        host.write("/etc/aws/token", "Basic x\n", owner="slipway:slipway", mode=0o400)
        toy.start([web], url=web.store.url, environment=at_gateway(
            s3, sts, AWS_REGION=s3.region, AWS_CONTAINER_CREDENTIALS_FULL_URI=url,
            AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE="/etc/aws/token"))
        web.assert_whole("r1")
        assert_kept_secret(host, session)


def test_agent_runs_no_programs(s3, sts, bucket, host):
    """Not even where a file of the AWS tools says so."""
    web = toy.Toy(host, formats.S3Store(s3.client(), bucket))
    web.release()
    host.write("/etc/aws/config", "[default]\nregion = x\ncredential_process = /usr/bin/touch /srv/ran\n")
    toy.start([web], url=web.store.url, environment=at_gateway(s3, sts, AWS_CONFIG_FILE="/etc/aws/config"))
    wait_for(lambda: "Slipway runs no programs" in web.status()["poll"]["text"], toy.WAIT_SEC, "the reason to be said")
    assert not host.exists("/srv/ran")


def test_agent_with_a_web_identity(s3, moto, host):
    """And where the token is not there yet: it is waited for."""
    with faults.FaultProxy(sandbox.SERVER_ADDRESS, moto.address, tls=s3.tls_context()) as proxy:
        web = toy.Toy(host, formats.S3Store(moto.client(), "releases"))
        web.release()
        host.write("/etc/aws/README", "the token's place\n", owner="slipway:slipway")
        token = "/etc/aws/token"
        toy.start([web], url=web.store.url, report=False, environment={
            **by_web_identity(moto, token, proxy.endpoint), "AWS_CA_BUNDLE": str(s3.authority.path)})
        wait_for(lambda: f"can't read the web identity token {token}" in web.status()["poll"]["text"], toy.WAIT_SEC,
                 "the token to be missed")
        moto.take_web_identity()
        host.write(token, "eyJhbGciOiJSUzI1NiJ9.e30.c2ln\n", owner="slipway:slipway", mode=0o400)
        wait_for(lambda: web.state().get("current") == "r1", WITHIN_A_MINUTE_SEC, "the token to be found")
        web.assert_whole("r1")
        assert len([r for r in proxy.requests if r.method == "POST"]) == 1
