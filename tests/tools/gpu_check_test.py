#!/usr/bin/env python3
"""tools/gpu-check without a GPU: the pack is complete and small, the time box ends what runs on, what passed is not run again, the
conformance program runs under the engine and is compared with the golden of a GPU where there is one, and in a root without our
packages the project configures from the pack.

Run by ctest in the preset simt, which sets MINIBERT_BINARY.
"""
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
import unittest

ROOT = pathlib.Path(os.environ.get("MINIBERT_SOURCE_DIR", pathlib.Path(__file__).resolve().parent.parent.parent))
BUILD = pathlib.Path(os.environ.get("MINIBERT_BINARY", ROOT / "build" / "simt" / "bin" / "minibert")).parent.parent
GPU_CHECK = ROOT / "tools" / "gpu-check"
sys.dont_write_bytecode = True
sys.path.insert(0, str(ROOT / "tools"))
from gpu_check import machine, pack, rehearsal, runner, stages  # noqa: E402

QUIET = {"stream": lambda text: None}


def gpu_check(*arguments):
    done = subprocess.run([GPU_CHECK, *map(str, arguments)], capture_output=True, text=True, timeout=240)
    return done.returncode, done.stdout + done.stderr


class Runner(unittest.TestCase):
    def setUp(self):
        self.scratch = tempfile.TemporaryDirectory(prefix="minibert-gpu-check-")
        self.folder = pathlib.Path(self.scratch.name)

    def tearDown(self):
        self.scratch.cleanup()

    def run_parts(self, parts, minutes=1.0, key="key", fresh=False):
        """Each part's state after a call, as {name: (status, note)}."""
        memory = runner.Memory(self.folder / "state.json", key, fresh)
        passed = runner.Runner(memory, runner.TimeBox(minutes), self.folder / "logs", **QUIET).run("stage", parts, workers=2)
        return passed, {p.name: (memory.get("stage", p.name) or {}).get("status") for p in parts}

    def count(self, name):
        """A part that leaves a line in a file each time it runs."""
        return runner.Part(name, ["sh", "-c", f"echo ran >>{self.folder / name}"])

    def runs(self, name):
        return len((self.folder / name).read_text().splitlines())

    def test_what_passed_is_not_run_again_until_a_source_changes(self):
        bad = runner.Part("bad", ["sh", "-c", f"echo ran >>{self.folder / 'bad'}; exit 3"])
        for calls in (1, 2):
            passed, state = self.run_parts([self.count("good"), bad])
            self.assertFalse(passed)
            self.assertEqual(state, {"good": runner.PASSED, "bad": runner.FAILED})
            self.assertEqual((self.runs("good"), self.runs("bad")), (1, calls))
        self.run_parts([self.count("good")], key="other sources")
        self.assertEqual(self.runs("good"), 2)
        self.run_parts([self.count("good")], key="other sources", fresh=True)
        self.assertEqual(self.runs("good"), 3)

    def test_the_time_box_ends_a_part_and_its_children(self):
        mark = self.folder / "alive"
        parts = [runner.Part("long", ["sh", "-c", f"(sleep 3; touch {mark}) & sleep 30"], limit=1), self.count("good")]
        start = time.monotonic()
        passed, state = self.run_parts(parts)
        self.assertLess(time.monotonic() - start, 20)
        self.assertFalse(passed)
        self.assertEqual(state, {"long": runner.CUT, "good": runner.PASSED})
        time.sleep(3)
        self.assertFalse(mark.exists(), "a child of the part that was ended lived on")

    def test_a_call_that_is_stopped_leaves_its_parts_cut_not_failed(self):
        stop = threading.Timer(1, os.kill, (os.getpid(), signal.SIGINT))
        stop.start()
        with self.assertRaises(KeyboardInterrupt):
            self.run_parts([runner.Part("long", ["sleep", "30"])])
        stop.join()
        state = json.loads((self.folder / "state.json").read_text())["parts"]
        self.assertEqual(state["stage/long"]["status"], runner.CUT)

    def test_without_time_nothing_starts(self):
        passed, state = self.run_parts([self.count("good")], minutes=0)
        self.assertFalse(passed)
        self.assertEqual(state, {"good": None})


