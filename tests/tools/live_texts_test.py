#!/usr/bin/env python3
"""fill-mask, embed and tokenizer encode on a live pipe: a line in, a result out, before the next line comes. Run by ctest as live_texts."""
import json
import os
import pathlib
import pty
import re
import select
import subprocess
import tempfile
import unittest

import few_words  # beside this file

BINARY = os.path.abspath(os.environ.get("MINIBERT_BINARY", "build/cpu/bin/minibert"))


class LiveTexts(unittest.TestCase):
    def setUp(self):
        scratch = tempfile.TemporaryDirectory(prefix="minibert-live-")
        self.addCleanup(scratch.cleanup)
        self.folder = pathlib.Path(scratch.name)
        few_words.build(BINARY, self.folder)
        subprocess.run([BINARY, "train", "--model", "bert-tiny", "--data", self.folder / "data", "--max-steps", "1", "--micro-batch-size", "2",
                        "--global-batch-size", "2", "--output-dir", self.folder / "run"], check=True, capture_output=True, timeout=120)

    def test_a_line_in_a_line_out(self):
        for verb in (["embed", "--model"], ["fill-mask", "--top-k", "1", "--model"], ["tokenizer", "encode", "--vocab"]):
            with subprocess.Popen([BINARY, *verb, self.folder / "run/latest", "--json"], stdin=subprocess.PIPE,
                                  stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, bufsize=1) as process:
                for text in ("[MASK] one", "two [MASK]", "three [MASK]"):
                    process.stdin.write(text + "\n")
                    process.stdin.flush()
                    ready, _, _ = select.select([process.stdout], [], [], 60)
                    self.assertTrue(ready, f"{verb}: nothing came for {text!r}")
                    self.assertEqual(json.loads(process.stdout.readline())["text"], text)
                process.stdin.close()
                self.assertEqual(process.wait(timeout=60), 0, process.stderr.read())

    def run_at_a_terminal(self, *words, stdin=None):
        """Standard error is a terminal, standard output a file. What the terminal got, and the number of results."""
        ours, theirs = pty.openpty()
        with open(self.folder / "results", "wb") as out:
            process = subprocess.Popen([BINARY, "embed", "--model", self.folder / "run/latest", "--json", *words], stdin=stdin, stdout=out, stderr=theirs)
        os.close(theirs)
        shown = b""
        try:
            while part := os.read(ours, 4096):
                shown += part
        except OSError:  # Linux says so at the end
            pass
        os.close(ours)
        self.assertEqual(process.wait(timeout=60), 0, shown)
        return shown.decode(), (self.folder / "results").read_text().count("\n")

    def test_a_bar_at_a_terminal(self):
        texts, number = self.folder / "texts", 60000
        texts.write_text("one two three\n" * number)
        shown, results = self.run_at_a_terminal("--file", texts)
        self.assertEqual(results, number)
        bars = re.findall(r"\r\[(#*)(\.*)\] (\d+) %  (\d+) texts, \d+ a second, \w+ left", shown)
        self.assertTrue(bars, shown)
        for full, empty, percent, done in bars:
            self.assertEqual(len(full) + len(empty), 30)
            self.assertLess(abs(int(percent) / 100 - int(done) / number), 0.1)
        self.assertEqual([int(bar[3]) for bar in bars], sorted(int(bar[3]) for bar in bars))
        self.assertTrue(shown.endswith("\r\x1b[K"), "the bar is not cleared")
        with open(texts, "rb") as file:  # through a pipe: how many will come is not known
            cat = subprocess.Popen(["cat"], stdin=file, stdout=subprocess.PIPE)
        shown, results = self.run_at_a_terminal(stdin=cat.stdout)
        cat.stdout.close()
        cat.wait(timeout=60)
        self.assertEqual(results, number)
        self.assertRegex(shown, r"\r\d+ texts, \d+ a second\x1b\[K")
        self.assertNotIn("[#", shown)


if __name__ == "__main__":
    unittest.main()
