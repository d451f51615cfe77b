#!/usr/bin/env python3
"""`minibert bench all-reduce` as a shell sees it: rows, their arithmetic, and the ways to start it. Times themselves are not tested.

Run by ctest, which sets MINIBERT_BINARY.
"""
import json
import os
import socket
import subprocess
import unittest

BINARY = os.environ.get("MINIBERT_BINARY", "build/cpu/bin/minibert")
SECONDS = 120
SMALL = ["--sizes", "4K,1M", "--seconds", "0.01"]


def bench(*more):
    return [BINARY, "bench", "all-reduce", *map(str, more)]


def run(*more, **environment):
    return subprocess.run(bench(*more), capture_output=True, text=True, timeout=SECONDS, env=dict(os.environ, **environment))


class BenchAllReduce(unittest.TestCase):
    def test_rows_of_each_kind_and_their_rates(self):
        for by, ranks in (("gloo", 2), ("ring", 3)):
            got = run("--nproc", ranks, "--collectives", by, "--json", *SMALL)
            self.assertEqual(got.returncode, 0, got.stderr)
            rows = [json.loads(line) for line in got.stdout.splitlines()]
            kinds = [(size, kind, dtype) for size in (4096, 1 << 20) for kind in ("all_reduce", "reduce_scatter", "all_gather")
                     for dtype in ("f32", "bf16", "f16")]
            self.assertEqual([(r["bytes"], r["collective"], r["dtype"]) for r in rows], kinds)
            for row in rows:
                self.assertEqual((row["by"], row["ranks"]), (by, ranks))
                seconds, wire = row["seconds"], row["wire_seconds"]
                self.assertLessEqual(0 < seconds["min"] and seconds["min"], seconds["median"])
                self.assertLessEqual(seconds["median"], seconds["max"])
                self.assertGreaterEqual(row["runs"], 5)
                rate = row["bytes"] / seconds["median"] / 1e9
                share = (ranks - 1) / ranks * (2 if row["collective"] == "all_reduce" else 1)
                self.assertAlmostEqual(row["algorithm_gb_per_s"], rate, delta=1e-9 * rate)
                self.assertAlmostEqual(row["bus_gb_per_s"], rate * share, delta=1e-9 * rate)
                self.assertAlmostEqual(row["wire_gb_per_s"], row["bytes"] / wire["median"] / 1e9, delta=1e-9 * row["wire_gb_per_s"])
                self.assertAlmostEqual(row["share_of_wire"], row["bus_gb_per_s"] / row["wire_gb_per_s"], delta=1e-9)

    def test_a_table_for_people(self):
        got = run("--operations", "all_reduce", "--dtypes", "f32", *SMALL)
        self.assertEqual(got.returncode, 0, got.stderr)
        lines = got.stdout.splitlines()
        self.assertIn("2 ranks over gloo; wire: TCP from rank 0 to rank 1", lines[0])
        self.assertEqual(len(lines), 4, got.stdout)

    def test_under_a_launcher(self):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = str(probe.getsockname()[1])
        ranks = [subprocess.Popen(bench("--json", *SMALL), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                  env=dict(os.environ, RANK=str(rank), WORLD_SIZE="2", MASTER_ADDR="127.0.0.1", MASTER_PORT=port))
                 for rank in range(2)]
        ends = [rank.communicate(timeout=SECONDS) for rank in ranks]
        self.assertEqual([rank.returncode for rank in ranks], [0, 0], ends)
        self.assertEqual(len(ends[0][0].splitlines()), 18)
        self.assertEqual(ends[1][0], "")

    def test_what_cannot_run_is_said(self):
        for arguments, text in ((["--nproc", 1], "there is 1 rank, expected 2 or more. Use --nproc 2."),
                                (["--sizes", "1"], "--sizes has 1, expected 4 to 2^40 bytes"),
                                (["--seconds", "0"], "--seconds is 0, expected more than 0"),
                                (["--interface", "nowhere7"], "nowhere7")):
            got = run(*arguments)
            self.assertEqual(got.returncode, 2, got.stderr)
            self.assertIn(text, got.stderr)


if __name__ == "__main__":
    unittest.main()
