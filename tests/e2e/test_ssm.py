"""Orders by AWS Systems Manager: from SendCommand to the release that is live and back to the console, by either channel.

More of it: what happens twice or is cut short is in test_ssm_again.py, how the channels come and go in test_ssm_link.py."""

import re

import pytest

import fault_proxy
import formats
import slipway
import toy
from remote import CHANNELS, CONTENT, DOCUMENT, STEP, WAIT_SEC, Remote, assert_end, said
from test_confirm import hold_off, make_control
from waiting import wait_for

MARKER = "/var/tmp/marker"


@pytest.fixture
def remote(host, ssm, ssm_authority):
    return Remote(host, toy.local_store(host), ssm, ssm_authority)


@pytest.fixture(params=CHANNELS)
def web(request, remote):
    """Release r1 is live, once for each channel."""
    return remote.start_live(request.param)


@pytest.fixture
def one(remote):
    """Release r1 is live; the channel is the host's choice."""
    return remote.start_live()


# -- actions

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


def test_poll(web):
    assert_end(web.order("poll"), "Success", r"^web: deployment 1 \(release r1\) is live$", "^live: r1$")
    web.release(bake="200ms")
    assert_end(web.order("poll"), "Success", r"^web: deployment 2 \(release r2\) is done$", "^live: r2; before: r1$",
               r"^took \d+\.\ds: .*baking 0\.[2-9]s")
    web.release(["echo the reason is blue >&2", *toy.CRASHING])
    failed = web.order("poll")
    assert_end(failed, "Failed", r"^web: deployment 3 \(release r3\) was taken back: .*exit status 7", "the reason is blue",
               "^live: r2; before: r2$", r"^took \d+\.\ds")
    assert failed.steps[STEP]["code"] != 0
    web.assert_whole("r2")
    done = web.releases_done()
    assert done == [("deploy", "r1", "done"), ("deploy", "r2", "done"), ("deploy", "r3", "reverted")]
    assert web.history()[-1]["by"] == f"ssm:{failed.command_id}"
    assert_end(web.order("poll"), "Failed", "went wrong here and is not tried again: .*the reason is blue",
               "^next: .*order resume")
    assert web.releases_done() == done


def test_poll_of_nothing(remote):
    remote.start_remote()
    assert_end(remote.order("poll"), "Failed", "nothing was published to channel prod yet", "^live: nothing$")


def test_failing_hook(one):
    """What a hook said is in the answer, and what comes next where it puts the release off."""
    hooks = {"pre": [{"command": ["/bin/sh", "-c", "for n in 1 2 3; do echo line $n; done; exit 3"]}]}
    one.host.run(["useradd", "--system", "web"])
    one.release(also={"hooks": hooks})
    assert_end(one.order("poll"), "Failed", r"^web: deployment 2 \(release r2\) failed: .*exit status 3", "^    \\| line 3$",
               "^live: r1; before: r1$")
    hooks["pre"][0]["command"][-1] = "exit 75"
    one.release(also={"hooks": hooks})
    assert_end(one.order("poll"), "Failed", r"^web: deployment 3 \(release r3\) was put off: ", "^next: .*is tried again")
    one.assert_whole("r1")


def test_deploy(web):
    web.release()
    assert_end(web.order("deploy", release="r2"), "Success", r"^web: deployment 2 \(release r2\) is done$",
               "^live: r2; before: r1$")
    assert_end(web.order("deploy", release="r2"), "Success", "^live: r2$")
    # An older one is still on the host: it becomes live, and stays.
    assert_end(web.order("deploy", release="r1"), "Success", "^live: r1; before: r2$", "^pinned: .*deployment 2 .*order resume$")
    web.assert_whole("r1")
    assert web.state()["pinned"]["release"] == "r2" or web.state()["pinned"]["deployment"] == 2
    assert_end(web.order("deploy", release="r2"), "Failed", "rolled back by hand to release r1", "^live: r1$",
               "^next: order resume")
    assert_end(web.order("deploy", release="r9"), "Failed",
               "^web: release r9 is neither the channel's nor on this host: channel prod has r2, here are r2, r1$", "^live: r1$")
    web.release(toy.CRASHING)
    assert_end(web.order("deploy", release="r3"), "Failed", r"\(release r3\) was taken back: .*exit status 7",
               "^live: r1; before: r1$")
    web.assert_whole("r1")


