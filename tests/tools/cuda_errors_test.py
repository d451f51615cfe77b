#!/usr/bin/env python3
"""`minibert train --device cuda` while the CUDA runtime or cuBLASLt fails: the exit code, what the message names, and that the last
checkpoint loads. The stand-ins of tools/simt fail the nth call of a function (SIMT_FAIL, tools/simt/runtime/README.md).

Run by ctest in the preset simt, which sets MINIBERT_BINARY. The test builds its data from a few words.
"""
import os
import pathlib
import shutil
import subprocess
import tempfile
import unittest

BINARY = os.environ.get("MINIBERT_BINARY", "build/simt/bin/minibert")
USAGE, OUT_OF_MEMORY, BUG = 2, 6, 1
# function or device/kernel: the call that fails, the exit code, what the message names
FATAL = [
    ("cudaGetDeviceCount:1", USAGE, "--device cpu"),
    ("cudaStreamCreateWithFlags:1", BUG, "cudaStreamCreateWithFlags"),
    ("cudaMemcpyAsync:40:999", BUG, "cudaMemcpyAsync"),
    ("cudaMemsetAsync:1:999", BUG, "cudaMemsetAsync"),
    ("cudaEventRecord:2:999", BUG, "cudaEventRecord"),
    ("cudaStreamSynchronize:20:999", BUG, "cudaStreamSynchronize"),
    ("device/decide_kernel:1:700", BUG, "cudaErrorIllegalAddress"),
    ("device/lamb_ratios_kernel:1:719", BUG, "cudaErrorLaunchFailure"),
    ("device/memcpy:60:719", BUG, "cudaErrorLaunchFailure"),
    ("cublasLtCreate:1", BUG, "cublasLtCreate"),
    ("cublasLtMatmul:1", BUG, "cublasLtMatmul"),
]
# the run goes on: pageable memory in place of page-locked, the cache given back, our own product in place of the library's
HARMLESS = ["cudaMallocHost:1", "cudaMalloc:9", "cublasLtMatmulAlgoGetHeuristic:1", "cublasLtMatmulDescCreate:1",
            "cublasLtMatrixLayoutCreate:2"]


class CudaErrors(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.scratch = tempfile.TemporaryDirectory(prefix="minibert-cuda-errors-")
        cls.folder = pathlib.Path(cls.scratch.name)
        words = [f"w{i}" for i in range(30)]
        lines = [" ".join(words[(n + i) % 30] for i in range(3 + n % 6)) + ("\n" if n % 9 == 8 else "") for n in range(200)]
        (cls.folder / "text").write_text("\n".join(lines))
        (cls.folder / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"] + words) + "\n")
        built = cls.run_minibert("data", "build", "--vocab", cls.folder / "vocab.txt", "--output", cls.folder / "data",
                                 "--sequence-length", 16, "--max-predictions", 3, cls.folder / "text")
        assert built.returncode == 0, built.stderr
        got = cls.train("start", "--stop-after", 2)
        assert got.returncode == 0, got.stderr

    @classmethod
    def tearDownClass(cls):
        cls.scratch.cleanup()

    @staticmethod
    def run_minibert(*arguments, **environment):
        return subprocess.run([BINARY, *map(str, arguments)], capture_output=True, text=True, timeout=120,
                              env=dict(os.environ, **environment))

    @classmethod
    def train(cls, name, *more, **environment):
        return cls.run_minibert(
            "train", "--data", cls.folder / "data", "--output-dir", cls.folder / name, "--num-hidden-layers", 1, "--hidden-size", 32,
            "--num-attention-heads", 1, "--intermediate-size", 32, "--micro-batch-size", 4, "--global-batch-size", 4, "--max-steps", 4,
            "--save-every", 1, "--device", "cuda", "--precision", "bf16", "--resume", "auto", *more, **environment)

    def started(self, failure):
        """A run that has done two steps, with two checkpoints."""
        name = failure.replace("/", "-").replace(":", "-")
        shutil.copytree(self.folder / "start", self.folder / name, symlinks=True)
        return name

    def goes_on(self, name):
        got = self.train(name)
        self.assertEqual(got.returncode, 0, got.stderr)
        self.assertTrue((self.folder / name / "checkpoint-4/model.safetensors").exists())

    def test_failures_end_the_run_and_keep_the_checkpoint(self):
        for failure, code, text in FATAL:
            with self.subTest(failure):
                name = self.started(failure)
                got = self.train(name, MINIBERT_CUDA_GEMM="cublaslt", SIMT_FAIL=failure)
                self.assertEqual(got.returncode, code, got.stderr)
                self.assertIn(text, got.stderr)
                self.goes_on(name)

    def test_what_only_makes_it_slower_does_not_end_it(self):
        for failure in HARMLESS:
            with self.subTest(failure):
                got = self.train(self.started(failure), MINIBERT_CUDA_GEMM="cublaslt", SIMT_FAIL=failure)
                self.assertEqual(got.returncode, 0, got.stderr)

    def test_no_device_and_too_little_memory(self):
        got = self.train("none", SIMT_DEVICES="0")
        self.assertEqual(got.returncode, USAGE, got.stderr)
        self.assertIn("--device cpu", got.stderr)
        self.assertFalse((self.folder / "none").exists())
        got = self.train("small", SIMT_MEMORY="64K")
        self.assertEqual(got.returncode, OUT_OF_MEMORY, got.stderr)
        for line in ("weights", "activations", "--micro-batch-size"):
            self.assertIn(line, got.stderr)


if __name__ == "__main__":
    unittest.main()
