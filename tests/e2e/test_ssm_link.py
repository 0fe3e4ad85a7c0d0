"""The way to AWS Systems Manager: what it is told of the host, which channel is taken, and that neither it nor the store waits for
the other."""

import datetime
import time

import pytest

import fault_proxy
import formats
import sandbox
import slipway
import ssm_faults
import ssm_server
import toy
from remote import CHANNELS, ID, WAIT_SEC, Remote, assert_end
from test_check import assert_says
from waiting import wait_for

POLL = {"interval": "1s", "jitter": "0%"}
RIVAL = "amazon-ssm-agent.service"
SSM, EC2MESSAGES, SSMMESSAGES = "ssm", "ec2messages", "ssmmessages"


@pytest.fixture
def remote(host, ssm, ssm_authority):
    return Remote(host, toy.local_store(host), ssm, ssm_authority)


def overview(web):
    return web.host.run(["slipway", "status"]).stdout


def wait_ping(web, channel):
    """Waits until the last ping says that commands come by this channel, and returns what it says."""
    def last():
        pings = web.ssm.pings(web.id)
        return pings and pings[-1].members.get("SSMConnectionChannel") == channel and pings[-1].members
    return wait_for(last, WAIT_SEC, f"a ping that says {channel}")


# -- what is told

@pytest.mark.parametrize("channel", CHANNELS)
def test_ping(remote, channel):
    """At the start, and again as soon as the channel is another one."""
    remote.release()
    sandbox.run("ip", "-n", remote.host.name, "route", "add", "default", "via", sandbox.SERVER_ADDRESS)
    remote.start_remote(channel)
    members = wait_ping(remote, channel)
    assert members["InstanceId"] == ID and members["ComputerName"] == remote.host.name
    assert members["AgentName"] != "amazon-ssm-agent" and members["AgentStatus"] == "Active"
    assert members["PlatformType"] == "Linux" and members["PlatformName"] and members["PlatformVersion"]
    assert members["IPAddress"] == remote.host.address
    listening = remote.wait_listening()
    assert (listening["channel"], listening["listening"], listening["orders"]) == (channel, True, [])
    assert f"orders can come through AWS Systems Manager, by {channel}\n" in overview(remote)
    order = remote.order("status")
    shown = remote.listening()["orders"][0]
    assert datetime.datetime.fromisoformat(shown.pop("at")).tzinfo is not None
    assert shown == {"command": order.command_id, "action": "status", "app": "web", "result": "done"}
    assert f"the last order: status web, done, " in overview(remote) and order.command_id in overview(remote)


def test_ping_refused(remote):
    """Without it the service sends nothing: that is told, and ends with the next one that is taken."""
    remote.ssm.fault("UpdateInstanceInformation", ssm_faults.ACCESS_DENIED)
    remote.start_remote("ec2messages")
    trouble = wait_for(lambda: remote.listening().get("trouble"), WAIT_SEC, "trouble in the status")
    wait_for(lambda: "can't tell Systems Manager that this instance is there" in remote.listening().get("trouble", ""), WAIT_SEC,
             f"the ping to be told of, not {trouble!r}")
    assert "no orders can come through AWS Systems Manager: can't tell Systems Manager that this" in overview(remote)
    assert "is not authorized" in remote.listening()["trouble"]
    # What comes nevertheless is taken.
    assert remote.order("status").status == "Success"


def test_status_tells_why_not(remote):
    """Everything down at the start, then there: both are told, in the journal too, without a restart."""
    services = (EC2MESSAGES, SSMMESSAGES, SSM)
    for service in services:
        remote.ssm.close(service)
    remote.start_remote("ec2messages")
    trouble = wait_for(lambda: "onnect" in remote.listening().get("trouble", "") and remote.listening()["trouble"], WAIT_SEC,
                       "the refused connection in the status")
    assert not remote.listening()["listening"]
    assert f"no orders can come through AWS Systems Manager: {trouble[:40]}" in overview(remote)
    for service in services:
        remote.ssm.open(service)
    assert "trouble" not in remote.wait_listening()
    remote.host.wait_journal("Orders can come through AWS Systems Manager, by ec2messages", unit="slipwayd.service")


def test_another_agent(remote):
    """amazon-ssm-agent beside it would take some of the orders: status and check say so."""
    remote.release()
    remote.host.write_unit(RIVAL, "[Service]\nExecStart=sleep infinity\n[Install]\nWantedBy=multi-user.target\n")
    remote.host.start_unit(RIVAL)
    remote.start_remote()
    remote.wait_listening()
    wait_for(lambda: remote.listening().get("other_agent") == RIVAL, WAIT_SEC, "status to name the other agent")
    assert f"{RIVAL} runs here too, and they may go to it instead: systemctl disable --now {RIVAL}\n" in overview(remote)
    assert_says(remote.host, "warn", "units", f"{RIVAL} runs here too: orders from AWS Systems Manager may go to it instead")
    remote.host.run(["systemctl", "stop", RIVAL])
    remote.host.run(["systemctl", "enable", RIVAL])
    assert_says(remote.host, "warn", "units", f"{RIVAL} is enabled: after a reboot orders from AWS Systems Manager may go to it")


