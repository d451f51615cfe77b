// safetensors_test.cpp: what is written is read back, and no damaged header gets past the reader.
// Files of the Python library are read by peer_test.cpp and parity_test.cpp (the goldens).
#include "models/bert/safetensors.h"

#include <cstring>
#include <filesystem>
#include <fstream>

#include <gtest/gtest.h>
#include <unistd.h>

#include "core/random.h"

namespace minibert {
namespace {

namespace fs = std::filesystem;

class Safetensors : public ::testing::Test {
 protected:
  void SetUp() override {
    folder_ = fs::temp_directory_path() /
              fmt::format("minibert_safetensors_{}_{}", ::getpid(),
                          ::testing::UnitTest::GetInstance()->current_test_info()->name());
    fs::create_directories(folder_);
    path_ = (folder_ / "t.safetensors").string();
  }
  void TearDown() override { fs::remove_all(folder_); }

  /// A file with this header text (its length is written before it), then `data_bytes` zeros.
  void write_raw(const std::string& header, size_t data_bytes) {
    std::ofstream out(path_, std::ios::binary | std::ios::trunc);
    const uint64_t length = header.size();
    out.write(reinterpret_cast<const char*>(&length), 8);
    out << header << std::string(data_bytes, '\0');
  }
  /// The message with which the reader refuses the file.
  std::string refusal() {
    try {
      SafetensorsFile file(path_);
    } catch (const DataError& error) {
      return error.what();
    }
    return "(accepted)";
  }
  void expect_refused(const std::string& header, size_t data_bytes, const std::string& says) {
    write_raw(header, data_bytes);
    const std::string message = refusal();
    EXPECT_NE(message.find(says), std::string::npos) << header << "\n  " << message;
    EXPECT_NE(message.find(path_), std::string::npos) << message;
  }