def test_deploy_what_the_channel_has_not(one):
    """The channel is asked, and what it wants is done as with every poll: that is said, and is no success of the order."""
    hold = one.order("hold")
    one.release()
    assert_end(one.order("deploy", release="r1"), "Success", "release r1 is live already; channel prod has r2")
    assert_end(one.order("deploy", release="r7"), "Failed", "channel prod has r2, here are r1$", "^live: r1$")
    assert one.state()["held"]["by"] == f"ssm:{hold.command_id}"
    one.order("resume")
    one.assert_whole("r2")
    one.close_gate()
    one.release([toy.gate(), *toy.GOOD])
    assert_end(one.order("deploy", release="r7"), "Failed", "channel prod has r3, here are .*r2, r1$",
               r"^live: r2; on its way: r3 \(\w+\)$")
    one.open_gate()
    one.assert_whole("r3")


def test_rollback(web):
    assert_end(web.order("rollback"), "Failed", "there is no release before r1 on this host", "^live: r1$")
    for name in ("r2", "r3"):
        web.release()
        assert_end(web.order("poll"), "Success", f"^live: {name}; before: ")
    assert_end(web.order("rollback"), "Success", "^web: the rollback to release r2 is done$", "^live: r2; before: r3$",
               "^pinned: ", r"^took \d")
    web.assert_whole("r2")
    assert_end(web.order("rollback", release="r1"), "Success", "^live: r1; before: r2$")
    web.assert_whole("r1")
    assert_end(web.order("rollback", release="r1"), "Failed", "release r1 is live already")
    assert_end(web.order("rollback", release="r9"), "Failed", "release r9 is not on this host: here are .*r3.*r1", "^live: r1$")
    assert [e["by"][:4] for e in web.history()[-2:]] == ["ssm:", "ssm:"]


def test_hold_and_resume(web):
    held = web.order("hold", until="2h", reason="the fair; $(touch /var/tmp/marker) `id` é")
    assert_end(held, "Success", r"^web: this order holds it until \d{4}-.*Z: the fair; \$\(touch .*`id` é$", "^live: r1$")
    state = web.state()["held"]
    assert state["by"] == f"ssm:{held.command_id}" and state["reason"].endswith("`id` é") and "until" in state
    web.release()
    assert_end(web.order("poll"), "Success", r"\(release r2\) is to be deployed, but .* holds it", "^next: order resume")
    assert_end(web.order("deploy", release="r2"), "Failed", "holds it until", "^live: r1$")
    assert_end(web.order("resume"), "Success", "^web: the channel decides again")
    web.assert_whole("r2")
    assert_end(web.order("hold"), "Success", "^web: this order holds it until it is resumed$")
    assert_end(web.order("hold", until="2020-01-01T00:00:00Z"), "Failed", "2020-01-01T00:00:00Z' is not to come")
    assert_end(web.order("hold", until="90parsecs"), "Failed", "90parsecs")
    assert "until" not in web.state()["held"] and not web.host.exists(MARKER)


def test_confirm(web):
    assert_end(web.order("confirm"), "Failed", "no release of app web waits to be confirmed", "^live: r1$")
    web.release(health={"confirm": "5min"})
    waiting = web.send("poll")
    web.wait_says(waiting, r"release r2 runs and waits to be confirmed \(order confirm\), before it was r1")
    assert_end(web.order("confirm"), "Success", "^web: release r2 is confirmed$",
               r"^live: r2, which is not settled yet \(confirming\); before: r1$")
    assert_end(web.wait_end(waiting), "Success", "^live: r2; before: r1$", "confirming ")
    web.assert_whole("r2")


def test_status(web):
    web.release(toy.CRASHING)
    assert web.order("poll").status == "Failed"
    before = web.history()
    assert_end(web.order("status"), "Success", "^web, channel prod$", "live: r1 since ", "state: failed", "exit status 7")
    assert web.history() == before


# -- what may be asked

