// tensorboard_test.cpp: event files of a writer that is stopped and goes on: one curve, whatever was
// cut or damaged. That TensorBoard reads them: tests/tools/tensorboard_test.py.
#include "models/training/tensorboard.h"

#include <cmath>
#include <map>

#include <gtest/gtest.h>

#include "tests/models/training/messages.h"

namespace minibert {
namespace {

namespace fs = std::filesystem;
using testing::TemporaryFolder, testing::read_bytes, testing::write_bytes;

std::vector<fs::path> files_of(const fs::path& folder) {
  std::vector<fs::path> files;
  for (const auto& entry : fs::directory_iterator(folder)) files.push_back(entry.path());
  std::sort(files.begin(), files.end());
  return files;
}

/// The points of a tag in the order in which a reader meets them.
std::vector<std::pair<int64_t, float>> points_of(const fs::path& folder, const std::string& tag) {
  std::vector<std::pair<int64_t, float>> points;
  for (const fs::path& file : files_of(folder))
    for (const EventRecord& record : read_events(read_bytes(file)))
      for (const auto& [name, value] : record.event.scalars)
        if (name == tag) points.emplace_back(record.event.step, value);
  return points;
}

std::vector<std::pair<int64_t, float>> counted(int64_t first, int64_t last, float slope) {
  std::vector<std::pair<int64_t, float>> points;
  for (int64_t step = first; step <= last; ++step)
    points.emplace_back(step, slope * static_cast<float>(step));
  return points;
}

StepRecord record(int64_t step, double loss) {
  StepRecord r;
  r.step = step, r.loss = loss, r.sequences = 8, r.tokens = 64, r.step_seconds = 0.5;
  return r;
}

/// A launch: goes on after `last`, to `end`; the loss is the step's number times `slope`.
void launch(const fs::path& folder, int64_t last, int64_t end, double slope) {
  cut_event_files(folder, last, last);
  TensorBoardWriter writer(folder, last);
  for (int64_t step = last + 1; step <= end; ++step) {
    const auto loss = slope * static_cast<double>(step);
    if (step % 2 == 0)
      writer.write_trust_ratios(step, {{"pooler.weight", static_cast<float>(loss)}});
    writer.write(record(step, loss));
  }
}

TEST(TensorBoard, ScalarsAreTheRecordsNumbers) {
  StepRecord r = record(3, 7.5);
  r.mlm_loss = 6.5, r.mlm_accuracy = 0.25, r.nsp_loss = 1, r.nsp_accuracy = 0.5;
  r.learning_rate = 1e-3, r.grad_norm = std::nan(""), r.loss_scale = 1024, r.skipped_steps = 2;
  r.data_seconds = 0.125, r.communication_seconds = 0.25, r.exposed_communication_seconds = 0.0625;
  r.evaluations = {{"novel", {3.5, 0.375, 6.25, std::nullopt, std::nullopt, 99}}};
  std::map<std::string, float> scalars;
  for (const auto& [tag, value] : scalars_of(r)) scalars[tag] = value;
  EXPECT_TRUE(std::isnan(scalars.at("optim/grad_norm"))) << "shown, never left out";
  scalars.erase("optim/grad_norm");
  EXPECT_EQ(scalars, (std::map<std::string, float>{{"train/loss", 7.5F},
                                                   {"train/mlm_loss", 6.5F},
                                                   {"train/mlm_accuracy", 0.25F},
                                                   {"train/nsp_loss", 1.0F},
                                                   {"train/nsp_accuracy", 0.5F},
                                                   {"optim/learning_rate", 1e-3F},
                                                   {"scale/loss_scale", 1024.0F},
                                                   {"scale/skipped_steps", 2.0F},
                                                   {"throughput/sequences_per_second", 16.0F},
                                                   {"throughput/tokens_per_second", 128.0F},
                                                   {"throughput/step_seconds", 0.5F},
                                                   {"throughput/data_seconds", 0.125F},
                                                   {"communication/seconds", 0.25F},
                                                   {"communication/exposed_seconds", 0.0625F},
                                                   {"eval/novel/mlm_loss", 3.5F},
                                                   {"eval/novel/mlm_accuracy", 0.375F},
                                                   {"eval/novel/unigram_cross_entropy", 6.25F}}));
}

TEST(TensorBoard, ALaunchWithoutAStepLeavesNoFile) {
  TemporaryFolder folder;
  launch(folder.path(), 0, 0, 1);
  EXPECT_TRUE(files_of(folder.path()).empty());
}

TEST(TensorBoard, ResumedFromAnEarlierStepThereIsOneCurve) {
  TemporaryFolder folder;
  launch(folder.path(), 0, 9, 1);
  launch(folder.path(), 6, 12, 1);
  launch(folder.path(), 4, 10, 1);  // earlier than all of the second file
  EXPECT_EQ(points_of(folder.path(), "train/loss"), counted(1, 10, 1));
  EXPECT_EQ(points_of(folder.path(), "trust_ratio/pooler.weight").size(), 5u);
  EXPECT_EQ(files_of(folder.path()).size(), 2u) << "the second file had nothing left";
}

TEST(TensorBoard, LaterFilesHaveLaterNames) {
  TemporaryFolder folder;
  write_bytes(folder / "events.out.tfevents.9000000000.zzz.1.0",
              version_record(1) + scalar_record({1, 1, {{"train/loss", 1.0F}}}));
  launch(folder.path(), 1, 2, 1);
  const std::vector<fs::path> files = files_of(folder.path());
  ASSERT_EQ(files.size(), 2u);
  EXPECT_EQ(files[1].filename().string().rfind("events.out.tfevents.9000000001.", 0), 0u);
  EXPECT_EQ(points_of(folder.path(), "train/loss"), counted(1, 2, 1));
}

TEST(TensorBoard, TrustRatiosOfAStepWhoseRecordIsPendingStay) {
  TemporaryFolder folder;
  launch(folder.path(), 0, 6, 1);
  cut_event_files(folder.path(), 5, 6);
  EXPECT_EQ(points_of(folder.path(), "train/loss"), counted(1, 5, 1));
  EXPECT_EQ(points_of(folder.path(), "trust_ratio/pooler.weight").back().first, 6);
}

TEST(TensorBoard, AHalfWrittenRecordIsCutOff) {
  TemporaryFolder folder;
  launch(folder.path(), 0, 5, 1);
  const fs::path file = files_of(folder.path()).front();
  const std::string bytes = read_bytes(file);
  for (const size_t lost : {size_t{1}, size_t{3}, size_t{100}, bytes.size() - 10}) {
    write_bytes(file, bytes.substr(0, bytes.size() - lost));
    const int64_t whole = static_cast<int64_t>(points_of(folder.path(), "train/loss").size());
    launch(folder.path(), whole, 8, 1);
    EXPECT_EQ(points_of(folder.path(), "train/loss"), counted(1, 8, 1)) << lost << " bytes lost";
    for (const fs::path& other : files_of(folder.path())) fs::remove(other);
  }
}

TEST(TensorBoard, OtherFilesAreLeftAlone) {
  TemporaryFolder folder;
  write_bytes(folder / "metrics.jsonl", "x");
  cut_event_files(folder.path(), 0, 0);
  EXPECT_EQ(read_bytes(folder / "metrics.jsonl"), "x");
}

}  // namespace
}  // namespace minibert
