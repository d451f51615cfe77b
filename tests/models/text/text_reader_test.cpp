// text_reader_test.cpp: files in three compressions, broken in many ways, to lines and documents.
// Expected values: written by hand, and files compressed by zlib and zstd themselves.
#include "models/text/text_reader.h"

#include <zlib.h>
#include <zstd.h>

#include "core/error.h"
#include "models/text/sentence_splitter.h"
#include "tests/models/text/text_fixture.h"

namespace minibert {
namespace {

using testing::TemporaryFolder;
using testing::write_bytes;

std::string gzipped(const std::string& text) {
  std::string out(compressBound(static_cast<uLong>(text.size())) + 64, '\0');
  z_stream stream{};
  deflateInit2(&stream, 9, Z_DEFLATED, 16 + MAX_WBITS, 8, Z_DEFAULT_STRATEGY);
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(text.data()));
  stream.avail_in = static_cast<uInt>(text.size());
  stream.next_out = reinterpret_cast<Bytef*>(out.data());
  stream.avail_out = static_cast<uInt>(out.size());
  EXPECT_EQ(deflate(&stream, Z_FINISH), Z_STREAM_END);
  out.resize(stream.total_out);
  deflateEnd(&stream);
  return out;
}

std::string zstandard(const std::string& text) {
  std::string out(ZSTD_compressBound(text.size()), '\0');
  out.resize(ZSTD_compress(out.data(), out.size(), text.data(), text.size(), 3));
  return out;
}

using Lines = std::vector<std::string>;

class TextReader : public ::testing::Test {
 protected:
  std::string file(const std::string& bytes) {
    const auto path = folder_ / ("file" + std::to_string(made_++));
    write_bytes(path, bytes);
    return path.string();
  }
  std::vector<std::string> lines(const std::string& path) {
    LineReader reader(path);
    std::vector<std::string> found;
    for (std::string line; reader.next(line);) found.push_back(line);
    stats_ = reader.stats();
    return found;
  }
  std::vector<Document> documents(const std::string& text, const DocumentOptions& options) {
    std::vector<Document> found;
    stats_ = read_documents(file(text), options,
                            [&](Document&& document) { found.push_back(std::move(document)); });
    return found;
  }
  std::string error_of(const std::string& bytes) {
    const std::string path = file(bytes);
    try {
      lines(path);
    } catch (const DataError& error) {
      EXPECT_NE(std::string(error.what()).find(path), std::string::npos) << error.what();
      return error.what();
    }
    return "";
  }
  TemporaryFolder folder_;
  SourceStats stats_;
  int made_ = 0;
};

TEST_F(TextReader, CutsLinesHoweverTheyEnd) {
  EXPECT_EQ(lines(file("a\nbc\n")), (Lines{"a", "bc"}));
  EXPECT_EQ(lines(file("a\nbc")), (Lines{"a", "bc"}));
  EXPECT_EQ(lines(file("a\r\n\r\nbc\r\n")), (Lines{"a", "", "bc"}));
  EXPECT_EQ(lines(file("\n")), (Lines{""}));
  EXPECT_EQ(lines(file("\xEF\xBB\xBFx\n")), (Lines{"x"}));  // byte order mark
}

// Sizes around the reader's chunk of 65,536 bytes, so that a line's end falls on either side of it.
TEST_F(TextReader, ReadsTheSameTextFromEveryCompression) {
  for (const int size : {1, 65534, 65535, 65536, 65537, 300000}) {
    std::vector<std::string> expected;
    std::string text;
    RandomStream random(1, StreamPurpose::user, static_cast<uint64_t>(size));
    while (static_cast<int>(text.size()) < size) {
      expected.emplace_back(static_cast<size_t>(random.integer(0, 200)),
                            static_cast<char>('a' + random.integer(0, 25)));
      text += expected.back() + "\n";
    }
    for (const std::string& bytes : {text, gzipped(text), zstandard(text),
                                     gzipped(text.substr(0, 10)) + gzipped(text.substr(10))}) {
      if (text.size() < 10) continue;
      EXPECT_EQ(lines(file(bytes)), expected) << size;
      EXPECT_EQ(stats_.file_bytes, static_cast<int64_t>(bytes.size()));
      EXPECT_EQ(stats_.text_bytes, static_cast<int64_t>(text.size()));
      EXPECT_EQ(stats_.lines, static_cast<int64_t>(expected.size()));
      EXPECT_EQ(stats_.crc32, ::crc32(0, reinterpret_cast<const Bytef*>(bytes.data()),
                                      static_cast<uInt>(bytes.size())));
    }
  }
}

TEST_F(TextReader, SaysWhatIsWrongWithAFile) {
  EXPECT_NE(error_of("").find("empty"), std::string::npos);
  EXPECT_NE(error_of(std::string("ELF\0\1", 5)).find("binary"), std::string::npos);
  EXPECT_NE(error_of(gzipped(std::string("a\0b", 3))).find("binary"), std::string::npos);
  EXPECT_THROW(lines(folder_ / "missing"), DataError);
  EXPECT_THROW(lines(folder_.path().string()), DataError);
  std::string damaged = gzipped(std::string(5000, 'x') + "abcdefghijklmnopqrstuvwxyz");
  damaged[damaged.size() / 2] ^= 0x55;
  EXPECT_NE(error_of(damaged).find("damaged"), std::string::npos);
}

// U+1F600 is a surrogate pair; half a pair and an odd byte become U+FFFD.
TEST_F(TextReader, ConvertsUtf16WithAByteOrderMark) {
  using Lines = std::vector<std::string>;
  const std::u16string text = u"Zürich \U0001F600\r\nend";
  for (const bool little : {true, false}) {
    std::string bytes = little ? "\xFF\xFE" : "\xFE\xFF";
    const auto add = [&](char16_t unit) {
      const char low = static_cast<char>(unit & 0xFF), high = static_cast<char>(unit >> 8);
      bytes += little ? std::string{low, high} : std::string{high, low};
    };
    for (const char16_t unit : text) add(unit);
    const Lines expected = {"Zürich \U0001F600", "end"};
    for (const std::string& stored : {bytes, gzipped(bytes), zstandard(bytes)}) {
      EXPECT_EQ(lines(file(stored)), expected);
      EXPECT_TRUE(stats_.utf16);
    }
    add(0xD83D);
    add(u'x');
    EXPECT_EQ(lines(file(bytes)), (Lines{expected[0], "end\uFFFDx"}));
    EXPECT_EQ(lines(file(bytes + "y")), (Lines{expected[0], "end\uFFFDx\uFFFD"}));
  }
  lines(file("\xEF\xBB\xBFx\n"));
  EXPECT_FALSE(stats_.utf16);
}

// Every length of a text that crosses the reader's chunk of 65,536 bytes inside a character.
TEST_F(TextReader, ConvertsUtf16AcrossChunks) {
  for (int filler = 32760; filler < 32772; ++filler) {
    std::string bytes = "\xFF\xFE";
    for (int i = 0; i < filler; ++i) bytes += std::string("a\0", 2);
    bytes += std::string("\x3D\xD8\x00\xDE", 4);
    EXPECT_EQ(
        lines(file(bytes)),
        (std::vector<std::string>{std::string(static_cast<size_t>(filler), 'a') + "\U0001F600"}))
        << filler;
  }
}

TEST_F(TextReader, FindsBinaryDataAnywhere) {
  std::string text = std::string(200000, 'a') + '\0';
  for (int i = 0; i < 20000; ++i) text += static_cast<char>(i * i / 7);
  for (const std::string& bytes : {text, gzipped(text), zstandard(text)})
    EXPECT_NE(error_of(bytes).find("zero byte at offset 200000"), std::string::npos);
}

// As `tokenizers` cleans them away, and as files have them that a crash or a tape has padded.
TEST_F(TextReader, StrayZeroBytesCostNoMoreThanThemselves) {
  const std::string bytes("the o\0ld river\n\0\nbridge\n\0\0\0\0\0\0\0\0", 32);
  EXPECT_EQ(lines(file(bytes)),
            (std::vector<std::string>{"the o\uFFFDld river", "\uFFFD", "bridge",
                                      "\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD"}));
  EXPECT_EQ(stats_.zero_bytes, 10);
  EXPECT_EQ(stats_.invalid_bytes, 10);
  EXPECT_EQ(stats_.first_invalid_line, 1);
  EXPECT_FALSE(stats_.looks_misread());
}

/// A text of ASCII in `width` bytes a character, the first or the last of which holds it.
std::string widened(const std::string& text, size_t width, bool little) {
  std::string wide;
  for (const char c : text) {
    std::string unit(width, '\0');
    unit[little ? 0 : width - 1] = c;
    wide += unit;
  }
  return wide;
}

TEST_F(TextReader, WideEncodingsWithoutAMarkAreNamed) {
  const std::string text = "the old river\n";
  EXPECT_NE(error_of(widened(text, 2, true)).find("iconv -f UTF-16LE -t UTF-8"), std::string::npos);
  EXPECT_NE(error_of(widened(text, 2, false)).find("iconv -f UTF-16BE"), std::string::npos);
  EXPECT_NE(error_of(widened(text, 4, true)).find("iconv -f UTF-32LE"), std::string::npos);
  EXPECT_NE(error_of(widened(text, 4, false)).find("iconv -f UTF-32BE"), std::string::npos);
  EXPECT_NE(error_of(std::string("\x1F\x04@\x04\x38\x04\x32\x04\x35\x04\x42\x04 \0\n\0", 16))
                .find("UTF-16LE"),
            std::string::npos)  // Cyrillic
      << "its letters have no zero bytes";
}

TEST_F(TextReader, FilesOfOtherProgramsAreNamedWithTheCommandThatReadsThem) {
  const std::string tar = std::string(257, '\0') + "ustar" + std::string(250, '\0');
  const std::pair<std::string, const char*> files[] = {
      {"BZh91AY&SY..", "bzcat "},
      {std::string("\xFD\x37zXZ\0\0", 7), "xzcat "},
      {"PK\x03\x04....", "unzip -p "},
      {"%PDF-1.4\n", "pdftotext "},
      {std::string("\xFF\xFE\0\0a\0\0\0", 8), "iconv -f UTF-32 "},
      {tar, "tar -xOf "},
      {gzipped(tar), "tar -xOf "},
      {"{\\rtf1\\ansi the river}", "pandoc -f rtf "},
      {"\xD0\xCF\x11\xE0\xA1\xB1\x1A\xE1", "soffice --headless "},
      {"\x1F\x9D\x90the", "zcat "},
      {"Rar!\x1A\x07\x01", "unrar p "},
      {std::string("ARROW1\0\0", 8), "Export the column"},
      {"PAR1\x15\x04", "Export the column"}};
  for (const auto& [bytes, command] : files)
    EXPECT_NE(error_of(bytes).find(command), std::string::npos) << command << error_of(bytes);
}

// gzip and Python read the same; other bytes behind the end are an error.
TEST_F(TextReader, ZerosBehindAGzipStreamAreNoText) {
  const std::string packed = gzipped("the river\n");
  EXPECT_EQ(lines(file(packed + std::string(512, '\0'))), std::vector<std::string>{"the river"});
  EXPECT_EQ(lines(file(packed + std::string(70000, '\0') + packed)),
            (std::vector<std::string>{"the river", "the river"}));
  EXPECT_NE(error_of(packed + "garbage").find("other bytes follow its gzip stream"),
            std::string::npos);
}

// Frames without text (RFC 8878, 3.1.2) may stand anywhere: pzstd begins its files with one.
TEST_F(TextReader, SkippableFramesOfZstandardAreNoText) {
  const std::string packed = zstandard("the river\n");
  const std::string frame("\x5F\x2A\x4D\x18\x04\0\0\0abcd", 12);
  for (const std::string& bytes : {frame + packed, packed + frame, frame + frame + packed})
    EXPECT_EQ(lines(file(bytes)), std::vector<std::string>{"the river"});
  EXPECT_NE(error_of(frame.substr(0, 9)), "");
  EXPECT_EQ(lines(file("P")), std::vector<std::string>{"P"});
  EXPECT_EQ(lines(file("P*M")), std::vector<std::string>{"P*M"});
}

// 32 MiB of text in a few KiB: decoded as lines are asked for, not all at once.
TEST_F(TextReader, DecodesDensePackedTextInPieces) {
  std::string text;
  for (int i = 0; i < 1 << 20; ++i) text += "thirty-one characters of a line\n";
  for (const std::string& bytes : {gzipped(text), zstandard(text)}) {
    ASSERT_LT(bytes.size(), size_t{1} << 17);
    LineReader reader(file(bytes));
    std::string line;
    int64_t count = 0;
    for (; reader.next(line); ++count)
      ASSERT_LE(reader.stats().text_bytes, 32 * (count + 1) + (1 << 16)) << count;
    EXPECT_EQ(count, 1 << 20);
  }
}

TEST_F(TextReader, NoticesEveryCutOfACompressedFile) {
  std::string text;
  for (int i = 0; i < 500; ++i) text += "line " + std::to_string(i * i) + "\n";
  for (const std::string& bytes : {gzipped(text), zstandard(text)}) {
    for (size_t size = 4; size < bytes.size(); size += 13) {
      EXPECT_NE(error_of(bytes.substr(0, size)), "") << "cut to " << size << " of " << bytes.size();
    }
    EXPECT_EQ(error_of(bytes), "");
  }
}

// Table 3-8 of the Unicode standard: one U+FFFD for each maximal subpart.
TEST_F(TextReader, ReplacesAndCountsInvalidBytes) {
  EXPECT_EQ(lines(file("ok\n\xFF"
                       "a\xE2\x82z\n\xC3\xA9\xF0\x9F\x98\x80\n")),
            (std::vector<std::string>{"ok",
                                      "\xEF\xBF\xBD"
                                      "a\xEF\xBF\xBDz",
                                      "\xC3\xA9\xF0\x9F\x98\x80"}));
  EXPECT_EQ(stats_.invalid_bytes, 3);
  EXPECT_EQ(stats_.first_invalid_line, 2);
  EXPECT_EQ(lines(file("\xED\xA0\x80\xC0\xAF"))[0].size(), 5u * 3);  // surrogate, overlong
  EXPECT_EQ(stats_.invalid_bytes, 5);
}

TEST_F(TextReader, LinesAreSentencesAndBlankLinesEndDocuments) {
  const auto found = documents("\n one \ntwo\n\n\n \t\nthree\n", {});
  EXPECT_EQ(found, (std::vector<Document>{{"one", "two"}, {"three"}}));
  EXPECT_EQ(stats_.documents, 2);
}

TEST_F(TextReader, ParagraphsAreJoinedAndSplitIntoSentences) {
  const DocumentOptions options{.format = TextFormat::paragraphs, .document_break = ""};
  EXPECT_EQ(documents("It was\nlate. He\n  left.\n\nNo end", options),
            (std::vector<Document>{{"It was late.", "He left.", "No end"}}));
}

TEST_F(TextReader, ParagraphsThatWouldTakeTooMuchMemoryAreRefused) {
  const auto refusal = [&](const std::string& text, TextFormat format) {
    try {
      documents(text, {.format = format});
    } catch (const DataError& error) {
      return std::string(error.what());
    }
    return std::string();
  };
  const auto expect = [&](const std::string& text, TextFormat format, const char* part) {
    const std::string message = refusal(text, format);
    EXPECT_NE(message.find(part), std::string::npos) << message << "\nlacks " << part;
  };
  std::string many;
  for (size_t i = 0; i < kMostSentences; ++i) many += "Go on. ";
  EXPECT_EQ(documents(many, {.format = TextFormat::paragraphs})[0].size(), kMostSentences);
  many += "Go on.";
  expect(many + "\n", TextFormat::paragraphs, "up to line 1 has 1048577 sentences");
  expect("<doc>\n" + many + "\n</doc>\n", TextFormat::wiki,
         "line 2: a paragraph of more than 1048576");
  expect("{\"text\": \"" + many + "\"}\n", TextFormat::jsonl, "line 1: a paragraph of more than");
  std::string lines = "{\"text\": \"";
  for (size_t i = 0; i <= kMostSentences; ++i) lines += "Go.\\n";
  expect(lines + "\"}\n", TextFormat::jsonl, "line 1: a document of more than");
  std::string words(size_t{66} << 20, 'a');
  for (size_t i = 0; i < words.size(); i += 100) words[i] = '\n';
  expect(words, TextFormat::paragraphs, "has 65 MiB, expected at most 64");
}

TEST_F(TextReader, HeadingsBreakDocumentsAndFrontMatterIsLeftOut) {
  DocumentOptions options{.format = TextFormat::paragraphs,
                          .document_break = "^(CHAPTER|Chapter) [IVXLC0-9]+"};
  const std::string text =
      "A NOVEL\n\nBy Me\n\nCHAPTER I\n\nOne.\nA Chapter 2 inside.\nChapter 2\nTwo.\n\nCHAPTER X\n";
  EXPECT_EQ(documents(text, options),
            (std::vector<Document>{{"One.", "A Chapter 2 inside."}, {"Two."}}));
  EXPECT_EQ(stats_.skipped_lines, 2);
  options.keep_front_matter = true;
  EXPECT_EQ(documents(text, options).front(), (Document{"A NOVEL", "By Me"}));
  EXPECT_EQ(stats_.skipped_lines, 0);
  options.keep_front_matter = false;
  EXPECT_EQ(documents("No heading.\n", options), (std::vector<Document>{{"No heading."}}));
  options.format = TextFormat::lines;
  EXPECT_EQ(documents("front\nCHAPTER I\na\n\nb\n", options), (std::vector<Document>{{"a", "b"}}));
}

TEST_F(TextReader, HeadingsAreShortLines) {
  const auto heading_of = [&](const std::string& line, const std::string& expression) {
    return documents("a\n" + line + "\nb\n", {.document_break = expression}).front().front() == "b";
  };
  EXPECT_TRUE(heading_of("CHAPTER" + std::string(993, '.'), "^CHAPTER"));
  EXPECT_FALSE(heading_of("CHAPTER" + std::string(994, '.'), "^CHAPTER"));
  EXPECT_FALSE(heading_of(std::string(60000, 'a'), "(a|b)*c"));
  // Backtracking would outlast the sun here.
  EXPECT_FALSE(heading_of(std::string(999, 'a') + "!", "^(a+)+$"));
  EXPECT_FALSE(heading_of(std::string(999, 'a') + "!", "(a*)*c"));
}

TEST_F(TextReader, OnlyATrueAnchorTiesHeadingsToTheStart) {
  for (const char* expression :
       {"^x|b", "^[(]x|b", "^\\(x|b", "^[[:digit:](]x|b", "(^x|b)", "b$"}) {
    EXPECT_EQ(documents("cut\na b\nd\n", {.document_break = expression}),
              (std::vector<Document>{{"d"}}))
        << expression;
  }
  for (const char* expression : {"^b", "^(x|b)", "^[|]|^b", "^[x|b]", "^\\||^b"}) {
    EXPECT_EQ(documents("a b\nb\nd\n", {.document_break = expression, .keep_front_matter = true}),
              (std::vector<Document>{{"a b"}, {"d"}}))
        << expression;
  }
}

TEST_F(TextReader, RejectsTextWithoutTextAndBrokenExpressions) {
  EXPECT_THROW(documents("\n  \n\n", {}), DataError);
  EXPECT_THROW(documents("CHAPTER I\n", {.document_break = "CHAPTER"}), DataError);
  EXPECT_THROW(documents("a\n", {.document_break = "(a"}), UsageError);
  EXPECT_THROW(documents("a\n", {.document_break = "(a)\\1"}), UsageError);
  EXPECT_THROW(documents("a\n", {.document_break = std::string(1001, 'a')}), UsageError);
  EXPECT_THROW(parse_text_format("wikipedia"), UsageError);
  EXPECT_EQ(parse_text_format("wiki"), TextFormat::wiki);
  EXPECT_EQ(parse_text_format("jsonl"), TextFormat::jsonl);
  EXPECT_EQ(parse_text_format("lines"), TextFormat::lines);
  EXPECT_EQ(parse_text_format("paragraphs"), TextFormat::paragraphs);
  for (const TextFormatName& row : text_formats()) {
    EXPECT_EQ(parse_text_format(row.name), row.format);
    EXPECT_STREQ(name_of(row.format), row.name);
  }
}

// ---- Documents that are marked -----------------------------------------------------------------

/// Documents of several sentences as one string: "a|b||c".
std::string flat(const std::vector<Document>& documents) {
  std::string text;
  for (const Document& document : documents) {
    if (!text.empty()) text += "||";
    for (size_t s = 0; s < document.size(); ++s) text += (s > 0 ? "|" : "") + document[s];
  }
  return text;
}

TEST_F(TextReader, DocBlocksAreDocumentsWithoutTheirTitles) {
  const DocumentOptions options{.format = TextFormat::wiki, .document_break = ""};
  const std::string text =
      "<doc id=\"12\" url=\"https://en.wikipedia.org/wiki?curid=12\" title=\"Big &amp; \"old\"\">\n"
      "Big & \"old\"\n\nIt stood here. It fell.\n\nNow it is sold.\n\n</doc>\n"
      "<doc id=\"13\" url=\"u\" title=\"Empty\">\nEmpty\n\n</doc>\n"
      "<doc id=\"14\" title=\"No end\">\nThe end is missing.\n"
      "<doc id=\"15\" title=\"B\">\nB\n\nB\n</doc>\n";
  EXPECT_EQ(flat(documents(text, options)),
            "It stood here.|It fell.|Now it is sold.||The end is missing.||B");
  EXPECT_EQ(stats_.documents, 3);
  EXPECT_EQ(stats_.empty_documents, 1);
}

TEST_F(TextReader, TheJsonOfWikiExtractorIsReadAsItsBlocks) {
  const DocumentOptions options{.format = TextFormat::wiki, .document_break = ""};
  const std::string text =
      R"({"id": "12", "url": "u", "title": "Bridge", "text": "Bridge\n\nIt stood. It fell.\nSold."})"
      "\n\n"
      R"({"id": "13", "url": "u", "title": "Bridge", "text": "Bridges are old."})"
      "\n";
  EXPECT_EQ(flat(documents(text, options)), "It stood.|It fell.|Sold.||Bridges are old.");
}

TEST_F(TextReader, JsonLinesAreDocumentsByTheirField) {
  DocumentOptions options{.format = TextFormat::jsonl, .document_break = ""};
  // Escapes: quotes, a backslash and n, a pair of surrogates, JSON within the text; unknown fields of
  // any kind; a carriage return at the end of a line.
  const std::string text =
      R"({"text": "He said \"go\". C:\\new is \u00e9t\u00e9 \ud83d\ude00.", "meta": {"text": 1}})"
      "\r\n"
      R"({"id": [1, {"a": null}], "text": "{\"text\": \"inner\"}"})"
      "\n\n"
      R"({"text": ["One. Two.", "Three."]})"
      "\n"
      R"({"text": ""})";
  EXPECT_EQ(flat(documents(text, options)),
            "He said \"go\".|C:\\new is \u00e9t\u00e9 \U0001F600.||{\"text\": \"inner\"}||"
            "One.|Two.|Three.");
  EXPECT_EQ(stats_.empty_documents, 1);
  options.field = "a.body";
  EXPECT_EQ(flat(documents("{\"a\": {\"body\": \"Deep.\"}}\n{\"a.body\": \"Flat.\"}\n", options)),
            "Deep.||Flat.");
}

