// records_fuzz.cpp: what a run has recorded: lines of metrics.jsonl and event files. Parts of an
// input: the lines, and a message, of which the target makes a record with right checksums.
// Readers: models/training/metrics.h, models/training/event_file.h.
#include "models/training/event_file.h"
#include "models/training/metrics.h"
#include "tests/fuzz/fuzz.h"

namespace minibert::fuzz {
namespace {

template <typename T>
std::string raw(T value) {
  return {reinterpret_cast<const char*>(&value), sizeof value};
}

/// event_file.h: length, its checksum, message, its checksum.
std::string record_of(std::string_view message) {
  const auto masked = [](std::string_view bytes) {
    const uint32_t crc = crc32c(bytes);
    return raw<uint32_t>(((crc >> 15) | (crc << 17)) + 0xa282ead8);
  };
  const std::string length = raw<uint64_t>(message.size());
  return length + masked(length) + std::string(message) + masked(message);
}

}  // namespace

void fuzz(std::string_view input) {
  const auto parts = parts_of(input, 2);
  for (std::string_view rest = parts[0]; !rest.empty();) {
    const size_t end = std::min(rest.find('\n'), rest.size());
    const std::string line(rest.substr(0, end));
    rest.remove_prefix(std::min(end + 1, rest.size()));
    succeeds([&] {
      const std::string text = to_json(parse_step_record(line));
      claim(to_json(parse_step_record(text)) == text, "a record comes back from its line");
    });
    succeeds([&] { parse_evaluations(line, "name"); });
  }
  const auto path = write("metrics.jsonl", parts[0]);
  succeeds([&] {
    const MetricsCut cut = truncate_metrics(path, 2);
    const std::string once = read(path);
    claim(truncate_metrics(path, 2).kept == cut.kept && read(path) == once,
          "a second cut changes nothing");
  });
  claim(read_events(record_of(parts[1])).size() == 1, "a record with right checksums is read");
  read_events(parts[1]);
}

std::vector<std::string> seeds() {
  StepRecord record{
      .step = 2, .loss = 1.5, .mlm_loss = 1, .nsp_loss = 0.5, .nsp_accuracy = 1, .tokens = 7};
  StepRecord evaluated = record;
  evaluated.evaluations = {{"a", {.mlm_loss = 2, .nsp_loss = 1, .masked_tokens = 9}}, {"b", {}}};
  evaluated.changed_settings = R"({"optim.learning_rate": {"before": "0.001", "now": "0.005"}})";
  StepRecord tuned{.step = 3, .mlm_accuracy = 1, .fine_tuning = true, .scores = R"({"f1": 2})"};
  std::vector<std::string> seeds;
  const std::string event = scalar_record({.wall_time = 1, .step = 2, .scalars = {{"loss", 1.5F}}});
  for (const StepRecord& one : {record, evaluated, tuned})
    seeds.push_back(joined(
        {to_json(one) + "\n" + to_json(record) + "\n", event.substr(12, event.size() - 16)}));
  return seeds;
}

}  // namespace minibert::fuzz
