#!/usr/bin/env python3
"""`minibert train --device cuda` while the CUDA runtime or cuBLASLt fails: every function that a run calls fails once, in the middle
of it. The exit code, what the message names, that nothing hangs, and that the run goes on from its last checkpoint. Also what device
cuda refuses, and what it does when memory runs out.

The stand-ins of tools/simt fail the nth call of a function (SIMT_FAIL) and list the functions called (SIMT_CALLS;
tools/simt/runtime/README.md). A function without a line below fails the test. Run by ctest in the preset simt, which sets
MINIBERT_BINARY. The test builds its data from a few words.
"""
import os
import pathlib
import shutil
import subprocess
import tempfile
import unittest

import few_words  # beside this file

BINARY = os.environ.get("MINIBERT_BINARY", "build/simt/bin/minibert")
SECONDS = 120  # a run that takes longer hangs; one takes a second or two of an idle core
DONE, BUG, USAGE, DATA, OUT_OF_MEMORY = 0, 1, 2, 3, 6

# How the runs that are disturbed multiply and queue: between them they call all that training calls.
RUNS = {
    "cublaslt": ["--gemm", "cublaslt"],
    "graph": ["--gemm", "ours", "--fixed-shapes", "--graph"],
    "timed": ["--gemm", "fastest"],
}
GOES_ON = (DONE, "")  # the run survives, and ends as if nothing had been
# function: exit code and what the message names, where its middle call fails
FUNCTIONS = {
    # Without them there is no device, no memory, no order
    "cudaGetDevice": (BUG, "in op gemm"),
    "cudaGetDeviceCount": (USAGE, "--device cpu"),
    "cudaDeviceGetAttribute": (BUG, "in op gemm"),
    "cudaStreamCreateWithFlags": (BUG, "cudaStreamCreateWithFlags"),
    "cudaStreamIsCapturing": (BUG, "in op gemm"),
    "cudaStreamSynchronize": (BUG, "cudaStreamSynchronize"),
    "cudaStreamWaitEvent": (BUG, "cudaStreamWaitEvent"),
    "cudaEventCreateWithFlags": (BUG, "cudaEventCreateWithFlags"),
    "cudaEventRecord": (BUG, "cudaEventRecord"),
    "cudaEventQuery": (BUG, "cudaEventQuery"),
    "cudaEventSynchronize": (BUG, "in op gemm"),
    "cudaEventElapsedTime": (BUG, "cudaEventElapsedTime"),
    # Work
    "cudaLaunchKernel": (BUG, "failed in op "),
    "cudaMemcpyAsync": (BUG, "failed in op copy"),
    "cudaMemsetAsync": (BUG, "failed in op "),
    # Graphs
    "cudaStreamBeginCapture": (BUG, "cudaStreamBeginCapture"),
    "cudaStreamEndCapture": (BUG, "cudaStreamEndCapture"),
    "cudaGraphInstantiate": (BUG, "cudaGraphInstantiate"),
    "cudaGraphLaunch": (BUG, "cudaGraphLaunch"),
    # cuBLASLt
    "cublasLtCreate": (BUG, "cublasLtCreate"),
    "cublasLtMatmul": (BUG, "failed in op gemm"),
    "cublasLtMatmulDescCreate": (BUG, "failed in op gemm"),
    "cublasLtMatmulDescSetAttribute": (BUG, "failed in op gemm"),
    "cublasLtMatrixLayoutCreate": (BUG, "failed in op gemm"),
    "cublasLtMatmulPreferenceCreate": (BUG, "failed in op gemm"),
    "cublasLtMatmulPreferenceSetAttribute": (BUG, "failed in op gemm"),
    # The run goes on: pageable memory in place of page-locked, the cache given back, our own product in place of the library's
    "cudaMallocHost": GOES_ON,
    "cudaMalloc": GOES_ON,
    "cublasLtMatmulAlgoGetHeuristic": GOES_ON,
    # What is asked for the log alone
    "cudaGetDeviceProperties": GOES_ON,
    # Taking things away
    "cudaEventDestroy": GOES_ON,
    "cudaStreamDestroy": GOES_ON,
    "cudaGraphDestroy": GOES_ON,
    "cudaGraphExecDestroy": GOES_ON,
    "cublasLtMatmulDescDestroy": GOES_ON,
    "cublasLtMatrixLayoutDestroy": GOES_ON,
    "cublasLtMatmulPreferenceDestroy": GOES_ON,
}
# The device dies in the middle of the run: reported by whatever comes next, and by all that follows
DEVICE_FAULTS = [
    ("device/decide_kernel:2:700", "cudaErrorIllegalAddress"),
    ("device/optimizer_ratios_kernel:2:719", "cudaErrorLaunchFailure"),
    ("device/memcpy:40:719", "cudaErrorLaunchFailure"),
    ("device/cublasLtMatmul:30:716", "cudaErrorMisalignedAddress"),
]


