"""The hosts themselves: what the other tests take for granted about them."""

import time

import pytest

import host as host_module
from waiting import wait_for


def test_host_runs_systemd_and_commands(host):
    assert host.run(["ps", "-o", "comm=", "-p", "1"]).stdout.strip() == "systemd"
    assert host.run(["hostname"]).stdout.strip() == host.name
    assert host.run(["systemctl", "is-system-running"], check=False).stdout.strip() == "running"
    assert host.run(["sh", "-c", "cat; exit 7"], check=False, input="text").rc == 7
    with pytest.raises(host_module.CommandFailed, match="ended with 1"):
        host.run(["false"])


def test_three_hosts_boot_side_by_side_and_reach_each_other(make_hosts):
    started = time.monotonic()
    hosts = make_hosts(3)
    assert time.monotonic() - started < 30
    assert len({h.run(["cat", "/etc/machine-id"]).stdout for h in hosts}) == 3
    service = "[Service]\nExecStart=/usr/bin/node -e \"require('http').createServer((q, a) => a.end('hello')).listen(8080)\"\n"
    hosts[0].write_unit("hello.service", service)
    hosts[0].start_unit("hello.service")
    for host in hosts[1:]:
        url = f"http://{hosts[0].address}:8080/"
        wait_for(lambda: host.run(["curl", "-sf", url], check=False).stdout == "hello", 10, f"an answer from {url}")


def test_network_can_be_cut(make_hosts):
    a, b = make_hosts(2)
    ping = ["curl", "-s", "--max-time", "1", f"http://{b.address}:9/"]
    refused, timed_out = 7, 28
    assert a.run(ping, check=False).rc == refused
    b.net_down()
    assert a.run(ping, check=False).rc == timed_out
    b.net_up()
    wait_for(lambda: a.run(ping, check=False).rc == refused, 10, f"{b} to be reachable again")


def test_files(host):
    host.write("/etc/slipway/x.json", '{"a": 1}\n', mode=0o600)
    assert host.read("/etc/slipway/x.json") == '{"a": 1}\n'
    assert host.listdir("/etc/slipway") == ["x.json"]
    assert host.run(["stat", "-c", "%a %U", "/etc/slipway/x.json"]).stdout.split() == ["600", "root"]
    assert host.exists("/etc/slipway/x.json") and not host.exists("/etc/slipway/y.json")
    host.run(["ln", "-s", "nowhere", "/srv/current"])
    assert host.exists("/srv/current") and host.readlink("/srv/current") == "nowhere"
    with pytest.raises(FileNotFoundError):
        host.read("/etc/slipway/y.json")


def test_copy_in(host, tmp_path):
    (tmp_path / "dir").mkdir()
    (tmp_path / "dir/file").write_bytes(b"\0\1")
    (tmp_path / "link").symlink_to("dir/file")
    host.copy_in(tmp_path, "/srv/tree")
    assert host.read_bytes("/srv/tree/link") == b"\0\1"


def test_unit_that_crashes_is_seen(host):
    host.write_unit("bad.service", "[Service]\nType=oneshot\nExecStart=/bin/sh -c 'echo going down; exit 3'\n")
    with pytest.raises(AssertionError, match="going down"):
        host.start_unit("bad.service")
    assert host.unit("bad.service", "Result", "ExecMainStatus") == {"Result": "exit-code", "ExecMainStatus": "3"}


def test_journal_is_followed(host):
    cursor = host.journal_cursor()
    host.run(["systemd-run", "--unit=talker", "--no-block", "sh", "-c", "echo first; echo number 42"])
    assert host.wait_journal(r"number (\d+)", unit="talker").group(1) == "42"
    assert host.wait_journal("first", unit="talker", after=cursor)
    with pytest.raises(AssertionError, match="no message matching"):
        host.wait_journal("never said", unit="talker", timeout_sec=0.2)


def test_sandboxing_of_units_works_inside(host):
    host.run(["systemd-run", "--wait", "--pipe", "-p", "DynamicUser=yes", "-p", "ProtectSystem=strict",
              "-p", "SystemCallFilter=@system-service", "-p", "PrivateTmp=yes", "-p", "NoNewPrivileges=yes",
              "sh", "-c", "! touch /usr/x 2>/dev/null && touch /tmp/x"])


def test_files_outlive_a_crash(host):
    host.write("/etc/kept", "kept\n")
    host.write("/srv/kept", "kept\n")
    host.crash()
    assert not host.running
    host.boot()
    assert host.read("/etc/kept") == host.read("/srv/kept") == "kept\n"
    host.shut_down()
    assert not host.running


def test_small_disk_fills_up(host):
    host.mount_small("/srv/small", 1 << 20, n_inodes=16)
    full = host.run(["dd", "if=/dev/zero", "of=/srv/small/x", "bs=64k", "count=32"], check=False)
    assert full.rc != 0 and "No space left on device" in full.stderr
