#!/usr/bin/env python3
"""`minibert doctor` as a user sees it: lines, JSON, exit codes, and its fixes, carried out where a container allows it. Each check with
a planted machine: tests/models/training/doctor_test.cpp. Run by ctest as doctor_verb.
"""
import json
import os
import pathlib
import re
import shutil
import socket
import subprocess
import tempfile
import unittest

BINARY = os.environ.get("MINIBERT_BINARY", "build/cpu/bin/minibert")
LAUNCHERS = ("MASTER_", "OMP_", "RANK", "WORLD_SIZE", "LOCAL_", "SLURM_", "OMPI_", "TORCHELASTIC_", "MINIBERT_")


OF_ITS_OWN = ["unshare", "--mount", "--uts"]  # mounts and a host name that end with the process


def shell(script, folder="/", inside=(), **variables):
    """Runs bash, where doctor is the verb with --json, in an environment without a launcher's variables."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(LAUNCHERS)}
    start = f"folder='{folder}'; doctor() {{ '{os.path.abspath(BINARY)}' doctor --json --output-dir \"$folder\" \"$@\"; }}\n"
    return subprocess.run([*inside, "bash", "-c", start + script], capture_output=True, text=True, timeout=120,
                          env={**clean, **variables})


class Doctor(unittest.TestCase):
    def setUp(self):
        scratch = tempfile.TemporaryDirectory(prefix="minibert-doctor-")
        self.addCleanup(scratch.cleanup)
        self.folder = pathlib.Path(scratch.name)

    def reports(self, script, code=0, **settings):
        """What each call of doctor in the script found: check: finding."""
        got = shell(script, self.folder, **settings)
        self.assertEqual(got.returncode, code, got.stderr + got.stdout)
        return [{finding["check"]: finding for finding in json.loads(line)["checks"]} for line in got.stdout.splitlines()]

    def is_fixed(self, check, verdict, before, fixed_by="eval \"$fix\"", **settings):
        """The check has the verdict after `before`, and is ok once its fix is carried out."""
        get_fix = ("import json, sys; print(next(c['fix'] for c in json.loads(sys.stdin.readline())['checks']"
                   f" if c['check'] == '{check}'))")
        first, second = self.reports(
            f"{before}\nfirst=$(doctor); echo \"$first\"\nfix=$(python3 -c \"{get_fix}\" <<<\"$first\")\n{fixed_by}\ndoctor", **settings)
        self.assertEqual(first[check]["verdict"], verdict, first[check])
        self.assertEqual(second[check]["verdict"], "ok", (first[check], second[check]))

    def test_lines_and_json_say_the_same(self):
        got = subprocess.run([BINARY, "doctor", "--output-dir", self.folder], capture_output=True, text=True, timeout=60)
        self.assertIn(got.returncode, (0, 2), got.stderr)
        *lines, total = got.stdout.splitlines()
        of = {verdict: sum(line.startswith(verdict + " ") for line in lines) for verdict in ("ok", "warn", "fail")}
        self.assertEqual(total, "{} checks: {ok} ok, {warn} warn, {fail} fail".format(sum(of.values()), **of))
        self.assertEqual(got.returncode, 2 if of["fail"] else 0)
        self.assertEqual(sum(line.lstrip().startswith("fix: ") for line in lines), of["warn"] + of["fail"], got.stdout)
        report = json.loads(shell("doctor", self.folder).stdout)
        self.assertEqual(list(report), ["checks", "ok", "warn", "fail"])
        self.assertEqual(list(report["checks"][0]), ["check", "verdict", "found", "fix"])
        self.assertEqual(list(self.folder.iterdir()), [], "it left something in the folder")

    def test_a_failed_check_is_exit_code_2(self):
        (self.folder / "file").write_text("")
        [report] = self.reports("folder+=/file; doctor", code=2)
        self.assertEqual(report["output folder"]["verdict"], "fail")
        [report] = self.reports("doctor --data $folder/none", code=2)
        self.assertEqual(report["data"]["verdict"], "fail")

    def test_wrong_flags_are_refused(self):
        for flags, text in ((["--output-dirs", "x"], "--output-dir"), (["--port", "0"], "--port"), (["--port", "65536"], "--port"),
                            (["--port", "http"], "--port")):
            got = subprocess.run([BINARY, "doctor", *flags], capture_output=True, text=True, timeout=60)
            self.assertEqual(got.returncode, 2, got)
            self.assertIn(text, got.stderr)

    def test_a_port_in_use(self):
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            self.is_fixed("port", "fail", f"export MASTER_PORT={taken.getsockname()[1]}")
            [report] = self.reports(f"doctor --port {taken.getsockname()[1]}", code=2)
            self.assertEqual(report["port"]["verdict"], "fail")

    def test_limits(self):
        self.is_fixed("limits", "warn", "ulimit -S -n 100")
        self.is_fixed("limits", "warn", "ulimit -S -n 200 -f 1000000")

    def test_threads(self):
        cpus = len(os.sched_getaffinity(0))
        self.is_fixed("threads", "warn", "", OMP_NUM_THREADS=str(2 * cpus))
        self.is_fixed("threads", "warn", "", MINIBERT_THREADS=str(2 * cpus))
        self.is_fixed("threads", "warn", "", OMP_NUM_THREADS="two")
        self.is_fixed("threads", "warn", "", OMP_NUM_THREADS=str(cpus), OMP_THREAD_LIMIT="0")

    def test_one_cpu_of_several(self):
        if os.cpu_count() < 2 or len(os.sched_getaffinity(0)) < os.cpu_count():
            self.skipTest("this process has not all CPUs of the machine")
        self.is_fixed("cpus", "warn", "taskset -pc 0 $$ >/dev/null", "eval \"$fix\" >/dev/null")

    def test_variables_of_a_launcher(self):
        self.is_fixed("launcher", "fail", "", RANK="2", WORLD_SIZE="2")
        self.is_fixed("network", "fail", "", NCCL_SOCKET_IFNAME="none0")

    def test_ranks_time_their_sums(self):
        [report] = self.reports("doctor --nproc 2 --collectives ring")
        self.assertEqual([report[check]["verdict"] for check in ("port", "all-reduce")], ["ok", "ok"])
        figures = re.fullmatch(r"2 ranks over ring: 25 MiB summed in ([0-9.]+) ms, ([0-9.]+) GB/s of bus bandwidth; 4 bytes in ([0-9.]+) ms; "
                               r"a TCP stream from rank 0 to rank 1: ([0-9.]+) GB/s", report["all-reduce"]["found"])
        milliseconds, bus = float(figures[1]), float(figures[2])
        self.assertAlmostEqual(bus, (25 << 20) / milliseconds / 1e6, delta=0.006 + 0.02 * bus)  # 2 (R - 1) / R is 1
        self.assertLess(float(figures[3]), milliseconds)

    def test_a_rank_that_does_not_come(self):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        [report] = self.reports("doctor --timeout 3", code=2, RANK="0", WORLD_SIZE="2", MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
        self.assertEqual(report["all-reduce"]["verdict"], "fail")
        self.assertIn("rank 1", report["all-reduce"]["found"])

    def test_another_instruction_set(self):
        supported = subprocess.run([BINARY, "env", "--json"], capture_output=True, text=True, check=True).stdout
        if json.loads(supported)["simd_supported"] == "v2":
            self.skipTest("this CPU has one level")
        self.is_fixed("cpu", "warn", "", MINIBERT_SIMD="v2")
        [report] = self.reports("doctor", code=2, MINIBERT_SIMD="v9")
        self.assertIn("expected v2, v3 or v4", report["cpu"]["found"])

    def test_small_shared_memory_and_a_host_name_without_address(self):
        if not shutil.which("unshare") or shell("mount -t tmpfs tmpfs /dev/shm", inside=OF_ITS_OWN).returncode != 0:
            self.skipTest("mounts of our own need root, and a container that allows them")
        self.is_fixed("/dev/shm", "warn", "mount -t tmpfs -o size=64m tmpfs /dev/shm", "eval \"${fix##*as root: }\"",
                      inside=OF_ITS_OWN)
        (self.folder / "hosts").write_text("127.0.0.1 localhost\n")
        self.is_fixed("host name", "warn", "hostname minibert-doctor-test; mount --bind $folder/hosts /etc/hosts",
                      "eval \"${fix##as root: }\"", inside=OF_ITS_OWN)


if __name__ == "__main__":
    unittest.main()
