"""An emulator of AWS that the project did not write: moto, for every service but S3 (that is s3_server).

It runs as a process of its own on loopback, checks every signature, and judges every call by its user's IAM policies, by their
actions alone: for it each call is about the resource "*", and conditions are not looked at.
"""

import contextlib
import http.client
import json
import os
import subprocess
import sys

import s3_server
import sandbox
from waiting import wait_for

ADDRESS = ("127.0.0.1", 5000)
READY_TIMEOUT_SEC = 60
STOP_TIMEOUT_SEC = 20
EVERYTHING = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}
# so many calls it takes unchecked: those that make the first user
N_FIRST_CALLS = 3


class Emulator:
    """The running emulator. `endpoint` is its URL, `owner` the user who may do everything."""

    region = s3_server.REGION
    endpoint = f"http://{ADDRESS[0]}:{ADDRESS[1]}"

    def __init__(self, work):
        self._work = work
        self._process = None
        self.owner = None

    def start(self):
        self._work.mkdir()
        environment = {**os.environ, "AWS_DEFAULT_REGION": self.region, "INITIAL_NO_AUTH_ACTION_COUNT": str(N_FIRST_CALLS)}
        with open(self._work / "moto.out", "wb") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "moto.server", "-H", ADDRESS[0], "-p", str(ADDRESS[1])], stdin=subprocess.DEVNULL,
                stdout=output, stderr=output, env=environment, preexec_fn=sandbox.die_with_parent)
        wait_for(self._answers, READY_TIMEOUT_SEC, f"moto to answer at {self.endpoint}")
        self.owner = self._make_user(s3_server.User("nobody", "none", "none"), "owner", [EVERYTHING])

    def _answers(self):
        if self._process.poll() is not None:
            raise RuntimeError(f"moto ended with {self._process.returncode}:\n{(self._work / 'moto.out').read_text()[-4000:]}")
        connection = http.client.HTTPConnection(*ADDRESS, timeout=5)
        with contextlib.closing(connection):
            try:
                connection.request("GET", "/moto-api/")
                return connection.getresponse().status == 200
            except (ConnectionError, TimeoutError):
                return False

    def _make_user(self, by, name, policies):
        iam = self.client("iam", by)
        iam.create_user(UserName=name)
        for n, policy in enumerate(policies):
            iam.put_user_policy(UserName=name, PolicyName=f"policy-{n}", PolicyDocument=json.dumps(policy))
        key = iam.create_access_key(UserName=name)["AccessKey"]
        return s3_server.User(name, key["AccessKeyId"], key["SecretAccessKey"])

    def make_user(self, name, *policies):
        """A user who may do what the IAM policies (objects) say, and nothing without one."""
        return self._make_user(self.owner, name, policies)

    def client(self, service, user=None, *, region=None):
        """boto3's client of a service; user defaults to the owner."""
        import boto3
        import botocore.config

        user = user or self.owner
        return boto3.client(service, endpoint_url=self.endpoint, region_name=region or self.region,
                            aws_access_key_id=user.access_key, aws_secret_access_key=user.secret_key,
                            config=botocore.config.Config(retries={"total_max_attempts": 1}, connect_timeout=5, read_timeout=30))

    def environment(self, user=None, *, service="KMS"):
        """What a program needs in its environment to use a service here as the user."""
        user = user or self.owner
        return {"AWS_ACCESS_KEY_ID": user.access_key, "AWS_SECRET_ACCESS_KEY": user.secret_key, "AWS_REGION": self.region,
                f"AWS_ENDPOINT_URL_{service}": self.endpoint}

    def stop(self):
        if self._process is not None:
            self._process.kill()
            self._process.wait(STOP_TIMEOUT_SEC)
        sandbox.remove_work(self._work)
