// bench_tokenizer.cpp: `minibert bench tokenizer`: bytes of text a second from lines in memory to
// ids in memory, [CLS] and [SEP] included, as encode_batch of `tokenizers`.
// tools/bench/compare_tokenizer puts the two beside each other. Easy to break: reading the files is
// not timed; ids are kept until all lines are done. Test: ctest -R tools_bench.
#include <algorithm>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "core/parallel.h"
#include "models/text/text_reader.h"
#include "models/text/text_sources.h"
#include "models/text/tokenizer_folder.h"
#include "models/text/wordpiece.h"
#include "tools/minibert/bench.h"

namespace minibert {
namespace {

constexpr int64_t kLinesAtOnce = 256;  // what a thread takes

struct Options {
  std::string vocab;
  std::vector<std::string> files;
  bool json = false;
  int threads = 1;
  double seconds = 1;
};

/// Of kLinesAtOnce lines: ids, one line after the other, and where each line's end.
struct Block {
  std::vector<int32_t> ids;
  std::vector<size_t> ends;
};

std::vector<std::string> read_lines(const std::vector<std::string>& files) {
  std::vector<std::string> lines(1);
  for (const std::string& file : files) {
    LineReader reader(file);
    while (reader.next(lines.back())) lines.emplace_back();
  }
  lines.pop_back();
  return lines;
}

std::vector<Block> encode_all(const WordPieceTokenizer& tokenizer,
                              const std::vector<std::string>& lines) {
  const auto size = static_cast<int64_t>(lines.size());
  std::vector<Block> blocks(static_cast<size_t>((size + kLinesAtOnce - 1) / kLinesAtOnce));
  parallel_for(size, kLinesAtOnce, [&](int64_t begin, int64_t end) {
    Block block;  // of the thread alone while it grows
    for (auto i = static_cast<size_t>(begin); i < static_cast<size_t>(end); ++i) {
      block.ids.push_back(tokenizer.vocab().cls_id());
      tokenizer.encode_into(lines[i], block.ids);
      block.ids.push_back(tokenizer.vocab().sep_id());
      block.ends.push_back(block.ids.size());
    }
    blocks[static_cast<size_t>(begin / kLinesAtOnce)] = std::move(block);
  });
  return blocks;
}

void bench_tokenizer(const Options& options) {
  set_num_threads(options.threads);
  const WordPieceTokenizer tokenizer = open_tokenizer_folder(options.vocab).tokenizer;
  const std::vector<std::string> lines = read_lines(expand_sources(options.files));
  int64_t bytes = 0, ids = 0, sum = 0;
  for (const std::string& line : lines) bytes += static_cast<int64_t>(line.size());
  for (const Block& block : encode_all(tokenizer, lines)) {
    ids += static_cast<int64_t>(block.ids.size());
    for (const int32_t id : block.ids) sum += id;
  }
  std::vector<Block> blocks;
  const Timing timing = time_of([&] { blocks.clear(); },
                                [&] { blocks = encode_all(tokenizer, lines); }, options.seconds);
  const double rate = static_cast<double>(bytes) / timing.median / 1e6;
  if (!options.json) {
    fmt::print(
        "{} bytes of {} lines to {} ids: {:.1f} MB/s (median of {}; {:.1f} to {:.1f}), {} "
        "threads\n",
        bytes, lines.size(), ids, rate, timing.runs, static_cast<double>(bytes) / timing.max / 1e6,
        static_cast<double>(bytes) / timing.min / 1e6, options.threads);
    return;
  }
  nlohmann::ordered_json facts;
  facts["threads"] = options.threads;
  facts["bytes"] = bytes;
  facts["lines"] = lines.size();
  facts["ids"] = ids;
  facts["sum_of_ids"] = sum;
  facts["seconds"] = {{"median", timing.median}, {"min", timing.min}, {"max", timing.max}};
  fmt::print("{}\n", facts.dump());
}

}  // namespace

void add_bench_tokenizer(CLI::App& bench) {
  auto options = std::make_shared<Options>();
  auto* sub = bench.add_subcommand("tokenizer", "lines of text to ids, bytes a second");
  sub->add_option("--vocab", options->vocab,
                  "vocab.txt or tokenizer.json of the model, or its folder")
      ->required();
  sub->add_option("--threads", options->threads, "CPU threads")->capture_default_str();
  sub->add_option("--seconds", options->seconds, "time to measure")
      ->capture_default_str()
      ->check(CLI::PositiveNumber);
  sub->add_flag("--json", options->json, "print the result as one JSON object");
  sub->add_option("FILES", options->files, "text, plain or .gz or .zst, one after the other")
      ->required();
  sub->callback([options] { bench_tokenizer(*options); });
}

}  // namespace minibert