TEST_F(TextReader, BadLinesOfMarkedDocumentsAreNamedAllAtOnce) {
  const auto error = [&](const std::string& text, const DocumentOptions& options) {
    try {
      documents(text, options);
    } catch (const DataError& error) {
      return std::string(error.what());
    }
    return std::string();
  };
  const DocumentOptions json{.format = TextFormat::jsonl, .document_break = ""};
  const std::string message = error(
      "{\"text\": \"Good.\"}\n{\"text\": \"cut off\n[1]\n{\"txet\": \"a\"}\n{\"text\": 5}\n"
      "{\"text\": [1]}\nplain\n",
      json);
  for (const char* part :
       {"6 lines are not JSON", "line 2: no JSON", "line 3: a array, no object",
        "line 4: no field \"text\" among txet. Did you mean txet?", "line 5: \"text\" is a number",
        "line 6: \"text\" holds a number", "line 7: no JSON", "--field NAME"}) {
    EXPECT_NE(message.find(part), std::string::npos) << part << "\n" << message;
  }
  std::string many;
  for (int i = 0; i < 50; ++i) many += "{}\n";
  EXPECT_NE(error(many, json).find("and 40 more"), std::string::npos);
  const DocumentOptions wiki{.format = TextFormat::wiki, .document_break = ""};
  const std::string outside = error("<doc id=\"1\">\nA.\n</doc>\nB.\n</doc>\n{\"a\": 1}\n", wiki);
  for (const char* part : {"line 4: text outside", "line 5: </doc> without", "line 6: no field"})
    EXPECT_NE(outside.find(part), std::string::npos) << part << "\n" << outside;
  EXPECT_THROW(documents("{\"text\": \"\"}\n", json), DataError);
}

