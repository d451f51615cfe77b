#!/usr/bin/env python3
"""`minibert train --device cuda` on several ranks over the stand-in NCCL: the same bits as one rank's, with and without shards, under
every schedule of the stand-in runtime; a rank that is killed ends the others in time, named.

Run by ctest in builds for tools/simt. On CPUs train_ranks_test.py does more; what both need is there.
"""
import os
import signal
import time
import unittest

import train_ranks_test  # beside this file

STEPS = 3


def on_cpus():  # not by its name in this module, where unittest would find its tests
    return train_ranks_test.TrainRanks


class TrainRanksCuda(unittest.TestCase):
    setUpClass = on_cpus().__dict__["setUpClass"]
    tearDownClass = on_cpus().__dict__["tearDownClass"]
    train, start, end_of, wait_for, records, assert_same = (
        getattr(on_cpus(), name) for name in ("train", "start", "end_of", "wait_for", "records", "assert_same"))

    def command(self, run, *more):
        flags = ["--device", "cuda", "--max-steps", STEPS, "--save-every", 0, "--evaluate-every", 0, "--evaluation-batches", 1,
                 "--global-batch-size", 12, "--gemm", "ours"]
        kept = [part for flag, value in zip(flags[::2], flags[1::2]) if flag not in more for part in (flag, value)]
        return on_cpus().command(self, run, *kept, *more)

    def test_ranks_and_shards_do_not_change_bits(self):
        for precision in ("fp32", "bf16", "fp16"):
            first = f"{precision}-1"
            self.train(first, "--deterministic", "--precision", precision)
            for world, more in ((2, []), (2, ["--shard-optimizer"]), (4, ["--shard-optimizer"])):
                run = f"{precision}-{world}{''.join(more)}"
                got = self.train(run, "--nproc", world, "--deterministic", "--precision", precision, *more)
                self.assertIn(f"ranks: {world} over nccl; micro-batches dealt in order", got.stdout)
                self.assert_same(run, first)

    def test_buckets_give_the_same_bits_with_and_without_shards_in_every_schedule(self):
        self.train("buckets", "--gpus", 2, "--bucket-megabytes", 1)
        for schedule in ("lazy", "random:1", "random:2"):
            run = "buckets-" + schedule.replace(":", "-")
            self.train(run, "--gpus", 2, "--bucket-megabytes", 1, "--shard-optimizer", SIMT_SCHEDULE=schedule)
            self.assert_same(run, "buckets")
        for record in self.records("buckets"):
            self.assertGreater(record["communication_seconds"], 0)

    def test_the_ring_on_gpus(self):
        self.train("nccl", "--gpus", 2)
        for more in ([], ["--shard-optimizer"]):  # sums of two ranks have one order
            run = "ring" + "".join(more)
            got = self.train(run, "--gpus", 2, "--collectives", "ring", *more, SIMT_SCHEDULE="random:3")
            self.assertIn("ranks: 2 over nccl-ring; ", got.stdout)
            self.assert_same(run, "nccl")

    def test_a_run_goes_on_with_another_number_of_ranks(self):
        self.train("whole", "--deterministic")
        for world, then in ((2, 1), (1, 2), (2, 4)):
            run = f"from-{world}-to-{then}"
            shards = ["--shard-optimizer"] * (world > 1)
            self.train(run, "--deterministic", "--nproc", world, "--stop-after", 2, *shards)
            self.train(run, "--deterministic", "--nproc", then, "--resume", "must")
            self.assert_same(run, "whole")

    def test_a_killed_rank_is_named(self):
        for lost in (0, 1):
            run = f"killed-{lost}"
            process = self.start(run, "--nproc", 2, "--max-steps", 10000, "--save-every", 1)
            self.wait_for(lambda: (self.folder / run / "latest").exists())
            begin = time.monotonic()
            os.kill(train_ranks_test.ranks_of(process.pid)[lost], signal.SIGKILL)
            _, err = self.end_of(process, 5)
            self.assertLess(time.monotonic() - begin, 30)
            self.assertRegex(err, rf"rank {1 - lost} of 2: .* #\d+.* failed after .*rank {lost} ")
            self.assertTrue((self.folder / run / "latest/model.safetensors").exists())

    def test_collectives_fit_the_device(self):
        got = self.train("gloo", "--nproc", 2, "--collectives", "gloo", code=2)
        self.assertIn("ranks.collectives is gloo with train.device cuda, expected nccl", got.stderr)
        got = self.train("cpu", "--gpus", 2, "--device", "cpu", code=2)
        self.assertIn("--gpus is 2 with --device cpu, expected cuda", got.stderr)


if __name__ == "__main__":
    unittest.main()
