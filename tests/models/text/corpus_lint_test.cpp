// corpus_lint_test.cpp: planted faults of a corpus, each found by its name, and gone once the message's
// own advice is carried out: its flags are given, its command is run. The novels of the tree have none.
// Expected findings: by construction of each text.
#include "models/text/corpus_lint.h"

#include <array>
#include <functional>

#include <nlohmann/json.hpp>

#include "core/random.h"
#include "models/text/repeat_counter.h"
#include "models/text/scripts.h"
#include "models/text/unicode.h"
#include "tests/models/text/build_fixture.h"

namespace minibert {
namespace {

using nlohmann::json;
using testing::read_bytes;
using testing::write_bytes;

// ---- A clean corpus ----------------------------------------------------------------------------

using Corpus = std::vector<std::vector<std::string>>;  // documents of sentences

class Writer {
 public:
  explicit Writer(uint64_t seed) : random_(seed, StreamPurpose::user, 0) {}
  std::string word() {
    static const std::vector<std::string> kWords = {
        "river", "bridge", "old",  "sold",  "walk",  "house", "the",     "miss", "garden",
        "of",    "letter", "and",  "to",    "ship",  "in",    "morning", "was",  "her",
        "light", "stone",  "road", "music", "water", "never", "summer",  "it",   "table"};
    return kWords[static_cast<size_t>(random_.integer(0, static_cast<int64_t>(kWords.size()) - 1))];
  }
  std::string words(int count) {
    std::string text = word();
    for (int i = 1; i < count; ++i) text += " " + word();
    return text;
  }
  std::string sentence(int count = 0) {
    std::string text = words(count > 0 ? count : static_cast<int>(random_.integer(5, 9))) + ".";
    text[0] = static_cast<char>(text[0] - 'a' + 'A');
    return text;
  }
  Corpus corpus(int documents = 30, int sentences = 12) {
    Corpus corpus(static_cast<size_t>(documents));
    for (auto& document : corpus) {
      for (int s = 0; s < sentences; ++s) document.push_back(sentence());
    }
    return corpus;
  }