  fs::path folder_;
  std::string path_;
};

std::vector<char> bytes_of(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

TEST_F(Safetensors, ReadsBackWhatIsWritten) {
  const std::vector<float> f = {1.5f, -2.25f, 3e-40f, INFINITY, 0.1f, -0.0f};
  const std::vector<int32_t> i = {7, -1};
  const std::vector<uint8_t> u = {0, 255, 3};
  const NamedTensor tensors[] = {{"bytes", Tensor::from<uint8_t>(u, {3})},
                                 {"a.matrix", Tensor::from<float>(f, {2, 3})},
                                 {"integers", Tensor::from<int32_t>(i, {2})},
                                 {"empty", Tensor::zeros({0, 4})},
                                 {"scalar \"quoted\"", Tensor::from<float>({f.data(), 1}, {})}};
  write_safetensors(path_, tensors, {{"step", "12"}});

  const SafetensorsFile file(path_);
  EXPECT_EQ(file.metadata().at("format"), "pt");
  EXPECT_EQ(file.metadata().at("step"), "12");
  ASSERT_EQ(file.entries().size(), 5u);
  for (const NamedTensor& named : tensors) {
    const Tensor got = file.read(named.name);
    EXPECT_EQ(got.dtype(), named.tensor.dtype()) << named.name;
    EXPECT_EQ(got.shape(), named.tensor.shape()) << named.name;
    EXPECT_EQ(std::memcmp(got.raw(), named.tensor.raw(), static_cast<size_t>(named.tensor.bytes())),
              0)
        << named.name;
  }
  EXPECT_EQ(file.find("absent"), nullptr);
  EXPECT_THROW(file.read("absent"), DataError);
}

TEST_F(Safetensors, AlignsEveryTensor) {
  const std::vector<uint8_t> u = {1};
  const NamedTensor tensors[] = {{"u", Tensor::from<uint8_t>(u, {1})}, {"f", Tensor::zeros({3})}};
  write_safetensors(path_, tensors);
  uint64_t header = 0;
  std::memcpy(&header, bytes_of(path_).data(), 8);
  EXPECT_EQ(header % 8, 0u);
  EXPECT_EQ(SafetensorsFile(path_).find("f")->begin % 4, 0u);
}

TEST_F(Safetensors, ConvertsToF32) {
  // 1, -2 and 0.5 in three formats, bits written by hand.
  write_raw(R"({"h":{"dtype":"F16","shape":[3],"data_offsets":[24,30]},)"
            R"("b":{"dtype":"BF16","shape":[3],"data_offsets":[30,36]},)"
            R"("d":{"dtype":"F64","shape":[3],"data_offsets":[0,24]}})",
            0);
  const double d[] = {1, -2, 0.5};
  const uint16_t h[] = {0x3C00, 0xC000, 0x3800}, b[] = {0x3F80, 0xC000, 0x3F00};
  std::ofstream out(path_, std::ios::binary | std::ios::app);
  out.write(reinterpret_cast<const char*>(d), sizeof d);
  out.write(reinterpret_cast<const char*>(h), sizeof h);
  out.write(reinterpret_cast<const char*>(b), sizeof b);
  out.close();
  const SafetensorsFile file(path_);
  for (const char* name : {"d", "h", "b"}) {
    std::vector<float> got(3);
    file.read_f32(name, got);
    EXPECT_EQ(got, (std::vector<float>{1, -2, 0.5f})) << name;
    std::vector<float> wrong_size(2);
    EXPECT_THROW(file.read_f32(name, wrong_size), DataError);
  }
}

// The library reads an absent, an empty and a null __metadata__ alike (safetensors 0.8.0).
TEST_F(Safetensors, MetadataMayBeNullOrEmpty) {
  for (const char* metadata : {"null", "{}"}) {
    write_raw(fmt::format(R"({{"__metadata__":{},)"
                          R"("w":{{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}}})",
                          metadata),
              4);
    const SafetensorsFile file(path_);
    EXPECT_TRUE(file.metadata().empty()) << metadata;
    EXPECT_NE(file.find("w"), nullptr) << metadata;
  }
}

// The library (safetensors 0.8.0) skips fields that it does not know, and loads all of these types.
TEST_F(Safetensors, UnknownFieldsAndUnusedTypesAreNoFault) {
  write_raw(R"({"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4],"note":"x"},)"
            R"("c":{"dtype":"C64","shape":[1],"data_offsets":[4,12]},)"
            R"("e":{"dtype":"F8_E8M0","shape":[3],"data_offsets":[12,15]}})",
            15);
  const SafetensorsFile file(path_);
  EXPECT_EQ(file.find("w")->shape, (std::vector<int64_t>{1}));
  EXPECT_EQ(file.entries().size(), 3u);
}

TEST_F(Safetensors, APointerOfGitLfsIsToldFromTheFile) {
  const fs::path pointer = folder_ / "pointer.safetensors";
  std::ofstream(pointer) << "version https://git-lfs.github.com/spec/v1\noid sha256:0e3f\nsize 4\n";
  try {
    SafetensorsFile file(pointer.string());
    FAIL() << "accepted";
  } catch (const DataError& error) {
    EXPECT_NE(std::string(error.what()).find("git lfs pull"), std::string::npos) << error.what();
  }
}

