#!/usr/bin/env python3
"""tools/cluster: the batch script with 2 ranks by an srun and a scontrol of this test; what the image gets. No Slurm, no Docker.

Run by ctest, which sets MINIBERT_BINARY. The fakes set the variables that Slurm's own set, as dist/launch.h reads them.
"""
import json
import os
import pathlib
import re
import shutil
import signal
import stat
import subprocess
import tempfile
import time
import unittest

import few_words  # beside this file

BINARY = pathlib.Path(os.environ.get("MINIBERT_BINARY", "build/cpu/bin/minibert")).resolve()
CLUSTER = pathlib.Path(__file__).resolve().parent.parent.parent / "tools/cluster"
SECONDS = 120
STEPS = 8

SCONTROL = """#!/usr/bin/env python3
import os, sys
open(os.environ["FAKE_LOG"], "a").write("scontrol " + " ".join(sys.argv[1:]) + "\\n")
if sys.argv[1:3] == ["show", "hostnames"]:
    assert sys.argv[3] == "localhost", sys.argv
    print("localhost\\nsecond")
"""
# As srun does: the tasks with their variables, signals passed on to each, and the highest exit code.
SRUN = """#!/usr/bin/env python3
import os, signal, subprocess, sys
open(os.environ["FAKE_LOG"], "a").write("srun " + " ".join(sys.argv[1:3]) + "\\n")
world = int(os.environ["SLURM_NTASKS"])
assert len(os.environ["MINIBERT_SECRET"]) == 32, "the secret is missing"
tasks = [subprocess.Popen(sys.argv[3:], env=dict(os.environ, SLURM_STEP_ID="0", SLURM_PROCID=str(rank), SLURM_LOCALID=str(rank),
                                                 SLURM_STEP_NUM_TASKS=str(world), SLURM_STEP_NODELIST="localhost"))
         for rank in range(world)]
signal.signal(signal.SIGUSR1, lambda *_: [task.send_signal(signal.SIGUSR1) for task in tasks])
sys.exit(max(task.wait() for task in tasks))
"""


class Cluster(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.scratch = tempfile.TemporaryDirectory(prefix="minibert-cluster-")
        cls.folder = pathlib.Path(cls.scratch.name)
        few_words.build(BINARY, cls.folder)
        (cls.folder / "bin").mkdir()
        for name, text in (("srun", SRUN), ("scontrol", SCONTROL)):
            file = cls.folder / "bin" / name
            file.write_text(text)
            file.chmod(file.stat().st_mode | stat.S_IXUSR)

    @classmethod
    def tearDownClass(cls):
        cls.scratch.cleanup()

    def start(self, run, *more):
        """The batch script as Slurm starts it: a job of two tasks."""
        self.log = self.folder / f"{run}.log"
        job = dict(SLURM_JOB_ID=str(10_000 + os.getpid() % 50_000), SLURM_JOB_NODELIST="localhost", SLURM_NTASKS="2",
                   SLURM_CPUS_PER_TASK="1", FAKE_LOG=str(self.log), MINIBERT=str(BINARY),
                   PATH=f"{self.folder / 'bin'}:{os.environ['PATH']}")
        self.job = job["SLURM_JOB_ID"]
        process = subprocess.Popen(["bash", CLUSTER / "minibert.sbatch", "--data", self.folder / "data", "--output-dir", self.folder / run,
                                    "--num-hidden-layers", "1", "--hidden-size", "32", "--num-attention-heads", "2",
                                    "--micro-batch-size", "4", "--global-batch-size", "8", "--save-every", "2",
                                    "--communication-timeout", "20", "--start-timeout", "30", *map(str, more)],
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=dict(os.environ, **job))
        self.addCleanup(process.kill)
        return process

    def end_of(self, process, code):
        out, err = process.communicate(timeout=SECONDS)
        self.assertEqual(process.returncode, code, out + err)
        return out

    def steps(self, run):
        return [json.loads(line)["step"] for line in (self.folder / run / "metrics.jsonl").read_text().splitlines()]

    def test_a_job_trains_and_the_same_job_goes_on(self):
        out = self.end_of(self.start("whole", "--max-steps", STEPS, "--stop-after", 5), 0)
        self.assertIn(f"job {self.job}, start 1: 2 ranks on localhost second, 1 CPUs each", out)
        self.assertIn("ranks: 2 over gloo; ", out)
        self.end_of(self.start("whole", "--max-steps", STEPS), 0)
        self.assertEqual(self.steps("whole"), list(range(1, STEPS + 1)))
        self.assertIn("srun --kill-on-bad-exit=0 --cpus-per-task=1\n", self.log.read_text())
        self.assertNotIn("requeue", self.log.read_text())

    def test_before_the_time_limit_it_saves_and_goes_back_into_the_queue(self):
        process = self.start("limit", "--max-steps", 100000)
        for _ in range(SECONDS * 20):
            if (self.folder / "limit/latest").exists():
                break
            time.sleep(0.05)
        children = subprocess.run(["ps", "--ppid", str(process.pid), "-o", "pid=,args="], capture_output=True, text=True).stdout
        srun = next(line for line in children.splitlines() if "/srun " in line)
        os.kill(int(srun.split()[0]), signal.SIGUSR1)
        self.assertIn("back into the queue", self.end_of(process, 75))
        self.assertTrue(self.log.read_text().endswith(f"scontrol requeue {self.job}\n"), self.log.read_text())

    def test_another_code_is_the_jobs_code(self):
        self.end_of(self.start("wrong", "--max-steps", 0), 2)
        self.assertNotIn("requeue", self.log.read_text())
        got = subprocess.run(["bash", CLUSTER / "minibert.sbatch"], capture_output=True, text=True)
        self.assertEqual(got.returncode, 2)
        self.assertIn("no settings", got.stderr)

    def test_scripts_are_sound(self):
        for name in ("minibert.sbatch", "collect_libraries"):
            subprocess.run(["bash", "-n", CLUSTER / name], check=True)
            if shutil.which("shellcheck"):
                subprocess.run(["shellcheck", CLUSTER / name], check=True)
        options = re.findall(r"^#SBATCH (--\S+)", (CLUSTER / "minibert.sbatch").read_text(), re.M)
        self.assertIn("--signal=USR1@120", options)
        self.assertIn("--requeue", options)

    def test_the_collected_program_runs(self):
        image = self.folder / "image"
        subprocess.run([CLUSTER / "collect_libraries", BINARY, image], check=True)
        names = [p.name for p in (image / "lib/minibert").iterdir()]
        self.assertTrue(any(n.startswith("libstdc++.so") for n in names), names)
        self.assertFalse(any(n.startswith("libc.so") for n in names), names)
        got = subprocess.run([image / "bin/minibert", "--version"], capture_output=True, text=True,
                             env=dict(os.environ, LD_LIBRARY_PATH=str(image / "lib/minibert")))
        self.assertEqual(got.returncode, 0, got.stderr)


if __name__ == "__main__":
    unittest.main()
