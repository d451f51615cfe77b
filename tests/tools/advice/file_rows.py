"""Advice about files: text, vocabularies, shards, models."""
import gzip
import itertools
import json
import pathlib
import re
import shutil
import struct
import tarfile

from advice.world import row

numbers = itertools.count()


def encode(w, vocab, **more):
    return ["tokenizer", "encode", "--vocab", vocab, w.text]


def fresh(w, *more, **replaced):
    """A build into a folder that does not exist."""
    replaced.setdefault("output", f"fresh-{next(numbers)}")
    return w.build("--dry-run", *more, **replaced)


# ---- Vocabularies and tokenizers -----------------------------------------------------------------

def vocabulary(w):
    return w.vocab.read_text().splitlines()


def new_vocabulary(w):
    made = w.folder / f"vocab-{next(numbers)}.txt"
    w.works("tokenizer", "train", "--vocab-size", 60, "--output", made, w.text)
    return made


@row("{}: vocabulary is empty, expected one token per line")
def an_empty_vocabulary(w):
    w.refused(*encode(w, w.file("empty.txt", "")), code=3)
    w.works(*encode(w, new_vocabulary(w)))


@row("{}: token {} is missing from {} lines, expected {}, {}, {} and {}")
def a_special_token_missing(w):
    tokens = vocabulary(w)
    tokens.remove("[SEP]")
    w.refused(*encode(w, w.file("missing.txt", "\n".join(tokens) + "\n")), code=3)
    w.works(*encode(w, w.file("missing.txt", "\n".join([*tokens, w.in_message(r"token (\S+) is missing")]) + "\n")))
    w.works(*encode(w, new_vocabulary(w)))


@row("{}: line {} is not valid UTF-8, expected text. Convert the file to UTF-8")
def a_vocabulary_in_latin_1(w):
    content = "\n".join([*vocabulary(w), "é"]) + "\n"
    file = w.file("latin1.txt", content.encode("latin-1"))
    w.refused(*encode(w, file), code=3)
    w.shell(f"iconv -f LATIN1 -t UTF-8 '{file}' > '{file}.utf8'")
    w.works(*encode(w, f"{file}.utf8"))


@row("{}: begins with a byte order mark, which Transformers takes for a part of the first token")
def a_vocabulary_with_a_byte_order_mark(w):
    file = w.file("a mark.txt", b"\xef\xbb\xbf" + w.vocab.read_bytes())
    w.refused(*encode(w, file), code=3)
    w.shell(w.in_message("Remove it: (.*)"))
    assert file.read_bytes() == w.vocab.read_bytes()
    w.works(*encode(w, file))


@row("--cased is given, but {} says {} for {}. Leave out --cased")
def cased_with_an_uncased_model(w):
    w.refused(*encode(w, w.checkpoint / "vocab.txt"), "--cased")
    w.works(*encode(w, w.checkpoint / "vocab.txt"))


def tokenizer_config_row(fragment, content):
    @row(fragment)
    def carry_out(w):
        model = w.model()
        (model / "tokenizer_config.json").write_text(content)
        w.refused("embed", "--model", model, "w1", code=3)
        shutil.copy(w.checkpoint / "tokenizer_config.json", model)
        w.works("embed", "--model", model, "w1")
        (model / "tokenizer_config.json").unlink()
        w.works("embed", "--model", model, "w1")


tokenizer_config_row("{}: {} is {}, expected true or false. {}", '{"do_lower_case": 3}')
tokenizer_config_row("{}: is not a JSON object, expected Transformers' tokenizer settings", "[]")
tokenizer_config_row("{}: {} is {}, expected a number of tokens, 2 or more", '{"model_max_length": 1}')


@row("tokenizer train: vocabulary size is {}, expected at least {}")
def a_vocabulary_too_small(w):
    command = ["tokenizer", "train", "--output", w.folder / "small.txt", w.text]
    w.refused(*command, "--vocab-size", 8)
    w.works(*command, "--vocab-size", w.in_message(r"expected at least (\d+)"))
    w.works(*command, "--force", "--vocab-size", 8, "--limit-alphabet", 1)


@row("tokenizer train: --output {} is a folder, expected a file")
def vocabulary_into_a_folder(w):
    command = ["tokenizer", "train", "--vocab-size", 60, w.text, "--output"]
    w.refused(*command, w.file("somewhere/file", "").parent)
    w.works(*command, w.in_message(r"Give (\S+)\."))


