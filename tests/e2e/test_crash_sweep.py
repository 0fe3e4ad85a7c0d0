"""The agent goes down before every single file operation and bus call of what it does, comes up again, and nothing is lost, half
done or left over. See crash_sweep.py."""

import contextlib
import os
import pathlib

import pytest

import crash_sweep
import toy
from conftest import SUMMARY
from crash_sweep import End, Scenario

N_HOSTS = 2
TIMEOUT_SEC = 1200
N_POINTS_MIN = 30  # with fewer the agent was not counted


def poll(station):
    station.run_service("Poll")


def poll_held_off(station):
    """The application holds the update off until the agent waits for it."""
    with station.hold_off() as lock:
        def let_go():
            if not lock.closed and station.state()["phase"] == "waiting":
                lock.close()
        station.run_service("Poll", meanwhile=let_go)


def activate(station):
    station.run_service("Activate", "s", "root")


def roll_back(station):
    station.run_service("Rollback", "ss", "", "root")


def roll_back_offline(station):
    result = station.run_to_end("slipway", "rollback", "web")
    crash_sweep.require(result is None or result.rc == 0, f"slipway rollback: {result}")


def deploy_files(station):
    """What the channel says, without asking the store."""
    directory = "/srv/store/web"
    result = station.run_to_end("slipway", "deploy", "web", "--file", f"{directory}/releases/r2/artifact.tar.zst",
                                "--manifest", f"{directory}/channels/prod/manifest.json")
    crash_sweep.require(result is None or result.rc == 0, f"slipway deploy: {result}")


def round_(station):
    station.run_to_end("slipwayd", "--once")


RESTART = "sd_bus_call_method_async RestartUnit"
BOTH = frozenset({"r1", "r2"})
BEFORE, AFTER, BACK = frozenset({"pre r2"}), frozenset({"post r2"}), frozenset({"revert r2"})
# with everything that is asked on the way: the application whether now, hooks, a probe, and again the application
CONFIRMING = [f"cp name {crash_sweep.CONTROL}/confirm", *toy.GOOD]
ASKING = {"confirm": "10min", "commands": [{"command": ["/bin/sh", "-c", "test -e name"], "user": "root"}]}
BY_HAND = {"activate": "manual"}
VETTED = {"provenance": {"builders": ["https://ci.example/*"]}}
DEPLOYMENT = Scenario("deployment", (toy.GOOD,), poll_held_off, End("r2", BOTH, hooks=BEFORE | AFTER), CONFIRMING, health=ASKING,
                      control=True, brings=True)
SCENARIOS = [
    DEPLOYMENT,
    Scenario("deployment by a new key", (toy.GOOD,), poll, End("r2", BOTH), toy.GOOD, rotates=True),
    Scenario("deployment that is vetted", (toy.GOOD,), poll, End("r2", BOTH), toy.GOOD, config=VETTED),
    Scenario("first deployment", (), poll, End("r1", frozenset({"r1"})), toy.GOOD),
    Scenario("deployment of what is here", (toy.GOOD,), poll, End("r2", BOTH), toy.GOOD, same=True),
    Scenario("deployment of files", (toy.GOOD,), deploy_files, End("r2", BOTH), toy.GOOD),
    Scenario("revert", (toy.GOOD,), poll, End("r1", BOTH, failed="r2", hooks=BEFORE | BACK), toy.CRASHING, brings=True),
    Scenario("rollback", (toy.GOOD, toy.GOOD), roll_back, End("r1", BOTH, pinned="r1"), again=True),
    Scenario("offline rollback", (toy.GOOD, toy.GOOD), roll_back_offline, End("r1", BOTH, pinned="r1"), again=True),
    Scenario("taking up a deployment", (toy.GOOD,), round_, End("r2", BOTH, hooks=AFTER), toy.GOOD, cut_off=(poll, RESTART, 1)),
    Scenario("taking up a revert", (toy.GOOD,), round_, End("r1", BOTH, failed="r2", hooks=BACK), toy.CRASHING,
             cut_off=(poll, RESTART, 2)),
    Scenario("prune", (toy.GOOD, toy.GOOD, toy.GOOD), round_, End("r3", frozenset({"r2", "r3"})), config={"keep": 2}),
    Scenario("staging", (toy.GOOD,), round_, End("r1", BOTH, staged="r2"), toy.GOOD, config=BY_HAND),
    Scenario("activation", (toy.GOOD,), activate, End("r2", BOTH), toy.GOOD, config=BY_HAND, before=round_, again=True),
]


@pytest.fixture(scope="module")
def stations(make_module_hosts):
    programs = pathlib.Path(os.environ["SLIPWAY_E2E_CRASH_POINTS"])
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(contextlib.closing(crash_sweep.Station(host, programs)))
               for host in make_module_hosts(N_HOSTS)]


def describe(verdicts):
    return "\n".join(f"point {v.point} ({v.stopped_at}): {text}" for v in verdicts for text in v.violations)


@pytest.mark.timeout(TIMEOUT_SEC)
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda s: s.name)
def test_every_point(stations, scenario, request):
    verdicts = crash_sweep.sweep(stations, scenario)
    n_hit = sum(v.stopped_at is not None for v in verdicts)
    n_violations = sum(len(v.violations) for v in verdicts)
    # each try came to its end without the point, and was counted: it had fewer
    n_rare = len(verdicts) - n_hit
    rare = f" ({n_rare} more came in one run and in no other)" if n_rare else ""
    request.config.stash[SUMMARY].append(f"crash sweep: {scenario.name}: {n_hit} points{rare}, hit {n_hit} in each of "
                                         f"{len(crash_sweep.WAYS)} ways, {n_violations} violations")
    assert not n_violations, describe(verdicts)
    assert n_hit >= N_POINTS_MIN


def test_a_missing_fsync_is_found(stations):
    """The sweep can fail: an agent that does not sync its files before it renames them does not get through."""
    verdicts = crash_sweep.sweep(stations, DEPLOYMENT, step=9, flags=crash_sweep.LOSE_FILE_SYNCS)
    assert any(text.startswith("power: ") for v in verdicts for text in v.violations)
