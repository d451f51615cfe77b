#!/usr/bin/env python3
"""The same binary and the same run under torchrun, mpirun, srun, a shell loop and --nproc: two ranks each, the bits of one.

Run by ctest, which sets MINIBERT_BINARY. torchrun is PyTorch's, from the peers' environment; mpirun is Open MPI's; srun is a stand-in that
sets what Slurm's sets. A launcher that is not installed is left out, and the test counts as skipped then (exit code 77).
"""
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import unittest

import few_words  # beside this file
from train_ranks_test import free_port

BINARY = os.environ.get("MINIBERT_BINARY", "build/cpu/bin/minibert")
ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
TORCHRUN = ROOT / ".venv/bin/torchrun"
# What srun gives each task (Slurm 22): rank r of 2 on one node.
SRUN = """#!/bin/sh
for r in 0 1; do
  SLURM_JOB_ID=7 SLURM_STEP_ID=0 SLURM_PROCID=$r SLURM_STEP_NUM_TASKS=2 SLURM_NTASKS=2 SLURM_LOCALID=$r SLURM_STEP_TASKS_PER_NODE=2 \\
    SLURM_STEP_NODELIST=localhost SLURM_NODEID=0 "$@" &
  pids="$pids $!"
done
code=0
for p in $pids; do wait $p || code=$?; done
exit $code
"""
left_out = []


class Launchers(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.scratch = tempfile.TemporaryDirectory(prefix="minibert-launchers-")
        cls.folder = pathlib.Path(cls.scratch.name)
        few_words.build(BINARY, cls.folder)
        cls.train("one", [])

    @classmethod
    def tearDownClass(cls):
        cls.scratch.cleanup()

    @classmethod
    def command(cls, run):
        return [str(word) for word in (
            pathlib.Path(BINARY).resolve(), "train", "--data", cls.folder / "data", "--output-dir", cls.folder / run, "--deterministic",
            "--num-hidden-layers", 1, "--hidden-size", 32, "--num-attention-heads", 2, "--micro-batch-size", 4, "--global-batch-size", 8,
            "--max-steps", 4, "--threads", 1, "--communication-timeout", 20, "--start-timeout", 40)]

    @classmethod
    def train(cls, run, launcher, more=(), **environment):
        done = subprocess.run([*map(str, launcher), *cls.command(run), *more], capture_output=True, text=True, timeout=120,
                              env=dict(os.environ, **environment))
        assert done.returncode == 0, f"{launcher}: {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout + done.stderr

    def assert_trained_by_two(self, run, output):
        self.assertIn("ranks: 2 over ", output)
        for name in ("model.safetensors", "optimizer.safetensors"):
            self.assertEqual((self.folder / run / "latest" / name).read_bytes(), (self.folder / "one/latest" / name).read_bytes())

    def test_nproc(self):
        self.assert_trained_by_two("nproc", self.train("nproc", [], ["--nproc", "2"]))

    def test_torchrun(self):
        if not TORCHRUN.exists():
            left_out.append("torchrun (tools/install-peers)")
            return
        output = self.train("torchrun", [TORCHRUN, "--no-python", "--nproc-per-node", 2, "--master-port", free_port()])
        self.assert_trained_by_two("torchrun", output)

    def test_mpirun(self):
        if not shutil.which("mpirun"):
            left_out.append("mpirun (apt-get install openmpi-bin)")
            return
        output = self.train("mpirun", ["mpirun", "--allow-run-as-root", "--oversubscribe", "-np", 2], MASTER_PORT=str(free_port()))
        self.assert_trained_by_two("mpirun", output)

    def test_srun(self):
        fake = self.folder / "srun.sh"
        fake.write_text(SRUN)
        fake.chmod(0o755)
        self.assert_trained_by_two("srun", self.train("srun", [fake], MASTER_PORT=str(free_port())))

    def test_shell_loop(self):
        script = ('for r in 0 1; do RANK=$r WORLD_SIZE=2 LOCAL_RANK=$r LOCAL_WORLD_SIZE=2 MASTER_ADDR=127.0.0.1 "$@" & p="$p $!"; done; '
                  'for q in $p; do wait $q || exit; done')
        output = self.train("shell", ["bash", "-c", script, "bash"], MASTER_PORT=str(free_port()))
        self.assert_trained_by_two("shell", output)


if __name__ == "__main__":
    result = unittest.main(exit=False).result
    if left_out:
        print(f"skipped: {', '.join(left_out)} not installed")
    sys.exit(1 if not result.wasSuccessful() else 77 if left_out else 0)
