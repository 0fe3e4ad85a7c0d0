"""A second S3 server that the project did not write and that has nothing in common with the first: moto's.

It checks signatures and policies, and knows the host names of AWS. It is no server for load: one process of Python, everything in
memory.
"""

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request

import sandbox
from s3_server import User
from waiting import wait_for

READY_TIMEOUT_SEC = 60
STOP_TIMEOUT_SEC = 20
ADDRESS = "127.0.0.1"
ACCOUNT = "123456789012"
ALLOW_ALL = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}


def free_port():
    with socket.create_server((ADDRESS, 0)) as server:
        return server.getsockname()[1]


class MotoS3:
    """The running server, on loopback. `user` may do everything; start it with `with`."""

    region = "eu-central-1"

    def __init__(self, work):
        self._log = work / "moto.out"
        self.address = (ADDRESS, free_port())
        self.endpoint = f"http://{ADDRESS}:{self.address[1]}"
        self._process = None
        self.user = None

    def _answers(self):
        if self._process.poll() is not None:
            raise RuntimeError(f"moto ended:\n{self._log.read_text(errors='replace')[-4000:]}")
        connection = http.client.HTTPConnection(*self.address, timeout=5)
        try:
            connection.request("GET", "/moto-api/")
            return connection.getresponse().status == 200
        except (ConnectionError, TimeoutError):
            return False
        finally:
            connection.close()

    def _check_from_call(self, n):
        """So many calls are let through unchecked: the first ones make the user."""
        request = urllib.request.Request(f"{self.endpoint}/moto-api/reset-auth", data=str(n).encode(),
                                         headers={"Content-Type": "text/plain"})
        with urllib.request.urlopen(request, timeout=10) as answer:
            answer.read()

    def __enter__(self):
        command = ["-c", "from moto.server import main; main()", "-H", ADDRESS, "-p", str(self.address[1])]
        environment = {**os.environ, "AWS_DEFAULT_REGION": self.region, "AWS_EC2_METADATA_DISABLED": "true"}
        with self._log.open("wb") as output:
            self._process = subprocess.Popen([sys.executable, *command], stdin=subprocess.DEVNULL, stdout=output,
                                             stderr=output, env=environment, preexec_fn=sandbox.die_with_parent)
        try:
            wait_for(self._answers, READY_TIMEOUT_SEC, f"moto to answer at {self.endpoint}")
            self._make_user()
        except BaseException:
            self.__exit__()
            raise
        return self

    def _make_user(self):
        self._check_from_call(1000)
        iam = self._client("iam", User("nobody", "nobody", "nothing"))
        iam.create_user(UserName="deploy")
        key = iam.create_access_key(UserName="deploy")["AccessKey"]
        iam.put_user_policy(UserName="deploy", PolicyName="all", PolicyDocument=json.dumps(ALLOW_ALL))
        self.user = User("deploy", key["AccessKeyId"], key["SecretAccessKey"])
        self._check_from_call(0)

    def make_role(self, name):
        """A role that web identities may assume and that may do everything; returns its ARN."""
        trust = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "sts:AssumeRoleWithWebIdentity",
                                                         "Principal": {"Federated": "token.actions.githubusercontent.com"}}]}
        iam = self._client("iam", self.user)
        arn = iam.create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps(trust))["Role"]["Arn"]
        iam.put_role_policy(RoleName=name, PolicyName="all", PolicyDocument=json.dumps(ALLOW_ALL))
        return arn

    @contextlib.contextmanager
    def unchecked(self):
        """Lets calls through that moto's own instance metadata gives the credentials for: it does not know them itself."""
        self._check_from_call(1000)
        yield
        self._check_from_call(0)

    def take_web_identity(self):
        """The next call may be AssumeRoleWithWebIdentity: it has no signature, which moto takes from nobody while it checks."""
        self._check_from_call(1)

    def __exit__(self, *_):
        self._process.send_signal(signal.SIGKILL)
        self._process.wait(STOP_TIMEOUT_SEC)

    def _client(self, service, user, region=None):
        import boto3
        import botocore.config

        config = botocore.config.Config(s3={"addressing_style": "path"}, retries={"total_max_attempts": 1}, read_timeout=30)
        return boto3.client(service, endpoint_url=self.endpoint, region_name=region or self.region,
                            aws_access_key_id=user.access_key, aws_secret_access_key=user.secret_key, config=config)

    def client(self, user=None, *, region=None):
        """A boto3 client for S3."""
        return self._client("s3", user or self.user, region)

    def make_bucket(self, name, region=None):
        region = region or self.region
        self.client(region=region).create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": region})

    def make_access_point(self, name, bucket):
        """An access point to a bucket; returns its ARN."""
        control = self._client("s3control", self.user)
        # The account stands before the host's name, which here is an address.
        control.meta.events.register("before-sign.s3-control", lambda request, **_: setattr(
            request, "url", request.url.replace(f"{ACCOUNT}.{ADDRESS}", ADDRESS)))
        control.create_access_point(AccountId=ACCOUNT, Name=name, Bucket=bucket)
        region = self.client().head_bucket(Bucket=bucket)["BucketRegion"]
        return f"arn:aws:s3:{region}:{ACCOUNT}:accesspoint/{name}"

    def environment(self, **more):
        """For a program on this side."""
        return {"AWS_ACCESS_KEY_ID": self.user.access_key, "AWS_SECRET_ACCESS_KEY": self.user.secret_key,
                "AWS_REGION": self.region, "AWS_ENDPOINT_URL_S3": self.endpoint, **more}
