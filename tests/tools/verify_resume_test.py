#!/usr/bin/env python3
"""`minibert verify-resume` as a shell sees it: kills, resumes, compares; a planted difference is named and is exit code 7.

Run by ctest, which sets MINIBERT_BINARY. The test builds its data from a few words.
"""
import json
import os
import pathlib
import re
import signal
import subprocess
import tempfile
import time
import unittest

import few_words  # beside this file

BINARY = os.environ.get("MINIBERT_BINARY", "build/cpu/bin/minibert")
SECONDS = 120


class VerifyResume(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.scratch = tempfile.TemporaryDirectory(prefix="minibert-verify-resume-")
        cls.folder = pathlib.Path(cls.scratch.name)
        few_words.build(BINARY, cls.folder, "--hold-out-every", "5")

    @classmethod
    def tearDownClass(cls):
        cls.scratch.cleanup()

    def command(self, *more):
        return list(map(str, [BINARY, "verify-resume", "--data", self.folder / "data", "--evaluation-data", self.folder / "data/held-out",
                              "--num-hidden-layers", 1, "--hidden-size", 32, "--num-attention-heads", 2, "--micro-batch-size", 4,
                              "--global-batch-size", 16, "--evaluate-every", 5, "--evaluation-batches", 3, "--trust-ratio-every", 5,
                              "--threads", 1, "--communication-timeout", 20, "--kill-seed", 3, *more]))

    def verify(self, *more, code=0, **environment):
        got = subprocess.run(self.command(*more), capture_output=True, text=True, timeout=SECONDS, env=dict(os.environ, **environment))
        self.assertEqual(got.returncode, code, got.stdout + got.stderr)
        return got

    def test_a_deterministic_run_goes_on_with_any_number_of_ranks(self):
        output = self.folder / "deterministic"
        got = self.verify("--deterministic", "--ranks", "1,2", "--kills", 4, "--stop-after", 20, "--output-dir", output, "--json")
        rows = [json.loads(line) for line in got.stdout.splitlines()]
        self.assertEqual([(r["kill"], r["ranks"], r["resumed_on"]) for r in rows],
                         [(1, 1, 1), (1, 1, 2), (2, 2, 2), (2, 2, 1), (3, 1, 1), (3, 1, 2), (4, 2, 2), (4, 2, 1)])
        for row in rows:
            self.assertTrue(row["equal"])
            self.assertIsNone(row["difference"])
            self.assertEqual(row["kill_seed"], 3)
        self.assertTrue(any(r["seconds"] for r in rows))
        self.assertFalse(output.exists(), "it was made for this, and nothing is left in it")

    def test_without_the_flag_as_many_ranks_go_on(self):
        got = self.verify("--ranks", 2, "--kills", 2, "--precision", "bf16")
        self.assertRegex(got.stdout, r"undisturbed on 2 ranks: 20 steps in [\d.]+ s, weights [0-9a-f]{8}, moments [0-9a-f]{8}\n")
        self.assertEqual(len(re.findall(r"^ +\d +2 +(?:all|rank [01]) .* equal$", got.stdout, re.M)), 2, got.stdout)
        self.assertIn("2 runs compared: each has the undisturbed run's weights, moments, state and curve", got.stdout)

    def test_phases(self):
        (self.folder / "phases.toml").write_text("[[phase]]\nmax_steps = 7\n[[phase]]\nmax_steps = 5\nglobal_batch_size = 8\n")
        got = self.verify("--config", self.folder / "phases.toml", "--kills", 2, "--phase", "2.max_steps=6", MINIBERT_PHASE="2.max_steps=9")
        self.assertIn("undisturbed on 1 rank: 13 steps", got.stdout)
        self.assertEqual(len(re.findall(r" equal$", got.stdout, re.M)), 2, got.stdout)

    def test_settings_of_the_environment_count_once(self):
        got = self.verify("--kills", 1, "--stop-after", 6, MINIBERT_MAX_STEPS="7", MINIBERT_SAVE_EVERY="2")
        self.assertIn("undisturbed on 1 rank: 6 steps", got.stdout)

    def test_a_difference_is_named_and_kept(self):
        output = self.folder / "planted"
        process = subprocess.Popen(self.command("--kills", 2, "--output-dir", output), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                   text=True)
        self.addCleanup(process.kill)
        for _ in range(SECONDS * 50):  # the undisturbed run has ended once another begins
            if list(output.glob("verify-resume-*/killed-1")):
                break
            time.sleep(0.02)
        weights = next(output.glob("verify-resume-*/undisturbed-1/latest/model.safetensors"))
        data = bytearray(weights.read_bytes())
        data[-1] ^= 1  # the last byte of a value of the last tensor
        weights.write_bytes(data)
        out, err = process.communicate(timeout=SECONDS)
        self.assertEqual(process.returncode, 7, out + err)
        self.assertRegex(err, r"error: verify-resume: 2 of 2 runs differ from the undisturbed one; the first: kill 1 \(1 rank, all "
                              r"killed\), resumed on 1 rank: model.safetensors: [\w.]+\[\d+\] is [-\d.e]+, expected [-\d.e+]+\. The runs "
                              r"are in ")
        kept = pathlib.Path(re.search(r"The runs are in (.*?)\. Try --kill-seed 3 again", err)[1])
        self.assertTrue((kept / "killed-1-resumed-on-1/latest").exists())

    def test_a_signal_ends_it_and_leaves_nothing(self):
        output = self.folder / "stopped"
        process = subprocess.Popen(self.command("--stop-after", 900, "--ranks", 2, "--output-dir", output), stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE, text=True)
        self.addCleanup(process.kill)
        for _ in range(SECONDS * 50):  # the ranks train, so they hear signals
            if list(output.glob("verify-resume-*/undisturbed-2/metrics.jsonl")):
                break
            time.sleep(0.02)
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=SECONDS)
        self.assertEqual(process.returncode, 75, out + err)
        self.assertFalse(output.exists())

    def test_a_dry_run_shows_the_kills(self):
        shown = self.verify("--dry-run", "--ranks", "1,2", "--kills", 3, "--output-dir", self.folder / "dry").stdout
        self.assertEqual(shown.count("\nkill "), 3)
        self.assertEqual(shown, self.verify("--dry-run", "--ranks", "1,2", "--kills", 3).stdout, "the seed names the kills")
        self.assertFalse((self.folder / "dry").exists())

    def test_what_cannot_run_is_said(self):
        got = self.verify("--learning-rate", "nan", code=2)
        self.assertIn("learning_rate", got.stderr)
        got = self.verify("--init-from", self.folder / "nowhere", "--output-dir", self.folder / "failed", code=3)
        self.assertIn("nowhere", got.stderr)
        self.assertIn("ended with exit code 3 (above)", got.stderr)
        self.assertFalse((self.folder / "failed").exists())
        got = self.verify("--resume", "auto", code=2)
        self.assertIn("--resume is auto, expected never", got.stderr)
        got = self.verify("--ranks", "1,0", code=2)
        self.assertIn("--ranks has 0, expected 1 to 1024", got.stderr)


if __name__ == "__main__":
    unittest.main()
