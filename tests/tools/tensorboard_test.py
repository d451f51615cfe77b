#!/usr/bin/env python3
"""The event files of a run, read by TensorBoard's own reader: tags, steps and values are those of metrics.jsonl, after kill -9 too.

Run by ctest, which sets MINIBERT_BINARY and MINIBERT_PYTHON. Exit code 77 means skipped: no Python with TensorBoard (tools/install-peers).
"""
import json
import math
import os
import pathlib
import struct
import subprocess
import sys
import tempfile
import time
import unittest

import few_words  # beside this file

BINARY = os.environ.get("MINIBERT_BINARY", "build/cpu/bin/minibert")
PYTHON = os.environ.get("MINIBERT_PYTHON", ".venv/bin/python")
PEER = pathlib.Path(__file__).with_name("tensorboard_peer.py")
FIELDS = {"train/loss": "loss", "train/mlm_loss": "mlm_loss", "train/mlm_accuracy": "mlm_accuracy", "train/nsp_loss": "nsp_loss",
          "train/nsp_accuracy": "nsp_accuracy", "optim/learning_rate": "learning_rate", "optim/grad_norm": "grad_norm",
          "scale/loss_scale": "loss_scale", "scale/skipped_steps": "skipped_steps", "throughput/step_seconds": "step_seconds",
          "throughput/data_seconds": "data_seconds", "communication/seconds": "communication_seconds",
          "communication/exposed_seconds": "exposed_communication_seconds"}
RATES = {"throughput/sequences_per_second": "sequences", "throughput/tokens_per_second": "tokens"}
EVALUATION = ["mlm_loss", "mlm_accuracy", "unigram_cross_entropy", "nsp_loss", "nsp_accuracy"]


def f32(number):
    return struct.unpack("f", struct.pack("f", number))[0]


