#!/usr/bin/env python3
"""`minibert finetune` and `eval squad | classify` as a shell sees them: learning, files, messages, exit codes, kill and resume.

Run by ctest, which sets MINIBERT_BINARY. The model is a few steps of `train` on a few words; questions and texts are made of them.
"""
import json
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest

import few_words  # beside this file
import train_ranks_test

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "models/text"))
import official_squad  # noqa: E402

BINARY = os.environ.get("MINIBERT_BINARY", "build/cpu/bin/minibert")
RECORD = ["step", "phase", "loss", "accuracy", "learning_rate", "grad_norm", "loss_scale", "skipped_steps", "sequences", "tokens",
          "step_seconds", "data_seconds", "communication_seconds", "exposed_communication_seconds"]
TIMES = RECORD[-4:]


def run(*arguments, **environment):
    return subprocess.run([BINARY, *map(str, arguments)], capture_output=True, text=True, timeout=200,
                          env=dict(os.environ, **environment))


def squad_file(path, paragraphs, seed):
    """The answer to each question is the one w0 of its text."""
    draw = random.Random(seed)
    made = []
    for number in range(paragraphs):
        words = [f"w{draw.randrange(1, 30)}" for _ in range(draw.randint(8, 40))]
        place = draw.randrange(len(words))
        words[place] = "w0"
        answer = {"text": "w0", "answer_start": len(" ".join([*words[:place], ""]))}
        qas = [{"id": f"{number}-{k}", "question": f"w{draw.randrange(1, 30)}", "answers": [answer]} for k in range(3)]
        made.append({"context": " ".join(words), "qas": qas})
    path.write_text(json.dumps({"version": "1.1", "data": [{"title": "few words", "paragraphs": made}]}))


def labelled_file(path, rows, seed):
    """The label is that of the one word below w3."""
    draw = random.Random(seed)
    lines = ["label,text"]
    for _ in range(rows):
        kind = draw.randrange(3)
        words = [f"w{draw.randrange(3, 30)}" for _ in range(draw.randint(2, 9))]
        words.insert(draw.randrange(len(words)), f"w{kind}")
        lines.append(f'kind-{kind},"{" ".join(words)}"')
    path.write_text("\n".join(lines) + "\n")