def test_allow(remote):
    remote.start_live(allow=["poll", "status"])
    for action, more in (("rollback", {}), ("hold", {}), ("resume", {}), ("confirm", {}), ("deploy", {"release": "r1"})):
        assert_end(remote.order(action, **more), "Failed",
                   f"this host's configuration does not allow {action} to be ordered from far away")
    assert remote.order("status").status == "Success"
    assert "held" not in remote.state() and remote.releases_done() == [("deploy", "r1", "done")]


def test_which_app(remote):
    api = toy.Toy(remote.host, remote.store, app="api")
    remote.start_live(toys=[remote, api])
    api.release()
    assert_end(remote.order("poll"), "Failed", "^say which application of this host; there are: web, api$")
    assert_end(remote.order("poll", app="db"), "Failed", "^there is no application db on this host; there are: web, api$")
    assert "current" not in api.state()
    assert_end(remote.order("poll", app="api"), "Success", "^live: r1; before: nothing$")
    api.assert_whole("r1")
    assert remote.releases_done() == [("deploy", "r1", "done")]


def test_several_hosts(make_hosts, ssm, ssm_authority):
    """One command each, sent at once: to a tag, as it were."""
    webs = [Remote(host, toy.local_store(host), ssm, ssm_authority, f"i-0123456789abcde0{n}")
            for n, host in enumerate(make_hosts(3))]
    for web in webs:
        web.start_live()
        web.release(toy.CRASHING if web is webs[1] else toy.GOOD)
    with ssm.together():
        commands = [web.send("deploy", release="r2") for web in webs]
    ended = [web.wait_end(command) for web, command in zip(webs, commands)]
    assert [e.status for e in ended] == ["Success", "Failed", "Success"]
    for web, live in zip(webs, ("r2", "r1", "r2")):
        web.assert_whole(live)


SHELL = {"runCommand": [f"touch {MARKER}"], "commands": [f"touch {MARKER}"]}
DOCUMENTS = {
    "AWS-RunShellScript": {"schemaVersion": "1.2", "runtimeConfig": {"aws:runShellScript": {"properties": [
        {"id": "0.aws:runShellScript", **SHELL}]}}},
    "AWS-RunRemoteScript": {"schemaVersion": "2.2", "mainSteps": [
        {"action": "aws:downloadContent", "name": "downloadContent", "inputs": {"sourceType": "S3", "destinationPath": "/var/tmp"}},
        {"precondition": {"StringEquals": ["platformType", "Windows"]}, "action": "aws:runPowerShellScript",
         "name": "runPowerShellScript", "inputs": SHELL},
        {"precondition": {"StringEquals": ["platformType", "Linux"]}, "action": "aws:runShellScript", "name": "runShellScript",
         "inputs": SHELL}]},
    "Acme-Deploy": {"schemaVersion": "2.2", "mainSteps": [{"action": "aws:runShellScript", "name": STEP, "inputs": SHELL}]},
}
STEPS = {"AWS-RunShellScript": {"aws:runShellScript"},
         "AWS-RunRemoteScript": {"downloadContent", "runPowerShellScript", "runShellScript"}, "Acme-Deploy": {STEP}}


@pytest.mark.parametrize("document", DOCUMENTS)
def test_other_documents(web, document):
    """They end at once, each step of them, and nothing runs; not as Slipway-Deploy's either, whatever the document says."""
    command = web.ssm.send_command(web.id, document, {"commands": [f"touch {MARKER}"], "action": "rollback"},
                                   content=DOCUMENTS[document])
    ended = web.wait_end(command)
    why = f"{document} is not carried out here: Slipway takes no shell commands, only orders about deployments; " \
          "use the document Slipway-Deploy"
    assert ended.status == "Failed" and ended.trace.startswith(why)
    assert set(ended.steps) == STEPS[document] and {s["status"] for s in ended.steps.values()} == {"Failed"}
    assert why in "".join(s["standardError"] for s in ended.steps.values())
    # what the document brings under its own name is not run either
    inside = {**CONTENT, "mainSteps": DOCUMENTS["Acme-Deploy"]["mainSteps"]}
    assert web.wait_end(web.ssm.send_command(web.id, DOCUMENT, {"action": "status"}, content=inside)).status == "Success"
    assert not web.host.exists(MARKER)
    assert web.releases_done() == [("deploy", "r1", "done")] and not web.listening()["orders"][2:]


# -- what takes long