TEST_F(TextReader, OptionsOfOtherFormatsAreRefused) {
  EXPECT_THROW(documents("a\n", {.document_break = "", .field = "body"}), UsageError);
  EXPECT_THROW(documents("{}\n", {.format = TextFormat::jsonl, .document_break = "A"}), UsageError);
  EXPECT_THROW(documents("{}\n", {.format = TextFormat::wiki, .document_break = "", .field = "a"}),
               UsageError);
  EXPECT_THROW(documents("{}\n", {.format = TextFormat::jsonl, .document_break = "", .field = ""}),
               UsageError);
}

// The sample of Wikipedia that stands beside the project: an independent count by a regular expression.
TEST_F(TextReader, ReadsEveryArticleOfTheSample) {
  const char* shared = std::getenv("MINIBERT_SHARED_DATA");
  const auto sample = std::filesystem::path(shared ? shared : "") / "corpus/wiki-sample";
  if (!std::filesystem::exists(sample)) GTEST_SKIP() << "needs " << sample;
  const DocumentOptions options{.format = TextFormat::wiki, .document_break = ""};
  int64_t articles = 0, empty = 0;
  for (const char* name : {"wiki_00.gz", "wiki_01.gz", "wiki_02.gz"}) {
    empty += read_documents((sample / name).string(), options, [&](Document&& document) {
               ++articles;
               EXPECT_EQ(document[0].find("<doc"), std::string::npos);
             }).empty_documents;
  }
  EXPECT_EQ(articles + empty, 121);  // its SOURCE.md
  EXPECT_EQ(empty, 1);               // one is a title alone
}

