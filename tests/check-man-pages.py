#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Holds the man pages against the code; each check is a test of its own.

    check-man-pages.py CHECK SOURCE_ROOT MAN_EXAMPLE PAGE.scd...

form        scdoc, man and mandoc have nothing to say against a page, and its title is its name
references  what a page refers to is there: pages, their parts, and each page somewhere
examples    each JSON text is read by the parser of such a document
members     what parsers and writers know is in the page that tells of it, and nothing else is
words       phases, verdicts, actions and the like are named
limits      numbers are those of the headers
layout      the index' parts have the sizes that they sum up to, and that tests/e2e/formats.py reads
dbus        methods, properties, errors and polkit actions
exit-codes  the codes of each program
"""

import json
import os
import pathlib
import re
import shutil
import struct
import subprocess
import sys
import tempfile

from man_pages import Page

SKIPPED = 77
ROOT = EXAMPLE = None
PAGES = {}
FAILED = []


def expect(condition, text):
    if not condition:
        FAILED.append(text)


def source(path):
    return (ROOT / path).read_text(encoding="utf-8")


def run(command, text, **environment):
    return subprocess.run(command, input=text, capture_output=True, text=True, timeout=60,
                          env={**os.environ, "LC_ALL": "C.UTF-8", **environment})


# -- form

# What scdoc itself makes: a paragraph before each heading, and lines as long as those of the source.
SCDOC_HABITS = re.compile(r"skipping paragraph macro")


def check_form():
    if not shutil.which("scdoc"):
        sys.exit(SKIPPED)
    for page in PAGES.values():
        made = run(["scdoc"], page.source)
        expect(made.returncode == 0 and not made.stderr, f"{page}: scdoc: {made.stderr}")
        expect(page.source.startswith(f"{page.name}({page.section})\n"), f"{page}: its title is not its name")
        expect(re.match(rf"\s*{re.escape(page.name)} - \S", page.part("NAME")), f"{page}: NAME does not name it")
        parts = re.findall(r"^# (.*)$", page.prose(), re.M)
        expect(len(parts) == len(set(parts)), f"{page}: a part comes twice: {parts}")
        if shutil.which("man"):
            shown = run(["man", "--warnings", "-l", "-"], made.stdout, MANWIDTH="80")
            expect(not shown.stderr, f"{page}: man: {shown.stderr}")
        if shutil.which("mandoc"):
            said = run(["mandoc", "-T", "lint", "-W", "warning"], made.stdout).stdout
            said = [line for line in said.splitlines() if not SCDOC_HABITS.search(line)]
            expect(not said, f"{page}: mandoc: {said}")


# -- references

def check_references():
    known = {(p.name, p.section): p for p in PAGES.values()}
    listed = source("README.md")
    referred = set()
    for page in PAGES.values():
        for name, section in page.references():
            ours = name.startswith(("slipway", "org.slipway"))
            expect(not ours or (name, section) in known, f"{page} refers to {name}({section}), which is no page")
            if (name, section) != (page.name, page.section):
                referred.add((name, section))
        for name, section, part in page.part_references():
            there = known.get((name, section))
            expect(not there or part in there.headings(), f"{page} refers to {part} in {name}({section}), which has no such part")
        expect("SEE ALSO" in page.headings(), f"{page} has no SEE ALSO")
        expect(f"{page.name}({page.section})" in listed, f"README.md does not list {page.name}({page.section})")
    for name, section in known:
        expect((name, section) in referred, f"no page refers to {name}({section})")


# -- examples

KIND_BY_SCHEMA = {"slipway/manifest/1": "manifest", "slipway/trust/1": "trust", "slipway/state/1": "state",
                  "slipway/command/1": "command"}
KIND_BY_PAGE = {"slipway-agent.json.5": "config", "slipway.json.5": "spec"}


def no_duplicates(pairs):
    names = [name for name, value in pairs]
    if len(names) != len(set(names)):
        raise ValueError(f"a member comes twice: {names}")
    return dict(pairs)


def documents():
    """(page, kind, value) of each JSON text; kind None: there is no parser for such a one. States in others come as well."""
    for page in PAGES.values():
        for block in page.blocks():
            if not block.startswith("{"):
                continue
            try:
                value = json.loads(block, object_pairs_hook=no_duplicates)
            except ValueError as error:
                expect(False, f"{page}: {error} in:\n{block}")
                continue
            kind = KIND_BY_SCHEMA.get(value.get("schema")) or KIND_BY_PAGE.get(page.file)
            kind = kind or ("envelope" if "payloadType" in value else "halt" if "halted" in value else
                            "statement" if "_type" in value else None)
            yield page, kind, value
            for inner in [value, *value.get("apps", [])]:
                if "state" in inner:
                    yield page, "state", inner["state"]


def read_by_parser(kind, value, directory, trust):
    path = pathlib.Path(directory) / f"{value.get('app', 'document')}.json"
    path.write_text(json.dumps(value), encoding="utf-8")
    return run([EXAMPLE, kind, path, *([trust] if kind == "envelope" else [])], None)


def check_examples():
    found = list(documents())
    with tempfile.TemporaryDirectory() as directory:
        trust = pathlib.Path(directory) / "trust"
        trust.write_text(json.dumps(next(v for _, kind, v in found if kind == "trust")), encoding="utf-8")
        for page, kind, value in found:
            done = read_by_parser(kind, value, directory, trust) if kind else None
            expect(not done or done.returncode == 0, f"{page}: the {kind} is refused: {done and done.stderr}")
            # what is read strictly refuses a member that it does not know
            if kind in set(KIND_BY_SCHEMA.values()) | set(KIND_BY_PAGE.values()):
                done = read_by_parser(kind, {**value, "unknown": 1}, directory, trust)
                expect(done.returncode == 1, f"{page}: the parser of a {kind} takes everything: {done.stderr}")
    kinds = {kind for page, kind, value in found}
    expect(kinds >= {*KIND_BY_SCHEMA.values(), *KIND_BY_PAGE.values(), "envelope", "halt", "statement", None},
           f"there are examples of {kinds} only")


# -- members

# page: what reads such a document; what writes it.
MEMBERS = {
    "slipway-manifest.5": (["common/manifest.c", "common/dsse.c"], []),
    "slipway-trust.5": (["common/trust.c"], []),
    "slipway-state.5": (["agent/state-file.c", "agent/hold.c", "agent/hook-log.c", "agent/ssm-memory.c"], []),
    "slipway-store.5": (["agent/brake.c", "common/provenance.c"], ["publisher/publish-halt.c", "agent/app-status.c:identity_describe",
                                            "agent/app-status.c:add_tags", "agent/app-status.c:trust_describe",
                                            "agent/app-status.c:add_expiry", "agent/app-status.c:app_status_report"]),
    "slipway.json.5": (["publisher/spec.c", "common/activate.c"], []),
    "slipway-agent.json.5": (["agent/config.c"], []),
    "org.slipway.Agent.5": ([], ["agent/bus-service.c:describe", "agent/app-status.c:trust_describe",
                                 "agent/app-status.c:add_poll", "agent/app-status.c:add_expiry",
                                 "agent/app-status.c:add_progress",
                                 "agent/app-status.c:app_status_describe", "agent/orders.c:add_order",
                                 "agent/orders.c:orders_describe", "agent/listener.c:listener_describe", "agent/plan.c"]),
}
# Explained in the page that is referred to.
ELSEWHERE = {"org.slipway.Agent.5": {"identity"}}

READ = re.compile(r"JsonField \w+\[\] = \{(.*?)\{\s*\},?\s*\}", re.S)
WRITTEN = re.compile(r'\b(?:cJSON_Add\w+ToObject|json_add_uint|(?:result_)?add_\w+|add)\(\s*(?:[\w>-]+|\w+\([^()]*\)),\s*"(\w+)"')


def read_by(path):
    """The names in its tables of fields."""
    return {name for table in READ.findall(source(path)) for name in re.findall(r'"(\w+)"', table)}


def written_by(place):
    path, _, function = place.partition(":")
    text = source(path)
    if function:
        text = re.search(rf"^(?:static )?\w+ \*?{function}\(.*?^}}", text, re.M | re.S).group(0)
    return set(WRITTEN.findall(text))


def check_members():
    for file, (readers, writers) in MEMBERS.items():
        page = PAGES[file]
        by_place = {place: read_by(place) for place in readers} | {place: written_by(place) for place in writers}
        expect(all(by_place.values()), f"some of these know no member: {by_place}")
        known = set().union(*by_place.values())
        told, terms = page.bold_words(), page.terms() - ELSEWHERE.get(file, set())
        expect(known <= told, f"{page} says nothing of {sorted(known - told)}")
        expect(terms <= known, f"{page} tells of members that nothing knows: {sorted(terms - known)}")
        expect(len(terms) > 3, f"{page} hardly tells of a member: {terms}")
        print(f"{page}: has all of {', '.join(sorted(known))}")


# -- words

# Lists of words in the code, and the page that has each of them.
WORDS = {
    "agent/state.c:phase_names": "slipway-state.5",
    "agent/state.c:action_names": "slipway-state.5",
    "agent/state.c:result_names": "slipway-state.5",
    "agent/judge.c:verdict_names": "slipway.1",
    "agent/remote-order.c:action_names": "slipwayd.8",
    "agent/ssm-channel.c:channel_names": "slipway-agent.json.5",
    "common/activate.c:unit_actions": "slipway.json.5",
    "common/key.c:types": "slipway-trust.5",
    "common/window.c:day_names": "slipway-manifest.5",
}


def check_words():
    for place, file in WORDS.items():
        path, name = place.split(":")
        words = set(re.findall(r'"([^"]+)"', re.search(rf"\b{name}\[.*?= {{(.*?)}};", source(path), re.S).group(1)))
        marked = {word.strip('"') for span in re.findall(r"(?<!\w)([*_])(.+?)\1(?!\w)", PAGES[file].prose())
                  for word in re.findall(r'[^\s,\[\]]+', span[1])}
        expect(words and words <= marked, f"{PAGES[file]} does not have {sorted(words - marked)} of {place}")


# -- limits

def check_limits():
    lines = run([EXAMPLE, "limits"], None).stdout.splitlines()
    expect(len(lines) > 20, f"there are hardly any limits: {lines}")
    for page, name, value in (line.split("\t") for line in lines):
        expect(re.search(rf"(?<![\d.-]){value}(?!\d)", PAGES[page].prose()), f"{page} does not give {name}, which is {value}")


# -- layout

def field_sizes(format):
    return [int(count or 1) if code in "sx" else struct.calcsize(f"<{code}") for count, code in re.findall(r"(\d*)([a-zA-Z])", format)
            for _ in range(1 if code in "sx" else int(count or 1))]


def check_layout():
    page = PAGES["slipway-artifact.5"]
    formats = dict(re.findall(r'^INDEX_(\w+) = struct.Struct\("<(\w+)"\)', source("tests/e2e/formats.py"), re.M))
    for name, format in formats.items():
        heading = next((h for h in page.headings() if h.upper().startswith(f"{name}, ")), None)
        expect(heading, f"{page} has no part about {name}")
        if not heading:
            continue
        rows = [(int(offset), int(size)) for offset, size, what in page.tables(heading)[1:]]
        end = 0
        for offset, size in rows:
            expect(offset == end, f"{page}: {name} has a field at {offset}, but the one before ends at {end}")
            end = offset + size
        expect(f", {end} bytes" in heading, f"{page}: {heading}, but its fields end at {end}")
        expect([size for _, size in rows] == field_sizes(format), f"{page}: {name} is {rows}, but formats.py reads {format}")
        define = re.search(rf"^#define {name}_SIZE +(\d+)", source("common/index.c"), re.M)
        expect(int(define.group(1)) == end, f"{page}: {name} has {end} bytes, but {define.group(0)}")
    expect(formats.keys() == {"HEADER", "FRAME", "FILE"}, f"formats.py has only {formats}")


# -- D-Bus

def vtable_lines(name):
    """The lines of "busctl introspect" in the page's words, in the order of the table."""
    table = re.search(rf"{name}\[\] = \{{(.*?)^\}};", source("agent/bus-service.c"), re.M | re.S).group(1)
    table = " ".join(table.split())
    methods, properties = [], []
    for method, args, result in re.findall(r'SD_BUS_METHOD_WITH_ARGS\( ?"(\w+)", SD_BUS_(?:NO_)?ARGS(?:\((.*?)\))?, '
                                           r'SD_BUS_(?:NO_)?RESULT(?:\((.*?)\))?,', table):
        given = [f"in {type} {name}" for type, name in re.findall(r'"(\w+)", (\w+)', args)]
        given += [f"out {type} {name}" for type, name in re.findall(r'"(\w+)", (\w+)', result)]
        methods.append(f"{method}({', '.join(given)});")
    for property, type, flag in re.findall(r'SD_BUS_PROPERTY\("(\w+)", "([^"]+)", \w+, 0, SD_BUS_VTABLE_PROPERTY_(\w+)\)', table):
        properties.append(f"readonly {type} {property};" + (" // constant" if flag == "CONST" else ""))
    expect(len(methods) + len(properties) == table.count("SD_BUS_METHOD") + table.count("SD_BUS_PROPERTY"),
           f"{name} holds more than is understood here: {table}")
    return ["methods:", *methods, "properties:", *properties]