@row("tokenizer train: --output {} is a device or a pipe")
def vocabulary_into_a_device(w):
    command = ["tokenizer", "train", "--vocab-size", 60, w.text, "--output"]
    w.refused(*command, "/dev/null")
    w.works(*command, w.folder / f"v{next(numbers)}.txt")


@row("tokenizer train: --output {} exists, expected a new file")
def vocabulary_over_another(w):
    command = ["tokenizer", "train", "--vocab-size", 60, w.text, "--output"]
    there = w.file("there.txt", "")
    w.refused(*command, there)
    w.works(*command, there, "--force")
    w.works(*command, w.folder / f"v{next(numbers)}.txt")


@row("tokenizer train: folder {} of --output does not exist. Create it: mkdir -p {}")
def vocabulary_into_a_missing_folder(w):
    command = ["tokenizer", "train", "--vocab-size", 60, w.text, "--output", w.folder / "not/there/v.txt"]
    w.refused(*command)
    w.shell(w.in_message("(mkdir -p .*)"))
    w.works(*command)


# ---- Text ----------------------------------------------------------------------------------------

@row("{}: gzip stream is damaged")
def damaged_gzip(w):
    good = w.folder / "text.gz"
    good.write_bytes(gzip.compress(w.text.read_bytes()))
    bad = bytearray(good.read_bytes())
    bad[len(bad) // 2] ^= 0xFF
    file = w.file("copy.gz", bytes(bad))
    w.refused(*fresh(w, text=file), code=3)
    shutil.copy(good, file)
    w.works(*fresh(w, text=file))


@row("{}: other bytes follow its gzip stream")
def bytes_behind_gzip(w):
    file = w.file("more.gz", gzip.compress(w.text.read_bytes()) + b"more")
    w.refused(*fresh(w, text=file), code=3)
    command = w.in_message("drop them: (.*)").replace("clean.txt", f"'{file}.txt'")
    w.shell(f"{command} || [ $? = 2 ]")  # gzip warns
    w.works(*fresh(w, text=f"{file}.txt"))


@row("{}: compressed stream ends early")
def cut_gzip(w):
    good = gzip.compress(w.text.read_bytes())
    file = w.file("cut.gz", good[:len(good) // 2])
    w.refused(*fresh(w, text=file), code=3)
    file.write_bytes(good)
    w.works(*fresh(w, text=file))


@row("{}: file is empty, expected text. Check the path, or leave the file out")
def empty_text(w):
    w.refused(*fresh(w, text=w.file("nothing", "")), code=3)
    w.works(*fresh(w))
    w.works(*fresh(w, w.file("nothing", "")))  # one of several may be empty


@row("{}: no such file. Check the path{}")
def several_files_that_are_not_there(w):
    said = w.refused(*fresh(w, "~/first", text="second"), code=3)
    assert "second, ~/first: no such file" in said or "~/first, second: no such file" in said, said
    w.refused(*fresh(w, text="~/nothing-of-this-name"), code=3)
    assert "Write $HOME" in w.said
    w.shell(f"HOME='{w.folder}'; minibert data build --dry-run --vocab '{w.vocab}' \"$HOME/text\"")


@row("{}: is a file, expected the folder that data build makes of a text")
def text_given_as_data(w):
    w.refused("data", "inspect", w.text, code=3)
    folder = w.folder / f"fresh-{next(numbers)}"
    w.shell(w.in_message("Build it: (.*)").replace("VOCAB", f"'{w.vocab}'").replace("FOLDER", f"'{folder}'"))
    w.works("data", "inspect", folder)


@row("{}: holds no text ({} lines, all blank or headings). Leave the file out")
def blank_text(w):
    w.refused(*fresh(w, text=w.file("blank", "\n\n")), code=3)
    w.works(*fresh(w))
    w.works(*fresh(w, w.file("blank", "\n\n")))


@row("{}: holds a zero byte at offset {} of its text")
def utf16_without_a_mark(w):
    file = w.file("utf16", w.text.read_text().encode("utf-16-le"))
    w.refused(*fresh(w, text=file), code=3)
    w.shell(w.in_message(r"convert it: (iconv .*) > clean\.txt") + f" > '{file}.utf8'")
    w.works(*fresh(w, text=f"{file}.utf8"))


@row("{}: is {}, expected text, plain or packed by gzip or zstd. Convert it: {}")
def files_of_other_kinds(w):
    text = w.text.read_text()
    packed = w.folder / "packed.tar"
    with tarfile.open(packed, "w") as archive:
        archive.add(w.text, "text")
    for file in (packed, w.file("utf-32", text.encode("utf-32"))):
        w.refused(*fresh(w, text=file), code=3)
        w.shell(w.in_message("Convert it: (.*)").replace("clean.txt", f"'{file}.txt'"))
        w.works(*fresh(w, text=f"{file}.txt"))


@row("{}: is packed twice, expected text packed once. Convert it: {}")
def text_packed_twice(w):
    file = w.file("twice.gz", gzip.compress(gzip.compress(w.text.read_bytes())))
    w.refused(*fresh(w, text=file), code=3)
    w.shell(w.in_message("Convert it: (.*)").replace("clean.txt", f"'{file}.txt'"))
    w.works(*fresh(w, text=f"{file}.txt"))


@row("--document-break: is {} bytes long, expected at most {}. Shorten the expression")
def long_expression(w):
    w.refused(*fresh(w, "--document-break", "w0|" * 4000 + "w1"))
    w.works(*fresh(w, "--document-break", "w0|w1"))


@row("--document-break: '{}' is not a regular expression")
def broken_expression(w):
    w.refused(*fresh(w, "--document-break", "^(CHAPTER"))
    w.works(*fresh(w, "--document-break", w.in_message(r"as in '(.*)'\. Quote")))


@row("data build: {} documents are too few for --hold-out-every {}")
def few_documents(w):
    file = w.file("few", "w1 w2 w3\nw4 w5\n\nw1 w7\n")
    w.refused(*fresh(w, "--hold-out-every", 5, text=file), code=3)
    w.works(*fresh(w, "--hold-out-every", 2, text=file))


# ---- Shards --------------------------------------------------------------------------------------

@row("{}: is a file, expected a folder or nothing. Choose another --output")
def a_file_as_output(w):
    w.refused(*w.build(output=w.file("output-file", "").name))
    w.works(*w.build(output=f"fresh-{next(numbers)}"))


@row("{}: is not empty, expected an empty or a new folder. Choose another --output, or replace it with --force")
def shards_over_shards(w):
    w.need(*w.build(output="twice"))
    w.refused(*w.build(output="twice"))
    w.works(*w.build(output=f"fresh-{next(numbers)}"))
    w.works(*w.build("--force", output="twice"))


@row("{}: holds {}, expected an earlier build and nothing else (--force replaces only that)")
def shards_over_a_diary(w):
    w.file("mine/diary.txt", "")
    w.refused(*w.build("--force", output="mine"))
    (w.folder / "mine/diary.txt").rename(w.folder / "diary.txt")
    w.works(*w.build("--force", output="mine"))


@row("is the folder you are in, or above it, expected one that can be renamed")
def shards_into_the_folder_itself(w):
    (w.folder / "here").mkdir()
    command = ["data", "build", "--vocab", w.vocab, w.text, "--output"]
    w.refused(*command, ".", cwd=w.folder / "here")
    w.works(*command, w.in_message(r"such as (\S+)"), cwd=w.folder / "here")


def damage(path, at, change):
    content = bytearray(path.read_bytes())
    content[at] ^= change
    path.write_bytes(bytes(content))


@row("{}: hash is {}, expected {} (manifest.json): its tokens were changed")
def changed_vocabulary_of_shards(w):
    data = w.copy(w.data, "changed")
    (data / "vocab.txt").write_text(w.vocab.read_text().replace("w3\nw4\n", "w4\nw3\n"))
    w.refused("data", "inspect", data, code=3)
    shutil.copy(w.vocab, data / "vocab.txt")
    w.works("data", "inspect", data)


def cased_model(w):
    model = w.model(f"cased-{next(numbers)}")
    (model / "tokenizer_config.json").write_text('{"do_lower_case": false}')
    return model


@row("{}: data was built with the vocabulary {}, expected {} (the hash of the given one)")
def shards_of_another_vocabulary(w):
    model = w.model("swapped")
    (model / "vocab.txt").write_text(w.vocab.read_text().replace("w3\nw4\n", "w4\nw3\n"))
    w.refused("eval", "mlm", "--model", model, "--data", w.data, code=3)
    rebuilt = pathlib.Path(w.in_message(r"--output (\S+)"))
    shutil.rmtree(rebuilt, ignore_errors=True)
    w.shell(w.in_message("`(minibert data build [^`]*)`"))
    w.works("eval", "mlm", "--model", model, "--data", rebuilt)


@row("{}: data was built with a vocabulary of {} entries, expected {} (the model's vocab_size)")
def shards_of_a_larger_vocabulary(w):
    larger = w.file("larger.txt", w.vocab.read_text() + "w99\n")
    w.need(*w.build("--sequence-length", 24, output="larger", vocab=larger))
    model = w.model()
    (model / "vocab.txt").unlink()
    w.refused("eval", "mlm", "--model", model, "--data", w.folder / "larger", code=3)
    w.works(*w.build("--sequence-length", 24, "--force", output="larger", vocab=w.checkpoint / "vocab.txt"))
    w.works("eval", "mlm", "--model", model, "--data", w.folder / "larger")


@row("{}: the data are {}, but the model is {} ({}): its tokens would not mean what the model learnt. Build them again: `{}`")
def shards_of_another_casing(w):
    model = cased_model(w)
    for command in (lambda data: ["eval", "mlm", "--model", model, "--data", data],
                    lambda data: w.plan("--init-from", model, data=data)):
        w.refused(*command(w.data), code=3 if command(w.data)[0] == "eval" else 2)
        rebuilt = pathlib.Path(w.in_message(r"--output (\S+)"))
        shutil.rmtree(rebuilt, ignore_errors=True)
        w.shell(w.in_message("`(minibert data build [^`]*)`"))
        w.works(*command(rebuilt))


@row("was built with another vocabulary (hash {}, {}) than the data of phase 1")
def phases_of_two_casings(w):
    w.need(*w.build("--sequence-length", 24, "--cased", output="second"))
    def command(data):
        config = w.toml(f"[[phase]]\nmax_steps = 3\n[[phase]]\nmax_steps = 3\ndata = '{data}'\n")
        return w.plan("--config", config, max_steps=None)
    w.refused(*command(w.folder / "second"))
    w.shell(w.in_message("`(minibert data build [^`]*)`"))
    w.works(*command(w.folder / "second-rebuilt"))


@row("{}: its tokenizer is {}, but that of the data is {}")
def a_run_of_another_casing(w):
    name = f"casing-{next(numbers)}"
    w.need(*w.train(name, max_steps=2))
    w.need(*w.build("--sequence-length", 24, "--cased", output=f"{name}-data"))
    cased = w.folder / f"{name}-data"
    w.refused(*w.train(name, "--resume", "must", data=cased))
    w.works(*w.train(name, "--resume", "must"))
    w.works(*w.train(f"{name}-new", data=cased, max_steps=1))


# ---- Models --------------------------------------------------------------------------------------

@row("{}: its checksum is {}, expected {} ({}): the file is damaged. Use another checkpoint")
def a_damaged_checkpoint(w):
    damaged = w.copy(w.checkpoint, "damaged")
    damage(damaged / "model.safetensors", -100, 1)
    w.refused("embed", "--model", damaged, "w1", code=7)
    w.works("embed", "--model", w.folder / "run/checkpoint-6", "w1")


@row("{}: has an entry for \"{}\", expected the name of a file of the folder. Use another checkpoint")
def a_checkpoint_that_names_a_device(w):
    damaged = w.copy(w.checkpoint, "naming-a-device")
    manifest = damaged / "MANIFEST.json"
    content = json.loads(manifest.read_text())
    content["files"] = {"/dev/zero": content["files"]["config.json"], **content["files"]}
    manifest.write_text(json.dumps(content))
    w.refused(*w.train("from-a-device"), "--resume", damaged, code=7)
    w.works("embed", "--model", w.folder / "run/checkpoint-6", "w1")


@row("{}: its JSON is nested more than {} levels deep")
def a_configuration_of_brackets(w):
    model = w.model()
    whole = (model / "config.json").read_bytes()
    (model / "config.json").write_text('{"vocab_size": ' + "[" * 100_000 + "]" * 100_000 + "}")
    w.refused("embed", "--model", model, "w1", code=3)
    (model / "config.json").write_bytes(whole)
    w.works("embed", "--model", model, "w1")


@row("{}: its JSON holds more than {} values")
def settings_of_numbers(w):
    model = w.model()
    whole = (model / "tokenizer_config.json").read_bytes()
    (model / "tokenizer_config.json").write_text('{"x": [' + "1," * (1 << 21) + "1]}")
    w.refused("embed", "--model", model, "w1", code=3)
    (model / "tokenizer_config.json").write_bytes(whole)
    w.works("embed", "--model", model, "w1")


@row("{}: the paragraph up to line {} has {} {}")
def a_paragraph_of_a_million_sentences(w):
    text = w.file("sentences.txt", "Go on. \n" * ((1 << 20) + 1))
    w.refused(*fresh(w, "--format", "paragraphs", text=text), code=3)
    w.works(*fresh(w, "--format", "lines", text=text))
    text.write_text("\n".join(["Go on. \n" * 1000] * 1049))
    w.works(*fresh(w, "--format", "paragraphs", text=text))


@row("{}: is a run folder, expected one of its checkpoints. Give {}latest")
def a_run_as_model(w):
    w.refused("embed", "--model", w.folder / "run", "w1", code=3)
    w.works("embed", "--model", w.in_message(r"Give (\S+latest)"), "w1")


@row("{}: is missing, expected the model's configuration. {} has the same contents")
def a_configuration_of_google(w):
    model = w.model()
    (model / "config.json").rename(model / "bert_config.json")
    w.refused("embed", "--model", model, "w1", code=3)
    w.shell(w.in_message(r"Copy it: (cp .*)"))
    w.works("embed", "--model", model, "w1")


@row("{}: cannot be opened ({}), expected the model's configuration. Copy it")
def no_configuration(w):
    model = w.model()
    (model / "config.json").unlink()
    w.refused("embed", "--model", model, "w1", code=3)
    shutil.copy(w.checkpoint / "config.json", model)
    w.works("embed", "--model", model, "w1")


@row("{}: layer_norm_eps is {}, expected a small number above 0")
def no_eps(w):
    model = w.model()
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps({**config, "layer_norm_eps": 0}))
    w.refused("embed", "--model", model, "w1", code=3)
    (model / "config.json").write_text(json.dumps({**config, "layer_norm_eps": float(w.in_message(r"Set it to (\S+),"))}))
    w.works("embed", "--model", model, "w1")


@row("{}: tensor {} holds NaN or infinity, expected finite numbers")
def weights_that_are_no_numbers(w):
    model = w.model()
    content = bytearray((model / "model.safetensors").read_bytes())
    content[-4:] = struct.pack("<f", float("nan"))
    (model / "model.safetensors").write_bytes(bytes(content))
    w.refused("embed", "--model", model, "w1", code=4)
    w.works("embed", "--model", w.folder / "run/checkpoint-2", "w1")


WINDOWS = ["--max-sequence-length", 24, "--doc-stride", 8, "--max-query-length", 4]


def questions(w):
    return w.file("qa.json", json.dumps({"version": "1.1", "data": [{"title": "t", "paragraphs": [
        {"context": "w1 w2", "qas": [{"id": "1", "question": "w1", "answers": [{"text": "w2", "answer_start": 3}]}]}]}]}))


# ---- Fine-tuning ---------------------------------------------------------------------------------

@row("{}: has the ending \"{}\", expected .csv, .tsv or .jsonl (which say how to read it). Rename it")
def an_unknown_ending(w):
    file = w.file("texts.data", (w.folder / "texts.csv").read_text())
    w.refused(*w.classify("ending", data=file), code=3)
    file.rename(w.folder / "renamed.csv")
    w.works(*w.classify("ending", data=w.folder / "renamed.csv"))


def table(w, content, name="table.csv"):
    return w.file(name, content)


def converted(w, file):
    """The command of the message, writing a table beside the file."""
    command = w.in_message(r"(?:Convert|Remove) (?:it|them)(?: \([^)]*\))?: (.*)")
    w.shell(re.sub(r"clean\.\w+|lines\.jsonl", f"'{file}-converted{file.suffix}'", command))
    return f"{file}-converted{file.suffix}"


def table_row(fragment, content, code=3, name="table.csv"):
    """A table that is refused, and is read once the message's command has converted it."""
    @row(fragment)
    def carry_out(w):
        file = table(w, content, name)
        w.refused(*w.classify("tables", "--dry-run", data=file), code=code)
        w.works(*w.classify("tables", "--dry-run", data=converted(w, file)))


table_row("its lines end with carriage returns alone", "text,label\rw1,a\nw2,b\r")
table_row("{}: is {}, expected UTF-8 in a file of labels.{}", "text,label\nw1 w3,\u6a4b\nw2,b\n".encode("iso2022_jp"))
table_row("{}: is a JSON list, expected JSON lines", '[{"text": "w1", "label": "a"},\n {"text": "w2", "label": "b"}]\n', name="table.json")


@row("{}: line {} {}, expected UTF-8 in a file of labels.{}")
def tables_with_other_bytes(w):
    for content in ("text,label\nw1 and\0w3 and w4 and w5,a\nw2,b\n", "text,label\nw1 w3 w4 w5,caf\u00e9\nw2,b\n".encode("latin-1"),
                    "text,label\nw1 \u00e9\u00e8,\u00e0\nw2 ".encode() + b"\xff,b\n"):
        file = table(w, content, "table.csv")
        w.refused(*w.classify("tables", "--dry-run", data=file), code=3)
        w.works(*w.classify("tables", "--dry-run", data=converted(w, file)))


def mended_table_row(fragment, wrong, *right, code=3, more=()):
    @row(fragment)
    def carry_out(w):
        w.refused(*w.classify("tables", "--dry-run", *more, data=table(w, wrong)), code=code)
        for content in right:
            w.works(*w.classify("tables", "--dry-run", data=table(w, content)))


mended_table_row("goes on to line {}, where text follows", 'text,label\n"w1,a\nw2,b\nw3 "w4",b\n', 'text,label\n"w1",a\nw2,b\nw3 "w4",b\n',
                 'text,label\n"""w1",a\nw2,b\nw3 "w4",b\n')
mended_table_row("{}: line 1 names \"{}\" {} times, expected once", "text,label,label\nw1,a,b\nw2,b,a\n", "text,label,other\nw1,a,b\nw2,b,a\n")
mended_table_row("--text-column and --label-column are both", "text,label\nw1,a\nw2,b\n", "text,label\nw1,a\nw2,b\n", code=2,
                 more=("--label-column", "text"))


@row("model.init_from is empty, expected the model to fine-tune")
def nothing_to_fine_tune(w):
    command = w.classify("from", "--dry-run")
    w.refused(*[c for c in command if c not in ("--init-from", w.checkpoint)])
    w.works(*command)


@row("data.data is empty, expected the file to learn from")
def nothing_to_learn_from(w):
    command = w.classify("learn", "--dry-run")
    w.refused(*[c for c in command if c not in ("--data", w.folder / "texts.csv")])
    w.works(*command)


@row("the settings have {} phases, expected one: fine-tuning has no others")
def phases_of_fine_tuning(w):
    config = w.toml("[[phase]]\nmax_steps = 2\n[[phase]]\nmax_steps = 2\n")
    command = [c for c in w.classify("phases", "--dry-run") if c not in ("--max-steps", 2)]
    w.refused(*command, "--config", config)
    w.works(*command, "--config", w.toml(""))


@row("max_sequence_length is {}, expected at most {} (max_position_embeddings of {}). Use --max-sequence-length {}")
def a_length_beyond_the_model(w):
    command = w.classify("length", "--dry-run")
    command[command.index("--max-sequence-length") + 1] = 4096
    w.refused(*command)
    command[command.index("--max-sequence-length") + 1] = w.in_message(r"Use --max-sequence-length (\d+)")
    w.works(*command)


@row("data.evaluation_data names {} files, expected one at most. Score others with minibert eval")
def several_held_out_files(w):
    file = w.folder / "texts.csv"
    w.refused(*w.classify("several", "--evaluation-data", f"a={file}", "--evaluation-data", f"b={file}"))
    w.works(*w.classify("several", "--evaluation-data", file))
    w.works("eval", "classify", "--model", w.folder / "several/latest", "--data", file)


@row("{}: has other labels than {}. Resume with the file of that run")
def other_labels(w):
    name = f"labels-{next(numbers)}"
    w.need(*w.classify(name, "--stop-after", 1))
    other = w.file("other.csv", "text,label\nw1,a\nw2,b\n")
    w.refused(*w.classify(name, "--resume", "must", data=other))
    w.works(*w.classify(name, "--resume", "must"))
    w.works(*w.classify(f"{name}-new", data=other))


@row("{}: is a different vocabulary from {}.")
def another_vocabulary_to_resume(w):
    name = f"vocabulary-{next(numbers)}"
    w.need(*w.classify(name, "--stop-after", 1))
    model = w.model("other-vocabulary")
    (model / "vocab.txt").write_text(w.vocab.read_text().replace("w3\nw4\n", "w4\nw3\n"))
    command = w.classify(name, "--resume", "must")
    w.refused(*[model if c == w.checkpoint else c for c in command])
    w.works(*command)


@row("{} is set ({}), but {} takes it from its model and task. Remove it")
def a_setting_that_is_the_models(w):
    w.refused(*w.classify("fixed", "--dry-run", "--config", w.toml("[model]\nhidden_size = 64\n")))
    w.works(*w.classify("fixed", "--dry-run", "--config", w.toml("")))


@row("eval squad: --output-dir is for the answers of a --model. Leave it out")
def answers_without_a_model(w):
    data = questions(w)
    answers = w.file("answers.json", '{"1": "w2"}')
    command = ["eval", "squad", "--data", data, "--predictions", answers]
    w.refused(*command, "--output-dir", w.folder / "out")
    w.works(*command)


# ---- Other verbs ---------------------------------------------------------------------------------

@row("{}: is given twice, expected different runs. Leave one out")
def a_run_twice(w):
    run = w.folder / "run"
    w.refused("report", run, run, "--output", w.folder / "p.html")
    w.works("report", run, "--output", w.folder / "p.html")


@row("{}: is there and is no page of `minibert report`")
def a_page_over_a_file(w):
    w.file("notes.html", "mine")
    w.refused("report", w.folder / "run", "--output", w.folder / "notes.html")
    w.works("report", w.folder / "run", "--output", w.folder / "page.html")


@row("bench all-reduce: there is 1 rank, expected 2 or more. Use --nproc 2")
def one_rank(w):
    w.refused("bench", "all-reduce", "--nproc", 1, "--sizes", "4", "--seconds", "0.01")
    w.works("bench", "all-reduce", "--sizes", "4", "--seconds", "0.01", *w.advised())


@row("bench step: graph is on, expected --device cuda without --lengths")
def a_graph_on_a_cpu(w):
    command = ["bench", "step", "--model", "bert-tiny", "--batch", 1, "--seq", 8]
    w.refused(*command, "--graph")
    w.works(*command)


@row("train.device is cuda, but there is no GPU here whose memory could be asked for")
def a_plan_for_a_gpu(w):
    command = ["plan", "--model", "bert-tiny", "--device", "cuda", "--micro-batch-size", 4, "--global-batch-size", 4]
    w.refused(*command)
    w.works(*command, *w.advised())
    w.works(*command, *w.advised(), *w.advised("also with "))


@row("{}: the folder can't be created: {}. Choose another --output-dir")
def answers_into_a_file(w):
    w.need("finetune", "squad", "--init-from", w.checkpoint, "--data", questions(w), "--output-dir", w.folder / "squad", "--max-steps", 1,
           *WINDOWS)
    command = ["eval", "squad", "--data", questions(w), *WINDOWS, "--model", w.folder / "squad/latest", "--output-dir"]
    w.refused(*command, w.file("a-file-there", ""))
    w.works(*command, w.folder / "answers")


def convert_questions(w, encoding, letters, advice):
    """Questions with these letters in this encoding are refused, and read after the command of the message."""
    text = questions(w).read_text().replace("w1 w2", f"w1 w2 {letters}")
    file = w.file(f"{encoding}.json", text.encode(encoding))
    command = ["finetune", "squad", "--init-from", w.checkpoint, *WINDOWS, "--output-dir", w.folder / "x", "--dry-run", "--data"]
    w.refused(*command, file, code=3)
    w.shell(w.in_message(advice) + f" > '{file}.utf8.json'")
    w.works(*command, f"{file}.utf8.json")


@row("{}: line {} is not UTF-8, expected {}.{}")
def questions_in_latin_1(w):
    convert_questions(w, "latin-1", "\u00e9", r"Convert it \(.*\): (iconv .*) > clean.txt")


@row("{}: is {}, expected UTF-8.{}")
def questions_in_hz(w):
    convert_questions(w, "hz", "\u53e4\u8001\u7684\u6865", "Convert it: (.*) > clean.txt")


@row("squad: max_sequence_length is {}, expected more than {}")
def windows_too_short(w):
    command = ["finetune", "squad", "--init-from", w.checkpoint, "--output-dir", w.folder / "x", "--dry-run", "--data", questions(w),
               "--doc-stride", 4]
    w.refused(*command, "--max-sequence-length", 24)
    w.works(*command, "--max-sequence-length", 24, "--max-query-length", 8)
    w.works(*command, "--max-sequence-length", 80)


def labels_row(fragment, spoil, mend):
    """`spoil` and `mend` make of a classifier's config.json one that is refused, and one that is read."""
    @row(fragment)
    def carry_out(w):
        name = spoil.__name__
        w.need(*w.classify(name))
        model = w.copy(w.folder / name / "latest", f"{name}-changed")
        (model / "MANIFEST.json").unlink()
        config = json.loads((model / "config.json").read_text())
        command = ["eval", "classify", "--data", w.folder / "texts.csv", "--model", model]
        (model / "config.json").write_text(json.dumps({**config, **spoil(config)}))
        w.refused(*command, code=3)
        (model / "config.json").write_text(json.dumps({**config, **mend(config)}))
        w.works(*command)


def one_label_too_many(config):
    return {"id2label": {**config["id2label"], "2": "one too many"}}


def labels_with_two_numbers(config):
    return {"label2id": {"kind-0": 1, "kind-1": 0}}


labels_row("{}: id2label has {} labels, expected {} (rows of classifier.weight). Name them", one_label_too_many, lambda config: {})
labels_row("{}: id2label has \"{}\": {}, but label2id has {}: {}, expected one number for a label. Make them equal", labels_with_two_numbers,
           lambda config: {"label2id": {label: int(number) for number, label in config["id2label"].items()}})


@row("{}: has no entry for {}, expected one (every save writes it). Use another checkpoint")
def a_manifest_without_an_entry(w):
    model = w.copy(w.checkpoint, "no-entry")
    content = json.loads((model / "MANIFEST.json").read_text())
    del content["files"]["model.safetensors"]
    (model / "MANIFEST.json").write_text(json.dumps(content))
    w.refused(*w.train("from-another", "--resume", model), code=7)
    w.works(*w.train("from-another", "--resume", w.folder / "run/checkpoint-2"))


@row("{}: zstd stream is damaged")
def damaged_zstd(w):
    file = w.folder / "copy.zst"
    command = f"zstd -q -f '{w.text}' -o '{file}'"
    w.refusals = 1
    w.shell(command)
    w.refusals, w.done = 0, []
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 0xFF
    file.write_bytes(bytes(content))
    w.refused(*fresh(w, text=file), code=3)
    w.shell(command)
    w.works(*fresh(w, text=file))


@row("{}: {} is missing, expected {}. `minibert plan --print-cluster h100` prints an example")
def a_cluster_without_devices(w):
    command = ["plan", "--recipe", "bert-large-lamb-64k", "--cluster"]
    w.refused(*command, w.file("cluster.toml", "name = 'mine'\n"))
    w.works(*command, w.file("cluster.toml", w.works("plan", "--print-cluster", "h100")))


@row("{}sequences have up to {} tokens, expected at most {} (max_position_embeddings of the model). {}Use --max-position-embeddings {}, or a")
def a_plan_of_long_sequences(w):
    command = ["plan", "--model", "bert-tiny", "--micro-batch-size", 1, "--global-batch-size", 1, "--device", "cuda", "--cluster", "h100"]
    w.refused(*command, "--max-position-embeddings", 64)
    w.works(*command, *w.advised())
    w.works(*command, "--max-position-embeddings", 64, "--sequence-length", 64)
    w.fragment = "expected at most {} (max_position_embeddings of the model). Use --sequence-length {}."
    command = ["plan", "--init-from", w.checkpoint, "--micro-batch-size", 1, "--global-batch-size", 1, "--device", "cuda", "--cluster", "h100"]
    w.refused(*command, "--sequence-length", 4096)
    w.works(*command, *w.advised())


@row("(max_position_embeddings of {}). Build the data with --sequence-length {}")
def held_out_text_of_long_sequences(w):
    command = ["eval", "mlm", "--model", w.checkpoint, "--data"]
    w.need(*w.build("--sequence-length", 4096, output="long"))
    w.refused(*command, w.folder / "long")
    w.works(*w.build(*w.advised("with "), output="short"))
    w.works(*command, w.folder / "short")


@row("ranks.collectives is {} with train.device {}, expected {} or ring. Use --collectives auto")
def collectives_of_another_device(w):
    command = w.train("collectives", "--nproc", 2, max_steps=1)
    w.refused(*command, "--collectives", "nccl")
    w.works(*command, *w.advised())


@row("the number of ranks that {} has started. Leave out {}")
def ranks_of_two(w):
    launcher = dict(RANK="0", WORLD_SIZE="1", LOCAL_RANK="0", LOCAL_WORLD_SIZE="1", MASTER_ADDR="127.0.0.1", MASTER_PORT="29876")
    w.refused(*w.train("ranks-of-two", "--nproc", 2, max_steps=1), **launcher)
    w.works(*w.train("ranks-of-two", max_steps=1), **launcher)