 private:
  RandomStream random_;
};

std::string text_of(const Corpus& corpus) {
  std::string text;
  for (const auto& document : corpus) {
    for (const std::string& sentence : document) text += sentence + "\n";
    text += "\n";
  }
  return text;
}

std::string replaced(std::string text, const std::string& from, const std::string& to) {
  for (size_t at = text.find(from); at != std::string::npos; at = text.find(from, at + to.size()))
    text.replace(at, from.size(), to);
  return text;
}

std::string character(uint32_t code_point) {
  std::string text;
  append_utf8(code_point, text);
  return text;
}

// ---- Faults ------------------------------------------------------------------------------------

struct Case {
  std::string text = text_of(Writer(1).corpus());
  std::string vocabulary = testing::small_vocabulary();
  std::string flags = {};
};

struct Fault {
  std::string title, finding;
  std::function<Case()> plant;
  std::string advice;  // a part of the message
  /// Flags that follow the advice, instead of the planted ones; or kRun: the message ends with a
  /// command that writes clean.txt or NEW.txt.
  std::string cure;
};
const std::string kRun = "run", kNone = "none";

void PrintTo(const Fault& fault, std::ostream* out) {
  *out << fault.title;
}

Case of_lines(const std::function<void(Corpus&, Writer&)>& change, const std::string& flags = {}) {
  Writer writer(1);
  Corpus corpus = writer.corpus();
  change(corpus, writer);
  return {text_of(corpus), testing::small_vocabulary(), flags};
}

/// A line for each document, made by `line` of its number and its text.
Case of_documents(const std::function<std::string(size_t, const std::string&)>& line,
                  const std::string& flags = {}) {
  const Corpus corpus = Writer(1).corpus();
  std::string text;
  for (size_t d = 0; d < corpus.size(); ++d) {
    std::string document;
    for (const std::string& sentence : corpus[d])
      document += (document.empty() ? "" : " ") + sentence;
    text += line(d, document) + "\n";
  }
  return {text, testing::small_vocabulary(), flags};
}

Case changed(const std::string& from, const std::string& to, const std::string& flags = {}) {
  Case planted;
  planted.text = replaced(planted.text, from, to);
  planted.flags = flags;
  return planted;
}

std::vector<Fault> faults() {
  return {
      {"RepeatedLines", "repeated_lines",
       [] {
         return of_lines([](Corpus& c, Writer& w) {
           const std::string line = w.sentence();
           for (int i = 0; i < 3000; ++i) c[static_cast<size_t>(i) % c.size()].push_back(line);
         });
       },
       "awk", kRun},
      {"FrequentLine", "frequent_line",
       [] {
         return of_lines([](Corpus& c, Writer&) {
           for (auto& document : c) document.push_back("Read more about the old bridge.");
         });
       },
       "\"Read more about the old bridge.\" is there 30 times", kRun},
      {"RepeatedDocuments", "repeated_documents",
       [] {
         return of_lines([](Corpus& c, Writer&) {
           for (size_t d = 0; d < 3; ++d) c.push_back(c[d]);
         });
       },
       "3 of 33 documents", kRun},
      {"HeldOutCopies", "held_out_copies",
       [] { return of_lines([](Corpus& c, Writer&) { c[4] = c[0]; }, "--hold-out-every 5"); },
       "awk", kRun},
      {"SingleDocument", "single_document", [] { return changed("\n\n", "\n"); },
       "--document-break", "--no-nsp"},
      {"SingleDocumentWithHeadings", "single_document",
       [] {
         return of_lines([](Corpus& c, Writer&) {
           for (auto& document : c) document.insert(document.begin(), "CHAPTER");
           Corpus one(1);
           for (const auto& document : c)
             one[0].insert(one[0].end(), document.begin(), document.end());
           c = one;
         });
       },
       "--no-nsp", "--document-break '^CHAPTER'"},
      {"GiantDocument", "giant_document",
       [] {
         return of_lines([](Corpus& c, Writer& w) {
           for (int i = 0; i < 600; ++i) c[7].push_back(w.sentence());
         });
       },
       "one of 30 documents", "--no-nsp"},
      {"OneSentenceDocuments", "one_sentence_documents", [] { return changed("\n", "\n\n"); },
       "Remove the blank lines", "--no-nsp"},
      {"EmptyDocuments", "empty_documents",
       [] {
         return of_documents(
             [](size_t d, const std::string& text) {
               return json{{"text", d < 9 ? "" : text}, {"body", text}}.dump();
             },
             "--format jsonl");
       },
       "9 of 30 documents", "--format jsonl --field body"},
      {"MissingCharacters", "unknown_tokens",
       [] {
         return of_lines([](Corpus& c, Writer&) {
           uint32_t code_point = 0x4E00;
           for (auto& document : c) {
             for (std::string& sentence : document) sentence += character(code_point++ % 0x6000);
           }
         });
       },
       "minibert tokenizer train --limit-alphabet", kRun},
      {"CapitalsAndAnUncasedVocabulary", "unknown_tokens", [] { return Case{.flags = "--cased"}; },
       "Leave out --cased", ""},
      {"EncodedData", "unknown_tokens",
       [] {
         return of_lines([](Corpus& c, Writer&) {
           for (auto& document : c) {
             for (std::string& sentence : document) sentence += " " + std::string(150, 'q');
           }
         });
       },
       "longer than 100 characters", kRun},
      {"CasedVocabulary", "cased_vocabulary",
       [] {
         Case planted;
         for (char letter = 'A'; letter <= 'Z'; ++letter)
           planted.vocabulary += std::string(1, letter) + "\n##" + letter + "\n";
         return planted;
       },
       "without --cased", "--cased"},
      {"LinesNearlyAsLongAsASequence", "truncated_text",
       [] {
         return of_lines([](Corpus& c, Writer& w) {
           for (auto& document : c) {
             for (std::string& sentence : document) sentence = w.sentence(14);
           }
         });
       },
       "--max-sentence-tokens 8", "--max-sentence-tokens 8"},
      {"LinesThatAreDocuments", "long_lines",
       [] { return of_documents([](size_t, const std::string& text) { return text + "\n"; }); },
       "--format paragraphs", "--format paragraphs"},
      {"ShortExamples", "short_examples",
       [] {
         Writer writer(2);
         std::string text;
         for (int d = 0; d < 300; ++d) text += writer.words(2) + "\n\n";
         return Case{.text = text, .flags = "--no-nsp"};
       },
       "--sequence-length", "--no-nsp --sequence-length 16"},
      {"WordsOfTooManyPieces", "empty_masks",
       [] {
         std::string text;
         for (int d = 0; d < 20; ++d) {
           for (int s = 0; s < 10; ++s)
             text += std::string(12, static_cast<char>('a' + (d + s) % 20)) + " " +
                     std::string(13, static_cast<char>('b' + (d * s) % 20)) + "\n";
           text += "\n";
         }
         return Case{.text = text, .flags = "--whole-word-masking"};
       },
       "Leave out --whole-word-masking", ""},
      {"FewPredictions", "few_masks",
       [] { return Case{.flags = "--sequence-length 128 --max-predictions 5"}; },
       "--max-predictions 20.", "--sequence-length 128 --max-predictions 20"},
      {"AnotherScript", "foreign_script",
       [] {
         return of_lines([](Corpus& c, Writer&) {
           for (size_t d = 0; d < c.size(); d += 3) {
             for (std::string& sentence : c[d]) {
               std::string other;
               for (const char letter : sentence)
                 other += letter >= 'a' && letter <= 'z'
                              ? character(0x430 + static_cast<uint32_t>(letter - 'a'))
                              : std::string(1, letter);
               sentence = other;
             }
           }
         });
       },
       "letters are cyrillic", kRun},
      {"Latin1", "not_utf8", [] { return changed("old", "\xE9t\xE9"); }, "iconv -f LATIN1", kRun},
      {"Windows1252", "not_utf8", [] { return changed("old", "\x93\xE9t\xE9\x94"); },
       "iconv -f CP1252", kRun},
      {"StrayBytes", "not_utf8",
       [] {
         Case planted = changed("bridge", "caf\xC3\xA9");
         planted.text += "The old \xFF bridge.\nThe bridge.\n";
         return planted;
       },
       "iconv -c", kRun},
      {"ZeroBytes", "not_utf8",
       [] {
         Case planted = changed("bridge", "mill");
         planted.text += std::string("The o\0ld bridge.\nThe bridge.\n", 29);
         return planted;
       },
       "tr -d", kRun},
      {"AnotherEncoding", "not_utf8",
       [] {
         return of_lines([](Corpus& c, Writer&) {
           for (std::vector<std::string>& document : c)
             for (std::string& sentence : document)
               for (char& letter : sentence)  // to Russian ones in KOI8-R
                 if (letter >= 'a' && letter <= 'z')
                   letter = static_cast<char>(0xC0 + letter - 'a');
         });
       },
       "iconv -f ENCODING", kNone},
      {"Iso2022", "seven_bit", [] { return changed("old", "\x1B$B@n\x1B(B"); },
       "iconv -f ISO-2022-JP", kRun},
      {"Hz", "seven_bit", [] { return changed("old", "~{4(~}"); }, "decode('hz')", kRun},
      {"Utf7", "seven_bit", [] { return changed("old", "caf+AOk-"); }, "iconv -f UTF-7", kRun},
      {"SpecialTokens", "special_tokens", [] { return changed("old", "[SEP] old [MASK]"); },
       "hold [SEP] [MASK] as text", kRun},
      {"TwiceEncoded", "twice_encoded", [] { return changed("old", "caf\xC3\x83\xC2\xA9"); },
       "iconv -f UTF-8 -t CP1252", kRun},
      {"ReplacementCharacters", "replacement_characters",
       [] { return changed("old", "caf\xEF\xBF\xBD"); }, "U+FFFD", kNone},
      {"TablesAndRules", "without_letters",
       [] {
         return of_lines([](Corpus& c, Writer&) {
           int number = 0;
           for (auto& document : c) {
             for (int i = 0; i < 3; ++i)
               document.push_back("| " + std::to_string(++number) + " | 12.5 |");
           }
         });
       },
       "no letter", kRun},
      {"JsonLines", "json_lines",
       [] {
         return of_documents([](size_t d, const std::string& text) {
           return json{{"id", d}, {"text", text}}.dump();
         });
       },
       "--format jsonl", "--format jsonl"},
      {"WikiExtractor", "document_tags",
       [] {
         return of_documents([](size_t d, const std::string& text) {
           const std::string n = std::to_string(d);
           return "<doc id=\"" + n + "\" url=\"u\" title=\"T" + n + "\">\nT" + n + "\n\n" + text +
                  "\n\n</doc>";
         });
       },
       "--format wiki", "--format wiki"},
      {"Tags", "tags", [] { return changed("old", "<b>old</b>"); }, "sed", kRun},
      {"Entities", "entities", [] { return changed("old", "&quot;old&quot;"); }, "html.unescape",
       kRun},
      {"WrappedProse", "wrapped_lines",
       [] {
         return of_documents([](size_t, const std::string& text) {
           std::string wrapped = text;
           int words = 0;
           for (char& c : wrapped) {
             if (c == ' ' && ++words % 7 == 0) c = '\n';
           }
           return wrapped + "\n";
         });
       },
       "--format paragraphs", "--format paragraphs"},
  };
}

// ---- The tests ---------------------------------------------------------------------------------

class CorpusLint : public testing::BuildFixture {
 protected:
  /// The findings of a dry run, by name.
  std::map<std::string, std::string> findings(const std::string& flags, const std::string& files,
                                              const std::string& vocabulary) const {
    const bool sized = flags.find("--sequence-length") != std::string::npos;
    const bool limited = flags.find("--max-predictions") != std::string::npos;
    const auto result = minibert("data build --dry-run --json --vocab " + vocabulary + " " + flags +
                                 (sized ? "" : " --sequence-length 64") +
                                 (limited ? " " : " --max-predictions 10 ") + files);
    EXPECT_EQ(result.status, 0) << result.output;
    std::map<std::string, std::string> found;
    const size_t begin = result.output.find("{\"");
    if (begin == std::string::npos) return found;
    const json report = json::parse(result.output.substr(begin));
    for (const json& finding : report["findings"]) found[finding["name"]] = finding["message"];
    return found;
  }