def check_dbus():
    page = PAGES["org.slipway.Agent.5"]
    block = next(b for b in page.blocks() if b.startswith("node "))
    shown = [" ".join(line.split()) for line in block.splitlines() if line.startswith("    ")]
    known = vtable_lines("agent_vtable") + vtable_lines("app_vtable")
    expect(shown == known, f"{page} shows\n  " + "\n  ".join(shown) + "\nslipwayd has\n  " + "\n  ".join(known))
    for line in known:
        name = re.match(r"(?:readonly \S+ )?(\w+)[(;]", line)
        expect(not name or f"*{name.group(1)}*" in page.prose(), f"{page} does not explain {line}")
    errors = set(re.findall(r'"(org\.slipway\.Error\.\w+)"', source("agent/agent-bus.h")))
    expect(errors == set(re.findall(r"\*(org\.slipway\.Error\.\w+)\*", page.text)), f"{page}: errors are {sorted(errors)}")
    authority = re.findall(r'"(\w+)", +"(org\.slipway\.\w+)"', source("agent/authority.c"))
    told = [(method, action) for action, methods in page.tables("WHO MAY DO WHAT") for method in methods.split(", ")
            if action.startswith("org.")]
    expect(sorted(told) == sorted(authority), f"{page}: polkit judges {authority}, but the page has {told}")
    policy = set(re.findall(r'action id="([\w.]+)"', source("packaging/org.slipway.policy")))
    expect(policy == {action for _, action in authority}, f"the policy has the actions {sorted(policy)}")


