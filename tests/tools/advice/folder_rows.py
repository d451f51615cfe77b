"""Advice about folders of Transformers: tokenizer files, weights in several files; and about texts in formats of their own."""
import json
import shutil
import struct

from advice.file_rows import encode, fresh, numbers, vocabulary
from advice.world import row


def change(folder, name, **keys):
    """Sets keys of a JSON file; None removes one. The file's bytes before, for who puts it back."""
    path = folder / name
    before = path.read_bytes() if path.exists() else None
    content = json.loads(before) if before else {}
    content.update(keys)
    path.write_text(json.dumps({key: value for key, value in content.items() if value is not None}))
    return before


def refused_and_mended(w, folder, name, wrong, right):
    """A key or file with `wrong` is refused; with `right`, what the message advises, the folder opens."""
    change(folder, name, **wrong)
    w.refused(*encode(w, folder), code=3)
    change(folder, name, **right)
    w.works(*encode(w, folder))


def embed(folder):
    return ["embed", "--model", folder, "w1"]


# ---- Tokenizers ----------------------------------------------------------------------------------

@row("split_special_tokens is true, expected false")
def special_tokens_that_are_split(w):
    refused_and_mended(w, w.model(), "tokenizer_config.json", {"split_special_tokens": True}, {"split_special_tokens": False})


@row("fast_tokenizer_files names a tokenizer.json for each version")
def several_tokenizers(w):
    refused_and_mended(w, w.model(), "tokenizer_config.json", {"fast_tokenizer_files": ["tokenizer.4.0.0.json"]}, {"fast_tokenizer_files": None})


@row("has no vocab.txt and no tokenizer.json, expected the model's vocabulary")
def a_folder_without_vocabulary(w):
    folder = w.model()
    (folder / "vocab.txt").unlink()
    w.refused(*embed(folder), code=3)
    shutil.copy(w.checkpoint / "vocab.txt", folder)
    w.works(*embed(folder))


@row("{}: tokenizer_class is {}, which needs tokenizer.json, and there is none")
def a_class_that_needs_another_file(w):
    refused_and_mended(w, w.model(), "tokenizer_config.json", {"tokenizer_class": "PreTrainedTokenizerFast"}, {"tokenizer_class": "BertTokenizer"})


@row("{}: {} is {}, expected text. {}")
def a_class_that_is_a_number(w):
    folder = w.model()
    before = change(folder, "tokenizer_config.json", tokenizer_class=7)
    w.refused(*encode(w, folder), code=3)
    (folder / "tokenizer_config.json").write_bytes(before)
    w.works(*encode(w, folder))


@row("{}: is {}, expected a token: text, or an object with \"content\". {}")
def a_token_that_is_a_number(w):
    folder = w.model()
    before = change(folder, "tokenizer_config.json", added_tokens_decoder={str(len(vocabulary(w))): 7})
    w.refused(*encode(w, folder), code=3)
    (folder / "tokenizer_config.json").write_bytes(before)
    w.works(*encode(w, folder))


@row("{}: added token '{}' has id {}, but Transformers gives it {}")
def an_added_token_with_another_id(w):
    tokens = len(vocabulary(w))
    folder = w.model()
    w.file(f"{folder.name}/added_tokens.json", json.dumps({"quay": tokens + 3}))
    w.refused(*encode(w, folder), code=3)
    w.file(f"{folder.name}/added_tokens.json", json.dumps({"quay": int(w.in_message(r"Set its id to (\d+)"))}))
    w.works(*encode(w, folder))


@row("added token '{}...' has {} bytes, expected at most {}")
def a_long_added_token(w):
    folder = w.model()
    w.file(f"{folder.name}/added_tokens.json", json.dumps({"q" * (1 << 17): len(vocabulary(w))}))
    w.refused(*encode(w, folder), code=3)
    (folder / "added_tokens.json").unlink()
    w.works(*encode(w, folder))


@row("added token '{}' is empty after normalization")
def an_added_token_of_nothing(w):
    token = {"content": "\u0301", "normalized": True}
    folder, number = w.model(), str(len(vocabulary(w)))
    refused_and_mended(w, folder, "tokenizer_config.json", {"added_tokens_decoder": {number: token}},
                       {"added_tokens_decoder": {number: {**token, "normalized": False}}})


# ---- Weights -------------------------------------------------------------------------------------

def tensors_of(path):
    """Names of a safetensors file's tensors."""
    content = path.read_bytes()
    size = struct.unpack("<Q", content[:8])[0]
    return [name for name in json.loads(content[8:8 + size]) if name != "__metadata__"]


def in_shards(w):
    """A model whose weights are in one file that an index names."""
    folder = w.model()
    (folder / "model.safetensors").rename(folder / "model-00001-of-00001.safetensors")
    names = tensors_of(folder / "model-00001-of-00001.safetensors")
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": {name: "model-00001-of-00001.safetensors" for name in names}}))
    return folder, index, names