class CudaErrors(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.scratch = tempfile.TemporaryDirectory(prefix="minibert-cuda-errors-")
        cls.folder = pathlib.Path(cls.scratch.name)
        few_words.write(cls.folder, lines=200)
        built = cls.run_minibert("data", "build", "--vocab", cls.folder / "vocab.txt", "--output", cls.folder / "data",
                                 "--sequence-length", 16, "--max-predictions", 3, cls.folder / "text")
        assert built.returncode == 0, built.stderr
        got = cls.train("start", *RUNS["cublaslt"], "--stop-after", 1)
        assert got.returncode == 0, got.stderr

    @classmethod
    def tearDownClass(cls):
        cls.scratch.cleanup()

    @staticmethod
    def run_minibert(*arguments, **environment):
        return subprocess.run([BINARY, *map(str, arguments)], capture_output=True, text=True, timeout=SECONDS,
                              env=dict(os.environ, **environment))

    @classmethod
    def train(cls, name, *more, micro_batch=2, batch=4, **environment):
        return cls.run_minibert(
            "train", "--data", cls.folder / "data", "--output-dir", cls.folder / name, "--num-hidden-layers", 1, "--hidden-size", 32,
            "--num-attention-heads", 1, "--intermediate-size", 32, "--micro-batch-size", micro_batch, "--global-batch-size", batch,
            "--max-steps", 4, "--save-every", 1, "--device", "cuda", "--precision", "bf16", "--resume", "auto", *more, **environment)

    def started(self, failure):
        """A run that has done a step, with its checkpoint; three are left."""
        name = failure.replace("/", "-").replace(":", "-")
        shutil.copytree(self.folder / "start", self.folder / name, symlinks=True)
        return name

    def goes_on(self, name, run="cublaslt"):
        got = self.train(name, *RUNS[run])
        self.assertEqual(got.returncode, 0, got.stderr)
        self.assertTrue((self.folder / name / "checkpoint-4/model.safetensors").exists())
        shutil.rmtree(self.folder / name)

    def calls_of(self, run):
        """function: calls of an undisturbed run from the same start."""
        name = self.started(run)
        file = self.folder / f"calls-{run}"
        got = self.train(name, *RUNS[run], SIMT_CALLS=str(file))
        self.assertEqual(got.returncode, 0, got.stderr)
        return {function: int(count) for function, count in map(str.split, file.read_text().splitlines())}

    def test_every_function_fails_once(self):
        calls = {run: self.calls_of(run) for run in RUNS}
        called = set().union(*calls.values())
        self.assertEqual(called - set(FUNCTIONS), set(), "called by training, but without a line in FUNCTIONS")
        self.assertEqual(set(FUNCTIONS) - called, set(), "in FUNCTIONS, but training does not call it")
        for function, (code, text) in FUNCTIONS.items():
            run = next(run for run in RUNS if function in calls[run])
            failure = f"{function}:{(calls[run][function] + 1) // 2}"
            with self.subTest(failure, run=run):
                name = self.started(function)
                got = self.train(name, *RUNS[run], SIMT_FAIL=failure)
                self.assertEqual(got.returncode, code, got.stderr)
                self.assertIn(text, got.stderr)
                if code == DONE:
                    shutil.rmtree(self.folder / name)
                else:
                    self.goes_on(name, run)

    def test_memory_that_can_not_be_given_back_is_left(self):
        name = self.started("free")
        got = self.train(name, *RUNS["cublaslt"], SIMT_FAIL="cudaMalloc:50,cudaFree:1,cudaFreeHost:1")
        self.assertEqual(got.returncode, 0, got.stderr)

    def test_a_device_that_dies_ends_the_run_and_keeps_the_checkpoint(self):
        for failure, text in DEVICE_FAULTS:
            with self.subTest(failure):
                name = self.started(failure)
                got = self.train(name, *RUNS["cublaslt"], SIMT_FAIL=failure)
                self.assertEqual(got.returncode, BUG, got.stderr)
                self.assertIn(text, got.stderr)
                self.goes_on(name)

    def test_what_device_cuda_refuses(self):
        got = self.train("none", SIMT_DEVICES="0")
        self.assertEqual(got.returncode, USAGE, got.stderr)
        self.assertIn("--device cpu", got.stderr)
        self.assertFalse((self.folder / "none").exists())
        got = self.train("none", "--graph")
        self.assertEqual(got.returncode, USAGE, got.stderr)
        self.assertIn("Add --fixed-shapes", got.stderr)
        got = self.train("none", "--gemm", "cublas")
        self.assertEqual(got.returncode, USAGE, got.stderr)
        self.assertIn("cublaslt", got.stderr)

    def test_who_multiplies_is_decided_once(self):
        def multiplications(name, *more):
            got = self.train(name, *RUNS["timed"], *more, SIMT_CALLS=str(self.folder / "calls"))
            self.assertEqual(got.returncode, 0, got.stderr)
            calls = dict(map(str.split, (self.folder / "calls").read_text().splitlines()))
            return int(calls["cublasLtMatmul"]), got.stdout
        _, said = multiplications("decided", "--stop-after", 1)
        choices = self.folder / "decided" / "gemm_choices.txt"
        heading, *forms = choices.read_text().splitlines()
        self.assertIn("Emulated sm_80; bf16, 1 x 32, 1 heads", heading)
        self.assertIn(f"products: {len(forms)} forms timed: ", said)
        ours, said = multiplications("decided", "--stop-after", 2)
        self.assertIn(f"products: {len(forms)} forms from before: ", said)
        choices.write_text("\n".join([heading] + [form.rsplit(" ", 1)[0] + " cublaslt:0" for form in forms]) + "\n")
        theirs, said = multiplications("decided", "--stop-after", 3)
        self.assertIn(f"0 ours, {len(forms)} cuBLASLt's", said)
        self.assertGreater(theirs, ours + len(forms))
        choices.write_text(heading + "\nnonsense\n")
        got = self.train("decided", *RUNS["timed"])
        self.assertEqual(got.returncode, DATA, got.stderr)
        self.assertIn("Remove the file", got.stderr)
        choices.unlink()
        _, said = multiplications("decided")
        self.assertIn(" timed: ", said)

    def test_too_little_memory_is_explained_and_the_advice_works(self):
        small = {"SIMT_MEMORY": "800K", "batch": 64}
        got = self.train("small", "--gemm", "ours", micro_batch=64, **small)
        self.assertEqual(got.returncode, OUT_OF_MEMORY, got.stderr)
        for line in ("weights", "optimizer state", "activations", "workspace", "the device has", "Use a smaller --micro-batch-size"):
            self.assertIn(line, got.stderr)
        got = self.train("smaller", "--gemm", "ours", "--stop-after", 1, micro_batch=4, **small)
        self.assertEqual(got.returncode, 0, got.stderr)


if __name__ == "__main__":
    unittest.main()
