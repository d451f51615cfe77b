#!/usr/bin/env python3
"""`minibert train` on several ranks as a shell sees it: the same bits on 1, 2 and 4, resume on another number, signals, lost ranks.

Run by ctest, which sets MINIBERT_BINARY. The test builds its data from a few words.
"""
import json
import os
import pathlib
import signal
import socket
import subprocess
import tempfile
import time
import unittest

import few_words  # beside this file

BINARY = os.environ.get("MINIBERT_BINARY", "build/cpu/bin/minibert")
SECONDS = int(os.environ.get("TEST_SECONDS", "120"))  # no run of these takes a tenth of it, but under ThreadSanitizer
STEPS = 8


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def ranks_of(launcher):
    """{rank: process} of the ranks that a launcher has started."""
    found = {}
    for entry in pathlib.Path("/proc").iterdir():
        try:
            if not entry.name.isdigit() or f"\nPPid:\t{launcher}\n" not in (entry / "status").read_text():
                continue
            variables = (entry / "environ").read_bytes().split(b"\0")
        except OSError:  # it has just ended
            continue
        found |= {int(v[5:]): int(entry.name) for v in variables if v.startswith(b"RANK=")}
    return found


class TrainRanks(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.scratch = tempfile.TemporaryDirectory(prefix="minibert-train-ranks-")
        cls.folder = pathlib.Path(cls.scratch.name)
        few_words.build(BINARY, cls.folder, "--hold-out-every", "5")

    @classmethod
    def tearDownClass(cls):
        cls.scratch.cleanup()

    def command(self, run, *more):
        """`more` are flags with their values; one given here takes the place of the default."""
        flags = {"--data": self.folder / "data", "--evaluation-data": self.folder / "data/held-out", "--output-dir": self.folder / run,
                 "--num-hidden-layers": 1, "--hidden-size": 32, "--num-attention-heads": 2, "--micro-batch-size": 4,
                 "--global-batch-size": 20, "--max-steps": STEPS, "--save-every": 2, "--evaluate-every": 4, "--evaluation-batches": 5,
                 "--threads": 1, "--communication-timeout": 10, "--start-timeout": 20, "--log-every": 1}
        flags = {flag: value for flag, value in flags.items() if flag not in more}
        return [BINARY, "train", *(part for pair in flags.items() for part in pair), *more]

    def train(self, run, *more, code=0, **environment):
        got = subprocess.run(list(map(str, self.command(run, *more))), capture_output=True, text=True, timeout=SECONDS,
                             env=dict(os.environ, **environment))
        self.assertEqual(got.returncode, code, got.stdout + got.stderr)
        return got

    def start(self, run, *more, **environment):
        process = subprocess.Popen(list(map(str, self.command(run, *more))), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                   env=dict(os.environ, **environment))
        self.addCleanup(process.kill)
        return process

    def end_of(self, process, code):
        out, err = process.communicate(timeout=SECONDS)
        self.assertEqual(process.returncode, code, out + err)
        return out, err

    def wait_for(self, condition):
        for _ in range(SECONDS * 200):
            if condition():
                return
            time.sleep(0.005)
        self.fail("waited in vain")

    def records(self, run):
        return [json.loads(line) for line in (self.folder / run / "metrics.jsonl").read_text().splitlines()]

    def assert_same(self, a, b):
        """Weights and moments bit for bit; losses, whose sums are doubles, to 12 digits."""
        for name in ("model.safetensors", "optimizer.safetensors"):
            self.assertEqual((self.folder / a / "latest" / name).read_bytes(), (self.folder / b / "latest" / name).read_bytes(),
                             f"{name} of {a} and {b}")
        ours, theirs = self.records(a), self.records(b)
        self.assertEqual([r["step"] for r in ours], [r["step"] for r in theirs])
        for x, y in zip(ours, theirs):
            self.assertEqual((x["tokens"], x["skipped_steps"], x["grad_norm"]), (y["tokens"], y["skipped_steps"], y["grad_norm"]))
            self.assertAlmostEqual(x["loss"], y["loss"], delta=1e-12 * y["loss"])
            self.assertEqual(x.get("eval"), y.get("eval"))

    def test_one_two_and_four_ranks_give_the_same_bits(self):
        for precision, more in (("fp32", []), ("bf16", []), ("fp16", ["--loss-scale", 2**30])):
            runs = []
            for world in (1, 2, 4):
                runs.append(f"{precision}-{world}")
                got = self.train(runs[-1], "--nproc", world, "--deterministic", "--precision", precision, *more)
            self.assertIn("ranks: 4 over gloo; micro-batches dealt in order", got.stdout)
            self.assert_same(runs[1], runs[0])
            self.assert_same(runs[2], runs[0])
            for world in (2, 4):
                sharded = f"{precision}-sharded-{world}"
                got = self.train(sharded, "--nproc", world, "--deterministic", "--shard-optimizer", "--precision", precision, *more)
                self.assertIn("; optimizer sharded", got.stdout)
                self.assert_same(sharded, runs[0])
            if more:
                self.assertGreater(self.records(runs[0])[-1]["skipped_steps"], 2)

    def test_without_the_flag_losses_are_equal_but_for_roundings(self):
        self.train("plain-1")
        for backend, world in (("gloo", 3), ("ring", 2)):
            run = f"plain-{world}"
            self.train(run, "--nproc", world, "--collectives", backend)
            for x, y in zip(self.records(run), self.records("plain-1")):
                self.assertAlmostEqual(x["loss"], y["loss"], delta=1e-4 * y["loss"])
                self.assertGreater(x["communication_seconds"], 0)
                self.assertEqual(y["communication_seconds"], 0)

    def test_gradients_may_travel_in_16_bits(self):
        self.train("wire-1")
        for precision in ("bf16", "fp16"):
            run = f"wire-{precision}"
            self.train(run, "--nproc", 2, "--reduce-precision", precision)
            for x, y in zip(self.records(run), self.records("wire-1")):
                self.assertAlmostEqual(x["loss"], y["loss"], delta=1e-2 * y["loss"])
            self.assertNotEqual(self.records(run)[-1]["loss"], self.records("wire-1")[-1]["loss"])
        got = self.train("refused", "--nproc", 2, "--reduce-precision", "bf16", "--deterministic", code=2)
        self.assertIn("Use one of both", got.stderr)

    def test_a_run_goes_on_with_another_number_of_ranks(self):
        self.train("whole", "--deterministic")
        for world, then in ((4, 1), (1, 2), (4, 2), (2, 4)):
            run = f"from-{world}-to-{then}"
            self.train(run, "--deterministic", "--nproc", world, "--stop-after", 5)
            self.train(run, "--deterministic", "--nproc", then, "--resume", "must")
            self.assert_same(run, "whole")

    def test_rank_logs(self):
        got = self.train("logs", "--nproc", 2)
        for rank in (0, 1):
            text = (self.folder / "logs/logs" / f"rank-{rank}.log").read_text()
            self.assertIn(f"step {STEPS}/{STEPS} | mlm ", text)
        self.assertEqual(got.stdout.count(f"step {STEPS}/{STEPS} | mlm "), 1, "on the console once")
        self.assertRegex(got.stdout, r"\| comm \d+ ms, \d+% hidden \|")

    def test_a_signal_to_one_rank_stops_all_at_the_same_step(self):
        for target in (0, 1):
            run = f"signal-{target}"
            process = self.start(run, "--nproc", 2, "--max-steps", 100000, "--deterministic")
            self.wait_for(lambda: (self.folder / run / "latest").exists())
            os.kill(ranks_of(process.pid)[target], signal.SIGTERM)
            self.end_of(process, 75)
            steps = {len((self.folder / run / "logs" / f"rank-{rank}.log").read_text().split("holds step ")[1].split(" of")[0])
                     for rank in (0, 1)}
            self.assertEqual(len(steps), 1)

    def test_a_signal_to_the_launcher_reaches_all(self):
        process = self.start("launcher", "--nproc", 2, "--max-steps", 100000)
        self.wait_for(lambda: (self.folder / "launcher/latest").exists())
        process.send_signal(signal.SIGTERM)
        self.end_of(process, 75)

    def test_a_step_that_would_outlast_the_grace_is_dropped_by_all(self):
        long = ["--micro-batch-size", 1, "--global-batch-size", 4096, "--max-steps", 4, "--grace", 0, "--evaluate-every", 0,
                "--communication-timeout", SECONDS]  # a rank that votes early waits for the others' last micro-batch
        for target, more in ((0, ["--deterministic"]), (1, ["--deterministic"]), (1, [])):
            run = f"grace-{target}-{len(more)}"
            process = self.start(run, "--nproc", 2, *long, *more)
            metrics = self.folder / run / "metrics.jsonl"
            self.wait_for(lambda: metrics.exists() and metrics.read_text().count("\n") == 1)
            self.wait_for(lambda: "backward" in (self.folder / run / f"logs/rank-{target}.heartbeat").read_text())
            time.sleep(0.1)  # some of the next step's micro-batches
            os.kill(ranks_of(process.pid)[target], signal.SIGTERM)
            out, _ = self.end_of(process, 75)
            self.assertIn("checkpoint-1 holds step 1 of 4", out)
            for rank in (0, 1):
                text = (self.folder / run / "logs" / f"rank-{rank}.log").read_text()
                self.assertRegex(text, r"step 2 \| dropped after [1-9]\d* of 2048 micro-batches", f"rank {rank}")
            if more and target == 0:
                self.train(run, *long, *more, "--resume", "must", "--stop-after", 2)
                self.train("grace-undisturbed", *long, *more, "--stop-after", 2)
                self.assert_same(run, "grace-undisturbed")

    def test_a_signal_cuts_an_evaluation_off_on_all(self):
        long = ["--deterministic", "--max-steps", 3, "--evaluate-every", 2, "--evaluation-batches", 0, "--micro-batch-size", 1,
                "--evaluation-data", self.folder / "data", "--num-hidden-layers", 4, "--hidden-size", 128]  # so that it takes a while
        self.train("evaluated", *long)
        for target in (0, 1):
            run = f"evaluation-{target}"
            process = self.start(run, "--nproc", 2, *long)
            heartbeat = self.folder / run / f"logs/rank-{target}.heartbeat"
            self.wait_for(lambda: heartbeat.exists() and "evaluating" in heartbeat.read_text())
            os.kill(ranks_of(process.pid)[target], signal.SIGTERM)
            self.end_of(process, 75)
            state = json.loads((self.folder / run / "latest/trainer_state.json").read_text())
            self.assertEqual(json.loads(state["pending_record"])["step"], 2)
            self.train(run, *long, "--resume", "must", "--nproc", 2)
            self.assert_same(run, "evaluated")

    def test_a_lost_rank_ends_the_others(self):
        long = ["--deterministic", "--max-steps", 800, "--save-every", 20, "--evaluate-every", 400, "--log-every", 100]
        self.train("undisturbed", *long)
        for number, how in ((1, signal.SIGKILL), (0, signal.SIGKILL), (1, signal.SIGSTOP)):
            run = f"lost-{number}-{how.name}"
            process = self.start(run, "--nproc", 2, *long)
            self.wait_for(lambda: (self.folder / run / "latest").exists())
            lost = ranks_of(process.pid)[number]
            begin = time.monotonic()
            os.kill(lost, how)
            if how == signal.SIGSTOP:  # the others end by themselves; then the launcher ends the stopped one
                self.wait_for(lambda: len(ranks_of(process.pid)) == 1)
                self.assertLess(time.monotonic() - begin, 25)
                os.kill(lost, signal.SIGKILL)
            _, err = self.end_of(process, 5)
            self.assertIn(f"rank {number}", err)
            self.assertRegex(err, r"(all_reduce|all_gather|broadcast) #\d+")
            self.train(run, *long, "--resume", "must")
            self.assert_same(run, "undisturbed")

    def by_hand(self, world, settings):
        """Ranks started by a shell loop; settings(rank) are more flags of that one."""
        port = free_port()
        processes = [self.start("by-hand", *settings(rank), RANK=str(rank), WORLD_SIZE=str(world), LOCAL_RANK=str(rank),
                                LOCAL_WORLD_SIZE=str(world), MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port)) for rank in range(world)]
        ends = [process.communicate(timeout=SECONDS) for process in processes]
        return [(process.returncode, *end) for process, end in zip(processes, ends)]

    def test_ranks_that_differ_are_refused_on_each(self):
        for code, _, err in self.by_hand(2, lambda rank: ["--seed", 5 + rank]):
            self.assertEqual(code, 2, err)
            self.assertIn("train.seed", err)

    def test_a_missing_rank_is_named(self):
        port = free_port()
        process = self.start("missing", "--start-timeout", 2, RANK="0", WORLD_SIZE="3", MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
        _, err = self.end_of(process, 5)
        self.assertIn("ranks 1-2 missing", err)

    def test_nproc_and_a_launcher_must_agree(self):
        got = self.train("disagree", "--nproc", 3, code=2, RANK="0", WORLD_SIZE="2", MASTER_ADDR="127.0.0.1", MASTER_PORT="1")
        self.assertIn("--nproc is 3, expected 2", got.stderr)

    def test_a_tree_needs_a_power_of_two(self):
        got = self.train("three", "--nproc", 3, "--deterministic", code=2)
        self.assertIn("Start 2 ranks, or use --no-deterministic.", got.stderr)


if __name__ == "__main__":
    unittest.main()