TEST_F(TextReader, Latin1IsRecognised) {
  const auto stats_of = [&](const std::string& text) {
    lines(file(text));
    return stats_;
  };
  EXPECT_TRUE(stats_of("caf\xE9 \xE0 la carte\n").looks_like_latin1());
  EXPECT_FALSE(stats_of("caf\xC3\xA9\n").looks_like_latin1());
  EXPECT_FALSE(stats_of("caf\xC3\xA9 na\xC3\xAFve \xFF\n").looks_like_latin1());
  EXPECT_NE(conversion(stats_of("caf\xE9\n")).find("iconv -f LATIN1 -t UTF-8 "), std::string::npos);
  EXPECT_NE(conversion(stats_of("\x93old\x94\n")).find("iconv -f CP1252"), std::string::npos);
  EXPECT_NE(conversion_hint(stats_of("caf\xE9\n")).find("looks like Latin-1"), std::string::npos);
  // KOI8-R, which Latin-1 would turn into other letters without a word.
  const SourceStats russian = stats_of("\xF0\xD2\xC9\xD7\xC5\xD4 \xCD\xC9\xD2, the\n");
  EXPECT_FALSE(russian.looks_like_latin1());
  EXPECT_NE(conversion_hint(russian).find("iconv -f ENCODING -t UTF-8 "), std::string::npos);
  EXPECT_EQ(conversion_hint(stats_of("caf\xC3\xA9\n")), "");
  SourceStats packed = stats_of("caf\xE9\n");
  packed.path = "a.gz";
  EXPECT_EQ(conversion(packed), "zcat a.gz | iconv -f LATIN1 -t UTF-8 > clean.txt");
}

