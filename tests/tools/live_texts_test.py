#!/usr/bin/env python3
"""fill-mask, embed and tokenizer encode on a live pipe: a line in, a result out, before the next line comes. Run by ctest as live_texts."""
import json
import os
import pathlib
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


if __name__ == "__main__":
    unittest.main()
