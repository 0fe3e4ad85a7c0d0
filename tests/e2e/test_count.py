"""tests/count.py, which makes the last line of scripts/test: a wrong count would hide failures."""

import json
import pathlib
import subprocess
import sys

import pytest

COUNT = pathlib.Path(__file__).parents[1] / "count.py"


def run(*args):
    done = subprocess.run([sys.executable, "-B", str(COUNT), *map(str, args)], capture_output=True, text=True)
    assert done.stderr == ""
    return done.returncode, done.stdout.splitlines()


def cmocka(*, ok=(), skipped=(), begun=()):
    lines = []
    for name in (*ok, *skipped, *begun):
        lines.append(f"[ RUN      ] {name}")
        if name in ok:
            lines.append(f"[       OK ] {name}")
        if name in skipped:
            lines.append(f"[  SKIPPED ] {name}")
    if skipped:
        lines += [f"[  SKIPPED ] {len(skipped)} test(s), listed below:", *(f"[  SKIPPED ] {n}" for n in skipped)]
    return "\n".join(lines) + "\n"


@pytest.fixture
def log(tmp_path):
    def write(*entries):
        path = tmp_path / "testlog.json"
        path.write_text("".join(json.dumps({"name": "t", **e}) + "\n" for e in entries), encoding="utf-8")
        return path
    return write


def test_cases_of_programs_are_counted(log):
    path = log({"result": "OK", "stdout": cmocka(ok=["a", "b"], skipped=["c"])}, {"result": "OK", "stdout": "fine"})
    assert run(path) == (0, ["3 passed, 0 failed, 1 skipped"])


def test_crash_counts_the_case_that_ran(log):
    path = log({"result": "FAIL", "stdout": cmocka(ok=["a"], begun=["b"])})
    assert run(path) == (1, ["FAILED t: FAIL", "1 passed, 1 failed"])


def test_leak_after_the_last_case_is_a_failure(log):
    path = log({"result": "FAIL", "stdout": cmocka(ok=["a"])})
    assert run(path) == (1, ["FAILED t: FAIL", "1 passed, 1 failed"])


def test_timeout_without_output_is_a_failure(log):
    assert run(log({"result": "TIMEOUT"})) == (1, ["FAILED t: TIMEOUT", "0 passed, 1 failed"])


def test_nothing_run_is_a_failure(log):
    assert run(log()) == (1, ["0 passed, 0 failed"])


def test_junit(tmp_path):
    path = tmp_path / "e2e.xml"
    path.write_text('<testsuites><testsuite><testcase classname="m" name="a"/>'
                    '<testcase classname="m" name="b"><failure>x</failure></testcase>'
                    '<testcase classname="m" name="c"><skipped>x</skipped></testcase></testsuite></testsuites>',
                    encoding="utf-8")
    assert run(path) == (1, ["FAILED m.b", "1 passed, 1 failed, 1 skipped"])
    assert run("--no-skips", path)[1][-1] == "1 passed, 2 failed"


def test_other_outcomes_count(log):
    path = log({"result": "OK"})
    assert run("--passed", "coverage", path) == (0, ["2 passed, 0 failed"])
    assert run("--failed", "formatting", path) == (1, ["FAILED formatting", "1 passed, 1 failed"])
    assert run("--skipped", "hosts: no root", path) == (0, ["SKIPPED hosts: no root", "1 passed, 0 failed, 1 skipped"])
    assert run("--passed", "formatting", path) == (0, ["2 passed, 0 failed"])