TEST_F(TextReader, AsciiThatHidesOtherLettersIsNamed) {
  const auto note_on = [&](const std::string& text) {
    lines(file(text));
    return encoding_note(stats_);
  };
  const std::string japanese = "the\n\x1B$B8E$$66\x1B(B\n";  // by Python's codec
  EXPECT_NE(note_on(japanese).find("The file is in ISO-2022-JP. Convert it: iconv -f ISO-2022-JP "),
            std::string::npos);
  EXPECT_EQ(note_on("caf\xC3\xA9\n" + japanese), "");  // UTF-8 that quotes it
  EXPECT_EQ(note_on(japanese + "caf\xC3\xA9\n"), "");
  EXPECT_EQ(note_on("the river\n"), "");
  EXPECT_NE(note_on("caf\xC3\xA9 na\xC3\xAFve \xFF\n").find("Remove them: iconv -c "),
            std::string::npos);
}

// The first article of the Declaration of Human Rights, by Python's str.encode().
TEST_F(TextReader, OtherEncodingsAreNotCalledLatin1) {
  const std::string gbk =
      "\xC8\xCB\xC8\xCB\xC9\xFA\xB6\xF8\xD7\xD4\xD3\xC9,\xD4\xDA\xD7\xF0\xD1\xCF\xBA\xCD\xC8\xA8"
      "\xC0\xFB\xC9\xCF\xD2\xBB\xC2\xC9\xC6\xBD\xB5\xC8\xA1\xA3\xCB\xFB\xC3\xC7\xB8\xB3\xD3\xD0\xC0"
      "\xED\xD0\xD4\xBA\xCD\xC1\xBC\xD0\xC4";
  const std::string koi8 =
      "\xF7\xD3\xC5 \xCC\xC0\xC4\xC9 \xD2\xCF\xD6\xC4\xC1\xC0\xD4\xD3\xD1 \xD3\xD7\xCF\xC2\xCF"
      "\xC4\xCE\xD9\xCD\xC9 \xC9 \xD2\xC1\xD7\xCE\xD9\xCD\xC9";
  const std::string big5 =
      "\xA4H\xA4H\xA5\xCD\xA6\xD3\xA6\xDB\xA5\xD1,\xA6"
      "b\xB4L\xC4Y\xA9M\xC5v\xA7Q\xA4W\xA4@\xAB\xDF\xA5\xAD\xB5\xA5\xA1"
      "C\xA5L\xAD\xCC\xBD\xE1\xA6\xB3\xB2z\xA9\xCA\xA9M\xA8}\xA4\xDF,"
      "\xA8\xC3\xC0\xB3\xA5H\xA5S\xA7\xCC\xC3\xF6"
      "\xABY\xAA\xBA\xBA\xEB\xAF\xAB\xA4\xAC\xAC\xDB\xB9\xEF\xAB\xDD\xA1"
      "C";
  const std::string cp1250 =
      "Za\xBF\xF3\xB3\xE6 g\xEA\x9Cl\xB9 ja\x9F\xF1. \x8F"
      "d\x9F"
      "b\xB3o trawy ros\xB3o na \xB3\xB9"
      "ce, a \xBF\xF3\xB3w szed\xB3 powoli.";
  const std::string latin2 =
      "Za\xBF\xF3\xB3\xE6 g\xEA\xB6l\xB1 ja\xBC\xF1. \xAC"
      "d\xBC"
      "b\xB3o trawy ros\xB3o na \xB3\xB1"
      "ce, a \xBF\xF3\xB3w szed\xB3 powoli.";
  const std::string macintosh =
      "Le caf\x8E \x8Etait ferm\x8E, o\x9D \x8Etais-tu pass\x8E l'\x8Et\x8E dernier?";
  const std::string dos =
      "Il a pr\x82"
      "f\x82r\x82 d\x8Cner pr\x8As de la fen\x88tre, \x85 l'\x82t\x82 dernier.";
  const std::string english(400, 'a');
  for (const std::string& text : {gbk, gbk + english, koi8, koi8 + english, big5, big5 + english,
                                  cp1250, latin2, macintosh, dos}) {
    lines(file(text + "\n"));
    EXPECT_TRUE(stats_.looks_misread()) << text;
    EXPECT_FALSE(stats_.looks_like_latin1()) << text;
    EXPECT_NE(conversion_hint(stats_).find("in another encoding"), std::string::npos);
    EXPECT_NE(conversion_hint(stats_).find("iconv -f ENCODING -t UTF-8 "), std::string::npos);
  }
  // French with its quotes, whose blank is one byte beyond ASCII beside another.
  lines(
      file("\xAB\xA0\xCAtes-vous l\xE0\xA0?\xA0\xBB dit l'\xE9l\xE8ve, \xE9tonn\xE9 d'\xEAtre "
           "arriv\xE9 si t\xF4t apr\xE8s le d\xEEner de No\xEBl.\n"));
  EXPECT_TRUE(stats_.looks_like_latin1());
  std::string quoted;
  for (int i = 0; i < 20; ++i) quoted += "\x93\xE9t\xE9\x94 ";
  lines(file(quoted + english + "\n"));
  EXPECT_TRUE(stats_.looks_like_latin1());
  lines(
      file("Se rum \xE4r 20\xA0m\xB2 och r\xF6tt\x85men l\xE9g\xE8re\x97oui, c\x92"
           "est p\xE5 \xD6land\n"));
  EXPECT_TRUE(stats_.looks_like_latin1());
  // Chinese in UTF-8, some of it cut in the middle of a character.
  std::string cut;
  for (int i = 0; i < 20; ++i) cut += "\u4eba\u4eba\u751f\xE8\x80";
  lines(file(cut + "\n"));
  EXPECT_FALSE(stats_.looks_misread());
}