class Judges(unittest.TestCase):
    """Lines as the programs print them, and what is made of them."""

    def test_spills_are_counted(self):
        output = ("ptxas info    : Compiling entry function '_Z1a' for 'sm_90a'\n    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads\n"
                  "ptxas info    : Used 40 registers\nptxas info    : Compiling entry function '_Z1b' for 'sm_90a'\n"
                  "    8 bytes stack frame, 8 bytes spill stores, 0 bytes spill loads\nptxas info    : Used 255 registers\n")
        self.assertEqual(stages.judge_build(0, output), ("2 kernels, 1 with spills, at most 255 registers", True))
        self.assertFalse(stages.judge_build(1, "x.cu(3): error: no")[1])

    def test_skipped_tests_are_no_pass(self):
        self.assertEqual(stages.judge_test(0, "[==========] 3 tests ran.\n[  PASSED  ] 3 tests.\n"), ("3 tests", True))
        self.assertFalse(stages.judge_test(0, "[  PASSED  ] 2 tests.\n[  SKIPPED ] 1 test, listed below:\n[  SKIPPED ] A.B\n")[1])
        self.assertEqual(stages.judge_test(1, "[  FAILED  ] A.B (3 ms)\n[  FAILED  ] A.B\n"), ("failed: A.B", False))
        self.assertFalse(stages.judge_test(-11, "")[1])

    def test_a_sanitizer_must_say_so(self):
        self.assertEqual(stages.judge_sanitizer(0, "========= ERROR SUMMARY: 0 errors\n"), ("ERROR SUMMARY: 0 errors", True))
        self.assertFalse(stages.judge_sanitizer(86, "========= ERROR SUMMARY: 3 errors\n")[1])
        self.assertFalse(stages.judge_sanitizer(0, "")[1])

    def test_a_peer_that_computes_something_else_fails(self):
        def row(by, seconds, **more):
            return json.dumps({"op": "attention", "pass": "forward", "by": by, "sizes": "p=0", "seconds": {"median": seconds},
                               "share_of_limit": 0.5, **more})
        good = row("minibert", 2e-3) + "\n" + row("cuDNN 9.19.0", 1e-3, difference=4e-3)
        self.assertEqual(stages.judge_ops(0, good), ("50 to 50 % of the limits; attention forward: ours / cuDNN 9.19.0 2.00", True))
        for difference in (0.5, float("nan")):
            bad = row("minibert", 2e-3) + "\n" + row("cuDNN 9.19.0", 1e-3, difference=difference)
            self.assertFalse(stages.judge_ops(0, bad)[1])
        self.assertFalse(stages.judge_ops(2, "error: no GPU")[1])

    def test_chips_have_nvccs_names(self):
        self.assertEqual([machine.chip_of(c) for c in ("8.0", "8.6", "9.0", "10.0", "12.1")], ["80", "86", "90a", "100a", "121a"])


class Tables(unittest.TestCase):
    def test_sanitized_tests_exist(self):
        for binary, cases in stages.SANITIZED.items():
            self.assertIn(binary, stages.cuda_tests())
            source = ROOT / "tests" / "core" / "kernels" / f"{binary.removeprefix('core_kernels_')}.cpp"
            names = re.findall(r"^TEST(?:_F|_P)?\(\w+, (\w+)\)", source.read_text(), re.M)
            for case in cases:
                self.assertIn(case, names)
        kernels = {t for t in stages.cuda_tests() if t.startswith("core_kernels_")}
        self.assertEqual(kernels, set(stages.SANITIZED), "a chapter's kernels have no tests for the sanitizers")


    def test_each_op_is_timed_once(self):
        sources = "".join(f.read_text() for f in (ROOT / "autograd").glob("op_infos_*.cpp"))
        self.assertEqual(sorted(op for ops in stages.OPS.values() for op in ops), sorted(re.findall(r'\.name = "(\w+)"', sources)))
        for chapter in stages.OPS:
            self.assertTrue((ROOT / "core" / "kernels" / f"{chapter}.cu").exists() or chapter == "attention", chapter)


class Pack(unittest.TestCase):
    def test_is_made_and_says_what_is_missing(self):
        code, output = gpu_check("pack")
        self.assertEqual(code, 0, output)
        size = pack.size_mib(stages.PACK)
        self.assertIn(f"{size:.1f} MiB", output)
        self.assertLess(size, pack.LIMIT_MIB)
        with tempfile.TemporaryDirectory() as folder, self.assertRaisesRegex(pack.Missing, "hwy is not there"):
            pack.make(pathlib.Path(folder) / "pack", source=pathlib.Path(folder))

    def test_a_root_without_our_packages_configures_from_it(self):
        self.assertEqual(gpu_check("pack")[0], 0)
        with tempfile.TemporaryDirectory() as folder:
            check = stages.Check("simt", pathlib.Path(folder) / "build", pathlib.Path(folder) / "out")
            arguments = check.configure_arguments()
            code = rehearsal.hidden(pathlib.Path(folder), [["cmake", "-S", ROOT, "-B", check.build, *arguments]])
            if code == 77:
                self.skipTest("no namespaces here")
            self.assertEqual(code, 0)
            cache = (check.build / "CMakeCache.txt").read_text()
        for variable in ("HIGHWAY_INCLUDE_DIR", "TOMLPLUSPLUS_INCLUDE_DIR", "ZLIB_LIBRARY_RELEASE", "ZSTD_LIBRARY", "fmt_DIR", "GTest_DIR"):
            found = re.search(rf"^{variable}:\w+=(.*)$", cache, re.M)
            self.assertTrue(found and found[1].startswith(str(stages.PACK)), f"{variable} is {found and found[1]}")