# -- which channel

def test_auto_takes_the_gateway(remote):
    remote.release()
    remote.start_remote()
    wait_for(lambda: remote.listening().get("channel") == SSMMESSAGES and remote.listening()["listening"], WAIT_SEC,
             "the gateway to be taken")
    wait_ping(remote, SSMMESSAGES)
    ended = remote.order("poll")
    assert ended.status == "Success" and {d.channel for d in ended.deliveries} == {SSMMESSAGES}


@pytest.mark.parametrize("fault", ["AccessDenied", "closed"])
def test_auto_without_the_gateway(remote, fault):
    """Refused, or not there: message delivery works; and the gateway once it does."""
    remote.release()
    if fault == "closed":
        remote.ssm.close(SSMMESSAGES)
    else:
        remote.ssm.fault("CreateControlChannel", ssm_faults.ACCESS_DENIED)
    remote.start_remote()
    assert remote.wait_listening()["channel"] == EC2MESSAGES
    wait_ping(remote, EC2MESSAGES)
    ended = remote.order("poll")
    assert ended.status == "Success" and {d.channel for d in ended.deliveries} == {EC2MESSAGES}
    remote.ssm.heal()
    if fault == "closed":
        remote.ssm.open(SSMMESSAGES)
        wait_for(lambda: remote.listening()["channel"] == SSMMESSAGES, 2 * WAIT_SEC, "the gateway to be taken")
        assert remote.order("status").status == "Success"


@pytest.mark.parametrize("region", ["no such name", "closed"])
def test_auto_in_a_region_without_ec2messages(remote, region):
    remote.release()
    if region == "closed":
        remote.ssm.close(EC2MESSAGES)
        remote.start_remote()
    else:
        remote.start_remote(urls={EC2MESSAGES: f"https://{ssm_server.NO_SUCH_HOST}"})
    assert remote.wait_listening()["channel"] == SSMMESSAGES
    assert "trouble" not in remote.listening()
    assert_end(remote.order("poll"), "Success", "^live: r1")


# -- neither waits for the other

STALLED = {"stalled": ssm_faults.Stall(), "5xx": ssm_faults.SERVER_ERROR}


def close_or_fault(ssm, how):
    if how == "closed":
        for service in (EC2MESSAGES, SSMMESSAGES, SSM):
            ssm.close(service)
    else:
        ssm.fault(".*", STALLED[how])


def n_polls(proxy):
    return sum("manifest.json" in r.path for r in list(proxy.requests))


@pytest.mark.parametrize("how", ["closed", *STALLED])
def test_ssm_down(host, ssm, ssm_authority, s3, bucket, s3_proxy, how):
    """The store is asked every second, and what it says is deployed, whatever SSM does."""
    web = Remote(host, formats.S3Store(s3.client(), bucket), ssm, ssm_authority)
    close_or_fault(ssm, how)
    web.release()
    web.start_remote(poll=POLL, url=web.store.url, environment=slipway.store_environment(s3, endpoint=s3_proxy.endpoint))
    web.wait_live("r1")
    web.release()
    web.wait_live("r2")
    before, began = n_polls(s3_proxy), time.monotonic()
    wait_for(lambda: n_polls(s3_proxy) >= before + 10, 2 * WAIT_SEC, "ten polls")
    assert time.monotonic() - began < 20
    assert not web.listening()["listening"]


@pytest.mark.parametrize("channel", CHANNELS)
def test_store_down(host, ssm, ssm_authority, s3, bucket, s3_proxy, channel):
    """A poll that hangs holds no order up but those that need it; of a store that fails the answer tells."""
    web = Remote(host, formats.S3Store(s3.client(), bucket), ssm, ssm_authority)
    web.start_live(channel, url=web.store.url, environment=slipway.store_environment(s3, endpoint=s3_proxy.endpoint))
    gate = fault_proxy.Gate()
    # the poll that comes by itself may be the first one; the order's takes its place
    s3_proxy.fault(r"manifest\.json", gate, times=2)
    web.release()
    waiting = web.send("poll")
    gate.wait_held(WAIT_SEC)
    assert_end(web.order("status"), "Success", "live: r1 since ")
    assert_end(web.order("hold", reason="the store hangs"), "Success", "this order holds it")
    assert_end(web.order("resume"), "Success")
    assert not ssm.invocation(waiting).is_final
    gate.open()
    assert_end(web.wait_end(waiting), "Success", "^live: r2")
    s3_proxy.clear()
    s3_proxy.fault(r".*", fault_proxy.Answer(503, "SlowDown"))
    web.wait_live("r2")
    assert_end(web.order("rollback"), "Success", "^live: r1; before: r2$")
    failed = web.order("poll")
    assert_end(failed, "Failed", "^web: can't ask the store: .*503|SlowDown", "^live: r1$")
