"""Slipway's programs as a test uses them: slipway-publish here, as on a CI machine, and the agent on a host."""

import json
import os
import subprocess

import formats
import host as host_module
import sandbox

RUN_TIMEOUT_SEC = 120
WAITING_SHARE_MAX = 0.02  # of a core; a loop that spins takes a whole one
UNITS = {"activate": {"units": [{"name": "web.service", "action": "restart"}],
                      "health": {"bake": "2s", "deadline": "30s"}}}


class Publisher:
    """slipway-publish with a key and a trust root of its own, for one app and channel of one store."""

    def __init__(self, install, directory, url, environment=None, *, app="web", channel="prod"):
        self.url, self.app, self.channel = url, app, channel
        self.directory = directory
        self._program = install / "usr/bin/slipway-publish"
        # nothing of the caller's: neither its CI's variables nor its credentials
        self._environment = {"PATH": host_module.PATH, "HOME": str(directory), "LANG": "C.UTF-8", "TMPDIR": str(directory),
                             **(environment or {})}
        directory.mkdir(parents=True, exist_ok=True)
        self.run("keygen", directory / "deploy")
        self.key_path, self.root_path = directory / "deploy.key", directory / "root.json"
        self.key = formats.Key.load(self.key_path)
        self.run("trust", "init", "--key", directory / "deploy.pub", "-o", self.root_path)

    def run(self, *args, check=True, environment=None, timeout_sec=RUN_TIMEOUT_SEC):
        """Runs slipway-publish with these arguments alone."""
        args = [str(self._program), *map(str, args)]
        done = subprocess.run(args, capture_output=True, text=True, timeout=timeout_sec, cwd=self.directory,
                              env={**self._environment, **(environment or {})})
        result = host_module.Result(args, done.returncode, done.stdout, done.stderr)
        if check and result.rc != 0:
            raise host_module.CommandFailed("the publisher", result)
        return result

    def popen(self, *args, environment=None):
        """Starts slipway-publish beside the test; with `with`, it is waited for."""
        return subprocess.Popen([str(self._program), *map(str, args)], cwd=self.directory, stdout=subprocess.DEVNULL,
                                stderr=subprocess.DEVNULL, preexec_fn=sandbox.die_with_parent,
                                env={**self._environment, **(environment or {})})

    def channel_args(self):
        return ["--store", self.url, "--app", self.app, "--channel", self.channel]

    def release(self, tree, release_id=None, *options, spec=UNITS, check=True, environment=None,
                timeout_sec=RUN_TIMEOUT_SEC):
        """Publishes a tree and returns what --json says of it, or with check=False the Result."""
        spec_path = self.directory / "spec.json"
        spec_path.write_text(json.dumps(spec), encoding="utf-8")
        args = ["release", *self.channel_args(), "--key", self.key_path, "--spec", spec_path, "--json"]
        args += ["--id", release_id] if release_id is not None else []
        result = self.run(*args, *options, tree, check=check, environment=environment, timeout_sec=timeout_sec)
        return json.loads(result.stdout) if check else result

    def verify(self, *, check=True):
        """`slipway-publish verify` against the trust root."""
        result = self.run("verify", *self.channel_args(), "--trust", self.root_path, "--json", check=check)
        return json.loads(result.stdout) if check else result


def store_environment(s3, user=None, *, endpoint=None):
    """What a program needs in its environment to use the S3 server, or another endpoint in front of it (by TLS: Slipway
    speaks plain HTTP on loopback only)."""
    user = user or s3.users[0]
    return {"AWS_ACCESS_KEY_ID": user.access_key, "AWS_SECRET_ACCESS_KEY": user.secret_key, "AWS_REGION": s3.region,
            "AWS_ENDPOINT_URL_S3": endpoint or s3.tls_endpoint, "AWS_CA_BUNDLE": str(s3.authority.path)}


def configure(host, url, root, *, environment=None, apps=None, **members):
    """Writes the agent's configuration, trust root (bytes) and, for an s3:// store, its environment to a host. members are
    further top-level members of agent.json; the poll interval is a second unless they say otherwise."""
    if apps is None:
        apps = [{"app": "web", "channel": "prod", "root": "/srv/web", "units": ["web*.service"]}]
    settings = {"store": url, "poll": {"interval": "1s", "jitter": "20%"}, "apps": apps, **members}
    host.write("/etc/slipway/agent.json", json.dumps(settings, indent=2) + "\n")
    host.write("/etc/slipway/trust/root.json", root)
    if environment is not None:
        environment = dict(environment)
        bundle = environment.pop("AWS_CA_BUNDLE", None)
        if bundle is not None:
            with open(bundle, encoding="ascii") as file:
                host.trust_ca(file.read())
        text = "".join(f"{name}={value}\n" for name, value in environment.items())
        host.write("/etc/slipway/environment", text, mode=0o600)


def current(host, root="/srv/web"):
    """The id of the release that `current` points to, or None."""
    link = host.readlink(f"{root}/current")
    return os.path.basename(link) if link is not None else None


def status(host):
    """`slipway status --json` on the host."""
    return json.loads(host.run(["slipway", "status", "--json"]).stdout)


def cpu_usec(host):
    text = host.read("/sys/fs/cgroup/system.slice/slipwayd.service/cpu.stat")
    return int(dict(line.split() for line in text.splitlines())["usage_usec"])


def assert_waits(host, sec=12):
    """For so long the agent and its children wait for something rather than spin. What waiting costs beside polling is a ratio
    for tests/bench ("start: the same, network ..."): on a busy machine one sample of either may be twice the other."""
    before = cpu_usec(host)
    host.run(["sleep", str(sec)])
    share = (cpu_usec(host) - before) / (sec * 1e6)
    assert share <= WAITING_SHARE_MAX, f"waiting takes {share:.1%} of a core"