// As Python's open() reads lines, but only where the file has no line feed: elsewhere BERT takes a
// return for a blank.
TEST_F(TextReader, CarriageReturnsAloneEndLinesWhereThereIsNoLineFeed) {
  using Lines = std::vector<std::string>;
  const std::string old_mac = "a b\rc\r\rlast";
  const Lines expected = {"a b", "c", "", "last"};
  for (const std::string& bytes : {old_mac, old_mac + "\r", gzipped(old_mac)}) {
    EXPECT_EQ(lines(file(bytes)), expected);
    EXPECT_TRUE(stats_.returns);
    EXPECT_EQ(stats_.lines, 4);
  }
  EXPECT_EQ(lines(file(std::string("\xFF\xFE"
                                   "a\0\r\0b\0\r\0",
                                   10))),
            (Lines{"a", "b"}));
  EXPECT_EQ(lines(file("a\rb\nc\rd\r\n")), (Lines{"a\rb", "c\rd"}));
  EXPECT_FALSE(stats_.returns);
  EXPECT_EQ(lines(file("one line")), (Lines{"one line"}));
  EXPECT_FALSE(stats_.returns);
  EXPECT_EQ(flat(documents("A b.\rC d.\r\rE f.\r", {.document_break = ""})), "A b.|C d.||E f.");
}

