#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Checks all Markdown files of the source: that what they link to and the man pages they name are there, that no table has a row
twice and no paragraph its beginning, that each command line of Slipway's programs in them has verbs and options that exist, and that each message that
packaging/docs/failures.md quotes is still in the source.

    check-docs.py SOURCE PROGRAM...
"""

import pathlib
import re
import shlex
import sys
import unittest

from help_text import options_in, shown_by, verbs_in

SOURCE, PROGRAMS = None, {}
FOLDERS = ("agent", "common", "packaging", "publisher", "scripts", "tests")
GUIDES = "packaging/docs"
FAILURES = f"{GUIDES}/failures.md"
SHELLS = ("sh", "bash")
FENCE = re.compile(r"^( *)```([^\n`]*)\n(.*?)^\1```$", re.M | re.S)
SPAN = re.compile(r"`([^`]+)`")
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#{1,6} +(.*?) *$", re.M)
CONVERSION = re.compile(r"%[-+ #0]*(?:\d+|\*)?(?:\.(?:\d+|\*))?(?:hh|h|ll|l|z|j|t)?[diouxXscp]")
MACRO = re.compile(r'^#define ([A-Z_]+) +\(?((?:"(?:[^"\\\n]|\\.)*" *)+)\)?$', re.M)
LITERAL = re.compile(r'"((?:[^"\\\n]|\\.)*)"')
# what may stand between the literals of one text: blanks, and macros such as PRIu64
BETWEEN = re.compile(r"[ \n\t]*(?:[A-Z][A-Za-z0-9_]*[ \n\t]*)?")
SEPARATORS = {";", "&&", "||", "|", "&", "(", ")", "{", "}", "then", "do", "if", "while", "until", "!", "sudo", "$"}
CHECKED_MIN = 8
# two lines of a text so near to each other do not begin with as many characters that are the same
NEAR_LINES, SAME_CHARS = 8, 40


def markdown():
    top = [SOURCE, *(SOURCE / folder for folder in FOLDERS)]
    return sorted({p for d in top for p in (d.glob("*.md") if d == SOURCE else d.rglob("*.md"))})


def prose_of(text):
    return FENCE.sub("", text)


def anchors_in(text):
    """As the usual viewers of Markdown make them."""
    found = {}
    for heading in HEADING.findall(prose_of(text)):
        slug = re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        found[slug] = found.get(slug, -1) + 1
        if found[slug]:
            found[f"{slug}-{found[slug]}"] = 0
    return set(found)


def twice_in_tables(text):
    """What begins two rows of one table: a merge that kept both of what was one row."""
    twice, seen = [], set()
    for line in prose_of(text).splitlines():
        first = line.split("|")[1].strip() if line.startswith("|") else None
        if first is None:
            seen = set()
        elif first and first in seen:
            twice.append(first)
        seen.add(first)
    return twice


def twice_in_prose(text):
    """What begins two lines near each other, outside of tables: a merge that kept both of what was one paragraph."""
    lines = prose_of(text).splitlines()
    starts = [line[:SAME_CHARS] if len(line) >= SAME_CHARS and not line.startswith("|") else None for line in lines]
    return [s for n, s in enumerate(starts) if s and s in starts[max(0, n - NEAR_LINES):n]]


def shell_words(line):
    lexer = shlex.shlex(line, posix=True, punctuation_chars=";&|()")
    lexer.whitespace_split = True
    lexer.commenters = ""
    return list(lexer)


def lines_of(block):
    """The lines of a shell block: continued ones joined, without comments and here-documents."""
    end = None
    for line in block.replace("\\\n", " ").splitlines():
        if end is not None:
            end = None if line.strip() == end else end
            continue
        here = re.search(r"<<-?'?(\w+)'?", line)
        end = here[1] if here else None
        yield re.sub(r"(^|\s)#.*$", "", line)


def commands_in(text):
    """(program, words) of each command line of a program of ours: in shell blocks, and in code spans that begin with one."""
    lines = [line for _, info, block in FENCE.findall(text) if info.split()[:1] and info.split()[0] in SHELLS
             for line in lines_of(block)]
    spans = [" ".join(span.split()) for span in SPAN.findall(prose_of(text)) if span.strip()]
    spans = [span for span in spans if pathlib.Path(span.split()[0]).name in PROGRAMS and " " in span]
    for line in [*lines, *spans]:
        try:
            words = shell_words(line.replace("$(", " ( "))
        except ValueError:  # a quotation over several lines
            words = line.split()
        for n, word in enumerate(words):
            if pathlib.Path(word).name in PROGRAMS and (n == 0 or words[n - 1] in SEPARATORS or "=" in words[n - 1]):
                rest = words[n + 1:]
                end = next((i for i, w in enumerate(rest) if re.fullmatch(r"[;&|()]+|\d?[<>].*", w)), len(rest))
                yield pathlib.Path(word).name, rest[:end]


class Program:
    def __init__(self, path):
        self.path, self.text = path, shown_by(path)
        self.verbs = verbs_in(self.text, path)
        self._options = {}

    def options(self, verb):
        """With the short ones."""
        if verb not in self._options:
            text = shown_by(self.path, *verb.split()) if "VERB --help" in self.text and verb else self.text
            short = set(re.findall(r"^  (-\w), ", text, re.M))
            self._options[verb] = options_in(text) | short | {"--help", "-h", "--version"}
        return self._options[verb]

    def verb_of(self, words):
        plain = [w for w in words if not w.startswith("-")]
        return next((v for v in sorted(self.verbs, key=len, reverse=True) if plain[:len(v.split())] == v.split()), "")

    def fault_in(self, words):
        """What is wrong with a command line, or None."""
        verb = self.verb_of(words)
        if self.verbs and not verb and not {"--help", "--version", "-h"} & set(words):
            placeholder = any(re.fullmatch(r"[A-Z…]+|\.\.\.", w) for w in words[:1])
            return None if placeholder else f"no such verb: {' '.join(words[:2])}"
        if verb == "exec":
            return None
        for word in words:
            option = word.partition("=")[0]
            if re.fullmatch(r"--?[a-z][a-z-]*", option) and option not in self.options(verb):
                return f"{verb} has no option {option}"
        return None


def sources():
    """The texts of all C files."""
    files = [p.read_text(encoding="utf-8") for d in ("agent", "common", "publisher") for p in (SOURCE / d).glob("*.[ch]")]
    known = {name: text for file in files for name, text in MACRO.findall(file)}
    return [text for file in files for text in literals_of(file, known)]


def literals_of(text, known=None):
    """The texts of a C file: neighbouring literals joined, and "…" for each conversion and macro in them. What the file does not
    define itself may be in `known`."""
    texts, end = [], None
    known = {**(known or {}), **dict(MACRO.findall(text))}
    text = re.sub(r"\b[A-Z][A-Z_]+\b", lambda m: known.get(m[0], m[0]), MACRO.sub("", text))
    for found in LITERAL.finditer(text):
        literal = re.sub(r'\\(["\\])', r"\1", CONVERSION.sub("…", found[1]).replace("%%", "%"))
        between = text[end:found.start()] if end is not None else None
        if between is not None and BETWEEN.fullmatch(between):
            texts[-1] += ("…" if between.strip() else "") + literal
        else:
            texts.append(literal)
        end = found.end()
    return texts


def quoted_in(text):
    """The messages of failures.md: each code span of a heading of the third level."""
    return [span for heading in re.findall(r"^### +(.*)$", text, re.M) for span in SPAN.findall(heading)]


class Docs(unittest.TestCase):
    def test_links(self):
        self.assertGreater(len(markdown()), 10)
        for path in markdown():
            text = path.read_text(encoding="utf-8")
            for target in LINK.findall(prose_of(text)):
                file, _, anchor = target.partition("#")
                if re.match(r"[a-z]+:", target):
                    continue
                other = (path.parent / file).resolve() if file else path
                with self.subTest(file=str(path.relative_to(SOURCE)), link=target):
                    self.assertTrue(other.exists(), "leads nowhere")
                    if anchor:
                        self.assertIn(anchor, anchors_in(other.read_text(encoding="utf-8")))

    def test_tables(self):
        for path in markdown():
            with self.subTest(file=str(path.relative_to(SOURCE))):
                self.assertEqual(twice_in_tables(path.read_text(encoding="utf-8")), [])

    def test_prose(self):
        for path in markdown():
            with self.subTest(file=str(path.relative_to(SOURCE))):
                self.assertEqual(twice_in_prose(path.read_text(encoding="utf-8")), [])

    def test_index(self):
        """Each guide is in the index, and the index in the top README."""
        index = (SOURCE / GUIDES / "README.md").read_text(encoding="utf-8")
        for path in (SOURCE / GUIDES).glob("*.md"):
            self.assertTrue(path.name == "README.md" or f"]({path.name})" in index, path.name)
        self.assertIn(f"]({GUIDES}/README.md)", (SOURCE / "README.md").read_text(encoding="utf-8"))

    def test_paths(self):
        """What is named as a path of the source is one."""
        for path in markdown():
            for span in SPAN.findall(prose_of(path.read_text(encoding="utf-8"))):
                if re.fullmatch(rf"({'|'.join(FOLDERS)})/[\w./-]+", span):
                    with self.subTest(file=str(path.relative_to(SOURCE)), path=span):
                        self.assertTrue((SOURCE / span).exists() or (path.parent / span).exists())

    def test_man_pages(self):
        """slipway-manifest(5) is a page of ours."""
        for path in markdown():
            for name, section in re.findall(r"(?<![\w.])((?:org\.)?slipway[\w.-]*)\((\d)\)", path.read_text(encoding="utf-8")):
                with self.subTest(file=str(path.relative_to(SOURCE)), page=f"{name}({section})"):
                    self.assertTrue([f for d in FOLDERS for f in (SOURCE / d).glob(f"{name}.{section}.scd")])

    def test_commands(self):
        n_checked = 0
        for path in markdown():
            for program, words in commands_in(path.read_text(encoding="utf-8")):
                with self.subTest(file=str(path.relative_to(SOURCE)), command=f"{program} {' '.join(words)}"):
                    self.assertIsNone(PROGRAMS[program].fault_in(words))
                n_checked += 1
        self.assertGreater(n_checked, 30)

    def test_messages(self):
        """Between the "…" of a quoted message stands what the source has; short pieces say nothing."""
        texts = sources()
        quoted = quoted_in((SOURCE / FAILURES).read_text(encoding="utf-8"))
        self.assertGreater(len(quoted), 20)
        for message in quoted:
            pieces = [piece.strip() for piece in message.split("…")]
            pieces = [piece for piece in pieces if len(piece) >= CHECKED_MIN]
            with self.subTest(message=message):
                self.assertTrue(pieces, "nothing in it that could be looked for")
                for piece in pieces:
                    self.assertTrue(any(piece in text for text in texts), f"the source does not have: {piece}")


class Itself(unittest.TestCase):
    """That faults are found."""

    def fault(self, line):
        found = list(commands_in(f"```sh\n{line}\n```\n"))
        return [PROGRAMS[program].fault_in(words) for program, words in found]

    def test_command_lines(self):
        self.assertEqual(self.fault("slipway poll --wait && slipway --json status | cat"), [None, None])
        self.assertEqual(self.fault("slipway-publish trust init --key deploy.pub -o root.json"), [None])
        self.assertEqual(self.fault("x=$(slipway-publish keygen deploy \\\n  --tpye y)"), ["keygen has no option --tpye"])
        self.assertEqual(self.fault("echo; slipway polll web"), ["no such verb: polll web"])
        self.assertEqual(self.fault("systemctl status slipwayd"), [])
        self.assertEqual(self.fault("slipway-publish log --key x"), ["log has no option --key"])
        self.assertEqual(self.fault("/usr/lib/slipway/slipwayd --onec"), [" has no option --onec"])

    def test_spans(self):
        self.assertEqual(list(commands_in("Say `slipway hold\nweb --until 2h`, or `slipway`, `/srv/web`.\n")),
                         [("slipway", ["hold", "web", "--until", "2h"])])

    def test_texts(self):
        self.assertEqual(literals_of('#define NAME "x y"\nf("a " NAME "," OTHER " b")', {"OTHER": '"z"'}), ["a x y,z b"])
        self.assertEqual(literals_of('f("a %s of "\n "b", x, "c %" PRIu64 " s", "d \\"e\\" %%")'),
                         ["a … of b", "c %… s", 'd "e" %'])

    def test_rows(self):
        self.assertEqual(twice_in_tables("| a | b |\n|---|---|\n| c | d |\n| c | e |\n\n| c | d |\n"), ["c"])

    def test_paragraphs(self):
        line = "This is how a text of some length begins, "
        self.assertEqual(twice_in_prose(f"{line}once\n{'b' * SAME_CHARS}\n{line}twice\n"), [line[:SAME_CHARS]])
        self.assertEqual(twice_in_prose(line + "\n" + "x\n" * NEAR_LINES + line), [])
        self.assertEqual(twice_in_prose(f"| {line} |\n| {line} |\n```\n{line}\n{line}\n```\n{'=' * 10}\n{'=' * 10}\n"), [])

    def test_anchors(self):
        self.assertEqual(anchors_in("# One, two\n```sh\n# no\n```\n## `slipway` A-b\n## One, two\n"),
                         {"one-two", "slipway-a-b", "one-two-1"})


if __name__ == "__main__":
    SOURCE = pathlib.Path(sys.argv[1]).resolve()
    PROGRAMS = {pathlib.Path(p).name: Program(p) for p in sys.argv[2:]}
    suite = unittest.TestSuite(map(unittest.TestLoader().loadTestsFromTestCase, (Itself, Docs)))
    sys.exit(not unittest.TextTestRunner().run(suite).wasSuccessful())