def damaged_index(w, content):
    folder, index, _ = in_shards(w)
    whole = index.read_bytes()
    index.write_text(content(json.loads(whole)))
    w.refused(*embed(folder), code=3)
    index.write_bytes(whole)
    w.works(*embed(folder))


@row("{}: is no index, expected {{\"weight_map\": {{tensor: file, ...}}}}")
def an_index_of_nothing(w):
    damaged_index(w, lambda index: json.dumps({"weight_map": {}}))


@row("{}: tensor {} is in file {}, expected the name of a file beside the index")
def an_index_that_leaves_the_folder(w):
    damaged_index(w, lambda index: json.dumps({"weight_map": dict.fromkeys(index["weight_map"], "../model.safetensors")}))


@row("{}: tensor {} is said to be in {}, which lacks it")
def an_index_with_a_tensor_too_many(w):
    damaged_index(w, lambda index: json.dumps({"weight_map": {**index["weight_map"], "bert.more": next(iter(index["weight_map"].values()))}}))


@row("{}: {} of {} files are not there: {}. Copy them, too")
def a_file_of_weights_left_behind(w):
    folder, _, _ = in_shards(w)
    (folder / "model-00001-of-00001.safetensors").rename(w.folder / "left-behind")
    w.refused(*embed(folder), code=3)
    shutil.copy(w.folder / "left-behind", folder / w.in_message(r"not there: (\S+?)\. Copy"))
    w.works(*embed(folder))


@row(" Give the folder of that file: ")
def a_file_of_a_model(w):
    model = w.model()
    w.refused("embed", "--model", model / "model.safetensors", "w1", code=3)
    w.works("embed", "--model", w.in_message(r"that file: (\S+)"), "w1")


@row("{}: has {} but no model.safetensors.index.json")
def an_index_left_behind(w):
    folder, index, _ = in_shards(w)
    whole = index.read_bytes()
    index.unlink()
    w.refused(*embed(folder), code=3)
    index.write_bytes(whole)
    w.works(*embed(folder))


@row("{}: has no model.safetensors, but {}. Rename it: mv {} {}")
def weights_under_another_name(w):
    folder = w.model("with 'quotes'")
    (folder / "model.safetensors").rename(folder / "model.fp16.safetensors")
    w.refused(*embed(folder), code=3)
    w.shell(w.in_message("Rename it: (mv .*)"))
    w.works(*embed(folder))


@row("{}: has no vocab.txt, but {}. Rename it: mv {} {}")
def a_vocabulary_under_another_name(w):
    folder = w.model()
    (folder / "vocab.txt").rename(folder / "bert-base-uncased-vocab.txt")
    w.refused(*encode(w, folder), code=3)
    w.shell(w.in_message("Rename it: (mv .*)"))
    w.works(*encode(w, folder))


def outer_folder(w, name, inner, **files):
    """A folder with a model in it, further down."""
    shutil.rmtree(w.folder / name, ignore_errors=True)
    shutil.copytree(w.model(), w.folder / name / inner)
    for path, content in files.items():
        w.file(f"{name}/{path.replace('__', '/')}", content)
    for command in (encode(w, w.folder / name), embed(w.folder / name)):
        w.refused(*command, code=3)
        inside = w.in_message(r"Give (\S+)")
        w.works(*[inside if word == w.folder / name else word for word in command])


@row("{}: is a cache of the Hugging Face hub, expected the model in it")
def a_cache_of_the_hub(w):
    outer_folder(w, "models--bert-base-uncased", "snapshots/86b5e0934494", refs__main="86b5e0934494")


@row("{}: holds the parts of a model of sentence-transformers, expected its BERT")
def parts_of_sentence_transformers(w):
    modules = [{"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{path[2:]}"} for i, path in
               enumerate(("0_Transformer", "1_Pooling"))]
    outer_folder(w, "sentences", "0_Transformer", **{"modules.json": json.dumps(modules)})


def modules_row(fragment, content):
    @row(fragment)
    def carry_out(w):
        folder = w.model()
        good = w.file("good-modules.json", json.dumps([{"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"}]))
        (folder / "modules.json").write_text(content)
        w.refused(*embed(folder), code=3)
        shutil.copy(good, folder / "modules.json")
        w.works(*embed(folder))


modules_row("{}: is no JSON list, expected the modules of sentence-transformers", "{}")
modules_row("{}: module {} is {}, expected an object with type and path", '["1_Pooling"]')


@row("{}: truncation_side is \"{}\", expected left or right")
def cut_in_the_middle(w):
    folder = w.model()
    change(folder, "tokenizer_config.json", truncation_side="middle")
    w.refused(*embed(folder), code=3)
    change(folder, "tokenizer_config.json", truncation_side="right")
    w.works(*embed(folder))