TEST_F(Safetensors, RefusesDamagedHeaders) {
  const auto entry = [](const char* dtype, const char* shape, const char* offsets) {
    return fmt::format(R"({{"w":{{"dtype":{},"shape":{},"data_offsets":{}}}}})", dtype, shape,
                       offsets);
  };
  expect_refused(entry(R"("F32")", "[2,2]", "[0,16]"), 12, "truncated");
  expect_refused(entry(R"("F32")", "[2,2]", "[0,16]"), 17, "the file has 17 bytes of data");
  expect_refused(entry(R"("F33")", "[2,2]", "[0,16]"), 16, "tensor w has dtype \"F33\"");
  expect_refused(entry(R"("F32")", "[2,3]", "[0,16]"), 16, "expected 24 bytes for F32 [2, 3]");
  expect_refused(entry(R"("F32")", "[2,-2]", "[0,16]"), 16, "has shape [2,-2]");
  expect_refused(entry(R"("F32")", "[2,2.0]", "[0,16]"), 16, "has shape [2,2.0]");
  expect_refused(entry(R"("F32")", "4", "[0,16]"), 16, "has shape 4");
  expect_refused(entry(R"("F32")", "[2,2]", "[16,0]"), 16, "starts at byte 16");
  expect_refused(entry(R"("F32")", "[2,2]", "[4,20]"), 20, "starts at byte 4");
  expect_refused(entry(R"("F32")", "[2,2]", "[0]"), 16, "expected [begin, end]");
  expect_refused(entry(R"("F32")", "[4294967296,4294967296,16]", "[0,16]"), 16, "no file can hold");
  expect_refused(entry(R"("F32")", "[18446744073709551615]", "[0,16]"), 16, "no file can hold");
  expect_refused(entry(R"("F64")", "[4611686018427387904]", "[0,0]"), 0, "no file can hold");
  expect_refused(R"({"w":{"dtype":"F32","shape":[4]}})", 16,
                 "tensor w lacks \"dtype\", \"shape\" or");
  expect_refused(R"({"w":[1]})", 16, "tensor w lacks");
  expect_refused(R"({"__metadata__":{"a":1}})", 0, "__metadata__ \"a\"");
  expect_refused(R"({"__metadata__":{"a":null}})", 0, "__metadata__ \"a\" is null, expected text");
  expect_refused(R"({"__metadata__":[]})", 0, "__metadata__ is [], expected an object");
  expect_refused(R"([1,2])", 0, "not a JSON object");
  expect_refused(R"({"w":)", 0, "not JSON");
  expect_refused("", 0, "not JSON");
  expect_refused(R"({"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},)"
                 R"("w":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}})",
                 8, "\"w\" twice");
  expect_refused(R"({"w":{"dtype":"F32","shape":[1],"dtype":"F16","data_offsets":[0,4]}})", 4,
                 "\"dtype\" twice");
  expect_refused(R"({"__metadata__":{"a":"1","a":"1"}})", 0, "\"a\" twice");
  expect_refused(R"({"w":{"note":[1,{"x":[{},{"y":1,"\u0079":2}]}]}})", 0, "\"y\" twice");
  expect_refused(R"({"v":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},)"
                 R"("w":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}})",
                 12, "starts at byte 4 of the data, expected 8");
  expect_refused(R"({"v":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},)"
                 R"("w":{"dtype":"F32","shape":[1],"data_offsets":[8,12]}})",
                 12, "starts at byte 8 of the data, expected 4");
  expect_refused(std::string(50000, '['), 0, "nested more than 200 levels deep");
}

/// A header of `count` tensors of `bytes_each` bytes, in the order of their bytes, then `more`.
std::string header_of_many(int count, int bytes_each, const std::string& more) {
  std::string header = "{";
  for (int i = 0; i < count; ++i)
    header += fmt::format(R"("layer.{}":{{"dtype":"U8","shape":[{}],"data_offsets":[{},{}]}},)", i,
                          bytes_each, i * bytes_each, (i + 1) * bytes_each);
  header.back() = more.empty() ? '}' : ',';
  return more.empty() ? header : header + more + "}";
}

