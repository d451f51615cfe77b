#!/usr/bin/env python3
"""`minibert train` and `minibert eval mlm` as a shell sees them: flags, order of sources, messages, exit codes, JSON.

Run by ctest, which sets MINIBERT_BINARY. The test builds its data from a few words.
"""
import json
import os
import pathlib
import resource
import signal
import subprocess
import tempfile
import time
import unittest

import few_words  # beside this file

BINARY = os.environ.get("MINIBERT_BINARY", "build/cpu/bin/minibert")
METRICS = ["step", "phase", "loss", "mlm_loss", "mlm_accuracy", "nsp_loss", "nsp_accuracy", "learning_rate", "grad_norm",
           "loss_scale", "skipped_steps", "sequences", "tokens", "step_seconds", "data_seconds", "communication_seconds",
           "exposed_communication_seconds"]
EVAL = ["mlm_loss", "mlm_accuracy", "unigram_cross_entropy", "nsp_loss", "nsp_accuracy", "masked_tokens"]


def run(*arguments, **environment):
    return subprocess.run([BINARY, *map(str, arguments)], capture_output=True, text=True, timeout=120,
                          env=dict(os.environ, **environment))


class TrainVerb(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.scratch = tempfile.TemporaryDirectory(prefix="minibert-train-verb-")
        cls.folder = pathlib.Path(cls.scratch.name)
        few_words.write(cls.folder, lines=400)
        built = run("data", "build", "--vocab", cls.folder / "vocab.txt", "--output", cls.folder / "data",
                    "--sequence-length", 24, "--hold-out-every", 5, cls.folder / "text")
        assert built.returncode == 0, built.stderr

    @classmethod
    def tearDownClass(cls):
        cls.scratch.cleanup()

    def settings(self, name, *more):
        return ["train", "--data", self.folder / "data", "--output-dir", self.folder / name, "--num-hidden-layers", 1,
                "--hidden-size", 32, "--num-attention-heads", 2, "--micro-batch-size", 4, "--global-batch-size", 8,
                "--max-steps", 6, "--log-every", 2, *more]

    def refused(self, code, text, *arguments, **environment):
        got = run(*arguments, **environment)
        self.assertEqual(got.returncode, code, got.stderr)
        self.assertIn(text, got.stderr)

    def test_help_and_recipes(self):
        text = run("train", "--help").stdout
        for flag in ("--micro-batch-size", "--resume", "--no-nsp", "--grace", "MINIBERT_MAX_STEPS"):
            self.assertIn(flag, text)
        recipes = run("train", "--list-recipes").stdout
        self.assertIn("austen", recipes)
        self.assertIn("bert-base", recipes)

    def test_optimizers_are_listed_with_formula_knobs_and_source(self):
        text = run("train", "--list-optimizers").stdout
        rows = [json.loads(line) for line in run("train", "--list-optimizers", "--json").stdout.splitlines()]
        self.assertEqual({row["name"] for row in rows},
                         {"lamb", "lamb-v3", "nvlamb", "lamb-apex", "lamb-mlperf", "lamb-deepspeed", "lamb-clamped", "lans", "lars",
                          "lars-mlperf", "adamw", "adamw-google", "sgd"})
        for row in rows:
            self.assertIn(f"{row['name']}: {row['summary']}\n  {row['formula']}\n", text)
            self.assertIn(f"source: {row['source']}\n", text)
            self.assertIn("gradient_clipping", row["knobs"])
        deepspeed = next(row for row in rows if row["name"] == "lamb-deepspeed")
        self.assertEqual(deepspeed["knobs"]["trust_ratio_max"], "10")
        self.assertEqual(deepspeed["knobs"]["bias_correction"], "step_size")
        self.assertIn("trust_ratio_max      the trust ratio is at most this", text)

    def test_an_optimizer_with_other_moments_does_not_resume_and_starts_anew_as_advised(self):
        self.assertEqual(run(*self.settings("sgd", "--optimizer", "sgd")).returncode, 0)
        self.refused(7, "one moment (momentum), but lamb keeps two", *self.settings("sgd", "--resume", "must"))
        got = run(*self.settings("anew", "--init-from", self.folder / "sgd/latest", "--adapt", "all"))
        self.assertEqual(got.returncode, 0, got.stderr)
        self.assertIn("adapt all, bias_correction moments", got.stdout)

    def test_sources_in_order(self):
        (self.folder / "c.toml").write_text("[train]\nseed = 2\nthreads = 2\n[optim]\nwarmup = 7\n")
        got = run("train", "--recipe", "austen", "--config", self.folder / "c.toml", "--seed", 4, "--no-nsp",
                  "--print-config", MINIBERT_SEED="3", MINIBERT_THREADS="3")
        self.assertEqual(got.returncode, 0, got.stderr)
        lines = {line.split(" = ")[0]: line for line in got.stdout.splitlines() if " = " in line}
        self.assertIn("= 4 ", lines["seed"])
        self.assertIn("# --seed", lines["seed"])
        self.assertIn("# MINIBERT_THREADS", lines["threads"])
        self.assertIn("c.toml:5", lines["warmup"])
        self.assertIn("# recipe austen", lines["learning_rate"])
        self.assertIn("nsp = false", lines["nsp"])
        (self.folder / "printed.toml").write_text(got.stdout)
        again = run("train", "--config", self.folder / "printed.toml", "--print-config")
        strip = lambda text: [line.split("#")[0] for line in text.splitlines()]
        self.assertEqual(strip(again.stdout), strip(got.stdout))

    def test_mistakes_name_the_fix(self):
        self.refused(2, "Did you mean --micro-batch-size?", "train", "--micro-batchsize", 3)
        self.refused(2, "--seed: At Most 1 required", "train", "--seed", 1, "--seed", 2)
        self.refused(2, "Did you mean MINIBERT_MAX_STEPS?", "train", "--print-config", MINIBERT_MAXSTEPS="3")
        self.refused(2, "which no CPU has", *self.settings("x", "--precision", "tf32"))
        self.refused(2, "Leave --loss-scale out", *self.settings("x", "--loss-scale", 1024))
        self.refused(2, "no F16C", *self.settings("x", "--precision", "fp16"), MINIBERT_SIMD="v2")
        self.refused(2, "expected a multiple of train.micro_batch_size = 3", "train", "--data", self.folder / "data",
                     "--output-dir", self.folder / "x", "--micro-batch-size", 3, "--global-batch-size", 8)
        self.refused(2, "adamw has no trust ratio", *self.settings("x", "--optimizer", "adamw", "--adapt", "all"))
        self.refused(2, "data.data is empty", "train")
        self.refused(3, "/no/such", "train", "--data", "/no/such", "--output-dir", self.folder / "x")
        self.refused(2, "Did you mean austen?", "train", "--recipe", "austin")
        self.assertFalse((self.folder / "x").exists())

    def test_dry_run_writes_nothing(self):
        got = run(*self.settings("dry", "--dry-run"))
        self.assertEqual(got.returncode, 0, got.stderr)
        self.assertIn("micro 4 x accumulation 2 = 8 sequences per step", got.stdout)
        self.assertFalse((self.folder / "dry").exists())
        self.assertNotIn("are the training data", run(*self.settings("dry", "--dry-run", "--evaluation-data", self.folder / "data/held-out")).stdout)
        self.assertIn("are the training data", run(*self.settings("dry", "--dry-run", "--evaluation-data", self.folder / "data")).stdout)

    def test_a_dry_run_as_json_has_the_findings_about_the_data(self):
        (self.folder / "one").write_text((self.folder / "text").read_text().replace("\n\n", "\n"))
        data = self.folder / "one-document"
        built = run("data", "build", "--vocab", self.folder / "vocab.txt", "--output", data, "--sequence-length", 24, self.folder / "one")
        self.assertEqual(built.returncode, 0, built.stderr)
        command = self.settings("dry", "--dry-run", "--json")
        command[command.index("--data") + 1] = data
        [phase] = json.loads(run(*command).stdout)["phases"]
        [finding] = [f for f in phase["findings"] if f["name"] == "single_document"]
        self.assertIn(finding, json.loads(run("data", "inspect", "--json", data).stdout)["findings"])

    def test_a_recipes_plan_needs_no_data(self):
        got = run("train", "--recipe", "bert-large-lamb-64k", "--dry-run")
        self.assertEqual(got.returncode, 0, got.stderr)
        self.assertIn("published: 8599 steps at batch 64k/32k", got.stdout)
        self.assertIn("no data are given", got.stdout)
        plan = json.loads(run("train", "--recipe", "bert-large-lamb-64k", "--dry-run", "--json").stdout)
        self.assertEqual([(p["steps"], p["global_batch_size"], p["sequence_length"]) for p in plan["phases"]],
                         [(7037, 65536, 128), (1562, 32768, 512)])
        self.refused(2, "phase 2 (seq512): data.data is empty", "train", "--recipe", "bert-large-lamb-64k", "--phase",
                     f"1.data={self.folder / 'data'}", "--output-dir", self.folder / "x")

    def test_the_table_of_recipes_is_the_one_in_docs(self):
        root = pathlib.Path(os.environ.get("MINIBERT_SOURCE_DIR", pathlib.Path(__file__).resolve().parents[2]))
        printed = run("train", "--list-recipes").stdout
        self.assertIn((root / "docs/results/recipes.txt").read_text(), printed,
                      "docs/results/README.md has the command that writes docs/results/recipes.txt")

    def test_run_of_two_phases(self):
        held_out = self.folder / "data/held-out"
        (self.folder / "phases.toml").write_text("[[phase]]\nmax_steps = 4\n[[phase]]\nname = 'last'\nmax_steps = 2\n")
        settings = [s for s in self.settings("phases", "--config", self.folder / "phases.toml", "--evaluation-data", f"held={held_out}")]
        where = settings.index("--max-steps")
        self.refused(2, "--phase 1.max_steps=VALUE", *settings)
        del settings[where:where + 2]
        got = run(*settings, "--phase", "last.learning_rate=5e-4")
        self.assertEqual(got.returncode, 0, got.stderr)
        self.assertIn("step 6/6 | phase 2/2 | mlm ", got.stdout)
        records = [json.loads(line) for line in (self.folder / "phases/metrics.jsonl").read_text().splitlines()]
        self.assertEqual([r["phase"] for r in records], [0, 0, 0, 0, 1, 1])
        self.assertEqual(["eval" in r for r in records], [False, False, False, True, False, True])
        self.assertAlmostEqual(records[4]["learning_rate"], 5e-4, places=9)

    def test_run_resume_and_eval(self):
        held_out = self.folder / "data/held-out"
        name = "run"
        got = run(*self.settings(name, "--evaluation-data", f"held={held_out}", "--json"))
        self.assertEqual(got.returncode, 0, got.stderr)
        records = [json.loads(line) for line in got.stdout.splitlines()]
        self.assertEqual([record["step"] for record in records], [2, 4, 6])
        stored = [json.loads(line) for line in (self.folder / name / "metrics.jsonl").read_text().splitlines()]
        self.assertEqual(list(stored[0]), METRICS)
        self.assertEqual(stored[-1], records[-1])
        self.assertIn("step 6/6 | mlm ", got.stderr)
        evaluated = run("eval", "mlm", "--model", self.folder / name / "latest", "--data", held_out, "--json")
        self.assertEqual(evaluated.returncode, 0, evaluated.stderr)
        result = json.loads(evaluated.stdout)
        self.assertEqual(list(result), EVAL)
        self.assertEqual(result["masked_tokens"], stored[-1]["eval"]["masked_tokens"])
        self.assertAlmostEqual(result["mlm_loss"], stored[-1]["eval"]["mlm_loss"], places=5)
        self.refused(2, "--resume auto", *self.settings(name))
        self.assertEqual(run(*self.settings(name, "--resume", "must")).returncode, 0)

    def test_settings_that_changed_are_listed_when_a_run_goes_on(self):
        self.assertEqual(run(*self.settings("other", "--stop-after", 4)).returncode, 0)
        settings = self.settings("other", "--resume", "must", "--learning-rate", "5e-3", "--trust-ratio-max", 3)
        for flag, value in (("--max-steps", 8), ("--log-every", 1)):
            settings[settings.index(flag) + 1] = value
        lines = ["optim.learning_rate was 0.001 in the checkpoint and is 0.005 now, from step 5 on: the run continues, but not",
                 "optim.trust_ratio_max was auto in the checkpoint and is 3 now, from step 5 on",
                 "train.max_steps was 6 in the checkpoint and is 8 now, from step 5 on",
                 "log.log_every was 2 in the checkpoint and is 1 now, from step 5 on: no step depends on it",
                 "learning rate of step 5: 0.0025, by the settings of the checkpoint 0.000333"]  # lr0 (1 - 4/8), lr0 (1 - 4/6)
        plan = run(*settings, "--dry-run")
        self.assertEqual(plan.returncode, 0, plan.stderr)
        got = run(*settings)
        self.assertEqual(got.returncode, 0, got.stderr)
        for line in lines:
            self.assertIn(line, got.stdout)
            self.assertIn("note: " + line, plan.stdout)
        records = [json.loads(line) for line in (self.folder / "other/metrics.jsonl").read_text().splitlines()]
        self.assertEqual([r["step"] for r in records if "changed_settings" in r], [5])
        self.assertEqual(records[4]["changed_settings"]["optim.learning_rate"], {"before": "0.001", "now": "0.005"})
        again = run(*settings)  # the checkpoint has them now
        self.assertNotIn("in the checkpoint and is", again.stdout)
        self.assertIn("the run is complete: all of its 8 steps are done", again.stdout)

    def test_all_faults_of_settings_are_told_at_once(self):
        (self.folder / "bad.toml").write_text("[train]\nmicro_batchsize = 3\nseed = -1\ndevice = 'gpu'\n[optim]\nwarmup = 'x'\n")
        got = run("train", "--config", self.folder / "bad.toml", "--print-config")
        self.assertEqual(got.returncode, 2)
        for part in ("bad.toml: 4 settings are wrong.", "bad.toml:2: key train.micro_batchsize is unknown", "bad.toml:3: train.seed is -1",
                     'bad.toml:4: train.device is "gpu"', "bad.toml:6: optim.warmup has another type"):
            self.assertIn(part, got.stderr)
        (self.folder / "bad.toml").write_text("[train]\n" + "".join(f"key{i} = 1\n" for i in range(12)))
        got = run("train", "--config", self.folder / "bad.toml", "--print-config")
        self.assertIn("12 settings are wrong", got.stderr)
        self.assertIn("and 2 more", got.stderr)
        self.assertEqual(got.stderr.count("is unknown"), 10)
        got = run("train", "--seed", "x", "--precision", "bf61", "--print-config")
        self.assertIn("flags: 2 settings are wrong", got.stderr)
        self.assertIn("Did you mean bf16?", got.stderr)
        got = run(*self.settings("x", "--precision", "tf32", "--loss-scaling", "on", "--warmup", 99))
        self.assertIn("settings: 3 settings are wrong", got.stderr)
        self.assertFalse((self.folder / "x").exists())

    def test_what_cannot_start_is_refused_by_the_dry_run_too(self):
        (self.folder / "file").write_text("")
        self.refused(2, "output folder can't be created", *self.settings("file", "--dry-run"))
        self.refused(2, "this path does not exist", *self.settings("new", "--dry-run", "--resume", "nope"))
        self.refused(2, "expected v2, v3 or v4", *self.settings("new"), MINIBERT_SIMD="v9")
        self.refused(2, "Use --hidden-size 34 or", "train", "--data", self.folder / "data", "--output-dir", self.folder / "new",
                     "--hidden-size", 33, "--num-attention-heads", 2, "--dry-run")
        self.assertFalse((self.folder / "new").exists())

    def test_run_outlives_its_reader_and_other_verbs_say_so(self):
        for more in ([], ["--json"]):
            name = f"reader{len(more)}"
            process = subprocess.Popen([BINARY, *map(str, self.settings(name, *more))], stdout=subprocess.PIPE,
                                       stderr=subprocess.DEVNULL)
            process.stdout.readline()
            process.stdout.close()
            self.assertEqual(process.wait(timeout=120), 0)
            self.assertTrue((self.folder / name / "checkpoint-6/MANIFEST.json").exists())
        closed = subprocess.run([BINARY, *map(str, self.settings("closed"))], preexec_fn=lambda: os.close(1), timeout=120)
        self.assertEqual(closed.returncode, 0)
        self.assertRegex((self.folder / "closed/.lock").read_text(), r"^process \d+ on [^\n]*\n$")
        for arguments in (["env"], ["train", "--print-config"], ["data", "inspect", self.folder / "data"], ["train", "--help"]):
            with open("/dev/full", "w") as full:
                got = subprocess.run([BINARY, *map(str, arguments)], stdout=full, stderr=subprocess.PIPE, text=True, timeout=120)
            self.assertEqual(got.returncode, 3, got.stderr)
            self.assertIn("standard output can't be written", got.stderr)

    def test_limit_on_file_sizes_is_an_error_and_no_signal(self):
        limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (30000, 30000))
        got = subprocess.run([BINARY, *map(str, self.settings("limit", "--save-every", 1))], preexec_fn=limit,
                             capture_output=True, text=True, timeout=120)
        self.assertEqual(got.returncode, 7, got.stderr)
        self.assertIn("File too large", got.stderr)

    def test_signal_saves_and_exits_75(self):
        arguments = [str(a) for a in self.settings("signal", "--save-every", 0)]
        arguments[arguments.index("--max-steps") + 1] = "100000"
        process = subprocess.Popen([BINARY, *arguments], stdout=subprocess.PIPE, text=True)
        metrics = self.folder / "signal/metrics.jsonl"
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and not (metrics.exists() and metrics.stat().st_size > 0):
            time.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=60)
        self.assertEqual(process.returncode, 75)
        self.assertIn("SIGTERM: ", output)
        steps = len(metrics.read_text().splitlines())
        self.assertTrue((self.folder / f"signal/checkpoint-{steps}/MANIFEST.json").exists())

    def test_eval_refuses_what_does_not_fit(self):
        self.refused(3, "/no/such", "eval", "mlm", "--model", "/no/such", "--data", self.folder / "data")
        self.refused(2, "--model is required", "eval", "mlm", "--data", self.folder / "data")
        self.refused(2, "--max-batches: Value -1 not in range 0 to", "eval", "mlm", "--max-batches", -1)

    def test_eval_refuses_a_run_folder_and_a_damaged_checkpoint(self):
        got = run(*self.settings("eval"))
        self.assertEqual(got.returncode, 0, got.stderr)
        data = self.folder / "data/held-out"
        self.refused(3, "is a run folder, expected one of its checkpoints. Give", "eval", "mlm", "--data", data,
                     "--model", self.folder / "eval")
        weights = self.folder / "eval/checkpoint-6/model.safetensors"
        content = bytearray(weights.read_bytes())
        content[-100] ^= 1
        weights.write_bytes(content)
        for verb in (["eval", "mlm", "--data", data], ["embed", "w1"], ["fill-mask", "[MASK]"]):
            self.refused(7, "model.safetensors: its checksum is", *verb, "--model", self.folder / "eval/latest")

    def test_wrong_words_get_the_nearest_at_each_level(self):
        self.refused(2, 'there is no verb "trian". Did you mean train? minibert --help', "trian")
        self.refused(2, 'there is no verb "biuld". Did you mean build? minibert data --help', "data", "biuld")
        self.refused(2, "data build: there is no flag --ouput. Did you mean --output? minibert data build --help",
                     "data", "build", "--ouput", "x", "--output", "y", "--vocab", "z", "text")


if __name__ == "__main__":
    unittest.main()
