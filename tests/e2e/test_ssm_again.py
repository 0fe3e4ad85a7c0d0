"""Orders by AWS Systems Manager that come twice, are cut short, or whose answer does not get through: each is carried out once,
and its answer is true and arrives."""

import pytest

import fault_proxy
import formats
import slipway
import ssm_faults
import toy
from remote import CHANNELS, ID, WAIT_SEC, Remote, assert_end
from test_crash import child_pid, kill_agent, main_pid
from waiting import wait_for


@pytest.fixture(params=CHANNELS)
def web(request, host, ssm, ssm_authority):
    """Release r1 is live, once for each channel."""
    return Remote(host, toy.local_store(host), ssm, ssm_authority).start_live(request.param)


@pytest.fixture
def one(host, ssm, ssm_authority):
    """Release r1 is live; the channel is the host's choice."""
    return Remote(host, toy.local_store(host), ssm, ssm_authority).start_live()


@pytest.fixture
def s3_web(host, ssm, ssm_authority, s3, bucket, s3_proxy):
    """The same, with a store whose answers a test can hold."""
    web = Remote(host, formats.S3Store(s3.client(), bucket), ssm, ssm_authority)
    return web.start_live("ec2messages", url=web.store.url,
                          environment=slipway.store_environment(s3, endpoint=s3_proxy.endpoint))


def n_events(web, command_id):
    return sum(e["by"] == f"ssm:{command_id}" for e in web.history())


def wait_delivered(invocation, n):
    wait_for(lambda: len(invocation.deliveries) >= n and len(invocation.acks) >= n, WAIT_SEC, f"{n} deliveries, acknowledged")


def kill_fetch(web):
    """kill -9, and waits for the next one."""
    before = child_pid(web.host, "slipway-fetch")
    web.host.run(["kill", "-9", before])
    wait_for(lambda: child_pid(web.host, "slipway-fetch") not in (None, before), WAIT_SEC, "slipway-fetch to be started again")


# -- twice

def test_duplicate_while_it_goes_on(web):
    web.close_gate()
    web.release([toy.gate(), *toy.GOOD])
    command = web.send("poll")
    web.wait_phase("restarting", "r2")
    invocation = web.ssm.invocation(command)
    web.ssm.deliver_again(command)
    wait_delivered(invocation, 2)
    web.open_gate()
    assert_end(web.wait_end(command), "Success", "^live: r2; before: r1$")
    assert n_events(web, command) == 1 and len(web.history()) == 2


def test_duplicate_after_the_end(web):
    """It gets the same answer, also of slipwayd's next life, and begins nothing."""
    web.release()
    assert web.order("poll").status == "Success"
    command = web.send("rollback", release="r1")
    first = web.wait_end(command)
    assert_end(first, "Success", "^live: r1; before: r2$")
    text, n_replies = first.replies[-1].text, len(first.replies)
    for n, restart in ((2, False), (3, True)):
        if restart:
            web.host.run(["systemctl", "restart", "slipwayd.service"])
            web.wait_listening()
        web.ssm.deliver_again(command)
        wait_delivered(first, n)
        wait_for(lambda: first.n_repeated >= n - 1, WAIT_SEC, "the answer once more")
        assert first.replies[-1].text == text and len(first.replies) == n_replies
    assert n_events(web, command) == 1 and len(web.history()) == 3
    assert web.state()["current"] == "r1"


def test_two_at_once(web):
    """Two orders for one app in one delivery: both are answered, and what both want is done once."""
    web.release()
    with web.ssm.together():
        commands = [web.send("poll"), web.send("deploy", release="r2")]
    for command in commands:
        assert_end(web.wait_end(command), "Success", "^live: r2")
    assert web.releases_done() == [("deploy", "r1", "done"), ("deploy", "r2", "done")]


# -- cut short

def test_fetch_killed(web):
    """slipway-fetch dies while an order goes on: slipwayd still knows it."""
    web.close_gate()
    web.release([toy.gate(), *toy.GOOD])
    command = web.send("poll")
    web.wait_phase("restarting", "r2")
    kill_fetch(web)
    web.open_gate()
    assert_end(web.wait_end(command), "Success", r"^web: deployment 2 \(release r2\) is done$", "^live: r2; before: r1$")
    assert n_events(web, command) == 1
    web.assert_whole("r2")


