#!/usr/bin/env python3
"""Counts what really ran: cases in Meson's test logs and in pytest's JUnit files.

    count.py [--no-skips] FILE...        .json: Meson's testlog.json; .xml: pytest's --junit-xml

Names every failed case, then prints `N passed, N failed` (and `, N skipped`) as the last line. Exits with 1 if a case failed
or none passed. With --no-skips a skipped case of pytest's is a failure.
"""

import argparse
import collections
import json
import pathlib
import re
import sys
import xml.etree.ElementTree

Counts = collections.Counter


def count_cmocka(output):
    """The cases of one cmocka program. One that began and did not end well (a crash, a sanitizer's abort) has failed."""
    began = re.findall(r"^\[ RUN {6}\] (\S+)", output, re.M)
    skipped = [n for n in re.findall(r"^\[  SKIPPED \] (\S+)$", output, re.M) if n in began]
    passed = re.findall(r"^\[ {7}OK \] (\S+)", output, re.M)
    n_skipped = len(set(skipped))
    return Counts(passed=len(passed), skipped=n_skipped, failed=len(began) - len(passed) - n_skipped)


def count_meson(path):
    """Cases of a testlog.json; a test that is no cmocka program is one case."""
    total, failures = Counts(), []
    for line in path.read_text(encoding="utf-8").splitlines():
        entry = json.loads(line)
        good = entry["result"] in ("OK", "EXPECTEDFAIL")
        cases = count_cmocka(entry.get("stdout", "") + "\n" + entry.get("stderr", ""))
        if entry["result"] == "SKIP":
            cases = Counts(skipped=1)
        elif not cases.total():
            cases = Counts(passed=int(good), failed=int(not good))
        elif not good and not cases["failed"]:
            cases["failed"] += 1
        if cases["failed"]:
            failures.append(f"{entry['name']}: {entry['result']}")
        total += cases
    return total, failures


def count_junit(path, no_skips):
    total, failures = Counts(), []
    for case in xml.etree.ElementTree.parse(path).getroot().iter("testcase"):
        kinds = {child.tag for child in case}
        name = f"{case.get('classname')}.{case.get('name')}"
        if kinds & {"failure", "error"}:
            total["failed"] += 1
            failures.append(name)
        elif "skipped" in kinds:
            total["failed" if no_skips else "skipped"] += 1
            if no_skips:
                failures.append(f"{name}: skipped, and nothing may be skipped here")
        else:
            total["passed"] += 1
    return total, failures


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--no-skips", action="store_true")
    parser.add_argument("--passed", action="append", default=[], help="something else that passed, counted as one case")
    parser.add_argument("--failed", action="append", default=[], help="something else that failed, counted as one case")
    parser.add_argument("--skipped", action="append", default=[], help="something else that was skipped")
    parser.add_argument("files", nargs="*", type=pathlib.Path)
    arguments = parser.parse_args()

    total = Counts(passed=len(arguments.passed), failed=len(arguments.failed), skipped=len(arguments.skipped))
    failures = list(arguments.failed)
    for path in arguments.files:
        if path.suffix == ".json":
            counts, failed = count_meson(path)
        else:
            counts, failed = count_junit(path, arguments.no_skips)
        total += counts
        failures += failed
    for name in failures:
        print(f"FAILED {name}")
    for name in arguments.skipped:
        print(f"SKIPPED {name}")
    skipped = f", {total['skipped']} skipped" if total["skipped"] else ""
    print(f"{total['passed']} passed, {total['failed']} failed{skipped}")
    return 1 if total["failed"] or not total["passed"] else 0


if __name__ == "__main__":
    sys.exit(main())
