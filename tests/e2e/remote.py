"""A toy whose host takes orders by AWS Systems Manager, from the stand-in of ssm_server."""

import json
import pathlib
import re

import slipway
import toy
from waiting import wait_for

WAIT_SEC = 40
ID = "i-0123456789abcdef0"
KEY, SECRET = "AKIDEXAMPLE", "secret"
REGION = "eu-central-1"
DOCUMENT = "Slipway-Deploy"
CONTENT = json.loads((pathlib.Path(__file__).parents[2] / "packaging/aws/slipway-deploy.json").read_text(encoding="utf-8"))
CHANNELS = ["ec2messages", "ssmmessages"]
STEP = "slipway"


class Remote(toy.Toy):
    """A toy whose host is reached by SSM."""

    def __init__(self, host, store, ssm, authority, instance_id=ID, **options):
        super().__init__(host, store, **options)
        self.ssm, self.authority, self.id = ssm, authority, instance_id
        self.keys = KEY + instance_id[-4:], SECRET
        ssm.add_instance(instance_id, *self.keys)

    def environment(self, urls=None):
        """What slipwayd needs to reach the stand-in; urls: other ones of its services."""
        endpoints = {f"AWS_ENDPOINT_URL_{service.upper()}": url for service, url in {**self.ssm.urls, **(urls or {})}.items()}
        return {"AWS_ACCESS_KEY_ID": self.keys[0], "AWS_SECRET_ACCESS_KEY": self.keys[1], "AWS_REGION": REGION, **endpoints}

    def start_remote(self, channel="auto", *, toys=None, urls=None, environment=None, poll=None, allow=None, **members):
        """Starts slipwayd, which listens; polls of the store are an hour apart unless `poll` says otherwise. environment: of
        the store, whose credentials are the instance's then."""
        if environment is not None:
            self.ssm.add_instance(self.id, environment["AWS_ACCESS_KEY_ID"], environment["AWS_SECRET_ACCESS_KEY"])
        self.way = channel
        self.host.trust_ca(self.authority.certificate)
        settings = {"enabled": True, "channel": channel, **({} if allow is None else {"allow": allow})}
        toy.start(toys or [self], environment={**self.environment(urls), **(environment or {})}, instance=self.id, region=REGION,
                  report=False, poll=poll or {"interval": "1h", "jitter": "0%"}, ssm=settings, **members)

    def start_live(self, channel="auto", **options):
        """The same, and release r1 is live, by order."""
        self.release()
        self.start_remote(channel, **options)
        self.wait_listening()
        assert self.order("poll", app=self.app).status == "Success"
        self.assert_whole("r1")
        return self

    def listening(self):
        return slipway.status(self.host).get("ssm", {})

    def wait_listening(self):
        return wait_for(lambda: (lambda s: s.get("listening") and s)(self.listening()), WAIT_SEC, "orders can come")

    def send(self, action, document=DOCUMENT, **parameters):
        return self.ssm.send_command(self.id, document, {"action": action, **parameters}, content=CONTENT)

    def wait_end(self, command_id):
        return self.ssm.wait_final(command_id, WAIT_SEC, self.id)

    def order(self, action, **parameters):
        """Sends it and waits for its end."""
        return self.wait_end(self.send(action, **parameters))

    def wait_says(self, command_id, pattern):
        """Waits until the console shows this of the order."""
        invocation = self.ssm.invocation(command_id, self.id)
        wait_for(lambda: re.search(pattern, said(invocation)), WAIT_SEC, f"{pattern!r} in what is said of {command_id}")
        return invocation

    def history(self):
        return self.state()["history"]

    def releases_done(self):
        """What the history says, oldest first: action, release, result."""
        return [(e["action"], e["release"], e["result"]) for e in self.history()]


def said(invocation):
    """What the console shows of the only step."""
    step = invocation.steps.get(STEP)
    return step["standardOutput"] + step["standardError"] if step else ""


def assert_end(invocation, status, *patterns):
    """The command ended so, and each pattern is in its words."""
    text = said(invocation)
    assert invocation.status == status and invocation.steps[STEP]["status"] == status, (invocation.status, text)
    for pattern in patterns:
        assert re.search(pattern, text, re.MULTILINE), (pattern, text)