# -- exit codes

# page: what has its codes, by the beginning of their names; others that it returns.
EXIT_CODES = {
    "slipway.1": ("agent/admin.h", "ADMIN_", set()),
    "slipwayd.8": ("agent/agent.h", "ROUND_", {1}),
    "slipway-publish.1": ("publisher/verbs.h", "PUBLISH_", set()),
    "slipway-fetch.8": ("agent/slipway-fetch.c", None, set()),
    "slipway-unpack.8": ("agent/slipway-unpack.c", None, set()),
}


def returned_by(path):
    main = re.search(r"^int main\(.*?^}", source(path), re.M | re.S).group(0)
    words = {"EXIT_SUCCESS": 0, "EXIT_FAILURE": 1}
    return {words.get(w, w) if w in words else int(w) for w in re.findall(r"\b(EXIT_\w+|(?<=return )\d)\b", main)}


def check_exit_codes():
    for file, (path, prefix, more) in EXIT_CODES.items():
        page = PAGES[file]
        known = {int(n) for n in re.findall(rf"\b{prefix}\w+ = (\d+)", source(path))} | more if prefix else returned_by(path)
        told = {int(n) for n in re.findall(r"^(?:[\[|]. ?)?\[?\[? ?\*(\d)\*$", page.part("EXIT STATUS"), re.M)}
        expect(len(known) > 1 and told == known, f"{page} has the codes {sorted(told)}, {path} {sorted(known)}")


def main():
    global ROOT, EXAMPLE, PAGES
    check, root, EXAMPLE, *pages = sys.argv[1:]
    ROOT = pathlib.Path(root)
    PAGES = {page.file: page for page in map(Page, pages)}
    globals()[f"check_{check.replace('-', '_')}"]()
    if FAILED:
        sys.exit("\n".join(FAILED))


if __name__ == "__main__":
    main()
