#!/usr/bin/env python3
"""Prepares what the benchmark needs and runs it in a sandbox: the build that is benchmarked is installed aside, the roots and the
application tree come from the cache (tests/e2e/make). Where hosts can't be booted it ends with 77, which meson shows as skipped.

    run.py BUILD_DIRECTORY [OPTION...]        options: see agent.py
"""

import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

E2E = pathlib.Path(__file__).resolve().parents[1] / "e2e"
SKIPPED = 77
sys.path.insert(0, str(E2E))

import sandbox  # noqa: E402  (found by the line above)


def cached(maker, **environment):
    return subprocess.run([E2E / "make/cached", maker], check=True, stdout=subprocess.PIPE, text=True,
                          env={**os.environ, **environment}).stdout.strip()


def host_root():
    """With what the agent is compared to; casync is not in every suite."""
    for packages in ("casync rsync", "rsync"):
        try:
            return cached("host-root", SLIPWAY_E2E_MORE_PACKAGES=packages)
        except subprocess.CalledProcessError:
            print(f"no host with {packages}", file=sys.stderr)
    raise SystemExit("no host can be made to compare on")


def jvm_trees():
    """None where there is no Maven."""
    return {"SLIPWAY_BENCH_JVM_TREES": cached("jvm-trees")} if shutil.which("mvn") else {}


def main(build, *options):
    reasons = sandbox.missing()
    if reasons:
        print("skipped:", "; ".join(reasons))
        return SKIPPED
    with tempfile.TemporaryDirectory(prefix="slipway-bench.", dir=sandbox.work_parent()) as install:
        subprocess.run(["meson", "install", "-C", build, "--no-rebuild", "--quiet"], check=True,
                       env={**os.environ, "DESTDIR": install})
        python = f"{cached('python-env')}/bin/python"
        environment = {
            **os.environ,
            "PYTHONPATH": str(E2E),
            # on disk, as on an instance; agent.py puts a host in memory besides
            "SLIPWAY_E2E_WORK_ON": "disk",
            "SLIPWAY_E2E_INSTALL": install,
            "SLIPWAY_BENCH_PROGRAMS": str(pathlib.Path(build).resolve() / "tests/bench"),
            "SLIPWAY_E2E_HOST_ROOT": host_root(),
            "SLIPWAY_E2E_S3_ROOT": cached("s3-root"),
            "SLIPWAY_E2E_APP_TREE": cached("app-tree"),
            "SLIPWAY_E2E_APP_TREE_NEXT": cached("app-tree-next"),
            **jvm_trees(),
        }
        command = [python, "-B", E2E / "sandbox.py", python, "-B", pathlib.Path(__file__).with_name("agent.py"), *options]
        return subprocess.run(command, env=environment).returncode


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
