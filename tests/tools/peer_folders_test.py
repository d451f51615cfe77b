#!/usr/bin/env python3
"""Folders as Transformers 4 and 5 write them, with options combined: ids, vectors and probabilities must be the peer's, or the folder
is refused by name. Run by ctest as peer_folders. Needs the development-only Python of MINIBERT_PYTHON (tools/install-peers); by hand:

    MINIBERT_BINARY=build/cpu/bin/minibert .venv/bin/python tests/tools/peer_folders_test.py [NAME...]

Layouts of Transformers 4 are written by hand: vocab.txt, added_tokens.json, special_tokens_map.json, added_tokens_decoder.
"""
import json
import os
import pathlib
import re
import struct
import subprocess
import sys
import tempfile

BINARY = os.environ.get("MINIBERT_BINARY", "build/cpu/bin/minibert")
PYTHON = os.environ.get("MINIBERT_PYTHON", sys.executable)
if os.environ.get("PEER_FOLDERS") != "inside":
    if not os.path.exists(PYTHON):
        print(f"skipped: {PYTHON} does not exist; tools/install-peers makes it")
        sys.exit(77)
    os.execve(PYTHON, [PYTHON, *sys.argv], os.environ | {"PEER_FOLDERS": "inside", "HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error"})

import torch  # noqa: E402
from safetensors.torch import load_file, save_file  # noqa: E402
from tokenizers import AddedToken, normalizers, pre_tokenizers  # noqa: E402
from transformers import (  # noqa: E402
    AutoTokenizer, BertConfig, BertForMaskedLM, BertForPreTraining, BertForSequenceClassification, BertModel, BertTokenizer, PreTrainedTokenizerFast,
)  # fmt: skip

from transformers.utils import logging  # noqa: E402

torch.set_num_threads(1)
logging.disable_progress_bar()
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WORDS = ["the", "old", "river", "bridge", "sold", "walk", "cafe", "café", "The", "##s", "##ed", "##mill", "water", "中", "文", ",", ".", "!",
         "'", "-", "[", "]", "<", ">", "e", "1", "a", "##a", "##b", "b", "new", "york", "i", "##e", "##1", "mask", "##é", "é", "é"]  # fmt: skip
TOKENS = SPECIAL + [w for w in dict.fromkeys(WORDS)]
TEXTS = ["the old river bridge", "The Café sold, the [MASK].", "watermill water mill waterMILLs", "[E1]the[E1] [e1] [E1 ] x[E1]y", "  the   [MASK]  ",
         "new york New York newyork new  york NEW YORK.", "中文 the中文river", "walked walks xyzzy the", "cafe\u0301 caf\u00e9 CAFE\u0301", "",
         "[CLS] [SEP] [PAD] [UNK] [mask] <mask> <s> </s> <pad> <unk>", "the\u00a0river\u2003bridge\tsold\u200b!", "İstanbul ΣΑΣ the\x07river \ufffd",
         "a" * 99 + " " + "a" * 100 + " " + "a" * 101, "[MASK][MASK] [MASK].the", "ñew ñ caf\u0301e e\u0301", "water\u0301mill watermill's _watermill watermill_",
         "old  <ent>  river old<ent>river \u2028<ent>\u3000a", "bridge\ue000 \U0001f600 the", "é É e\u0301"]  # fmt: skip


def model_of(rows, kind=BertForPreTraining, seed=1, **options):
    torch.manual_seed(seed)
    config = BertConfig(vocab_size=rows, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=24,
                        max_position_embeddings=320, initializer_range=0.4, **options)  # fmt: skip
    model = kind(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() == 1:  # biases and norms, which would be 0 and 1
                parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def write(path, value):
    path.write_text(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False), encoding="utf-8")


def edit(path, change):
    value = json.loads(path.read_text())
    write(path, change(value) or value)


def v5(folder, tokens=TOKENS, rows=None, model=None, **options):
    """A folder as Transformers 5 saves it; returns its tokenizer."""
    tokenizer = BertTokenizer(vocab={t: i for i, t in enumerate(tokens)}, **options)
    tokenizer.save_pretrained(folder)
    (model or model_of(rows or len(tokenizer))).save_pretrained(folder)
    return tokenizer


def v4(folder, lines=None, rows=None, **files):
    """A folder in the layout of Transformers 4: vocab.txt, and `files` by name without .json."""
    text = "\n".join(TOKENS) + "\n" if lines is None else lines
    folder.mkdir(exist_ok=True)
    write(folder / "vocab.txt", text)
    for name, value in files.items():
        write(folder / f"{name}.json", value)
    model_of(rows or text.count("\n") + 8).save_pretrained(folder)


def edit_header(path, change):
    """Changes the header of a safetensors file."""
    content = path.read_bytes()
    size = struct.unpack("<Q", content[:8])[0]
    header = json.loads(content[8 : 8 + size])
    change(header)
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + content[8 + size :])


def token(content, **flags):
    return dict(content=content, lstrip=False, normalized=True, rstrip=False, single_word=False, special=False) | flags


