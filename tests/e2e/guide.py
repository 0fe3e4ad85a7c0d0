"""Runs a guide of packaging/docs: the shell blocks of a Markdown file in their order, each where its fence says.

    ```sh desk          where releases are published
    ```sh instance      on the host that the agent runs on, as root
    ```sh instance 4    the same; the block ends with 4
    ```sh aws           takes AWS: not run
    ```sh               the same
    ```sh by-hand       brings something from elsewhere: not run, the test does it in its own way

A block ```text after one that was run is what it shows: each of its lines stands there, in that order; "…" is anything. One of
another language with a file's name (```yaml appspec.yml) is that file at the desk; ```json imported is what the desk's
slipway.json has come to.
"""

import dataclasses
import json
import pathlib
import re
import textwrap

SOURCE = pathlib.Path(__file__).resolve().parents[2]
FENCE = re.compile(r"^( *)```([^\n`]*)\n(.*?)^\1```$", re.M | re.S)
BLOCK_SEC = 120
NOT_RUN = ("aws", "by-hand")


@dataclasses.dataclass(frozen=True)
class Block:
    language: str
    words: list
    text: str
    line: int


def blocks_of(path):
    """All fenced blocks of a file of the source."""
    text = (SOURCE / path).read_text(encoding="utf-8")
    blocks = []
    for found in FENCE.finditer(text):
        language, *words = found[2].split() or [""]
        blocks.append(Block(language, words, textwrap.dedent(found[3]), text.count("\n", 0, found.start()) + 1))
    return blocks


def pattern_of(shown):
    """A regular expression for lines in this order; others may come between."""
    lines = [".*".join(map(re.escape, line.split("…"))) for line in shown.splitlines()]
    return "(?s:.*)".join(lines)


class Guide:
    """places: by the word of a fence, (host, directory, environment); names: what is written otherwise here; by_hand: what is
    done instead of each block by-hand, in their order."""

    def __init__(self, path, places, names=(), by_hand=()):
        self.path, self.places, self.names = path, places, dict(names)
        self.by_hand = list(by_hand)
        self.n_run = 0

    def said(self, text):
        for name, here in self.names.items():
            text = text.replace(name, here)
        return text

    def run(self):
        shown = None
        for block in blocks_of(self.path):
            where = f"{self.path}:{block.line}"
            if block.language == "sh":
                shown = self._run_block(block, where)
            elif block.language == "text" and shown is not None:
                assert re.search(pattern_of(self.said(block.text)), shown), f"{where} is not what was shown:\n{shown}"
            elif block.words == ["imported"]:
                assert json.loads(self._at_desk("slipway.json").stdout) == json.loads(block.text), where
            elif block.words and "." in block.words[0]:
                self._at_desk(block.words[0], self.said(block.text))
        assert not self.by_hand and self.n_run

    def _at_desk(self, name, text=None):
        """Reads a file at the desk, or writes it."""
        host, directory, _ = self.places["desk"]
        if text is None:
            return host.run(["cat", f"{directory}/{name}"])
        return host.write(f"{directory}/{name}", text)

    def _run_block(self, block, where):
        place, *more = block.words or [NOT_RUN[0]]
        if place == "by-hand":
            self.by_hand.pop(0)()
        if place in NOT_RUN:
            return None
        host, directory, environment = self.places[place]
        expected = int(more[0]) if more else 0
        script = f"set -eu; cd {directory}\n{self.said(block.text)}"
        done = host.run(["bash", "-o", "pipefail", "-c", script], check=False, env=environment, timeout_sec=BLOCK_SEC)
        print(f"--- {where}: {done.rc}\n{done.stdout}{done.stderr}")
        assert done.rc == expected, f"{where} ended with {done.rc}:\n{done.stdout}{done.stderr}"
        self.n_run += 1
        return done.stdout + done.stderr