  /// Runs the command at the end of a message. True if it worked.
  bool run_advice(const std::string& message) const {
    size_t at = std::string::npos;
    for (const char* program : {"awk ", "sed ", "tr ", "iconv ", "grep ", "python3 ", "zcat ",
                                "zstdcat ", "cat ", "minibert "})
      at = std::min(at, message.find(program));
    if (at == std::string::npos) return false;
    std::string command = message.substr(at);
    if (command.starts_with("minibert "))
      command = std::string(std::getenv("MINIBERT_BINARY")) + command.substr(8);
    const auto result = testing::run_command("cd " + folder_.path().string() + " && " + command);
    EXPECT_EQ(result.status, 0) << command << "\n" << result.output;
    return result.status == 0;
  }
};

class PlantedFault : public CorpusLint, public ::testing::WithParamInterface<Fault> {};

TEST_P(PlantedFault, IsFoundAndItsAdviceHelps) {
  const Fault& fault = GetParam();
  const Case planted = fault.plant();
  write_bytes(folder_ / "text.txt", planted.text);
  write_bytes(folder_ / "vocab.txt", planted.vocabulary);
  const auto found = findings(planted.flags, in("text.txt"), in("vocab.txt"));
  ASSERT_TRUE(found.contains(fault.finding)) << json(found).dump(1);
  const std::string& message = found.at(fault.finding);
  EXPECT_NE(message.find(fault.advice), std::string::npos) << message;
  if (fault.cure == kNone) return;
  std::string text = in("text.txt"), vocabulary = in("vocab.txt"), flags = fault.cure;
  if (fault.cure == kRun) {
    ASSERT_TRUE(run_advice(message)) << message;
    flags = planted.flags;
    if (std::filesystem::exists(folder_ / "clean.txt")) text = in("clean.txt");
    if (std::filesystem::exists(folder_ / "NEW.txt")) vocabulary = in("NEW.txt");
  }
  const auto after = findings(flags, text, vocabulary);
  EXPECT_FALSE(after.contains(fault.finding)) << json(after).dump(1);
}

INSTANTIATE_TEST_SUITE_P(, PlantedFault, ::testing::ValuesIn(faults()),
                         [](const auto& info) { return info.param.title; });

TEST_F(CorpusLint, ACleanTextHasNoFindings) {
  write_bytes(folder_ / "text.txt", Case{}.text);
  for (const char* flags : {"", "--no-nsp", "--hold-out-every 5", "--whole-word-masking",
                            "--masking dynamic --duplicate-factor 3"}) {
    const auto found = findings(flags, in("text.txt"), in("vocab.txt"));
    EXPECT_TRUE(found.empty()) << flags << json(found).dump(1);
  }
}

TEST_F(CorpusLint, TheNovelsHaveNoFindings) {
  const std::string novels = (testing::source_folder() / "data/austen").string();
  const auto trained = minibert("tokenizer train --vocab-size 4096 --output " + in("austen.txt") +
                                " " + novels + "/persuasion.txt.gz");
  ASSERT_EQ(trained.status, 0) << trained.output;
  const auto found = findings(
      "--format paragraphs --document-break '^\\s*(CHAPTER|Chapter) +[IVXLC0-9]+'",
      novels + "/northangerabbey.txt.gz " + novels + "/persuasion.txt.gz", in("austen.txt"));
  EXPECT_TRUE(found.empty()) << json(found).dump(1);
}

TEST_F(CorpusLint, ASecondCopyOfAFileIsFound) {
  write_bytes(folder_ / "text.txt", Case{}.text);
  write_bytes(folder_ / "copy.txt", Case{}.text);
  const auto found = findings("", in("text.txt") + " " + in("copy.txt"), in("vocab.txt"));
  EXPECT_TRUE(found.contains("repeated_files") && found.contains("repeated_documents"));
  EXPECT_FALSE(findings("", in("text.txt"), in("vocab.txt")).contains("repeated_files"));
}

// A build of many files goes on: neither an empty file nor one of blank lines ends it.
TEST_F(CorpusLint, FilesWithoutTextAmongOthersAreFound) {
  write_bytes(folder_ / "text.txt", Case{}.text);
  write_bytes(folder_ / "empty.txt", "");
  write_bytes(folder_ / "empty-too.txt", "");
  write_bytes(folder_ / "blank.txt", "\n \n");
  const auto found = findings(
      "",
      in("empty.txt") + " " + in("text.txt") + " " + in("blank.txt") + " " + in("empty-too.txt"),
      in("vocab.txt"));
  ASSERT_EQ(found.size(), 1u) << json(found).dump(1);
  EXPECT_EQ(found.at("files_without_text"), "3 of 4 files hold no text: " + in("empty.txt") + ", " +
                                                in("blank.txt") + ", " + in("empty-too.txt") +
                                                ". Check that they are whole, or leave them out.");
  const auto build = minibert("data build --vocab " + in("vocab.txt") + " --output " + in("none") +
                              " " + in("empty.txt") + " " + in("blank.txt"));
  EXPECT_EQ(build.status, 3) << build.output;
  const std::string train = "tokenizer train --vocab-size 60 --output " + in("trained.txt") + " " +
                            in("empty.txt") + " " + in("text.txt");
  const auto planned = minibert(train + " --dry-run");
  EXPECT_EQ(planned.status, 0) << planned.output;
  const auto trained = minibert(train);
  EXPECT_EQ(trained.status, 0) << trained.output;
  EXPECT_NE(trained.output.find(in("empty.txt") + ": holds no text"), std::string::npos);
}

// The commands read what the build read: compressed files, several files.
TEST_F(CorpusLint, TheCommandsReadCompressedAndSeveralFiles) {
  const std::string text = replaced(Case{}.text, "old", "<b>old</b>");
  write_bytes(folder_ / "a.txt", text);
  write_bytes(folder_ / "b.txt", replaced(text, "river", "ship"));
  const std::string a = in("a.txt"), b = in("b.txt");
  testing::run_command("gzip -k " + a + " " + b + " && zstd -q -k " + a);
  std::vector<std::string> arguments = {a + " " + b, a + ".gz", a + ".gz " + b + ".gz"};
  if (std::filesystem::exists(a + ".zst")) arguments.push_back(a + ".zst");
  for (const std::string& files : arguments) {
    const auto found = findings("", files, in("vocab.txt"));
    ASSERT_TRUE(found.contains("tags")) << files;
    ASSERT_TRUE(run_advice(found.at("tags"))) << found.at("tags");
    EXPECT_FALSE(read_bytes(folder_ / "clean.txt").empty());
    EXPECT_FALSE(findings("", in("clean.txt"), in("vocab.txt")).contains("tags")) << files;
  }
}

// And a vocabulary is trained on the text of JSON lines, not on their keys.
TEST_F(CorpusLint, TheVocabularyOfJsonLinesIsOfTheirText) {
  std::string text;
  for (uint32_t d = 0; d < 30; ++d) {
    std::string body;
    for (uint32_t i = 0; i < 30; ++i) body += character(0x4E00 + (d * 7 + i * 11) % 500) + " ";
    text += json{{"body", body + "."}}.dump() + "\n";
  }
  write_bytes(folder_ / "text.txt", text);
  const std::string flags = "--format jsonl --field body";
  const auto found = findings(flags, in("text.txt"), in("vocab.txt"));
  ASSERT_TRUE(found.contains("unknown_tokens"));
  ASSERT_TRUE(run_advice(found.at("unknown_tokens"))) << found.at("unknown_tokens");
  EXPECT_FALSE(findings(flags, in("text.txt"), in("NEW.txt")).contains("unknown_tokens"));
  EXPECT_EQ(("\n" + read_bytes(folder_ / "NEW.txt")).find("\nbody\n"), std::string::npos);
}

TEST_F(CorpusLint, BuildInspectAndStrictSayTheSame) {
  const auto build = [&](const std::string& text, const std::string& flags) {
    write_bytes(folder_ / "text.txt", text);
    return minibert("data build --force --sequence-length 64 --max-predictions 10 --vocab " +
                    in("vocab.txt") + " --output " + in("shards") + " " + flags + in("text.txt"));
  };
  const auto bad = build(replaced(Case{}.text, "\n\n", "\n"), "");
  EXPECT_EQ(bad.status, 0) << bad.output;
  EXPECT_NE(bad.output.find("finding: single_document (100.0 %)"), std::string::npos) << bad.output;
  const auto seen = minibert("data inspect " + in("shards"));
  EXPECT_EQ(seen.status, 0);
  EXPECT_NE(seen.output.find("finding: single_document"), std::string::npos) << seen.output;
  const auto strict = minibert("data inspect --strict --json " + in("shards"));
  EXPECT_EQ(strict.status, 3);
  const json report = json::parse(strict.output.substr(0, strict.output.find('\n')));
  ASSERT_EQ(report["findings"].size(), 1u);
  EXPECT_EQ(report["findings"][0]["name"], "single_document");
  const auto planned = minibert("train --dry-run --data " + in("shards") + " --output-dir " +
                                in("run") + " --model bert-tiny --max-steps 2");
  EXPECT_NE(planned.output.find("finding: single_document"), std::string::npos) << planned.output;

  EXPECT_EQ(build(Case{}.text, "").status, 0);
  const auto clean = minibert("data inspect --strict " + in("shards"));
  EXPECT_EQ(clean.status, 0);
  EXPECT_NE(clean.output.find("no findings"), std::string::npos) << clean.output;
}

// Masks that are drawn by the loader are counted by data inspect.
TEST_F(CorpusLint, InspectFindsExamplesWithoutMasks) {
  for (const Fault& fault : faults()) {
    if (fault.finding != "empty_masks") continue;
    write_bytes(folder_ / "text.txt", fault.plant().text);
    const auto built = minibert(
        "data build --masking dynamic --whole-word-masking --sequence-length 64 "
        "--max-predictions 10 --vocab " +
        in("vocab.txt") + " --output " + in("shards") + " " + in("text.txt"));
    EXPECT_NE(built.output.find("empty_masks"), std::string::npos) << built.output;
    const auto seen = minibert("data inspect --strict " + in("shards"));
    EXPECT_EQ(seen.status, 3);
    EXPECT_NE(seen.output.find("empty_masks"), std::string::npos) << seen.output;
  }
}

// The vocabulary of a text with more characters than the alphabet's limit: the advice of `tokenizer
// train` makes it whole. 2,600 ideographs, each a word.
TEST_F(CorpusLint, TheAdviceOfTokenizerTrainKeepsEveryCharacter) {
  std::string text;
  for (uint32_t i = 0; i < 2600; ++i) text += character(0x4E00 + i) + (i % 20 == 19 ? "\n" : "");
  write_bytes(folder_ / "han.txt", text + text);
  const std::string train =
      "tokenizer train --vocab-size 3000 --force --output " + in("new.txt") + " " + in("han.txt");
  const auto limited = minibert(train);
  EXPECT_EQ(limited.status, 0);
  const std::string advice = "--limit-alphabet 2600";
  EXPECT_NE(limited.output.find(advice), std::string::npos) << limited.output;
  EXPECT_EQ(limited.output.find("--min-frequency"), std::string::npos) << limited.output;
  const auto whole = minibert(train + " " + advice);
  EXPECT_NE(whole.output.find("2605 tokens"), std::string::npos) << whole.output;
}

// ---- Parts -------------------------------------------------------------------------------------

TEST(RepeatCounter, CountsExactlyWhileItKeepsAll) {
  RepeatCounter counter;
  EXPECT_EQ(counter.add(hash_of_text("a"), 3, 0), 1);
  EXPECT_EQ(counter.add(hash_of_text("b"), 5, 0), 1);
  EXPECT_EQ(counter.add(hash_of_text("a"), 3, 0), 2);
  EXPECT_EQ(counter.add(hash_of_text("a"), 3, 1), 3);
  EXPECT_EQ(counter.of_part(0).repeated, 3);
  EXPECT_EQ(counter.of_part(0).all, 11);
  EXPECT_EQ(counter.of_part(1).repeated, 0);
  EXPECT_EQ(counter.of_part(1).in_both_parts, 3);
}

// 100,000 items, each fifth of them three times, in 1,000 places: 2 of 7 are repeats.
TEST(RepeatCounter, EstimatesTheShareInBoundedMemory) {
  std::array<double, 2> shares{};
  for (const bool backwards : {false, true}) {
    RepeatCounter counter(1000);
    for (int i = 0; i < 100000; ++i) {
      const int item = backwards ? 99999 - i : i;
      for (int time = 0; time < (item % 5 == 0 ? 3 : 1); ++time)
        counter.add(hash_of_text(std::to_string(item)), 1, 0);
    }
    const auto repeats = counter.of_part(0);
    EXPECT_LT(repeats.all, 3000);
    shares[backwards] = static_cast<double>(repeats.repeated) / static_cast<double>(repeats.all);
    EXPECT_NEAR(shares[backwards], 2.0 / 7.0, 0.08);
  }
  EXPECT_EQ(shares[0], shares[1]);  // the order does not matter
}

TEST(Scripts, AreThoseOfUnicode) {
  const std::pair<uint32_t, Script> kLetters[] = {
      {'a', Script::latin},        {0xE9, Script::latin},   {0x3B1, Script::greek},
      {0x44F, Script::cyrillic},   {0x5D0, Script::hebrew}, {0x639, Script::arabic},
      {0x915, Script::devanagari}, {0xE01, Script::thai},   {0xAC00, Script::hangul},
      {0x3042, Script::kana},      {0x4E2D, Script::han},   {0x20000, Script::han},
      {'1', Script::none},         {' ', Script::none},     {0x2019, Script::none},
      {0x3002, Script::none},      {0x1F600, Script::none}, {0x301, Script::none}};
  for (const auto& [code_point, script] : kLetters)
    EXPECT_STREQ(name_of(script_of(code_point)), name_of(script)) << code_point;
}

}  // namespace
}  // namespace minibert