NEW = len(TOKENS)
FOLDERS, REFUSED = {}, {}


def folder(function):
    FOLDERS[function.__name__] = function
    return function


def refused(*parts, verbs=("encode", "embed")):
    def keep(function):
        REFUSED[function.__name__] = (function, parts, verbs)
        return function
    return keep


# ---- Vocabularies --------------------------------------------------------------------------------


@folder
def v5_plain(f):
    v5(f)


@folder
def v5_cased_padded(f):
    v5(f, do_lower_case=False, rows=NEW + 13)


@folder
def v5_strip_accents_false_no_chinese(f):
    v5(f, strip_accents=False, tokenize_chinese_chars=False)


@folder
def v5_cased_strip_accents(f):
    v5(f, do_lower_case=False, strip_accents=True)


@folder
def v5_with_another_vocab_txt(f):
    v5(f)
    write(f / "vocab.txt", "\n".join(reversed(TOKENS)) + "\n")


@folder
def v5_holes_in_the_ids(f):
    v5(f, rows=NEW + 5)
    edit(f / "tokenizer.json", lambda t: t["model"]["vocab"].update(river=NEW + 3, bridge=NEW + 1))


@folder
def v4_plain(f):
    v4(f, tokenizer_config=dict(do_lower_case=True, tokenizer_class="BertTokenizer"))


@folder
def v4_blank_and_duplicate_lines(f):
    v4(f, "\n".join(TOKENS[:8] + ["", "", "river"] + TOKENS[8:] + ["the", "", "bridge"]) + "\n\n")


@folder
def v4_crlf_bomless_no_last_newline(f):
    v4(f, "\r\n".join(TOKENS), rows=NEW)


@folder
def v4_odd_lines(f):
    v4(f, "\n".join([*TOKENS, "\u00a0", "\u2028", "\u0085", "river \u3000", "walk\t", "x y"]) + "\n")


@folder
def no_settings_at_all(f):
    v4(f)
    edit(f / "config.json", lambda c: c.pop("model_type", None) and None)


# ---- Names and added tokens ------------------------------------------------------------------------


@folder
def v5_added_tokens(f):
    tokenizer = BertTokenizer(vocab={t: i for i, t in enumerate(TOKENS)})
    tokenizer.add_tokens(["[E1]", "watermill", AddedToken("New York", single_word=True), AddedToken("É", normalized=False)])
    tokenizer.add_special_tokens({"additional_special_tokens": ["<ent>"]})
    tokenizer.save_pretrained(f)
    model_of(len(tokenizer)).save_pretrained(f)


@folder
def v5_strip_flags(f):
    tokenizer = BertTokenizer(vocab={t: i for i, t in enumerate(TOKENS)}, do_lower_case=False)
    tokenizer.add_tokens([AddedToken("<ent>", lstrip=True, rstrip=True, normalized=False), AddedToken("old", rstrip=True),
                          AddedToken("mill", single_word=True), AddedToken("er", normalized=False), AddedToken("ermill")])  # fmt: skip
    tokenizer.save_pretrained(f)
    model_of(len(tokenizer)).save_pretrained(f)


@folder
def v5_mask_takes_blanks(f):
    v5(f, mask_token=AddedToken("[MASK]", lstrip=True, special=True, normalized=False))


@folder
def v5_other_names(f):
    names = dict(pad_token="<pad>", unk_token="<unk>", cls_token="<s>", sep_token="</s>", mask_token="<mask>")
    v5(f, ["<s>", "<pad>", "</s>", "<unk>", "<mask>", *TOKENS[5:]], **names)


@folder
def v4_added_tokens(f):
    v4(f, rows=NEW + 4, added_tokens={"watermill": NEW, "[E1]": NEW + 1, "<ent>": NEW + 2},
       special_tokens_map=dict(zip(["pad_token", "unk_token", "cls_token", "sep_token", "mask_token"], SPECIAL), additional_special_tokens=["<ent>"]),
       tokenizer_config=dict(do_lower_case=True, model_max_length=300))  # fmt: skip


@folder
def v4_added_tokens_decoder(f):
    named = {str(i): token(t, normalized=False, special=True) for i, t in enumerate(SPECIAL)}
    v4(f, rows=NEW + 3, added_tokens={"not read": 3}, special_tokens_map={"cls_token": "not read"},
       tokenizer_config=dict(do_lower_case=False, tokenizer_class="BertTokenizer", added_tokens_decoder=named
                             | {str(NEW): token("The River", normalized=False), str(NEW + 1): token("watermill", single_word=True)}))  # fmt: skip


@folder
def v4_names_as_objects(f):
    lines = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", *TOKENS[5:]]
    v4(f, "\n".join(lines) + "\n", special_tokens_map=dict(
        cls_token="<s>", pad_token="<pad>", sep_token="</s>", unk_token="<unk>",
        mask_token=dict(content="<mask>", lstrip=True, normalized=False, rstrip=False, single_word=False)))  # fmt: skip


