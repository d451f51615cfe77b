#!/usr/bin/env python3
"""`minibert report` and `minibert compare` as a shell sees them: a page that is well-formed and needs nothing else, numbers that are those
of metrics.jsonl, planted differences that are found.

Run by ctest, which sets MINIBERT_BINARY. The test builds its data from a few words.
"""
import html.parser
import json
import math
import os
import pathlib
import re
import shutil
import subprocess
import tempfile
import unittest

import few_words  # beside this file

BINARY = os.environ.get("MINIBERT_BINARY", "build/cpu/bin/minibert")
VOID = {"meta", "link", "br", "hr", "img", "input"}
STEPS = {"MLM loss": lambda r: r["mlm_loss"], "MLM accuracy": lambda r: 100 * r["mlm_accuracy"], "NSP loss": lambda r: r["nsp_loss"],
         "NSP accuracy": lambda r: 100 * r["nsp_accuracy"], "Learning rate": lambda r: r["learning_rate"],
         "Gradient norm": lambda r: r["grad_norm"], "Throughput": lambda r: r["sequences"] / r["step_seconds"],
         "Waiting for data": lambda r: 1000 * r["data_seconds"]}


class Page(html.parser.HTMLParser):
    """Checks nesting; collects text, what could be fetched, and the plots' data."""

    def __init__(self, text):
        super().__init__()
        self.open, self.text, self.fetched, self.data, self.faults, self.classes = [], [], [], [], [], []
        self.feed(text)
        self.close()
        if self.open:
            self.faults.append(f"left open: {self.open}")

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.fetched += [attributes[key] for key in ("src", "href", "xlink:href", "srcset", "data", "action", "poster") if key in attributes]
        self.classes += (attributes.get("class") or "").split()
        if tag not in VOID:
            self.open.append(tag)
        self.is_data = attributes.get("type") == "application/json"

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.faults.append(f"</{tag}> at {self.getpos()} closes another")

    def handle_data(self, text):
        if self.open and self.open[-1] == "script":
            if self.is_data:
                self.data.append(json.loads(text))
        elif self.open and self.open[-1] != "style":
            self.text.append(text)


def minibert(*arguments, code=0):
    got = subprocess.run([BINARY, *map(str, arguments)], capture_output=True, text=True, timeout=120)
    if got.returncode != code:
        raise AssertionError(f"{arguments}: ended with {got.returncode}, expected {code}: {got.stdout}{got.stderr}")
    return got


def lines_of(file):
    return [json.loads(line) for line in file.read_text().splitlines()]