TEST_F(TextReader, CarriageReturnsOfALongFile) {
  Lines expected;
  std::string text;
  for (int i = 0; i < 300'000; ++i) {  // of several chunks and more than the first MiB
    expected.push_back(std::to_string(i));
    text += expected.back() + "\r";
  }
  EXPECT_EQ(lines(file(text)), expected);
  // Behind the first MiB, lines of other programs: a return and a line feed are one end.
  for (int i = 0; i < 300'000; ++i) {
    expected.push_back(std::to_string(i));
    text += expected.back() + "\r\n";
  }
  EXPECT_EQ(lines(file(text)), expected);
}

TEST_F(TextReader, ReadsTheNovelsOfTheTree) {
  const DocumentOptions options{.format = TextFormat::paragraphs,
                                .document_break = "^(CHAPTER|Chapter) ([IVXLC]+|[0-9]+)"};
  int chapters = 0;
  for (const char* name : {"emma", "mansfieldpark", "northangerabbey", "persuasion",
                           "prideprejudice", "sensesensibility"}) {
    const auto path = testing::source_folder() / "data/austen" / (std::string(name) + ".txt.gz");
    read_documents(path.string(), options, [&](Document&&) { ++chapters; });
  }
  EXPECT_EQ(chapters, 269);  // data/austen/SOURCE.md
}

}  // namespace
}  // namespace minibert