@row("{}: vocab_size is {}, expected at least {} (the vocabulary of the data{})")
def a_model_of_another_size(w):
    larger = w.file("larger-still.txt", w.vocab.read_text() + "w98\nw99\n")
    w.need(*w.build("--sequence-length", 24, output="of-larger", vocab=larger))
    w.refused(*w.plan("--init-from", w.checkpoint, data=w.folder / "of-larger"))
    w.works(*w.build("--sequence-length", 24, "--force", output="of-larger", vocab=w.in_message(r"with `--vocab ([^`]*)`")))
    w.works(*w.plan("--init-from", w.checkpoint, data=w.folder / "of-larger"))


@row("{}: default_prompt_name is {}, expected the name of one of the prompts ({})")
def a_prompt_without_its_name(w):
    model, name = w.model(), "config_sentence_transformers.json"
    change(model, name, prompts={"query": "w2: "}, default_prompt_name="passage")
    w.refused(*embed(model), code=3)
    change(model, name, default_prompt_name=w.in_message(r"prompts \((\w+)"))
    w.works(*embed(model))


@row("sentence_vectors: the vector of a text holds NaN or infinity")
def states_too_large_for_their_type(w):
    model = w.model()
    content = bytearray((model / "model.safetensors").read_bytes())
    size = struct.unpack("<Q", content[:8])[0]
    header = json.loads(content[8:8 + size])
    first, end = header["bert.encoder.layer.0.intermediate.dense.weight"]["data_offsets"]
    place = slice(8 + size + first, 8 + size + end)
    values = struct.unpack(f"<{(end - first) // 4}f", content[place])
    content[place] = struct.pack(f"<{len(values)}f", *(1e6 * x for x in values))
    (model / "model.safetensors").write_bytes(content)
    w.refused(*embed(model), "--precision", "fp16", code=4)
    for precision in w.in_message("Use --precision (.*)").split(" or "):
        w.works(*embed(model), "--precision", precision.strip(". \n"))


# ---- Texts ---------------------------------------------------------------------------------------

@row("--document-break: has no meaning with --format {}")
def a_break_in_marked_documents(w):
    text = w.file("objects.jsonl", "".join(json.dumps({"text": f"w{i} w{i + 1}. w3 w4."}) + "\n" for i in range(20)))
    w.refused(*fresh(w, "--format", "jsonl", "--document-break", "^=", text=text))
    w.works(*fresh(w, "--format", "jsonl", text=text))


@row("--field: names a field of JSON objects, expected --format jsonl")
def a_field_of_lines(w):
    text = w.file("bodies.jsonl", "".join(json.dumps({"body": f"w{i} w{i + 1}. w3 w4."}) + "\n" for i in range(20)))
    w.refused(*fresh(w, "--field", "body", text=text))
    w.works(*fresh(w, "--field", "body", "--format", "jsonl", text=text))


@row("{}: holds no text ({} documents, all empty). Leave the file out")
def documents_without_text(w):
    empty = w.file("empty.jsonl", '{"text": ""}\n')
    text = w.file("full.jsonl", "".join(json.dumps({"text": f"w{i} w{i + 1}. w3 w4."}) + "\n" for i in range(20)))
    command = w.build("--dry-run", "--format", "jsonl", output=f"fresh-{next(numbers)}", text=text)
    w.refused(*w.build("--dry-run", "--format", "jsonl", output=f"fresh-{next(numbers)}", text=empty), code=3)
    w.works(*command)
    w.works(*command, empty)


@row("{}: has {} findings, expected none (--strict)")
def findings_that_are_strict(w):
    once = "".join(f"w{i} w{(7 * i + 1) % 30} w{(11 * i + 2) % 30} w{(13 * i + 3) % 30}\n" + "\n" * (i % 8 == 7) for i in range(200))
    w.need(*w.build("--sequence-length", 24, output="repeated", text=w.file("thrice", once * 3)))
    w.refused("data", "inspect", "--strict", w.folder / "repeated", code=3)
    w.works("data", "inspect", w.folder / "repeated")


@row("{}: is not JSON ({}). Copy it again")
def a_config_that_a_hub_did_not_find(w):
    folder = w.model("not-found")
    good = (folder / "config.json").read_bytes()
    (folder / "config.json").write_text("Entry not found")
    w.refused("embed", "--model", folder, "w1", code=3)
    (folder / "config.json").write_bytes(good)
    w.works("embed", "--model", folder, "w1")


@row("--targets names no token of the vocabulary")
def targets_without_a_token(w):
    command = ["fill-mask", "--model", w.model("targets"), "[MASK]", "--targets"]
    w.refused(*command, "\u200b")
    w.works(*command, (w.folder / "vocab.txt").read_text().split()[9])
