"""A release on its way to running agents."""

import application
import slipway
from waiting import wait_for


def test_release_reaches_a_running_agent(s3, bucket, make_publisher, host, tmp_path):
    environment = slipway.store_environment(s3)
    publisher = make_publisher(f"s3://{bucket}/deploy", environment)
    publisher.release(application.small_tree(tmp_path / "tree", "1"), "r1")
    host.write_unit("web.service", application.UNIT)
    slipway.configure(host, publisher.url, publisher.root_path.read_bytes(), environment=environment)
    host.start_unit("slipwayd.service")
    wait_for(lambda: application.version(host) == "1", 30, "release r1 to answer")
    assert slipway.current(host) == "r1"
    assert application.answer(host, "/")["release"] == "r1"

    publisher.release(application.small_tree(tmp_path / "tree2", "2"), "r2")
    wait_for(lambda: application.version(host) == "2", 30, "release r2 to answer")
    assert slipway.current(host) == "r2"
