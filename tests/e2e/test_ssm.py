"""Orders by AWS Systems Manager: from SendCommand to the release that is live and back to the console, by either channel."""

import json
import pathlib

import pytest

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

    def __init__(self, host, store, ssm, authority):
        super().__init__(host, store)
        self.ssm = ssm
        self.authority = authority
        ssm.add_instance(ID, KEY, SECRET)

    def start_remote(self, channel="auto", **settings):
        """Starts slipwayd, which listens; polls of the store are an hour apart."""
        self.host.trust_ca(self.authority.certificate)
        urls = {f"AWS_ENDPOINT_URL_{service.upper()}": url for service, url in self.ssm.urls.items()}
        environment = {"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_REGION": REGION, **urls}
        toy.start([self], environment=environment, instance=ID, region=REGION, report=False,
                  poll={"interval": "1h", "jitter": "0%"}, ssm={"enabled": True, "channel": channel, **settings})

    def listening(self):
        return slipway.status(self.host).get("ssm", {})

    def wait_listening(self):
        return wait_for(lambda: (lambda s: s.get("listening") and s)(self.listening()), WAIT_SEC, "orders can come")

    def send(self, action, document=DOCUMENT, **parameters):
        return self.ssm.send_command(ID, document, {"action": action, **parameters}, content=CONTENT)

    def order(self, action, **parameters):
        """Sends it and waits for its end."""
        return self.ssm.wait_final(self.send(action, **parameters), WAIT_SEC)


@pytest.fixture
def remote(host, ssm, ssm_authority):
    return Remote(host, toy.local_store(host), ssm, ssm_authority)


@pytest.mark.parametrize("channel", CHANNELS)
def test_rung(remote, channel):
    remote.release()
    remote.start_remote(channel)
    assert remote.wait_listening()["channel"] == channel
    first = remote.order("poll", app="web")
    assert (first.status, remote.state()["current"]) == ("Success", "r1")
    remote.release()
    second = remote.order("deploy", app="web", release="r2")
    assert (second.status, remote.state()["current"]) == ("Success", "r2")
    output = second.steps[STEP]["standardOutput"]
    assert "r1" in output and "r2" in output, output