// In a time that grows with the number: a reader that looked through all tensors after each would
// be ended by the test's time-out.
TEST_F(Safetensors, FindsEachOfManyTensors) {
  constexpr int kTensors = 100'000;
  write_raw(header_of_many(kTensors, 2, ""), 2 * kTensors);
  const SafetensorsFile file(path_);
  ASSERT_EQ(file.entries().size(), size_t{kTensors});
  for (int i = 0; i < kTensors; ++i) {
    const SafetensorsEntry* entry = file.find(fmt::format("layer.{}", i));
    ASSERT_NE(entry, nullptr) << i;
    ASSERT_EQ(entry->begin, static_cast<uint64_t>(2 * i));
    ASSERT_EQ(entry->shape, (std::vector<int64_t>{2}));
  }
  expect_refused(
      header_of_many(kTensors, 2,
                     R"("layer.7":{"dtype":"U8","shape":[0],"data_offsets":[200000,200000]})"),
      2 * kTensors, "\"layer.7\" twice");
}

TEST_F(Safetensors, RefusesFilesThatAreNone) {
  EXPECT_THROW(SafetensorsFile((folder_ / "absent").string()), DataError);
  EXPECT_THROW(SafetensorsFile(folder_.string()), DataError);
  std::ofstream(path_) << "1234567";
  EXPECT_NE(refusal().find("7 bytes"), std::string::npos);
  std::ofstream(path_) << "this is a text file and nothing else";
  EXPECT_NE(refusal().find("header's length"), std::string::npos);
}

TEST_F(Safetensors, RefusesEveryTruncation) {
  const NamedTensor tensors[] = {{"a", Tensor::zeros({3})}, {"b", Tensor::zeros({2, 2})}};
  write_safetensors(path_, tensors);
  const auto size = fs::file_size(path_);
  for (auto length = size; length-- > 0;) {
    fs::resize_file(path_, length);
    EXPECT_NE(refusal(), "(accepted)") << "at " << length << " bytes";
  }
}

// A flipped bit of the header is refused, or is harmless: it changed a name, metadata or blanks.
TEST_F(Safetensors, NeverMisreadsAFlippedBit) {
  const std::vector<float> values = {1, 2, 3, 4};
  const NamedTensor tensors[] = {{"weight", Tensor::from<float>(values, {2, 2})}};
  write_safetensors(path_, tensors);
  const std::vector<char> good = bytes_of(path_);
  for (size_t bit = 0; bit < (good.size() - 16) * 8; ++bit) {
    std::vector<char> bad = good;
    bad[bit / 8] = static_cast<char>(bad[bit / 8] ^ (1 << (bit % 8)));
    std::ofstream(path_, std::ios::binary).write(bad.data(), static_cast<long>(bad.size()));
    try {
      const SafetensorsFile file(path_);
      ASSERT_EQ(file.entries().size(), 1u);
      const SafetensorsEntry& entry = file.entries()[0];
      EXPECT_EQ(entry.end - entry.begin, 16u) << "bit " << bit;
      EXPECT_EQ(static_cast<uint64_t>(entry.numel()) * (entry.dtype == "F32" ? 4 : 0), 16u)
          << "bit " << bit << ": " << entry.dtype << " " << entry.shape_str();
    } catch (const DataError&) {
      // refused
    }
  }
}

TEST_F(Safetensors, WriterNamesWhatFailed) {
  const NamedTensor twice[] = {{"a", Tensor::zeros({1})}, {"a", Tensor::zeros({1})}};
  EXPECT_THROW(write_safetensors(path_, twice), UsageError);
  const NamedTensor undefined[] = {{"a", Tensor()}};
  EXPECT_THROW(write_safetensors(path_, undefined), UsageError);
  const NamedTensor one[] = {{"a", Tensor::zeros({1})}};
  try {
    write_safetensors("/proc/none/t.safetensors", one);
    FAIL() << "was written";
  } catch (const CheckpointError& error) {
    EXPECT_NE(std::string(error.what()).find("/proc/none/t.safetensors"), std::string::npos);
  }
  try {
    write_safetensors("/dev/full", one);
    FAIL() << "was written";
  } catch (const CheckpointError& error) {
    EXPECT_NE(std::string(error.what()).find("No space left"), std::string::npos) << error.what();
  }
}

}  // namespace
}  // namespace minibert