@pytest.mark.parametrize("how", ["killed", "both killed", "restarted"])
def test_slipwayd_ends_after_the_switch(web, how):
    """The deployment is taken up, and the order followed to its end."""
    web.close_gate()
    web.release([toy.gate(), *toy.GOOD])
    command = web.send("deploy", release="r2")
    web.wait_phase("restarting", "r2")
    if how == "restarted":
        web.host.run(["systemctl", "restart", "slipwayd.service"])
    elif how == "both killed":
        web.host.run(["systemctl", "kill", "--signal=KILL", "slipwayd.service"])
        wait_for(lambda: main_pid(web.host) == 0, WAIT_SEC, "slipwayd to be gone")
        web.host.run(["systemctl", "start", "slipwayd.service"])
    else:
        kill_agent(web.host)
    web.open_gate()
    assert_end(web.wait_end(command), "Success", r"^web: deployment 2 \(release r2\) is done$", "^live: r2; before: r1$")
    assert n_events(web, command) == 1 and len(web.history()) == 2
    web.assert_whole("r2")


def test_killed_and_taken_back(one):
    """What fails after the crash is no success."""
    one.close_gate()
    one.release([toy.gate(), *toy.CRASHING])
    command = one.send("poll")
    one.wait_phase("restarting", "r2")
    kill_agent(one.host)
    one.open_gate()
    assert_end(one.wait_end(command), "Failed", r"^web: deployment 2 \(release r2\) was taken back", "^live: r1; before: r1$")
    one.assert_whole("r1")


@pytest.mark.parametrize("how", ["killed", "restarted"])
def test_slipwayd_ends_before_the_switch(s3_web, s3_proxy, how):
    """In the fetch: the channel is asked again, and the order has the end of what then comes."""
    web = s3_web
    gate = fault_proxy.Gate()
    s3_proxy.fault(r"/r2/artifact", gate)
    web.release()
    command = web.send("poll")
    gate.wait_held(WAIT_SEC)
    web.wait_phase("fetching", "r2")
    if how == "killed":
        kill_agent(web.host)
    else:
        web.host.run(["systemctl", "restart", "slipwayd.service"])
    gate.open()
    assert_end(web.wait_end(command), "Success", "^live: r2; before: r1$")
    assert web.releases_done() == [("deploy", "r1", "done"), ("deploy", "r2", "failed"), ("deploy", "r2", "done")]


def test_killed_while_the_channel_is_asked(s3_web, s3_proxy):
    """Nothing had begun: the channel is asked at once, and the answer is what is so then."""
    web = s3_web
    gate = fault_proxy.Gate()
    s3_proxy.fault(r"manifest\.json", gate, times=1)
    web.release()
    command = web.send("deploy", release="r2")
    gate.wait_held(WAIT_SEC)
    kill_agent(web.host)
    assert_end(web.wait_end(command), "Success", "^live: r2")
    web.assert_whole("r2")
    assert [e["release"] for e in web.history()] == ["r1", "r2"]


def test_killed_before_it_heard_of_it(web):
    """An order that slipwayd never read begins nothing after its start, and the answer says so."""
    web.release()
    assert web.order("poll").status == "Success"
    web.host.run(["kill", "-STOP", main_pid(web.host)])
    command = web.send("rollback")
    wait_delivered(web.ssm.invocation(command), 1)
    kill_agent(web.host)
    assert_end(web.wait_end(command), "Failed", "Slipway was started anew before it could say what became of this order; "
               "it began nothing", "^live: r2$")
    assert web.state()["current"] == "r2" and len(web.history()) == 2


def test_hold_is_remembered(web):
    """What is so is told as so after a crash between the act and its answer."""
    web.ssm.fault("SendReply|agent_job_reply", ssm_faults.Withhold() if web.way == "ssmmessages" else ssm_faults.SERVER_ERROR)
    command = web.send("hold", reason="the fair")
    web.wait(lambda s: "held" in s, "to be held")
    web.host.run(["systemctl", "kill", "--signal=KILL", "slipwayd.service"])
    wait_for(lambda: main_pid(web.host) == 0, WAIT_SEC, "slipwayd to be gone")
    web.host.start_unit("slipwayd.service")
    web.ssm.heal()
    invocation = web.wait_end(command)
    assert_end(invocation, "Success", "the fair|held by this order")
    assert web.state()["held"]["by"] == f"ssm:{command}"


# -- the answer does not get through

@pytest.mark.parametrize("restarted", [False, True])
def test_answer_comes_later(web, restarted):
    """The endpoint is down when the order ends: its answer comes when it is back, also from slipwayd's next life."""
    web.close_gate()
    web.release([toy.gate(), *toy.GOOD])
    command = web.send("poll")
    web.wait_phase("restarting", "r2")
    web.ssm.close(web.way)
    web.open_gate()
    web.assert_whole("r2")
    web.host.wait_journal(f"Order {command} .*done", unit="slipwayd.service")
    if restarted:
        web.host.run(["systemctl", "restart", "slipwayd.service"])
    assert not web.ssm.invocation(command, ID).is_final
    web.ssm.open(web.way)
    assert_end(web.wait_end(command), "Success", r"release r2\) is done$", "^live: r2; before: r1$")
    assert n_events(web, command) == 1
