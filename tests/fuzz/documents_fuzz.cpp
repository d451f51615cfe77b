// documents_fuzz.cpp: files of `data build`: plain, gzip and zstd, UTF-8 and UTF-16, in every
// --format. The first byte says the format and whether the target compresses the rest (else it is
// the file as it is). Reader: models/text/text_reader.h with structured_documents.h.
#include <zlib.h>
#include <zstd.h>

#include "models/text/text_reader.h"
#include "models/text/unicode.h"
#include "tests/fuzz/fuzz.h"

namespace minibert::fuzz {
namespace {

std::string gzip(std::string_view text) {
  z_stream stream{};
  claim(deflateInit2(&stream, 1, Z_DEFLATED, 16 + MAX_WBITS, 8, Z_DEFAULT_STRATEGY) == Z_OK,
        "zlib starts");
  std::string bytes(deflateBound(&stream, text.size()) + 64, '\0');
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(text.data()));
  stream.avail_in = static_cast<uInt>(text.size());
  stream.next_out = reinterpret_cast<Bytef*>(bytes.data());
  stream.avail_out = static_cast<uInt>(bytes.size());
  claim(deflate(&stream, Z_FINISH) == Z_STREAM_END, "zlib ends");
  bytes.resize(stream.total_out);
  deflateEnd(&stream);
  return bytes;
}

std::string zstd(std::string_view text) {
  std::string bytes(ZSTD_compressBound(text.size()), '\0');
  bytes.resize(ZSTD_compress(bytes.data(), bytes.size(), text.data(), text.size(), 1));
  return bytes;
}

DocumentOptions options_of(uint8_t choice) {
  DocumentOptions options;
  options.format = text_formats()[choice % 4].format;
  const bool structured = options.format == TextFormat::wiki || options.format == TextFormat::jsonl;
  if (!structured && (choice & 4)) options.document_break = "^(CHAPTER|Chapter) [IVXLC0-9]+";
  options.keep_front_matter = !structured && (choice & 8);
  if (options.format == TextFormat::jsonl && (choice & 4)) options.field = "article.body";
  return options;
}

}  // namespace

void fuzz(std::string_view input) {
  if (input.empty()) return;
  const auto choice = static_cast<uint8_t>(input[0]);
  input.remove_prefix(1);
  const int packing = choice >> 4 & 3;
  const auto path = write("text", packing == 1   ? gzip(input)
                                  : packing == 2 ? zstd(input)
                                                 : std::string(input));
  int64_t documents = 0;
  SourceStats stats;
  const bool read = succeeds([&] {
    stats = read_documents(path.string(), options_of(choice), [&](Document&& document) {
      ++documents;
      claim(!document.empty(), "no document is empty");
      for (const std::string& sentence : document)
        claim(!sentence.empty() && count_invalid_utf8(sentence) == 0, "a sentence is text");
    });
  });
  if (!read) return;
  claim(stats.documents == documents, "documents are counted");
  claim(packing != 0 || stats.file_bytes == static_cast<int64_t>(input.size()),
        "bytes are counted");
}

std::vector<std::string> seeds() {
  const std::string prose = "CHAPTER I\nIt was. It is.\n\nMore of it\nhere.\nCHAPTER II\nEnd.\n";
  const std::string wiki =
      "<doc id=\"1\" url=\"u\" title=\"A &quot;b&quot;\">\nA \"b\"\n\nText. "
      "More.\n</doc>\n{\"title\":\"T\",\"text\":\"T\\nx\"}\n";
  const std::string lines = "{\"text\":\"A. B.\",\"n\":1}\n{\"text\":[\"C\",\"D\"]}\n";
  const std::string path = "{\"article\":{\"body\":\"A. B.\"}}\n";
  const std::string utf16(
      "\xFF\xFE"
      "a\0b\0\n\0\x3D\xD8\x00\xDE.\0",
      14);
  std::vector<std::string> seeds;
  for (const char packing : {0x00, 0x10, 0x20}) {
    seeds.push_back(std::string(1, packing) + prose);
    seeds.push_back(std::string(1, static_cast<char>(packing | 0x04)) + prose);
    seeds.push_back(std::string(1, static_cast<char>(packing | 0x0D)) + prose);
    seeds.push_back(std::string(1, static_cast<char>(packing | 0x02)) + wiki);
    seeds.push_back(std::string(1, static_cast<char>(packing | 0x03)) + lines);
    seeds.push_back(std::string(1, static_cast<char>(packing | 0x07)) + path);
    seeds.push_back(std::string(1, packing) + utf16);
  }
  seeds.push_back(std::string(1, '\0') + gzip(prose) + gzip(prose));
  seeds.push_back(std::string(1, '\1') + zstd(prose) + zstd(prose));
  seeds.push_back("\3" + deep_json("text"));
  return seeds;
}

}  // namespace minibert::fuzz
