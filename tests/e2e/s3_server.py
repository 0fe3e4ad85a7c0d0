"""An S3 server that the project did not write: Ceph's radosgw, with its monitor and one in-memory object store.

It checks SigV4 and knows conditional requests, ranges and multipart uploads. It listens on the sandbox's bridge, with plain
HTTP and with TLS by a certificate authority made for the run. Everything runs from a root of its own (make/s3-root) in a
chroot, in the foreground, and is stopped by process id.
"""

import base64
import contextlib
import dataclasses
import http.client
import json
import os
import pathlib
import secrets
import ssl
import subprocess
import uuid

import host
import sandbox
from waiting import wait_for

HTTP_PORT = 8000
HTTPS_PORT = 8443
STS_HTTP_PORT = 8001
STS_HTTPS_PORT = 8444
MONITOR_PORT = 3300
DNS_NAME = "s3.test"
REGION = "eu-central-1"
STORE_BYTES = 4 << 30
KMS_KEYS = ("deploy-key", "other-key")  # what objects can be encrypted with; the server has them itself
READY_TIMEOUT_SEC = 90
STOP_TIMEOUT_SEC = 20
REMOVE_TIMEOUT_SEC = 30
# inside the chroot
DATA = "/srv/s3"

CONFIGURATION = f"""\
[global]
fsid = {{fsid}}
mon host = [v2:127.0.0.1:{MONITOR_PORT}/0,v1:127.0.0.1:{MONITOR_PORT + 1}/0]
mon initial members = a
public addr = 127.0.0.1
keyring = {DATA}/keyring
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 4
osd pool default pg autoscale mode = off
mon allow pool size one = true
mon data avail crit = 1
osd crush chooseleaf type = 0
log file = {DATA}/$name.log
admin socket = {DATA}/$name.asok
run dir = {DATA}
crash dir = {DATA}
[mon.a]
mon data = {DATA}/mon
[osd.0]
osd data = {DATA}/osd0
osd objectstore = memstore
memstore device bytes = {STORE_BYTES}
[client.rgw]
rgw data = {DATA}/rgw
rgw dns name = {DNS_NAME}
rgw s3 auth use sts = false
rgw crypt s3 kms backend = testing
rgw crypt s3 kms encryption keys = {{kms_keys}}
rgw frontends = beast endpoint={sandbox.SERVER_ADDRESS}:{HTTP_PORT} ssl_endpoint={sandbox.SERVER_ADDRESS}:{HTTPS_PORT} \
ssl_certificate={DATA}/server.crt ssl_private_key={DATA}/server.key
[client.sts]
rgw data = {DATA}/sts
rgw dns name = {DNS_NAME}
rgw s3 auth use sts = true
rgw sts key = {{sts_key}}
rgw frontends = beast endpoint={sandbox.SERVER_ADDRESS}:{STS_HTTP_PORT} \
ssl_endpoint={sandbox.SERVER_ADDRESS}:{STS_HTTPS_PORT} ssl_certificate={DATA}/server.crt ssl_private_key={DATA}/server.key
"""
ALLOW_ALL = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "arn:aws:s3:::*"}]}


@dataclasses.dataclass(frozen=True)
class User:
    name: str
    access_key: str
    secret_key: str


@dataclasses.dataclass(frozen=True)
class Authority:
    """A certificate authority of this run; certificate is PEM text."""

    certificate: str
    path: pathlib.Path


@dataclasses.dataclass(frozen=True)
class Account:
    """An account of the S3 server; `root` may do everything in it."""

    server: "S3Server"
    id: str
    root: User

    def make_user(self, name, *policies, keys=None):
        """A user of this account under these IAM policies (objects); keys: (access key, secret) in place of random ones."""
        user = self.server.make_user(name, f"--account-id={self.id}", keys=keys)
        iam = self.server.client(self.root, service="iam")
        for n, policy in enumerate(policies):
            iam.put_user_policy(UserName=name, PolicyName=f"policy-{n}", PolicyDocument=json.dumps(policy))
        return user