class Report(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.scratch = tempfile.TemporaryDirectory(prefix="minibert-report-")
        cls.folder = pathlib.Path(cls.scratch.name)
        few_words.build(BINARY, cls.folder, "--hold-out-every", "5")
        cls.one = cls.train("one", "--seed", 1)
        cls.two = cls.train("two", "--seed", 2)
        cls.fp16 = cls.train("fp16", "--precision", "fp16", "--loss-scale", "1e12", "--max-skips", 40)

    @classmethod
    def tearDownClass(cls):
        cls.scratch.cleanup()

    @classmethod
    def train(cls, name, *more):
        held_out = cls.folder / "data/held-out"
        minibert("train", "--data", cls.folder / "data", "--evaluation-data", f"first={held_out}", "--evaluation-data", f"other={held_out}",
                 "--output-dir", cls.folder / name, "--num-hidden-layers", 1, "--hidden-size", 32, "--num-attention-heads", 2,
                 "--micro-batch-size", 4, "--global-batch-size", 8, "--threads", 1, "--evaluate-every", 7, "--trust-ratio-every", 4,
                 "--save-every", 10, *(more if "--config" in more else ("--max-steps", 30, *more)))
        return cls.folder / name

    def copy(self, run, name):
        shutil.copytree(run, self.folder / name, symlinks=True)
        return self.folder / name

    def page(self, *runs):
        output = self.folder / "page.html"
        minibert("report", *runs, "--output", output)
        text = output.read_text(encoding="utf-8")
        page = Page(text)
        self.assertEqual(page.faults, [])
        return page, text

    def plot(self, page, title):
        found = [data for data in page.data if data["title"] == title]
        self.assertEqual(len(found), 1, f"{title}: {[data['title'] for data in page.data]}")
        return {line["label"]: line["points"] for line in found[0]["lines"]}

    def test_the_page_needs_nothing_else(self):
        page, text = self.page(self.one, self.two, self.fp16)
        self.assertEqual(page.fetched, ["data:,"], "the icon alone, which is empty")
        self.assertNotRegex(text, r"https?:|//\w+\.\w|url\(|@import|fetch\(|XMLHttp|import\(")

    def test_the_numbers_are_those_of_the_records(self):
        page, _ = self.page(self.one)
        records = lines_of(self.one / "metrics.jsonl")
        for title, figure in STEPS.items():
            points = self.plot(page, title)
            name = "training" if "training" in points else ""
            self.assertEqual(points[name], [[r["step"], figure(r)] for r in records], title)
        for name in ("first", "other"):
            expected = [[r["step"], r["eval_by_name"][name]["mlm_loss"]] for r in records if "eval" in r]
            self.assertEqual(self.plot(page, "MLM loss")[f"evaluation {name}"], expected)
            self.assertEqual(len(expected), 5)

    def test_trust_ratios_are_the_geometric_means_of_the_file(self):
        page, text = self.page(self.one)
        lines = lines_of(self.one / "trust_ratios.jsonl")
        adapted = {name for line in lines for name, norms in line["tensors"].items() if norms["trust_ratio"] != 1}
        layer = [name for name in adapted if "encoder.layer.0." in name]
        self.assertEqual(len(layer), 6)
        points = self.plot(page, "Trust ratios")["layer 0"]
        self.assertEqual([step for step, _ in points], [line["step"] for line in lines])
        for (_, got), line in zip(points, lines):
            logs = [math.log(line["tensors"][name]["trust_ratio"]) for name in layer]
            self.assertAlmostEqual(math.log(got), sum(logs) / len(logs), places=12)
        self.assertEqual(len(re.findall(r"layer\.0\.[\w.]+</text>", text)), 6, "a row of the map each")

    def test_each_of_many_layers_has_its_line(self):
        run = self.copy(self.one, "deep")
        names = ["bert.embeddings.word_embeddings.weight"] + [f"bert.encoder.layer.{n}.output.dense.weight" for n in range(24)]
        norms = {"weight_norm": 1.0, "update_norm": 2.0, "trust_ratio": 0.5}
        (run / "trust_ratios.jsonl").write_text("".join(json.dumps({"step": step, "tensors": {name: norms for name in names}}) + "\n"
                                                        for step in (10, 20)))
        page, text = self.page(run)
        points = self.plot(page, "Trust ratios")
        self.assertEqual(list(points), ["embeddings"] + [f"layer {n}" for n in range(24)])
        self.assertEqual(set(map(str, points.values())), {"[[10, 0.5], [20, 0.5]]"})
        self.assertEqual(len(set(re.findall(r'<path class="line (r\d+)"', text))), 16)

    def test_skipped_steps_and_the_scale_are_shown(self):
        page, text = self.page(self.fp16)
        records = lines_of(self.fp16 / "metrics.jsonl")
        skipped = records[-1]["skipped_steps"]
        self.assertGreater(skipped, 3)
        self.assertEqual(self.plot(page, "Loss scale")["scale"], [[r["step"], r["loss_scale"]] for r in records])
        self.assertTrue(any(not math.isfinite(r["grad_norm"]) for r in records), "of skipped steps: no fault")
        got = json.loads(minibert("report", self.fp16, "--dry-run", "--json").stdout)
        self.assertEqual((got["skipped_steps"], got["non_finite_steps"]), (skipped, 0))
        strokes = re.search(r'<path class="ticks s\d" d="([^"]*)"', text)[1]
        self.assertEqual(strokes.count("M"), skipped)
        self.assertNotIn("Loss scale", [data["title"] for data in self.page(self.one)[0].data], "no run scales")

    def test_several_runs_share_a_plot_and_differences_come_first(self):
        page, text = self.page(self.one, self.two)
        records = {run.name: lines_of(run / "metrics.jsonl") for run in (self.one, self.two)}
        for name, lines in records.items():
            self.assertEqual(self.plot(page, "MLM loss")[name], [[r["step"], r["mlm_loss"]] for r in lines])
        rows = dict(re.findall(r'<tr class="differs"><th>([^<]*)</th>(.*?)</tr>', text))
        self.assertEqual(sorted(rows), ["checkpoint.output_dir", "train.seed"])
        self.assertRegex(rows["train.seed"], r'<td title="--seed">1</td><td title="--seed">2</td>')
        self.assertIn("<th>optim.learning_rate</th>", text)

    def test_machine_build_and_checkpoints_are_named(self):
        _, text = self.page(self.one)
        launch = json.loads((self.one / "run.json").read_text())["launches"][0]
        for key in ("host", "git_commit", "compiler", "instruction_set", "started"):
            self.assertIn(f"<th>{key}</th><td>{launch[key]}</td>", text)
        self.assertRegex(text, r"checkpoint-30</td><td class=\"number\">[\d.]+ MB</td><td>latest")

    def test_names_can_not_break_the_page(self):
        run = self.copy(self.one, '<b>&"x')
        with open(run / "config.resolved.toml", "a") as file:
            file.write("\n[more]\nkey = '</script><i>'\n")
        page, text = self.page(run, self.two)
        self.assertNotIn("<b>&", text)
        self.assertIn('<b>&"x', "".join(page.text))
        self.assertIn('"</script><i>"'.replace('"', "'"), "".join(page.text).replace('"', "'"))
        self.assertIn('<b>&"x', self.plot(page, "MLM loss"))

    def test_what_is_missing_or_cut_is_noted(self):
        run = self.copy(self.one, "cut")
        metrics = run / "metrics.jsonl"
        lines = metrics.read_text().splitlines(keepends=True)
        metrics.write_text("".join(lines[:4] + ["{\"step\": half\n"] + lines[7:20]) + lines[20][:50])
        (run / "run.json").unlink()
        (run / "config.resolved.toml").write_text("[train\nmax_steps = 3\n")
        (run / "trust_ratios.jsonl").write_text("nothing\n")
        page, text = self.page(run)
        notes = json.loads(minibert("report", run, "--output", self.folder / "page.html", "--json").stdout)["notes"]
        for part in ("metrics.jsonl: the last line is cut", "metrics.jsonl: damaged lines: 1, the first is line 5", "3 steps are missing",
                     "run.json: is missing", "config.resolved.toml:1: ", "trust_ratios.jsonl: damaged lines: 1"):
            self.assertTrue(any(part in note for note in notes), f"{part}: {notes}")
            self.assertIn(part, "".join(page.text))
        self.assertEqual([step for step, _ in self.plot(page, "MLM loss")["training"]], [1, 2, 3, 4] + list(range(8, 21)))
        self.assertRegex(text, r'<path class="line s0" d="M[^M]*M[^M]*"', "the gap is a gap")

    def test_nan_is_shown(self):
        run = self.copy(self.one, "nan")
        lines = lines_of(run / "metrics.jsonl")
        lines[9]["mlm_loss"] = lines[9]["loss"] = math.nan
        lines[19]["grad_norm"] = math.inf
        (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        page, text = self.page(run)
        self.assertEqual(self.plot(page, "MLM loss")["training"][9], [10, "NaN"])
        self.assertEqual(self.plot(page, "Gradient norm")[""][19], [20, "Infinity"])
        self.assertIn("NaN at step 10</title>", text)
        self.assertEqual(json.loads(minibert("report", run, "--dry-run", "--json", "--output", self.folder / "no.html").stdout)
                         ["non_finite_steps"], 2)
        self.assertFalse((self.folder / "no.html").exists())

    def test_a_border_of_phases_is_drawn(self):
        (self.folder / "phases.toml").write_text("[[phase]]\nmax_steps = 12\nlearning_rate = 1e-3\nwarmup = 2\n"
                                                 "[[phase]]\nname = 'long'\nmax_steps = 6\nlearning_rate = 2e-3\nwarmup = 2\n")
        run = self.train("phases", "--config", self.folder / "phases.toml")
        page, text = self.page(run)
        box, x = page.data[0]["box"], page.data[0]["x"]
        at = box[0] + (box[2] - box[0]) * (12.5 - x[0]) / (x[1] - x[0])
        drawn = re.search(r'<path class="mark" d="M([\d.]+) [\d.]+V[\d.]+"><title>phase 2, long</title>', text)
        self.assertAlmostEqual(float(drawn[1]), at, places=2)
        self.assertEqual(json.loads(minibert("report", run, "--dry-run", "--json").stdout)["max_steps"], 18)
        self.assertRegex(text, "<th>phase.2.max_steps</th><td[^>]*>6</td>")

    def test_a_resumed_run_shows_where(self):
        self.train("resumed", "--stop-after", 10)
        run = self.train("resumed", "--resume", "auto")
        page, text = self.page(run)
        box, x = page.data[0]["box"], page.data[0]["x"]
        drawn = re.search(r'<path class="mark pale" d="M([\d.]+) [\d.]+V[\d.]+"><title>resumed: resumed at step 10</title>', text)
        self.assertAlmostEqual(float(drawn[1]), box[0] + (box[2] - box[0]) * (10.5 - x[0]) / (x[1] - x[0]), places=2)
        self.assertEqual(json.loads(minibert("report", run, "--dry-run", "--json").stdout)["launches"], 2)
        self.assertIn("all 30 common steps are equal", minibert("compare", self.train("undisturbed"), run).stdout)

    def test_a_run_of_thousands_of_steps_keeps_its_spikes(self):
        run = self.copy(self.one, "long")
        line = lines_of(run / "metrics.jsonl")[0]
        with open(run / "metrics.jsonl", "w") as file:
            for step in range(1, 20001):
                file.write(json.dumps(line | {"step": step, "grad_norm": 1e6 if step == 7777 else 1 + step % 7}) + "\n")
        page, text = self.page(run)
        points = self.plot(page, "Gradient norm")[""]
        self.assertIn([7777, 1e6], points)
        self.assertLess(len(points), 4 * 600)
        self.assertLess(len(text), 2e6)

    def test_summary(self):
        got = minibert("report", self.one, self.fp16, "--dry-run", "--json")
        one, fp16 = map(json.loads, got.stdout.splitlines())
        records = lines_of(self.one / "metrics.jsonl")
        self.assertEqual((one["run"], one["name"], one["steps"], one["max_steps"], one["launches"]), (str(self.one), "one", 30, 30, 1))
        self.assertEqual(one["mlm_loss"], records[-1]["mlm_loss"])
        self.assertEqual(one["last_evaluation"], {"step": 30, "set": "first"} | records[-1]["eval"])
        best = min((r for r in records if "eval" in r), key=lambda r: r["eval"]["mlm_loss"])
        self.assertEqual(one["best_evaluation"]["step"], best["step"])
        self.assertEqual(one["tokens"], sum(r["tokens"] for r in records))
        self.assertAlmostEqual(one["step_seconds"], sum(r["step_seconds"] for r in records))
        self.assertEqual(fp16["skipped_steps"], lines_of(self.fp16 / "metrics.jsonl")[-1]["skipped_steps"])
        self.assertEqual([c["step"] for c in one["checkpoints"] if c["latest"]], [30])

    def test_mistakes_name_the_fix(self):
        got = minibert("report", self.folder / "nowhere", self.one / "checkpoint-30", code=3)
        self.assertIn("nowhere: does not exist, expected the folder of a run.", got.stderr)
        meant = re.search(r"Did you mean (\S+)\?", got.stderr)[1]
        minibert("report", meant, "--dry-run")
        got = minibert("report", self.one, f"{self.one}/.", code=2)
        self.assertIn("is given twice", got.stderr)
        before = (self.one / "metrics.jsonl").read_bytes()
        got = minibert("report", self.one, "--output", self.one / "metrics.jsonl", code=2)
        self.assertIn("Choose another --output", got.stderr)
        self.assertEqual((self.one / "metrics.jsonl").read_bytes(), before)
        minibert("report", self.one, "--output", self.folder / "no/page.html", code=3)

    def test_a_run_without_a_step_has_a_page(self):
        run = self.copy(self.one, "begun")
        (run / "metrics.jsonl").write_text("")
        page, _ = self.page(run, self.one)
        self.assertIn("has no step yet", "".join(page.text))
        self.page(run)

    # ---- compare -------------------------------------------------------------------------------

    def test_a_run_agrees_with_its_copy(self):
        run = self.copy(self.one, "copy")
        got = minibert("compare", self.one, run)
        self.assertIn("all 30 common steps are equal, bit for bit", got.stdout)
        self.assertIn("settings that differ: 0", got.stdout)
        self.assertIn("agree: all 3 windows are within the band", got.stdout)

    def test_planted_differences_are_found(self):
        run = self.copy(self.one, "planted")
        lines = lines_of(run / "metrics.jsonl")
        lines[11]["loss"] += 1e-9
        for line in lines[20:]:
            line["mlm_loss"] += 3
            line["loss"] += 3
        (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        config = (run / "config.resolved.toml").read_text()
        (run / "config.resolved.toml").write_text(re.sub(r"weight_decay = \S+", "weight_decay = 0.5", config))
        output = self.folder / "compared.html"
        got = json.loads(minibert("compare", self.one, run, "--json", "--output", output, code=4).stdout)
        self.assertFalse(got["agree"])
        self.assertEqual((got["first_difference"]["step"], got["first_difference"]["field"]), (12, "loss"))
        self.assertEqual((got["first_loss_difference"], got["first_loss_beyond_tolerance"]), (12, 21))
        self.assertEqual([(w["first"], w["last"]) for w in got["windows"] if w["outside"]], [(21, 30)])
        self.assertEqual(got["settings"], [{"name": "optim.weight_decay", "a": "0.01", "b": "0.5"}])
        self.assertEqual(got["b"]["last_evaluation"]["step"], 30)
        page = Page(output.read_text())
        self.assertEqual(page.faults, [])
        self.assertEqual([y for _, y in self.plot(page, "Difference of MLM losses")["b - a"]], [w["difference"] for w in got["windows"]])
        text = minibert("compare", self.one, run, code=4).stdout
        self.assertIn("records: differ from step 12 on: loss is ", text)
        self.assertIn("differ: 1 of 3 windows are outside of the band, the first is steps 21-30", text)
        minibert("compare", self.one, run, "--tolerance", 9)

    def test_runs_without_common_steps_are_refused(self):
        run = self.copy(self.one, "short")
        (run / "metrics.jsonl").write_text((run / "metrics.jsonl").read_text().splitlines(keepends=True)[0])
        self.assertIn("have 1 steps in common, expected at least 2", minibert("compare", self.one, run, code=3).stderr)

    def test_an_evaluation_that_differs_is_named(self):
        run = self.copy(self.one, "evaluated")
        text = (run / "metrics.jsonl").read_text()
        (run / "metrics.jsonl").write_text(re.sub(r'"masked_tokens": \d+', '"masked_tokens": 1', text))
        got = json.loads(minibert("compare", self.one, run, "--json").stdout)
        self.assertEqual((got["first_difference"]["step"], got["first_difference"]["field"]), (7, "eval"))
        self.assertIn('"masked_tokens": 1', got["first_difference"]["b"])
        self.assertIsNone(got["first_loss_difference"])


if __name__ == "__main__":
    unittest.main()