@folder
def v4_added_after_blank_lines(f):
    lines = TOKENS[:9] + ["", ""] + TOKENS[9:] + ["river"]  # NEW + 1 different tokens, [SEP] and so on before them
    v4(f, "\n".join(lines) + "\n", added_tokens={"watermill": NEW + 1})


@folder
def v4_words_as_added_tokens(f):
    v4(f, tokenizer_config=dict(tokenizer_class="BertTokenizer", do_lower_case=True, added_tokens_decoder={
        str(TOKENS.index("river")): token("river"), str(TOKENS.index("The")): token("The"), str(TOKENS.index("##s")): token("##s")}))  # fmt: skip


@folder
def v4_no_pad(f):
    v4(f, "\n".join(TOKENS[1:]) + "\n", rows=NEW + 2)


@folder
def backend_class(f):
    v5(f)
    tokenizer = BertTokenizer(vocab={t: i for i, t in enumerate(TOKENS)})
    backend = tokenizer.backend_tokenizer
    backend.normalizer = normalizers.Sequence([normalizers.NFD(), normalizers.Lowercase(), normalizers.StripAccents()])
    backend.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation()])
    backend.model.max_input_chars_per_word = 12
    names = dict(pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]", mask_token="[MASK]")
    PreTrainedTokenizerFast(tokenizer_object=backend, **names).save_pretrained(f)


@folder
def backend_class_without_cleaning(f):
    v5(f)
    tokenizer = BertTokenizer(vocab={t: i for i, t in enumerate(TOKENS)})
    tokenizer.backend_tokenizer.normalizer = normalizers.BertNormalizer(clean_text=False, lowercase=True, strip_accents=False)
    names = dict(pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]", mask_token="[MASK]")
    PreTrainedTokenizerFast(tokenizer_object=tokenizer.backend_tokenizer, **names).save_pretrained(f)


@folder
def bert_class_over_another_normalizer(f):
    v5(f)
    edit(f / "tokenizer.json", lambda t: t.update(normalizer={"type": "NFC"}, pre_tokenizer={"type": "Whitespace"}))


# ---- Weights -----------------------------------------------------------------------------------------


@folder
def sharded(f):
    tokenizer = BertTokenizer(vocab={t: i for i, t in enumerate(TOKENS)})
    tokenizer.save_pretrained(f)
    model_of(len(tokenizer)).save_pretrained(f, max_shard_size="3KB")
    assert not (f / "model.safetensors").exists() and len(list(f.glob("model-*.safetensors"))) > 2


@folder
def untied(f):
    v5(f, model=model_of(NEW, BertForMaskedLM, tie_word_embeddings=False))


@folder
def untied_against_config(f):
    v5(f)
    weights = load_file(f / "model.safetensors")
    weights["cls.predictions.decoder.weight"] = weights["bert.embeddings.word_embeddings.weight"] * 1.5
    weights["cls.predictions.decoder.bias"] = weights["cls.predictions.bias"] + 0.5
    save_file(weights, f / "model.safetensors", metadata={"format": "pt"})


@folder
def old_names_and_activation(f):
    v5(f, model=model_of(NEW, hidden_act="gelu_python"))
    weights = load_file(f / "model.safetensors")
    renamed = {n.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): t for n, t in weights.items()}
    save_file(renamed, f / "model.safetensors", metadata={"format": "pt"})


@folder
def encoder_alone_tanh(f):
    v5(f, model=model_of(NEW, BertModel, hidden_act="gelu_pytorch_tanh"))


@folder
def half_precision_with_nothing_tied_saved(f):
    v5(f, model=model_of(NEW, BertForMaskedLM).to(torch.bfloat16))


@folder
def unknown_field_and_types(f):
    v5(f)
    weights = load_file(f / "model.safetensors")
    save_file(weights | {"scale": torch.zeros(3).to(torch.float8_e4m3fn), "rotation": torch.zeros(2, dtype=torch.complex64)},
              f / "model.safetensors", metadata={"format": "pt"})  # fmt: skip
    edit_header(f / "model.safetensors", lambda header: header["bert.pooler.dense.bias"].update(note="x"))


@folder
def constants_of_older_files(f):
    v5(f)
    weights = load_file(f / "model.safetensors")
    constants = {"position_ids": torch.arange(320)[None], "token_type_ids": torch.zeros(1, 320, dtype=torch.long)}
    save_file(weights | {f"bert.embeddings.{n}": t for n, t in constants.items()}, f / "model.safetensors", metadata={"format": "pt"})


@folder
def tokens_that_the_settings_alone_list(f):
    v5(f, rows=NEW + 9)
    edit(f / "tokenizer_config.json", lambda c: c.update(additional_special_tokens=["<ent>", "xyzzy"], zeta_token="[E1]",
                                                         extra_special_tokens={"y_token": "mill", "a_token": "old  "}))


@folder
def two_lists_of_tokens(f):
    v5(f, rows=NEW + 9)
    edit(f / "tokenizer_config.json", lambda c: c.update(additional_special_tokens=["<ent>"], extra_special_tokens=["xyzzy", "[E1]"]))