def test_progress(web):
    """Each phase is told while it lasts, with the release on its way."""
    web.close_gate()
    web.release([toy.gate(), *toy.GOOD])
    command = web.send("poll")
    invocation = web.wait_says(command, "^web: restarting, switched to release r2, before it was r1$")
    assert invocation.status == "InProgress"
    web.open_gate()
    assert_end(web.wait_end(command), "Success", "^live: r2; before: r1$", "^took ")
    texts = [r.content["runtimeStatus"][STEP]["standardOutput"] for r in invocation.replies if r.content["runtimeStatus"]]
    phases = [text.split()[1].rstrip(",") for text in texts if re.match(r"web: \w+, ", text)]
    assert phases == sorted(set(phases), key=["fetching", "preparing", "switching", "restarting", "baking"].index) and phases
    assert {r.status for r in invocation.replies[:-1]} == {"InProgress"} and invocation.replies[-1].status == "Success"


def test_cancel_before_the_switch(web):
    """While the application holds updates off: nothing has changed, nothing is left, and it is no success."""
    make_control(web)
    with hold_off(web):
        web.release()
        command = web.send("deploy", release="r2")
        web.wait_phase("waiting", "r2")
        web.ssm.cancel(command)
        ended = web.wait_end(command)
        assert_end(ended, "Cancelled", "^web: given up before the switch; .* order a hold$", "^live: r1$")
        assert ended.steps[STEP]["code"] != 0
    web.assert_whole("r1")
    assert web.releases_done()[1:] == [("deploy", "r2", "failed")]
    assert_end(web.order("poll"), "Success", "^live: r2; before: r1$")


def test_cancel_in_the_fetch(remote, s3, bucket, s3_proxy):
    """The artifact does not come."""
    remote.store = formats.S3Store(s3.client(), bucket)
    remote.start_live(url=remote.store.url, environment=slipway.store_environment(s3, endpoint=s3_proxy.endpoint))
    gate = fault_proxy.Gate()
    s3_proxy.fault(r"/r2/artifact", gate, times=1)
    remote.release()
    command = remote.send("poll")
    gate.wait_held(WAIT_SEC)
    remote.wait_phase("fetching", "r2")
    remote.ssm.cancel(command)
    assert_end(remote.wait_end(command), "Cancelled", "^web: given up before the switch", "^live: r1$")
    gate.open()
    assert remote.wait_live("r1") and remote.running() == "r1"
    assert_end(remote.order("poll"), "Success", "^live: r2; before: r1$")


def hooked(web):
    """A release that waits in its pre hook while the gate is closed."""
    web.host.run(["useradd", "--system", "web"])
    web.close_gate()
    web.host.run(["chmod", "666", "/var/tmp/web.gate"])
    return web.release(also={"hooks": {"pre": [{"command": ["/bin/sh", "-c", toy.gate()]}]}})


def test_cancel_in_a_hook(web):
    """It can't be stopped there, says so, and goes on to its end."""
    hooked(web)
    command = web.send("poll")
    web.wait_phase("preparing", "r2")
    web.ssm.cancel(command)
    web.wait_says(command, "^web: too late to cancel: the pre hooks of release r2 run .*; it goes on$")
    web.open_gate()
    assert_end(web.wait_end(command), "Success", "^live: r2; before: r1$")
    web.assert_whole("r2")


def test_cancel_after_the_switch(web):
    web.close_gate()
    web.release([toy.gate(), *toy.GOOD])
    command = web.send("deploy", release="r2")
    web.wait_phase("restarting", "r2")
    web.ssm.cancel(command)
    invocation = web.wait_says(command, r"^web: too late to cancel: release r2 was switched to already \(restarting\); it goes on$")
    assert invocation.status == "InProgress"
    web.open_gate()
    assert_end(web.wait_end(command), "Success", "^live: r2; before: r1$")


def test_cancel_of_what_is_over(web):
    command = web.send("status")
    ended = web.wait_end(command)
    n_replies = len(ended.replies)
    cancellation = web.ssm.invocation(web.ssm.cancel(command))
    wait_for(lambda: cancellation.acks and cancellation.replies, WAIT_SEC, "the cancellation to be received")
    assert web.order("status").status == "Success"
    assert ended.status == "Success" and len(ended.replies) == n_replies
