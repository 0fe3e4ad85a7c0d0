"""Orders by AWS Systems Manager: how soon the store is asked, and what it takes to wait for them; rows of agent.py's table."""

import json
import pathlib
import statistics

import sandbox
import slipway
import ssm_server
from common import (DEPLOY_LIMIT_SEC, MANIFEST, N_POLLS_FORGET, UNIT, CloseAfterAnswer, Processes, Row, count_polls, memory_row,
                    verdict, wait_idle, wait_polls)
from waiting import wait_for

N_ORDERS = 20
N_QUIET = 2
LISTEN_LIMIT_SEC = 40
ORDER_MAX_MSEC = 50
PSS_MAX_MB = 13
INSTANCE = "i-0123456789abcdef0"
DOCUMENT = json.loads((pathlib.Path(__file__).parents[2] / "packaging/aws/slipway-deploy.json").read_text(encoding="utf-8"))


class Remote:
    """A host that takes orders by one of Systems Manager's channels, with a proxy before its store."""

    def __init__(self, bench, host, proxy, ssm, channel):
        self.bench, self.host, self.proxy, self.ssm, self.channel = bench, host, proxy, ssm, channel
        user = bench.s3.users[0]
        ssm.add_instance(INSTANCE, user.access_key, user.secret_key)

    def start(self, interval):
        urls = {f"AWS_ENDPOINT_URL_{service.upper()}": url for service, url in self.ssm.urls.items()}
        self.bench.configure(self.host, endpoint=self.proxy.endpoint, interval=interval, environment=urls, instance=INSTANCE,
                             region=self.ssm.region, ssm={"enabled": True, "channel": self.channel})
        self.host.start_unit(UNIT)
        wait_for(lambda: slipway.status(self.host).get("ssm", {}).get("listening"), LISTEN_LIMIT_SEC, f"{self.channel} on {self.host}")

    def order(self, action, **parameters):
        """Sends it and returns what became of it."""
        command_id = self.ssm.send_command(INSTANCE, "Slipway-Deploy", {"action": action, **parameters}, content=DOCUMENT)
        invocation = self.ssm.wait_final(command_id, DEPLOY_LIMIT_SEC)
        assert invocation.status == "Success", invocation
        return invocation

    def measure_order(self):
        """Milliseconds from the delivery of an order to the request for the manifest, which comes before any other."""
        n_before = count_polls(self.proxy)
        delivered = self.order("poll").deliveries[0].at
        asked = self.proxy.seen(MANIFEST, "GET")[n_before].at
        assert delivered < asked, (delivered, asked)
        return (asked - delivered) * 1000

    def count_quiet(self):
        """Polls, or pings (which are 54 s apart), so far: what is done while nothing comes."""
        return len(self.ssm.requests("GetMessages") if self.channel == "ec2messages" else self.ssm.channels(INSTANCE)[-1].pings)


def measure_remote(bench, channel):
    """Milliseconds of orders, and the memory of each process that was idle after one."""
    tls = bench.s3.tls_context()
    with (bench.host(bench.work / channel) as host, bench.proxy() as proxy,
          ssm_server.SsmServer(sandbox.SERVER_ADDRESS, region=bench.s3.region, tls=tls) as ssm):
        bench.go_to("small")
        remote = Remote(bench, host, proxy, ssm, channel)
        remote.start("1h")
        wait_idle(host, "small")
        # an hour after the last poll its connection is gone
        proxy.fault(MANIFEST, CloseAfterAnswer(), method="GET")
        orders = [remote.measure_order() for _ in range(N_ORDERS)]
        host.stop_unit(UNIT)

        proxy.clear()
        remote.start("1s")
        bench.go_to("large")
        remote.order("deploy", release="large")
        wait_idle(host, "large")
        until = remote.count_quiet() + N_QUIET
        wait_polls(proxy, N_POLLS_FORGET)
        wait_for(lambda: remote.count_quiet() >= until, DEPLOY_LIMIT_SEC, f"{channel} to be quiet")
        pss_kib = Processes(host).by_name(Processes.pss_kib)
        host.stop_unit(UNIT)
    return orders, pss_kib


def rows(bench):
    made = []
    for channel in ("ec2messages", "ssmmessages"):
        orders, pss_kib = measure_remote(bench, channel)
        took = statistics.median(orders)
        made += [
            Row(f"{channel}: order's delivery to the store's request", f"{took:.1f} ms",
                f"{min(orders):.1f} to {max(orders):.1f} ms, with a new TLS connection",
                verdict(round(took, 1), ORDER_MAX_MSEC, f" ms (median of {len(orders)})")),
            memory_row(f"{channel}: memory when idle", pss_kib, PSS_MAX_MB),
        ]
    return made