@folder
def one_segment_and_another_pad(f):
    v5(f, model=model_of(NEW, type_vocab_size=1, pad_token_id=5, layer_norm_eps=1e-5, classifier_dropout=0.3))


@folder
def a_pad_counted_from_the_end(f):
    v5(f, model=model_of(NEW, pad_token_id=-1))


@folder
def truncation_and_padding_in_tokenizer_json(f):
    v5(f)
    edit(f / "tokenizer.json", lambda t: t.update(
        truncation={"direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 0},
        padding={"strategy": {"Fixed": 64}, "direction": "Right", "pad_to_multiple_of": None, "pad_id": 0, "pad_type_id": 0, "pad_token": "[PAD]"}))


@folder
def v4_settings_without_effect(f):
    mask = {"__type": "AddedToken", **token("[MASK]", lstrip=True, normalized=False)}
    v4(f, added_tokens={"river": TOKENS.index("river"), "watermill": NEW}, tokenizer_config=dict(
        tokenizer_class="BertTokenizerFast", do_basic_tokenize=False, never_split=["watermill"], mask_token=mask, max_len=16,
        name_or_path="somewhere", special_tokens_map_file=None, model_max_length=1000000000000000019884624838656, padding_side="left"))  # fmt: skip


# ---- Texts that are too long, and sentence-transformers ---------------------------------------------------


def check_cut(f, side):
    """embed cuts as the peer's truncation does; the vectors are sentence-transformers', whose limit it is."""
    v5(f, model=model_of(NEW, BertModel))
    write(f / "sentence_bert_config.json", {"max_seq_length": 6, "do_lower_case": False})
    edit(f / "tokenizer_config.json", lambda c: c.update(truncation_side=side))
    wanted = AutoTokenizer.from_pretrained(f)(TEXTS, truncation=True, max_length=6)["input_ids"]
    got = [line["ids"] for line in results(minibert("embed", "--json", "--model", f, text="\n".join(TEXTS) + "\n"))]
    assert got == wanted, [(t, a, b) for t, a, b in zip(TEXTS, got, wanted) if a != b]


def cut_at_the_end(f):
    check_cut(f, "right")


def cut_at_the_beginning(f):
    check_cut(f, "left")


def sentence_folder(f, pooling, *more):
    """A folder as sentence-transformers saves it: older versions have a switch for each mode of pooling."""
    v5(f, model=model_of(NEW, BertModel))
    modules = ["Transformer", "Pooling", *more]
    write(f / "modules.json", [dict(idx=i, name=str(i), path=f"{i}_{m}" if i else "", type=f"sentence_transformers.models.{m}")
                               for i, m in enumerate(modules)])  # fmt: skip
    (f / "1_Pooling").mkdir()
    write(f / "1_Pooling/config.json", pooling)


def check_sentences(f, *flags, note=""):
    from sentence_transformers import SentenceTransformer

    done = minibert("embed", "--json", "--model", f, *flags, text="\n".join(TEXTS) + "\n")
    assert note in done.stderr, done.stderr
    for text, mine, theirs in zip(TEXTS, results(done), SentenceTransformer(str(f), device="cpu").encode(TEXTS), strict=True):
        close(mine["vector"], torch.tensor(theirs), text)


def sentences_by_mean(f):
    sentence_folder(f, {"word_embedding_dimension": 16, "pooling_mode_cls_token": False, "pooling_mode_mean_tokens": True})
    check_sentences(f)


def sentences_by_cls(f):
    sentence_folder(f, {"word_embedding_dimension": 16, "pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}, "Normalize")
    check_sentences(f, "--normalize", note="pooling is cls, as")
    for flags, note in ((["--pooling", "mean"], "--pooling cls"), ([], "As there: --normalize")):
        assert note in minibert("embed", "--model", f, *flags, "the").stderr, note


def sentences_by_another_mode(f):
    sentence_folder(f, {"embedding_dimension": 16, "pooling_mode": "max"}, "Dense")
    write(f / "sentence_bert_config.json", {"do_lower_case": True})
    edit(f / "tokenizer_config.json", lambda c: c.update(do_lower_case=False))
    said = minibert("embed", "--model", f, "the").stderr
    write(f / "1_Pooling/config.json", {"embedding_dimension": 16, "pooling_mode": ["mean", "max"]})
    edit(f / "modules.json", lambda modules: modules.insert(1, dict(idx=9, name="9", path="", type="sentence_transformers.models.WeightedLayerPooling")))
    both = minibert("embed", "--model", f, "the").stderr
    for part in ("the pooling is mean, max, used is mean", "WeightedLayerPooling, 2_Dense of modules.json are not built in"):
        assert part in both, both
    for part in ("the pooling is max, used is mean", "2_Dense of modules.json is not built in", "do_lower_case is true"):
        assert part in said, said


def sentences_with_prompts(f):
    from sentence_transformers import SentenceTransformer

    sentence_folder(f, {"word_embedding_dimension": 16, "pooling_mode_mean_tokens": True})
    settings = f / "config_sentence_transformers.json"
    write(settings, {"prompts": {"query": "the Old: ", "document": ""}, "default_prompt_name": "query"})
    check_sentences(f, note='"the Old: " stands before each text, as ')
    write(settings, {"prompts": {"query": "the Old: ", "document": ""}, "default_prompt_name": None})
    check_sentences(f, note='knows prompts for some texts: query "the Old: ".')
    for flags, how in ((["--prompt", "the Old: "], {"prompt_name": "query"}), (["--prompt", ""], {})):
        line = results(minibert("embed", "--json", "--model", f, *flags, "river [MASK]"))[0]
        close(line["vector"], torch.tensor(SentenceTransformer(str(f), device="cpu").encode("river [MASK]", **how)), flags)
        assert line["text"] == "river [MASK]", line
    write(f / "1_Pooling/config.json", {"word_embedding_dimension": 16, "pooling_mode_mean_tokens": True, "include_prompt": False})
    assert "include_prompt is false" in minibert("embed", "--model", f, "--prompt", "old", "the").stderr
    write(settings, {"prompts": {"query": "the Old: "}, "default_prompt_name": "passage"})
    refused = minibert("embed", "--model", f, "the")
    assert refused.returncode == 3 and 'expected the name of one of the prompts (query "the Old: ")' in refused.stderr, refused.stderr


def fill_mask_with_targets(f):
    from transformers import pipeline

    tokenizer = v5(f)
    peer = pipeline("fill-mask", model=BertForMaskedLM.from_pretrained(f), tokenizer=tokenizer)
    text = "the old [MASK] sold, the river [MASK]."
    for targets in (["bridge"], ["old", "walk", "old", "##s", "[SEP]"], ["Walk", "watermill", "river", "\u200b"]):
        for top in (1, 2, 9):
            done = minibert("fill-mask", "--json", "--top-k", top, "--targets", ",".join(targets), "--model", f, text)
            [line] = results(done)
            for mine, theirs in zip(line["masks"], peer(text, targets=targets, top_k=top), strict=True):
                assert [c["id"] for c in mine["candidates"]] == [c["token"] for c in theirs], (targets, top)
                close([c["probability"] for c in mine["candidates"]], torch.tensor([c["score"] for c in theirs]), targets)
    for part in ('"Walk" is no token of the vocabulary: its first piece, walk,', '"\u200b" is no token of the vocabulary: it is left out'):
        assert part in done.stderr, done.stderr
    assert len(results(minibert("fill-mask", "--json", "--targets", "a,b,e,i,i", "--targets", "1", "--model", f, text))[0]["masks"][1]["candidates"]) == 5


def pairs_for_one_segment(f):
    v5(f, model=model_of(NEW, type_vocab_size=1))
    text, data, out = f / "text", f / "data", f / "run"
    write(text, "\n\n".join(["the old river\nbridge sold"] * 9))
    build = ["data", "build", "--vocab", f, "--sequence-length", 32, "--force", "--output", data, text]
    train = ["train", "--init-from", f, "--data", data, "--output-dir", out, "--no-nsp", "--max-steps", 1, *TRAIN[2:]]
    evaluate = ["eval", "mlm", "--model", f, "--data", data]
    assert minibert(*build).returncode == 0
    for command in (train, evaluate):
        refused = minibert(*command)
        assert refused.returncode == 2 and "Build the data with --no-nsp" in refused.stderr, refused.stderr
    for command in ([*build, "--no-nsp"], train, evaluate):
        done = minibert(*command)
        assert done.returncode == 0, done.stderr


def labels_of_a_classifier(f):
    """Two rows of one name are one label; numbers without a name are refused."""
    v5(f, model=model_of(NEW, BertForSequenceClassification, num_labels=3))
    edit(f / "config.json", lambda c: c.update(id2label={"0": "a", "1": "a", "2": "c"}, label2id={"a": 1, "c": 2}))
    tokenizer, model = AutoTokenizer.from_pretrained(f), BertForSequenceClassification.from_pretrained(f).eval()
    texts = [f"the {word} river {other}" for word in WORDS[:7] for other in WORDS[7:12]]
    write(f / "texts.jsonl", "\n".join(json.dumps({"text": t, "label": "ac"[i % 2]}) for i, t in enumerate(texts)))
    guesses = [int(states_of(model, tokenizer(t)["input_ids"]).logits.argmax()) for t in texts]
    assert 1 in guesses, guesses
    right = sum(model.config.id2label[guess] == "ac"[i % 2] for i, guess in enumerate(guesses))
    command = ["eval", "classify", "--json", "--model", f, "--data", f / "texts.jsonl"]
    [scores] = results(minibert(*command))
    assert abs(scores["accuracy"] - right / len(texts)) < 1e-9, (scores, right)
    for names, said in (({"1": "a", "2": "b", "3": "c"}, "has no name for 0"), (["a", "b", "c"], 'is ["a","b","c"]')):
        edit(f / "config.json", lambda c: c.update(id2label=names))
        refused = minibert(*command)
        assert refused.returncode == 3 and said in refused.stderr, refused.stderr


CUT = [cut_at_the_end, cut_at_the_beginning, sentences_by_mean, sentences_by_cls, sentences_by_another_mode, sentences_with_prompts,
       fill_mask_with_targets, pairs_for_one_segment, labels_of_a_classifier]

# ---- Refusals ----------------------------------------------------------------------------------------


@refused("begins with a byte order mark")
def byte_order_mark(f):
    v4(f, lines="\ufeff" + "\n".join(TOKENS) + "\n")
    assert AutoTokenizer.from_pretrained(f).convert_tokens_to_ids("\ufeff[PAD]") == 0


@refused("modules.json: path is 3, expected text", verbs=("embed",))
def modules_with_a_number_for_a_path(f):
    sentence_folder(f, {"pooling_mode": "mean"})
    edit(f / "modules.json", lambda modules: modules[1].update(path=3))


@refused("model is BPE", "WordPiece")
def bpe(f):
    v5(f)
    edit(f / "tokenizer.json", lambda t: t["model"].update(type="BPE", merges=[]))


@refused("model is Unigram", "WordPiece")
def unigram(f):
    v5(f)
    edit(f / "tokenizer.json", lambda t: t["model"].update(type="Unigram"))


def with_backend(f, **change):
    v5(f)
    edit(f / "tokenizer.json", lambda t: t.update(change))
    edit(f / "tokenizer_config.json", lambda c: c.update(tokenizer_class="PreTrainedTokenizerFast"))


@refused("normalizer is NFC", "pre_tokenizer is Whitespace")
def backend_other_normalizer(f):
    with_backend(f, normalizer={"type": "NFC"}, pre_tokenizer={"type": "Whitespace"})


@refused("post_processor is none", "[CLS] text [SEP]")
def backend_without_special_tokens(f):
    with_backend(f, post_processor=None)


@refused("tokenizer_class is RobertaTokenizer")
def another_class(f):
    v5(f)
    edit(f / "tokenizer_config.json", lambda c: c.update(tokenizer_class="RobertaTokenizer"))


@refused("watermill", "id 200", "gives it")
def added_token_with_a_wrong_id(f):
    v4(f, rows=300, added_tokens={"watermill": 200})


@refused("no vocab.txt and no tokenizer.json")
def no_vocabulary(f):
    v5(f)
    (f / "tokenizer.json").unlink()


@refused("vocabulary lacks [UNK]")
def no_unk(f):
    v4(f, "\n".join(t for t in TOKENS if t != "[UNK]") + "\n", tokenizer_config={})


@refused("split_special_tokens")
def split_special_tokens(f):
    v5(f)
    edit(f / "tokenizer_config.json", lambda c: c.update(split_special_tokens=True))


@refused('architectures is ["RobertaModel"]', verbs=("embed",))
def roberta_without_a_type(f):
    v5(f, model=model_of(NEW, BertModel))  # its tensors have the same names; its positions begin at 2
    edit(f / "config.json", lambda c: c.pop("model_type") and c.update(architectures=["RobertaModel"]))


@refused("another architecture, roberta, which is not built in", verbs=("embed",))
def roberta_by_its_tensors(f):
    v5(f)
    weights = load_file(f / "model.safetensors")
    save_file({n.replace("bert.", "roberta.", 1): t for n, t in weights.items()}, f / "model.safetensors", metadata={"format": "pt"})


@refused("2 of them under other names: bert.encoder.layer.0.attention.self.q.", verbs=("embed",))
def tensors_under_other_names(f):
    v5(f)
    weights = load_file(f / "model.safetensors")
    save_file({n.replace("self.query", "self.q"): t for n, t in weights.items()}, f / "model.safetensors", metadata={"format": "pt"})


POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:0e3f\nsize 440449768\n"


@refused("model.safetensors", "say where Git LFS keeps the file", verbs=("embed",))
def pointer_for_the_weights(f):
    v5(f)
    write(f / "model.safetensors", POINTER)


@refused("tokenizer.json", "say where Git LFS keeps the file")
def pointer_for_the_tokenizer(f):
    v5(f)
    write(f / "tokenizer.json", POINTER)


@refused("vocab.txt", "say where Git LFS keeps the file")
def pointer_for_the_vocabulary(f):
    v4(f)
    write(f / "vocab.txt", POINTER)


@refused("holds an adapter (adapter_config.json)", verbs=("embed",))
def adapter_alone(f):
    v5(f)
    (f / "model.safetensors").rename(f / "adapter_model.safetensors")
    write(f / "adapter_config.json", {"peft_type": "LORA"})


@refused("resize_token_embeddings", verbs=("embed",))
def more_tokens_than_rows(f):
    tokenizer = BertTokenizer(vocab={t: i for i, t in enumerate(TOKENS)})
    tokenizer.add_tokens(["watermill"])
    tokenizer.save_pretrained(f)
    model_of(NEW).save_pretrained(f)


@refused("position_embedding_type", verbs=("embed",))
def relative_positions(f):
    v5(f)
    edit(f / "config.json", lambda c: c.update(position_embedding_type="relative_key"))


@refused("model-00001-of-", "are not there", verbs=("embed",))
def a_shard_is_missing(f):
    sharded(f)
    next(f.glob("model-00001-of-*")).unlink()


@refused("1 of 31 tensors are missing: cls.predictions.decoder.weight", verbs=("fill-mask",))
def untied_without_decoder(f):
    v5(f)
    edit(f / "config.json", lambda c: c.update(tie_word_embeddings=False))


# ---- Folders that a message mends: its Python command is run, then the folder is equal to the peer ----


def another_prefix(f):
    v5(f)
    weights = load_file(f / "model.safetensors")
    save_file({"tower." + name: tensor for name, tensor in weights.items()}, f / "model.safetensors", metadata={"format": "pt"})


def pytorch_file_alone(f):
    v5(f)
    torch.save(load_file(f / "model.safetensors"), f / "pytorch_model.bin")
    (f / "model.safetensors").unlink()


def pytorch_files_alone(f):
    pytorch_file_alone(f)
    names = sorted(weights := torch.load(f / "pytorch_model.bin"))
    for number, part in enumerate((names[::2], names[1::2]), 1):
        torch.save({name: weights[name] for name in part}, f / f"pytorch_model-0000{number}-of-00002.bin")
    (f / "pytorch_model.bin").rename(f / "pytorch_model.bin.index.json")


def pytorch_file_by_another_name(f):
    pytorch_file_alone(f)
    (f / "pytorch_model.bin").rename(f / "model.safetensors")
    said = COMMANDS["fill-mask"](f).stderr
    assert "is a file of PyTorch" in said, said
    (f / "model.safetensors").rename(f / re.search(r"Name it ([\w.]+):", said)[1])


MENDED = [pytorch_file_by_another_name, another_prefix, pytorch_file_alone, pytorch_files_alone]


def check_mended(f):
    done = COMMANDS["fill-mask"](f)
    assert done.returncode == 3, done
    program = re.search(r'python -c "(.*)"', done.stderr)
    assert program, done.stderr
    subprocess.run([PYTHON, "-c", program[1]], check=True, timeout=120)
    check_folder(f)
    assert has_masked_head(f)


# ---- Comparison --------------------------------------------------------------------------------------


def minibert(*words, text=""):
    return subprocess.run([BINARY, *map(str, words)], input=text, capture_output=True, text=True, timeout=120)


def results(done):
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.split("\n")[:-1]]  # not splitlines: texts have U+2028


def close(got, wanted, what):
    worst = (torch.tensor(got, dtype=torch.float64) - wanted.double()).abs().max().item() if len(got) else 0.0
    assert worst <= 1e-5, f"{what}: differs by {worst}"


def states_of(model, ids):
    with torch.no_grad():
        return model(input_ids=torch.tensor([ids]), output_hidden_states=True)


def check_ids(f, tokenizer):
    wanted = [tokenizer(text)["input_ids"] for text in TEXTS]
    got = [line["ids"] for line in results(minibert("tokenizer", "encode", "--json", "--vocab", f, text="\n".join(TEXTS) + "\n"))]
    for text, mine, theirs in zip(TEXTS, got, wanted, strict=True):
        assert mine == theirs, f"{text!r}: {mine}, the peer has {theirs}"
    return wanted


def check_vectors(f, ids):
    model = BertModel.from_pretrained(f, add_pooling_layer=False, dtype=torch.float32).eval()
    usable = [(t, i) for t, i in zip(TEXTS, ids) if max(i) < model.config.vocab_size]
    lines = results(minibert("embed", "--no-truncate", "--json", "--model", f, text="".join(t + "\n" for t, _ in usable)))
    for (text, wanted), line in zip(usable, lines, strict=True):
        assert line["ids"] == wanted, text
        close(line["vector"], states_of(model, wanted).last_hidden_state[0].mean(0), text)


def check_masks(f, tokenizer):
    model = BertForMaskedLM.from_pretrained(f, dtype=torch.float32).eval()
    text = f"the old {tokenizer.mask_token} sold, the river {tokenizer.mask_token}."
    ids = tokenizer(text)["input_ids"]
    top = 2 * len(tokenizer)
    [line] = results(minibert("fill-mask", "--json", "--top-k", top, "--model", f, text))
    assert line["ids"] == ids
    probabilities = states_of(model, ids).logits[0].float().softmax(-1)
    assert [m["position"] for m in line["masks"]] == [p for p, i in enumerate(ids) if i == tokenizer.mask_token_id]
    for mask in line["masks"]:
        for candidate in mask["candidates"]:
            assert abs(candidate["probability"] - probabilities[mask["position"], candidate["id"]].item()) <= 1e-5, candidate
            theirs = tokenizer.convert_ids_to_tokens(candidate["id"])
            mine = candidate["token"].rstrip()  # the library shows an added token as it is looked for: normalized
            assert theirs in (None, mine, tokenizer.backend_tokenizer.normalizer.normalize_str(mine)), (candidate, theirs)


def has_masked_head(f):
    names = [n for file in f.glob("*.safetensors") for n in load_file(file)]
    return any(n.startswith("cls.predictions.transform") for n in names)


def check_folder(f):
    try:
        tokenizer = AutoTokenizer.from_pretrained(f)
    except ValueError:  # config.json says nothing of BERT
        tokenizer = BertTokenizer.from_pretrained(f)
    check_vectors(f, check_ids(f, tokenizer))
    if has_masked_head(f):
        check_masks(f, tokenizer)


TOKENIZER_FILES = ["tokenizer.json", "tokenizer_config.json", "added_tokens.json", "special_tokens_map.json"]
KEPT = ["v5_added_tokens", "v4_names_as_objects", "v4_blank_and_duplicate_lines", "untied"]
TRAIN = ["--max-steps", "2", "--micro-batch-size", "2", "--global-batch-size", "2"]


def check_kept(f, made, reference):
    """A checkpoint of a run that began with folder f: its tokenizer files, ids by Transformers and here, and its weights."""
    for name in TOKENIZER_FILES + ["vocab.txt"]:
        assert not (f / name).exists() or (made / name).read_bytes() == (f / name).read_bytes(), name
    tokenizer = AutoTokenizer.from_pretrained(made)
    assert check_ids(made, tokenizer) == [reference(text)["input_ids"] for text in TEXTS]


def check_training(f, scratch):
    """data build, train from the folder, resume, eval, train from the data alone, finetune: tokens stay what they were."""
    def run(*words):
        done = minibert(*words)
        assert done.returncode == 0, (words, done.stderr)

    data, out, labels = scratch / "data", scratch / "run", scratch / "labels.csv"
    write(scratch / "text", "\n\n".join(["the old river bridge sold", "watermill the cafe walks", "new york, the water."] * 8))
    run("data", "build", "--vocab", f, "--format", "paragraphs", "--sequence-length", "32", "--output", data, scratch / "text")
    run("train", "--init-from", f, "--data", data, "--output-dir", out, "--stop-after", "1", *TRAIN)
    run("train", "--init-from", f, "--data", data, "--output-dir", out, "--resume", "must", *TRAIN)
    reference = AutoTokenizer.from_pretrained(f)
    check_kept(f, out / "latest", reference)
    run("eval", "mlm", "--model", out / "latest", "--data", data)
    model, info = BertForMaskedLM.from_pretrained(out / "latest", output_loading_info=True)
    assert not info["missing_keys"], info
    check_masks(out / "latest", reference)
    run("train", "--data", data, "--output-dir", scratch / "new", "--hidden-size", "16", "--num-hidden-layers", "1", "--num-attention-heads", "2",
        "--max-position-embeddings", "320", *TRAIN)  # fmt: skip
    assert check_ids(scratch / "new" / "latest", AutoTokenizer.from_pretrained(scratch / "new" / "latest")) == [reference(t)["input_ids"] for t in TEXTS]
    write(labels, "text,label\n" + "the river,a\nwatermill the,b\n" * 4)
    run("finetune", "classify", "--init-from", f, "--data", labels, "--output-dir", scratch / "tuned", "--max-steps", "1", *TRAIN[2:])
    check_kept(f, scratch / "tuned" / "latest", reference)


COMMANDS = {"encode": lambda f: minibert("tokenizer", "encode", "--vocab", f, text="the\n"),
            "embed": lambda f: minibert("embed", "--model", f, "the"),
            "fill-mask": lambda f: minibert("fill-mask", "--model", f, "the [MASK]")}  # fmt: skip


def check_refusal(f, parts, verbs):
    for verb in verbs:
        done = COMMANDS[verb](f)
        assert done.returncode == 3 and done.stdout == "", (verb, done)
        for part in parts:
            assert part in done.stderr, f"{verb}: {part!r} is not in {done.stderr}"


def main(wanted):
    failures = 0
    cases = {n: (make, None) for n, make in FOLDERS.items()} | {n: (make, rest) for n, (make, *rest) in REFUSED.items()}
    cases |= {make.__name__: (make, None) for make in [*MENDED, *CUT]}
    with tempfile.TemporaryDirectory() as scratch:
        for name, (make, refusal) in cases.items():
            if wanted and name not in wanted:
                continue
            f = pathlib.Path(scratch) / name
            try:
                make(f)
                if refusal:
                    check_refusal(f, *refusal)
                else:
                    if make not in CUT:  # these have checked themselves
                        (check_mended if make in MENDED else check_folder)(f)
                if name in KEPT:
                    (pathlib.Path(scratch) / "kept" / name).mkdir(parents=True)
                    check_training(f, pathlib.Path(scratch) / "kept" / name)
            except AssertionError as error:
                failures += 1
                print(f"{name}: {error}")
    print(f"{len(FOLDERS)} folders equal to the peer, {len(KEPT)} of them trained from and kept, {len(REFUSED)} refused by name, {len(MENDED)} mended by the message, {len(CUT)} cut and pooled as the peers do, {failures} failures")
    sys.exit(failures > 0)


if __name__ == "__main__":
    main(sys.argv[1:])