def lines_of(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def expected_scalars(run):
    """What TensorBoard must show, from the run's text files."""
    scalars = {}
    for record in lines_of(run / "metrics.jsonl"):
        values = {tag: record[field] for tag, field in FIELDS.items()}
        values |= {tag: record[field] / record["step_seconds"] for tag, field in RATES.items()}
        values |= {f"eval/{name}/{field}": result[field] for name, result in record.get("eval_by_name", {}).items() for field in EVALUATION}
        for tag, value in values.items():
            scalars.setdefault(tag, []).append([record["step"], f32(value)])
    for line in lines_of(run / "trust_ratios.jsonl"):
        for tensor, norms in line["tensors"].items():
            scalars.setdefault(f"trust_ratio/{tensor}", []).append([line["step"], f32(norms["trust_ratio"])])
    return scalars


class TensorBoard(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.scratch = tempfile.TemporaryDirectory(prefix="minibert-tensorboard-")
        cls.folder = pathlib.Path(cls.scratch.name)
        few_words.build(BINARY, cls.folder, "--hold-out-every", "5")

    @classmethod
    def tearDownClass(cls):
        cls.scratch.cleanup()

    def command(self, name, *more):
        held_out = self.folder / "data/held-out"
        return list(map(str, [BINARY, "train", "--data", self.folder / "data", "--evaluation-data", f"a={held_out}", "--evaluation-data",
                              f"b={held_out}", "--output-dir", self.folder / name, "--num-hidden-layers", 1, "--hidden-size", 32,
                              "--num-attention-heads", 2, "--micro-batch-size", 4, "--global-batch-size", 8, "--threads", 1,
                              "--evaluate-every", 7, "--trust-ratio-every", 5, "--save-every", 4, *more]))

    def train(self, name, *more):
        got = subprocess.run(self.command(name, *more), capture_output=True, text=True, timeout=120)
        self.assertEqual(got.returncode, 0, got.stderr)
        return self.folder / name

    def kill_at(self, step, name, *more):
        """Lets a run come to a step, then kills it."""
        process = subprocess.Popen(self.command(name, *more), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        metrics = self.folder / name / "metrics.jsonl"
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and process.poll() is None:
            if metrics.exists() and f'{{"step": {step},' in metrics.read_text():
                break
            time.sleep(0.001)
        process.kill()
        process.communicate()

    def read(self, run):
        got = subprocess.run([PYTHON, PEER, run], capture_output=True, text=True, timeout=120)
        self.assertEqual(got.returncode, 0, got.stderr)
        return json.loads(got.stdout)

    def same(self, got, run):
        expected = expected_scalars(run)
        self.assertEqual(sorted(got), sorted(expected))
        for tag, points in expected.items():
            self.assertEqual(got[tag], points, tag)

    def test_a_run_is_read(self):
        run = self.train("plain", "--max-steps", 20)
        got = self.read(run)
        self.same(got, run)
        self.assertEqual([step for step, _ in got["train/loss"]], list(range(1, 21)))
        self.assertEqual([step for step, _ in got["eval/b/mlm_loss"]], [7, 14, 20])
        self.assertIn("trust_ratio/cls.predictions.transform.dense.weight", got)

    def test_a_killed_run_has_one_curve(self):
        for step in (6, 13, 22):
            self.kill_at(step, "killed", "--max-steps", 2000, "--resume", "auto")
        run = self.train("killed", "--max-steps", 2000, "--stop-after", 30, "--resume", "auto")
        self.assertGreater(len(list(run.glob("events.out.tfevents.*"))), 1)
        got = self.read(run)
        self.same(got, run)
        self.assertEqual([step for step, _ in got["train/loss"]], list(range(1, 31)))

    def test_what_runs_beside_the_training_forgets_the_lost_steps(self):
        run = self.train("beside", "--max-steps", 40, "--stop-after", 19)
        reader = subprocess.Popen([PYTHON, PEER, run, "--again"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.addCleanup(reader.kill)
        self.same(json.loads(reader.stdout.readline()), run)
        self.train("beside", "--max-steps", 40, "--stop-after", 27, "--resume", run / "checkpoint-16", "--learning-rate", "2e-3")
        out, _ = reader.communicate("\n\n", timeout=60)
        self.same(json.loads(out), run)

    def test_a_half_written_record_is_no_obstacle(self):
        run = self.train("half", "--max-steps", 20, "--stop-after", 12)
        file = next(run.glob("events.out.tfevents.*"))
        file.write_bytes(file.read_bytes()[:-5])
        got = self.read(run)
        self.assertEqual([step for step, _ in got["train/loss"]], list(range(1, 12)), "what is whole is read")
        self.train("half", "--max-steps", 20, "--resume", run / "checkpoint-8")
        self.same(self.read(run), run)

    def test_nan_is_shown(self):
        got = subprocess.run(self.command("nan", "--max-steps", 20, "--learning-rate", 100, "--max-grad-norm", 0, "--warmup", 0, "--epsilon", 0,
                                          "--optimizer", "adamw", "--initializer-range", 10), capture_output=True, text=True, timeout=120)
        run = self.folder / "nan"
        last = lines_of(run / "metrics.jsonl")[-1]
        self.assertEqual(got.returncode, 4, got.stderr)
        self.assertFalse(math.isfinite(last["loss"]) and math.isfinite(last["grad_norm"]))
        shown = self.read(run)
        for tag, field in FIELDS.items():
            self.assertEqual(repr(shown[tag][-1][1]), repr(f32(last[field])), tag)

    def test_it_can_be_left_out(self):
        run = self.train("off", "--max-steps", 3, "--no-tensorboard")
        self.assertEqual(list(run.glob("events.out.tfevents.*")), [])


if __name__ == "__main__":
    if subprocess.run([PYTHON, "-c", "import tensorboard"], capture_output=True).returncode != 0:
        print(f"skipped: needs a Python with TensorBoard: run tools/install-peers (MINIBERT_PYTHON is \"{PYTHON}\")")
        sys.exit(77)
    unittest.main()