class Conformance(unittest.TestCase):
    def setUp(self):
        self.scratch = tempfile.TemporaryDirectory(prefix="minibert-conformance-")
        self.out = pathlib.Path(self.scratch.name)
        self.program = BUILD / "bin" / "conformance"

    def tearDown(self):
        self.scratch.cleanup()

    def run_program(self, *arguments):
        done = subprocess.run([self.program, *map(str, arguments)], capture_output=True, text=True, timeout=120)
        return done.returncode, done.stdout + done.stderr

    def test_the_engine_agrees_with_the_models_and_with_the_golden(self):
        """Where a GPU's golden is in tests/goldens, stages.py hands it to the program, which then compares."""
        code, output = gpu_check("conformance", "--backend", "simt", "--build", BUILD, "--out", self.out)
        self.assertEqual(code, 0, output)
        self.assertIn("0 disagree", (self.out / "report.txt").read_text())
        lines = [json.loads(line) for line in (self.out / "conformance.jsonl").read_text().splitlines()]
        parts = {line["part"]: line for line in lines if "part" in line}
        self.assertEqual(parts["every bf16 to f32"]["count"], 4 * 65536)
        self.assertEqual([p for p in parts if parts[p]["kind"] == "failed"], [])
        for golden in stages.ROOT.glob("tests/goldens/conformance_sm*.jsonl"):
            self.assertNotIn("Emulated", golden.read_text().splitlines()[0], "the engine is no GPU")

    def test_a_difference_from_a_golden_is_found(self):
        self.assertEqual(self.run_program("--out", self.out / "a")[0], 0)
        self.assertEqual(self.run_program("--golden", self.out / "a")[0], 0)
        lines = [json.loads(line) for line in (self.out / "a").read_text().splitlines()]
        changed = {"ldmatrix x4": "hashes", "mma f16, random": "values", "division": "count"}
        for line in lines[1:]:
            if line["part"] == "ldmatrix x4":
                line["hashes"][-1] = "0" * 16
            if line["part"] == "mma f16, random":
                line["values"][7] = "0.5"
            if line["part"] == "division":
                line["count"] += 1
        (self.out / "b").write_text("".join(json.dumps(line) + "\n" for line in lines if line.get("part") != "fmaf"))
        code, output = self.run_program("--golden", self.out / "b")
        self.assertEqual(code, 1)
        different = re.findall(r"^(.*?)\s+(?:exact|close) .*GOLDEN", output, re.M)
        self.assertEqual(sorted(different), sorted([*changed, "fmaf"]), output)
        self.assertIn("0 disagree with their model, 4 differ", output)

    def test_one_test_runs(self):
        code, output = gpu_check("test", "--backend", "simt", "--build", BUILD, "--out", self.out, "--only", "kernels_step_cuda")
        self.assertEqual(code, 0, output)
        self.assertRegex(output, r"core_kernels_step_cuda_test\s+passed .* \d+ tests")

    def test_bench_prints_each_product_each_op_and_the_kernels_of_a_step(self):
        code, output = gpu_check("bench", "--backend", "simt", "--build", BUILD, "--out", self.out)
        self.assertEqual(code, 0, output)
        rows = [json.loads(line) for line in (self.out / "bench.jsonl").read_text().splitlines()]
        products = [r for r in rows if "product" in r]
        self.assertEqual(len(products), 4 * 15, "three products of five layers in four types")
        for row in products:
            self.assertGreater(min(row["library_gflops_per_s"], row["builtin_gflops_per_s"]), 0)
        ops = [(r["op"], r["pass"]) for r in rows if "op" in r]
        self.assertEqual(sorted(ops), sorted((op, p) for ops in stages.OPS.values() for op in ops for p in ("forward", "backward")))
        for row in (r for r in rows if "op" in r):
            self.assertEqual(row["device"], "cuda")
            self.assertGreater(row["seconds"]["median"], 0)
        ours = [r for r in rows if r.get("peer", "").startswith("minibert")]
        self.assertEqual(len(ours), 1)
        kernels = {k["kernel"]: k["seconds"] for k in ours[0]["kernels"]}
        self.assertLessEqual({"gemm", "attention_backward", "layer_norm_forward", "optimizer_step"}, set(kernels))
        self.assertIn("cuBLASLt", ours[0]["mode"])

    def test_the_sanitizer_is_said_to_be_absent(self):
        code, output = gpu_check("sanitize", "--backend", "simt", "--build", BUILD, "--out", self.out)
        self.assertEqual(code, 0, output)
        self.assertIn("not available", output)


if __name__ == "__main__":
    unittest.main()
