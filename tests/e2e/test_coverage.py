"""tests/coverage.py, which says whether the tests reach enough of the code: one that is content with anything says nothing."""

import json
import pathlib
import re
import subprocess
import sys

import pytest

COVERAGE = pathlib.Path(__file__).parents[1] / "coverage.py"
SOURCE = "int main(int argc)\n{\n        if (argc == 1)\n                return 0;\n"


@pytest.fixture
def build(tmp_path):
    """build(n, m): the directory of a build, and its programs by folder. n lines of common/ run when there is an argument, and m
    of each of the others."""
    def compiled(n_common, n_others):
        build, programs = tmp_path / "build/coverage", {}
        for folder in ("common", "agent", "publisher"):
            n = n_common if folder == "common" else n_others
            (tmp_path / folder).mkdir()
            (tmp_path / folder / "a.c").write_text(SOURCE + "        argc++;\n" * n + "        return 0;\n}\n", encoding="ascii")
            (build / folder).mkdir(parents=True)
            programs[folder] = build / folder / "a"
            subprocess.run(["gcc", "--coverage", "-O0", "-c", "-o", f"{folder}/a.c.o", f"../../{folder}/a.c"], cwd=build, check=True)
            subprocess.run(["gcc", "--coverage", "-o", f"{folder}/a", f"{folder}/a.c.o"], cwd=build, check=True)
        (build / "compile_commands.json").write_text(json.dumps([{"output": f"{folder}/a.c.o"} for folder in programs]),
                                                     encoding="ascii")
        return build, programs
    return compiled


def judge(build, *commands):
    """The exit status of coverage.py after these commands, and what it says."""
    for command in commands:
        subprocess.run(command, check=True)
    done = subprocess.run([sys.executable, "-B", str(COVERAGE), str(build)], capture_output=True, text=True)
    return done.returncode, done.stdout.splitlines(), done.stderr


def shares(lines):
    """{folder or "all": percent} of the last lines."""
    return {line.partition(":")[0]: float(line.partition("ran, ")[2].split()[0]) for line in lines[-4:]}


def every_way(programs):
    return [[p, *args] for p in programs for args in ([], ["x"])]


def test_what_ran_in_any_run_counts(build):
    build, programs = build(20, 20)
    rc, lines, _ = judge(build, *every_way(programs.values()))
    assert rc == 0
    assert len(lines) == 4
    assert shares(lines) == {"common": 100, "agent": 100, "publisher": 100, "all": 100}


def test_lines_that_never_ran_are_named(build):
    build, programs = build(20, 20)
    rc, lines, _ = judge(build, *([p, "x"] for p in programs.values()))
    assert rc == 0
    assert len(lines) == 7
    assert re.fullmatch(r"agent/a\.c: 1 of \d+: 4", lines[0])
    assert shares(lines)["agent"] < 100


def test_too_little_of_common_fails(build):
    build, programs = build(3, 20)
    rc, lines, _ = judge(build, [programs["common"]], *every_way([programs["agent"], programs["publisher"]]))
    assert rc == 1
    assert shares(lines)["common"] < 90 and shares(lines)["all"] >= 85


def test_too_little_of_all_fails(build):
    build, programs = build(20, 20)
    rc, lines, _ = judge(build, [programs["agent"]], *every_way([programs["common"], programs["publisher"]]))
    assert rc == 1
    assert shares(lines)["common"] == 100 and shares(lines)["all"] < 85


def test_what_never_ran_is_no_coverage(build):
    build, _ = build(1, 1)
    rc, lines, _ = judge(build)
    assert rc == 1
    assert set(shares(lines).values()) == {0}


def test_a_build_without_counts_is_an_error(tmp_path):
    (tmp_path / "compile_commands.json").write_text("[]", encoding="ascii")
    rc, _, err = judge(tmp_path)
    assert rc == 1
    assert "-Db_coverage=true" in err