def openssl(*args, directory):
    done = subprocess.run(["openssl", *args], cwd=directory, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"openssl {args[0]} failed: {done.stderr}")


def make_certificates(directory, names, address):
    """ca.crt, server.crt and server.key in directory, by openssl; returns the Authority."""
    directory.mkdir(parents=True, exist_ok=True)
    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    openssl("req", "-x509", *key, "-keyout", "ca.key", "-out", "ca.crt", "-days", "2",
            "-subj", "/CN=Slipway test authority", "-addext", "basicConstraints=critical,CA:TRUE",
            "-addext", "keyUsage=critical,keyCertSign,cRLSign", directory=directory)
    openssl("req", *key, "-keyout", "server.key", "-out", "server.csr", "-subj", f"/CN={names[0]}", directory=directory)
    alternatives = ",".join([f"IP:{address}", *(f"DNS:{n}" for n in names)])
    (directory / "server.ext").write_text(f"basicConstraints=CA:FALSE\nsubjectAltName={alternatives}\n", encoding="ascii")
    openssl("x509", "-req", "-in", "server.csr", "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2",
            "-extfile", "server.ext", "-out", "server.crt", directory=directory)
    return Authority((directory / "ca.crt").read_text(encoding="ascii"), directory / "ca.crt")


class StsGateway:
    """A second gateway to the same buckets, which also gives out the sessions of a role and takes them. What it says of bad
    credentials is less exact than what the first one says. The first user may assume `role`, and the role may do everything."""

    endpoint = f"http://{sandbox.SERVER_ADDRESS}:{STS_HTTP_PORT}"
    tls_endpoint = f"https://{sandbox.SERVER_ADDRESS}:{STS_HTTPS_PORT}"
    address = (sandbox.SERVER_ADDRESS, STS_HTTP_PORT)
    role = "arn:aws:iam:::role/deploy-role"

    def __init__(self, s3):
        self._s3 = s3

    def client(self, service):
        import boto3

        user = self._s3.users[0]
        return boto3.client(service, endpoint_url=self.endpoint, region_name=REGION, aws_access_key_id=user.access_key,
                            aws_secret_access_key=user.secret_key)

    def make_role(self):
        name = self.role.rpartition("/")[2]
        trust = {"Version": "2012-10-17", "Statement": [{
            "Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"AWS": [f"arn:aws:iam:::user/{self._s3.users[0].name}"]}}]}
        iam = self.client("iam")
        iam.create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps(trust))
        iam.put_role_policy(RoleName=name, PolicyName="all", PolicyDocument=json.dumps(ALLOW_ALL))

    def session(self):
        """A session of the role, as instance metadata and containers give it out."""
        c = self.client("sts").assume_role(RoleArn=self.role, RoleSessionName="test")["Credentials"]
        return {"Code": "Success", "Type": "AWS-HMAC", "AccessKeyId": c["AccessKeyId"], "SecretAccessKey": c["SecretAccessKey"],
                "Token": c["SessionToken"], "Expiration": c["Expiration"].strftime("%Y-%m-%dT%H:%M:%SZ")}


class S3Server:
    """The running server. `endpoint` and `tls_endpoint` are its URLs, `users` two users who don't see one another's buckets."""

    region = REGION
    endpoint = f"http://{sandbox.SERVER_ADDRESS}:{HTTP_PORT}"
    tls_endpoint = f"https://{sandbox.SERVER_ADDRESS}:{HTTPS_PORT}"
    address = (sandbox.SERVER_ADDRESS, HTTP_PORT)

    def __init__(self, root, work):
        self._root = work / "root"
        self._data = self._root / DATA.lstrip("/")
        self._daemons = []
        self._work = work
        self._lower = root
        self.authority = None
        self.users = []
        self._sts = None

    @staticmethod
    def _environment():
        return {"PATH": host.PATH, "CEPH_CONF": f"{DATA}/ceph.conf", "LANG": "C.UTF-8"}

    def _call(self, *args):
        """Runs one of Ceph's tools to its end and returns what it wrote to stdout."""
        done = subprocess.run(["chroot", str(self._root), *args], capture_output=True, text=True, env=self._environment(),
                              timeout=READY_TIMEOUT_SEC)
        if done.returncode != 0:
            raise RuntimeError(f"{' '.join(args)} ended with {done.returncode}: {done.stderr}")
        return done.stdout

    def _start(self, *args):
        with open(self._work / f"{args[2]}.out", "wb") as output:
            self._daemons.append(subprocess.Popen(
                ["chroot", str(self._root), *args, "--foreground"], stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                env=self._environment(), preexec_fn=sandbox.die_with_parent))

    def start(self):
        self._work.mkdir()
        host.mount_overlay(self._root, [self._lower], self._work / "upper")
        sandbox.run("mount", "--rbind", "/dev", str(self._root / "dev"))
        sandbox.run("mount", "-t", "proc", "proc", str(self._root / "proc"))
        for name in ("mon", "osd0", "rgw", "sts"):
            (self._data / name).mkdir(parents=True)
        self.authority = make_certificates(self._data, [DNS_NAME, f"*.{DNS_NAME}"], sandbox.SERVER_ADDRESS)
        self._start_monitor()
        self._start_store()
        self._start("radosgw", "-n", "client.rgw")
        wait_for(lambda: self._answers(self.address), READY_TIMEOUT_SEC, f"radosgw to answer at {self.endpoint}")
        self.users = [self.make_user(name) for name in ("deploy", "stranger")]

    def _start_monitor(self):
        fsid = str(uuid.uuid4())
        kms_keys = " ".join(f"{name}={base64.b64encode(secrets.token_bytes(32)).decode()}" for name in KMS_KEYS)
        (self._data / "ceph.conf").write_text(CONFIGURATION.format(fsid=fsid, sts_key=secrets.token_hex(8), kms_keys=kms_keys),
                                              encoding="ascii")
        keyring = f"{DATA}/keyring"
        self._call("ceph-authtool", "--create-keyring", keyring, "--gen-key", "-n", "mon.", "--cap", "mon", "allow *")
        for name, caps in {"client.admin": ("mon", "allow *", "osd", "allow *", "mgr", "allow *"),
                           "client.rgw": ("mon", "allow rwx", "osd", "allow rwx"),
                           "client.sts": ("mon", "allow rwx", "osd", "allow rwx"),
                           "osd.0": ("mon", "allow profile osd", "osd", "allow *")}.items():
            pairs = [argument for kind, cap in zip(caps[::2], caps[1::2]) for argument in ("--cap", kind, cap)]
            self._call("ceph-authtool", keyring, "--gen-key", "-n", name, *pairs)
        self._call("monmaptool", "--create", "--fsid", fsid, "--addv", "a",
                   f"[v2:127.0.0.1:{MONITOR_PORT},v1:127.0.0.1:{MONITOR_PORT + 1}]", f"{DATA}/monmap")
        self._call("ceph-mon", "-i", "a", "--mkfs", "--monmap", f"{DATA}/monmap", "--keyring", keyring)
        self._start("ceph-mon", "-i", "a")

    def _start_store(self):
        identity = str(uuid.uuid4())
        # the client itself waits until the monitor has its quorum
        self._call("ceph", "--connect-timeout", str(READY_TIMEOUT_SEC), "osd", "new", identity)
        self._call("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", identity)
        self._call("ceph", "auth", "import", "-i", f"{DATA}/keyring")
        self._call("ceph", "osd", "crush", "add", "osd.0", "1", "host=h", "root=default")
        self._start("ceph-osd", "-i", "0")

    def _check_alive(self):
        for daemon in self._daemons:
            if daemon.poll() is not None:
                name = daemon.args[4]
                output = (self._work / f"{name}.out").read_text(errors="replace")
                raise RuntimeError(f"{name} ended with {daemon.returncode}:\n{output[-4000:]}")

    def _answers(self, address):
        self._check_alive()
        connection = http.client.HTTPConnection(*address, timeout=5)
        with contextlib.closing(connection):
            try:
                connection.request("GET", "/")
                return connection.getresponse().status == 200
            except (ConnectionError, TimeoutError):
                return False

    def make_user(self, name, *options, keys=None):
        """Options: of `radosgw-admin user create`; keys: (access key, secret) in place of random ones."""
        access_key, secret_key = keys or (secrets.token_hex(10).upper(), secrets.token_urlsafe(30))
        user = User(name, access_key, secret_key)
        self._call("radosgw-admin", "-n", "client.rgw", "user", "create", f"--uid={user.name}",
                   f"--display-name={user.name}", f"--access-key={user.access_key}", f"--secret-key={user.secret_key}", *options)
        return user

    def sts(self):
        """The gateway with roles, started when it is first asked for; see StsGateway."""
        if self._sts is None:
            self._start("radosgw", "-n", "client.sts")
            gateway = StsGateway(self)
            wait_for(lambda: self._answers(gateway.address), READY_TIMEOUT_SEC, f"radosgw to answer at {gateway.endpoint}")
            self._call("radosgw-admin", "-n", "client.rgw", "caps", "add", f"--uid={self.users[0].name}",
                       "--caps=roles=*;user-policy=*")
            gateway.make_role()
            self._sts = gateway
        return self._sts

    def make_account(self, name):
        """An account as AWS has them, whose users may do what IAM policies say, and nothing without one."""
        said = self._call("radosgw-admin", "-n", "client.rgw", "account", "create", f"--account-name={name}")
        identity = json.loads(said)["id"]
        return Account(self, identity, self.make_user(f"{name}-root", f"--account-id={identity}", "--account-root"))

    def stop(self):
        """Stops what was started, the last one first; nothing on it needs keeping."""
        for daemon in reversed(self._daemons):
            daemon.kill()
            daemon.wait(STOP_TIMEOUT_SEC)
        for place in ("proc", "dev", ""):
            target = self._root / place
            if os.path.ismount(target):
                sandbox.run("umount", "-R", str(target))
        sandbox.remove_work(self._work)

    def tls_context(self):
        """For another server at the same address: the gateway's own certificate."""
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(self._data / "server.crt", self._data / "server.key")
        return context

    def client(self, user=None, *, service="s3", tls=False, endpoint=None, **options):
        """A boto3 client for S3, path style, or for IAM; user defaults to the first, endpoint to the server's own."""
        import boto3
        import botocore.config

        user = user or self.users[0]
        config = botocore.config.Config(s3={"addressing_style": "path"}, retries={"total_max_attempts": 1},
                                        connect_timeout=5, read_timeout=30, **options)
        return boto3.client(service, endpoint_url=endpoint or (self.tls_endpoint if tls else self.endpoint),
                            region_name=REGION, aws_access_key_id=user.access_key,
                            aws_secret_access_key=user.secret_key, verify=str(self.authority.path), config=config)


def empty_bucket(client, bucket):
    """Removes a bucket's objects and unfinished uploads."""
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket):
        for entry in page.get("Contents", []):
            client.delete_object(Bucket=bucket, Key=entry["Key"])
    for upload in client.list_multipart_uploads(Bucket=bucket).get("Uploads", []):
        client.abort_multipart_upload(Bucket=bucket, Key=upload["Key"], UploadId=upload["UploadId"])


def remove_bucket(client, bucket):
    """Removes a bucket with all that is in it, also while a host that is still up writes its last status objects there."""
    def removed():
        empty_bucket(client, bucket)
        try:
            client.delete_bucket(Bucket=bucket)
        except client.exceptions.ClientError as e:
            if e.response["Error"]["Code"] != "BucketNotEmpty":
                raise
            return False
        return True
    wait_for(removed, REMOVE_TIMEOUT_SEC, f"bucket {bucket} to stay empty and go")