class FinetuneVerb(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.scratch = tempfile.TemporaryDirectory(prefix="minibert-finetune-")
        cls.folder = folder = pathlib.Path(cls.scratch.name)
        few_words.build(BINARY, folder)
        trained = run("train", "--data", folder / "data", "--output-dir", folder / "pretrained", "--num-hidden-layers", 2,
                      "--hidden-size", 64, "--num-attention-heads", 2, "--micro-batch-size", 8, "--global-batch-size", 8,
                      "--initializer-range", 0.1, "--max-position-embeddings", 64, "--max-steps", 3)
        assert trained.returncode == 0, trained.stderr
        cls.model = folder / "pretrained/latest"
        squad_file(folder / "train.json", 60, seed=1)
        squad_file(folder / "dev.json", 10, seed=2)
        labelled_file(folder / "train.csv", 200, seed=1)
        labelled_file(folder / "dev.csv", 60, seed=2)

    @classmethod
    def tearDownClass(cls):
        cls.scratch.cleanup()

    def squad(self, name, *more):
        return ["finetune", "squad", "--init-from", self.model, "--data", self.folder / "train.json", "--output-dir",
                self.folder / name, "--max-sequence-length", 24, "--doc-stride", 8, "--max-query-length", 4, "--threads", 1,
                "--log-every", 1, *more]

    def classify(self, name, *more):
        return ["finetune", "classify", "--init-from", self.model, "--data", self.folder / "train.csv", "--output-dir",
                self.folder / name, "--threads", 1, "--max-sequence-length", 32, *more]

    def windows(self):
        return ["--max-sequence-length", 24, "--doc-stride", 8, "--max-query-length", 4]

    def records(self, name):
        return [json.loads(line) for line in (self.folder / name / "metrics.jsonl").read_text().splitlines()]

    def refused(self, code, text, *arguments):
        got = run(*arguments)
        self.assertEqual(got.returncode, code, got.stdout + got.stderr)
        self.assertIn(text, got.stderr)

    def test_squad_learns_and_is_scored_as_the_official_script_does(self):
        got = run(*self.squad("qa", "--evaluation-data", self.folder / "dev.json", "--learning-rate", "2e-3", "--epochs", 4))
        self.assertEqual(got.returncode, 0, got.stderr)
        records = self.records("qa")
        self.assertEqual(list(records[0]), RECORD)
        first, last = (sum(r["loss"] for r in part) for part in (records[:5], records[-5:]))
        self.assertLess(last, 0.5 * first)
        self.assertGreater(records[-1]["eval"]["f1"], 70)
        self.assertEqual(list(records[-1]["eval"]), ["exact_match", "f1", "questions", "unanswered"])
        self.assertIn("eval | F1 ", got.stdout)
        self.assertIn(f"max_steps = {len(records)} ", got.stdout)
        config = json.loads((self.folder / "qa/latest/config.json").read_text())
        self.assertEqual(config["architectures"], ["BertForQuestionAnswering"])
        answers = self.folder / "answers"
        scored = run("eval", "squad", "--model", self.folder / "qa/latest", "--data", self.folder / "dev.json", "--json",
                     "--output-dir", answers, *self.windows())
        self.assertEqual(scored.returncode, 0, scored.stderr)
        self.assertEqual(json.loads(scored.stdout), records[-1]["eval"])
        predictions = json.loads((answers / "predictions.json").read_text())
        official = official_squad.evaluate(json.loads((self.folder / "dev.json").read_text())["data"], predictions)
        self.assertEqual(official, {key: records[-1]["eval"][key] for key in official})
        best = json.loads((answers / "nbest_predictions.json").read_text())
        self.assertEqual(list(best), list(predictions))
        for id, ranked in best.items():
            self.assertEqual(ranked[0]["text"], predictions[id])
            self.assertAlmostEqual(sum(answer["probability"] for answer in ranked), 1, places=6)
        again = run("eval", "squad", "--predictions", answers / "predictions.json", "--data", self.folder / "dev.json", "--json")
        self.assertEqual(again.stdout, scored.stdout)

    def test_classify_learns_labels_of_the_file(self):
        got = run(*self.classify("classes", "--evaluation-data", self.folder / "dev.csv", "--learning-rate", "2e-3", "--epochs", 8,
                                 "--micro-batch-size", 8, "--global-batch-size", 8))
        self.assertEqual(got.returncode, 0, got.stderr)
        result = self.records("classes")[-1]["eval"]
        self.assertEqual(list(result), ["accuracy", "macro_f1", "texts"])
        self.assertGreater(result["accuracy"], 0.8)  # by chance: a third
        config = json.loads((self.folder / "classes/latest/config.json").read_text())
        self.assertEqual(config["id2label"], {"0": "kind-0", "1": "kind-1", "2": "kind-2"})
        self.assertEqual(config["label2id"], {"kind-0": 0, "kind-1": 1, "kind-2": 2})
        scored = run("eval", "classify", "--model", self.folder / "classes/latest", "--data", self.folder / "dev.csv", "--json")
        self.assertEqual(json.loads(scored.stdout), result)
        (self.folder / "other.csv").write_text("text,label\nw1 w2,kind-9\n")
        self.refused(3, '"kind-9"', "eval", "classify", "--model", self.folder / "classes/latest", "--data", self.folder / "other.csv")
        self.refused(3, "labels are unknown", *self.classify("x", "--evaluation-data", self.folder / "other.csv"))

    def test_a_classifier_that_knows_the_labels_goes_on_learning(self):
        """At a rate of nearly 0 it scores as before, whatever the order of its labels; a drawn one would be right by chance."""
        self.assertEqual(run(*self.classify("first", "--learning-rate", "2e-3", "--epochs", 8, "--micro-batch-size", 8,
                                            "--global-batch-size", 8)).returncode, 0)
        text = (self.folder / "dev.csv").read_text()
        score = lambda model, data: json.loads(run("eval", "classify", "--json", "--model", model, "--data", data).stdout)
        before = score(self.folder / "first/latest", self.folder / "dev.csv")
        self.assertGreater(before["accuracy"], 0.8)
        others = {"kind-0": "z", "kind-1": "y", "kind-2": "x"}  # another order than their bytes
        spellings = {
            "renamed": ({"id2label": {"0": "z", "1": "y", "2": "x"}, "label2id": {"z": 0, "y": 1, "x": 2}}, lambda n: others[f"kind-{n}"]),
            "unnamed": ({"id2label": {str(i): f"LABEL_{i}" for i in range(3)}, "label2id": {f"LABEL_{i}": i for i in range(3)}}, str),
        }
        for name, (change, label) in spellings.items():
            model, data = self.folder / f"{name}-first", self.folder / f"{name}.csv"
            shutil.copytree(self.folder / "first/latest", model)
            (model / "MANIFEST.json").unlink()
            config = json.loads((model / "config.json").read_text())
            (model / "config.json").write_text(json.dumps({**config, **change}))
            data.write_text("".join(f"{label(line[5])}{line[6:]}\n" if line.startswith("kind-") else line + "\n"
                                    for line in text.splitlines()))
            got = run("finetune", "classify", "--init-from", model, "--data", data, "--output-dir", self.folder / f"{name}-on",
                      "--max-steps", 1, "--learning-rate", "1e-12", "--max-sequence-length", 32, "--warmup", 0)
            self.assertEqual(got.returncode, 0, got.stderr)
            self.assertIn("it goes on learning", got.stdout)
            self.assertEqual(score(self.folder / f"{name}-on/latest", data), before)
        new = run("finetune", "classify", "--init-from", self.folder / "renamed-first", "--data", self.folder / "train.csv", "--output-dir",
                  self.folder / "new", "--max-steps", 1, "--max-sequence-length", 32, "--dry-run")
        self.assertEqual(new.returncode, 0, new.stderr)
        self.assertIn("has a classifier for the labels z, y, x, which the data do not have: another one is drawn", new.stdout)

    def test_dropout_is_that_of_the_model_unless_a_setting_gives_another(self):
        """As Transformers' from_pretrained has it, one by one."""
        model = self.folder / "dropout-model"
        shutil.copytree(self.model, model)
        (model / "MANIFEST.json").unlink()
        config = json.loads((model / "config.json").read_text())
        (model / "config.json").write_text(json.dumps({**config, "hidden_dropout_prob": 0.25, "attention_probs_dropout_prob": 0.0}))
        for more, hidden, attention in ([], "0.25", "0"), (["--attention-dropout", "0.3"], "0.25", "0.3"), (["--hidden-dropout", "0"], "0", "0"):
            for verb in (self.classify("dropout"), ["train", "--data", self.folder / "data", "--output-dir", self.folder / "dropout",
                                                    "--micro-batch-size", 8, "--global-batch-size", 8, "--max-steps", 1]):
                if "--init-from" in verb:
                    verb[verb.index("--init-from") + 1] = model
                else:
                    verb += ["--init-from", model]
                got = run(*verb, "--dry-run", *more)
                self.assertEqual(got.returncode, 0, got.stderr)
                self.assertRegex(got.stdout, rf"hidden_dropout = {hidden} [\s\S]*attention_dropout = {attention} ")
        self.assertEqual(run(*verb, "--threads", 1).returncode, 0)
        written = json.loads((self.folder / "dropout/latest/config.json").read_text())
        self.assertEqual((written["hidden_dropout_prob"], written["attention_probs_dropout_prob"]), (0.25, 0.0))

    def test_the_best_checkpoint_by_the_score_is_kept(self):
        """The held-out labels are wrong ones: the more is learnt, the lower the score, so that an early checkpoint is the best."""
        wrong = self.folder / "wrong.csv"
        rows = (self.folder / "dev.csv").read_text().splitlines()
        wrong.write_text("\n".join([rows[0], *(f"kind-{(int(row[5]) + 1) % 3}{row[6:]}" for row in rows[1:])]) + "\n")
        settings = ["--max-steps", 40, "--evaluate-every", 5, "--keep-last", 1, "--evaluation-data", wrong, "--learning-rate", "2e-3"]
        got = run(*self.classify("kept", *settings, "--stop-after", 30))
        self.assertEqual(got.returncode, 0, got.stderr)

        def best():
            scores = {r["step"]: r["eval"]["accuracy"] for r in self.records("kept") if "eval" in r}
            return max(scores, key=lambda step: (scores[step], -step)), scores
        step, scores = best()
        self.assertLess(scores[30], scores[step])
        run_folder = self.folder / "kept"
        self.assertEqual(os.readlink(run_folder / "best"), f"checkpoint-{step}")
        scored = run("eval", "classify", "--model", run_folder / "best", "--data", wrong, "--json")
        self.assertEqual(json.loads(scored.stdout)["accuracy"], scores[step], scored.stderr)
        state = json.loads((run_folder / "latest/trainer_state.json").read_text())
        self.assertEqual((state["best"]["step"], state["best"]["accuracy"]), (step, scores[step]))
        # Scores on other texts say nothing about which is the best.
        shutil.copy(self.folder / "dev.csv", wrong)
        again = run(*self.classify("kept", *settings, "--resume", "auto"))
        self.assertEqual(again.returncode, 0, again.stderr)
        self.assertGreater(int(os.readlink(run_folder / "best").removeprefix("checkpoint-")), 30)

    def test_labels_without_names_are_the_numbers_of_a_file(self):
        """Transformers' config.json leaves out id2label where there are two labels, and calls others LABEL_0, LABEL_1, ..."""
        self.assertEqual(run(*self.classify("unnamed", "--max-steps", 2)).returncode, 0)
        model, numbers = self.folder / "unnamed-model", self.folder / "numbers.csv"
        shutil.copytree(self.folder / "unnamed/latest", model)
        (model / "MANIFEST.json").unlink()
        config = json.loads((model / "config.json").read_text())
        numbers.write_text((self.folder / "dev.csv").read_text().replace("kind-", ""))
        command = ["eval", "classify", "--json", "--model", model, "--max-sequence-length", 32, "--data"]
        named = run(*command, self.folder / "dev.csv")
        self.assertEqual(named.returncode, 0, named.stderr)
        for names in (None, {str(i): f"LABEL_{i}" for i in range(3)}):
            (model / "config.json").write_text(json.dumps({**config, "id2label": names}))
            got = run(*command, numbers)
            self.assertEqual((got.returncode, got.stdout), (0, named.stdout), got.stderr)
            self.assertIn("numbers of the file are taken", got.stderr)
        self.refused(3, '3 labels of', *command, self.folder / "dev.csv")
        for change, said in (({"problem_type": "multi_label_classification"}, "problem_type"), ({"problem_type": "regression"}, "problem_type"),
                             ({"id2label": {"0": "LABEL_0"}}, "regression"),
                             ({"id2label": {"0": "a", "1": "b", "2": "c"}, "label2id": {"a": 0, "b": 2, "c": 1}},
                              'id2label has "1": "b", but label2id has "b": 2'),
                             ({"architectures": ["BertForTokenClassification"]}, "labels no whole texts")):
            (model / "config.json").write_text(json.dumps({**config, **change}))
            self.refused(3, said, *command, self.folder / "dev.csv")

    def test_faults_of_the_data_that_learning_would_not_notice_are_noted(self):
        odd = self.folder / "odd.csv"
        odd.write_text("text,label\n" + "".join(f"w1 w{i},{label}\n" for i, label in enumerate(["pos", "neg", "pos ", "neg"] * 5)) + "w1 w1,pos\n")
        command = self.classify("odd", "--dry-run", "--evaluation-data", odd)
        command[command.index("--data") + 1] = odd
        got = run(*command)
        self.assertEqual(got.returncode, 0, got.stderr)
        for said in ('the labels "pos", "pos " differ only in blanks or capitals', "(lines 3 and 22)", "the evaluation data are the training data"):
            self.assertIn(said, got.stdout)
        odd.write_text("text,label\n" + "the old river,a\nw1 w2,b\n" * 9)
        self.assertIn("% of the tokens are [UNK]", run(*command).stdout)

    def test_what_changed_is_said_when_a_run_goes_on(self):
        (self.folder / "fewer.csv").write_text("".join((self.folder / "train.csv").read_text().splitlines(keepends=True)[:150]))
        settings = ["--max-steps", 8, "--global-batch-size", 8, "--micro-batch-size", 8]
        self.assertEqual(run(*self.classify("changed", *settings, "--stop-after", 4)).returncode, 0)
        command = self.classify("changed", *settings, "--resume", "must", "--hidden-dropout", 0.2)
        for flag, value in (("--data", self.folder / "fewer.csv"), ("--max-sequence-length", 16)):
            command[command.index(flag) + 1] = value
        got = run(*command)
        self.assertEqual(got.returncode, 0, got.stderr)
        for line in ("--max-sequence-length was 32 in the checkpoint and is 16 now, from step 5 on", "data.checksum was ",
                     "model.hidden_dropout was 0.1 in the checkpoint and is 0.2 now, from step 5 on"):
            self.assertIn(line, got.stdout)
        changed = [r["changed_settings"] for r in self.records("changed") if "changed_settings" in r]
        self.assertEqual([sorted(c) for c in changed], [["--max-sequence-length", "data.checksum", "model.hidden_dropout"]])
        (self.folder / "labels.csv").write_text("label,text\na,w1\nb,w2\n")
        command[command.index(self.folder / "fewer.csv")] = self.folder / "labels.csv"
        self.refused(2, "has other labels than", *command)

    def test_report_and_compare_read_the_curves(self):
        settings = ["--max-steps", 12, "--evaluate-every", 4, "--global-batch-size", 8, "--micro-batch-size", 8, "--evaluation-data",
                    self.folder / "dev.csv"]
        for name, seed in (("curve-a", 1), ("curve-b", 2)):
            self.assertEqual(run(*self.classify(name, *settings, "--seed", seed)).returncode, 0)
        records = self.records("curve-a")
        page = self.folder / "page.html"
        got = run("report", self.folder / "curve-a", "--output", page, "--json")
        self.assertEqual(got.returncode, 0, got.stderr)
        summary = json.loads(got.stdout.splitlines()[0])
        summary = summary["runs"][0] if "runs" in summary else summary
        self.assertEqual(summary["notes"], [])
        self.assertAlmostEqual(summary["loss"], records[-1]["loss"])
        self.assertEqual(summary["last_scores"], {"step": 12, **records[-1]["eval"]})
        evaluate = ["eval", "classify", "--model", self.folder / "curve-a/latest", "--data", self.folder / "dev.csv"]
        self.assertIn("the model learnt with --max-sequence-length 32 (", run(*evaluate).stderr)
        self.assertEqual(run(*evaluate, "--max-sequence-length", 32).stderr, "")
        text = page.read_text()
        for part in ("Held-out scores", "macro_f1", "nats per label"):
            self.assertIn(part, text)
        self.assertNotIn("MLM", text)
        got = run("compare", self.folder / "curve-a", self.folder / "curve-b", "--json")
        self.assertIn(got.returncode, (0, 4), got.stderr)
        compared = json.loads(got.stdout)
        self.assertEqual(compared["common_steps"], 12)
        self.assertAlmostEqual(compared["windows"][0]["a"], sum(r["loss"] for r in records) / 12, places=5)
        self.refused(3, "one is a run of pre-training and the other of fine-tuning", "compare", self.folder / "curve-a",
                     self.folder / "pretrained")

    def test_a_killed_run_ends_with_the_bits_of_an_undisturbed_one(self):
        for verb in (self.squad, self.classify):
            name = verb.__name__
            settings = ["--epochs", 3, "--save-every", 2, "--keep-last", 2, "--global-batch-size", 12, "--micro-batch-size", 4]
            self.assertEqual(run(*verb(name + "-whole", *settings)).returncode, 0)
            killed = self.folder / (name + "-killed")
            process = subprocess.Popen([BINARY, *map(str, verb(killed.name, *settings, "--resume", "auto"))],
                                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                                       env=dict(os.environ, MINIBERT_TEST_CHECKPOINT_DELAY_MS="20"))
            deadline = time.monotonic() + 100
            while not (killed / "checkpoint-4").exists() and process.poll() is None and time.monotonic() < deadline:
                time.sleep(0.002)
            process.send_signal(signal.SIGKILL)
            self.assertEqual(process.wait(), -signal.SIGKILL, "the run ended before it was killed")
            resumed = run(*verb(killed.name, *settings, "--resume", "auto"))
            self.assertEqual(resumed.returncode, 0, resumed.stderr)
            self.assertIn("going on at step", resumed.stdout)
            for file in ("model.safetensors", "optimizer.safetensors", "config.json"):
                whole = (self.folder / (name + "-whole") / "latest" / file).read_bytes()
                self.assertEqual((killed / "latest" / file).read_bytes(), whole, file)
            strip = lambda records: [{k: v for k, v in r.items() if k not in TIMES} for r in records]
            self.assertEqual(strip(self.records(killed.name)), strip(self.records(name + "-whole")))

    def test_ranks_share_the_work(self):
        got = run(*self.squad("ranks", "--epochs", 0.2, "--nproc", 2, "--global-batch-size", 12, "--micro-batch-size", 6))
        self.assertEqual(got.returncode, 0, got.stderr)
        one = run(*self.squad("one-rank", "--epochs", 0.2, "--global-batch-size", 12, "--micro-batch-size", 6))
        self.assertEqual(one.returncode, 0, one.stderr)
        for a, b in zip(self.records("ranks"), self.records("one-rank")):
            self.assertAlmostEqual(a["loss"], b["loss"], places=4)

    def test_a_signal_to_one_rank_cuts_the_scoring_off_on_all(self):
        labelled_file(self.folder / "long.csv", 12000, seed=3)  # so that it takes a while
        for target in (0, 1):
            name = f"scoring-{target}"
            arguments = self.classify(name, "--evaluation-data", self.folder / "long.csv", "--max-steps", 2, "--nproc", 2)
            process = subprocess.Popen([BINARY, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
            self.addCleanup(process.kill)
            heartbeat = self.folder / name / f"logs/rank-{target}.heartbeat"
            deadline = time.monotonic() + 100
            while process.poll() is None and time.monotonic() < deadline:
                if heartbeat.exists() and "evaluating" in heartbeat.read_text():
                    break
                time.sleep(0.002)
            os.kill(train_ranks_test.ranks_of(process.pid)[target], signal.SIGTERM)
            said, _ = process.communicate(timeout=100)
            self.assertEqual(process.returncode, 75, said)
            state = json.loads((self.folder / name / "latest/trainer_state.json").read_text())
            self.assertEqual(json.loads(state["pending_record"])["step"], 2)
        resumed = run(*arguments, "--resume", "must")
        self.assertEqual(resumed.returncode, 0, resumed.stderr)
        scored = run("eval", "classify", "--model", self.folder / name / "latest", "--data", self.folder / "long.csv", "--json")
        self.assertEqual(json.loads(scored.stdout), self.records(name)[-1]["eval"])

    def test_precisions(self):
        for precision in ("bf16", "fp16"):
            got = run(*self.squad(precision, "--epochs", 0.1, "--precision", precision))
            self.assertEqual(got.returncode, 0, got.stderr)
            scored = run("eval", "squad", "--model", self.folder / precision / "latest", "--data", self.folder / "dev.json",
                         "--precision", precision, *self.windows())
            self.assertEqual(scored.returncode, 0, scored.stderr)

    def test_dry_run_writes_nothing(self):
        for verb, text in ((self.squad, "180 questions"), (self.classify, "200 texts with 3 labels")):
            got = run(*verb("dry", "--dry-run"))
            self.assertEqual(got.returncode, 0, got.stderr)
            self.assertIn(text, got.stdout)
            self.assertIn("optimizer = 'adamw-google' ", got.stdout)
            self.assertFalse((self.folder / "dry").exists())

    def test_mistakes_name_the_fix(self):
        self.refused(2, "--init-from", "finetune", "squad", "--data", "x", "--output-dir", "y")
        self.refused(2, "--max-sequence-length 64", "finetune", "squad", "--init-from", self.model, "--data",
                     self.folder / "train.json", "--output-dir", self.folder / "x")
        self.refused(2, "Did you mean --doc-stride?", *self.squad("x", "--doc-strid", 3))
        self.refused(2, "epochs is 0", *self.squad("x", "--epochs", 0))
        (self.folder / "c.toml").write_text("[model]\nhidden_size = 32\n")
        self.refused(2, "c.toml:2", *self.squad("x", "--config", self.folder / "c.toml"))
        self.refused(3, '--text-column NAME', *self.classify("x", "--text-column", "txt"))
        (self.folder / "bad.json").write_text((self.folder / "train.json").read_text().replace('"answer_start": ', '"answer_start": 1'))
        self.refused(3, "--skip-bad-answers", "finetune", "squad", "--init-from", self.model, "--data", self.folder / "bad.json",
                     "--output-dir", self.folder / "x", *self.windows())
        self.refused(3, "tensors are missing: qa_outputs", "eval", "squad", "--model", self.model, "--data", self.folder / "dev.json",
                     *self.windows())
        self.refused(2, "either --model", "eval", "squad", "--data", self.folder / "dev.json")
        self.assertFalse((self.folder / "x").exists())


if __name__ == "__main__":
    unittest.main()
