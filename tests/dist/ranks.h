// ranks.h: ranks as threads, and the checks that every kind of group must pass: sums of all types
// and sizes against sums in double. Included by the tests of groups.
#pragma once

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "core/error.h"
#include "dist/process_group.h"

namespace minibert::testing {

/// body(rank) in a thread for each rank. What rank r's body throws is entry r, "" if nothing.
inline std::vector<std::string> run_ranks(int world, const std::function<void(int)>& body) {
  std::vector<std::string> errors(static_cast<size_t>(world));
  std::vector<std::thread> threads;
  for (int rank = 0; rank < world; ++rank)
    threads.emplace_back([&, rank] {
      try {
        body(rank);
      } catch (const std::exception& error) {
        errors[static_cast<size_t>(rank)] = error.what();
      }
    });
  for (std::thread& thread : threads) thread.join();
  return errors;
}

/// Makes rank r's group; called in the thread of that rank.
using GroupMaker = std::function<std::unique_ptr<ProcessGroup>(int rank)>;
/// A GroupMaker for one run of `world` ranks.
using RunMaker = std::function<GroupMaker(int world)>;

inline double to_double(float x) {
  return x;
}
inline double to_double(bf16 x) {
  return to_float(x);
}
inline double to_double(f16 x) {
  return to_float(x);
}
inline double to_double(double x) {
  return x;
}
inline double to_double(int64_t x) {
  return static_cast<double>(x);
}
inline void from_double(double x, float& y) {
  y = static_cast<float>(x);
}
inline void from_double(double x, bf16& y) {
  y = to_bf16(static_cast<float>(x));
}
inline void from_double(double x, f16& y) {
  y = to_f16(static_cast<float>(x));
}
inline void from_double(double x, double& y) {
  y = x;
}
inline void from_double(double x, int64_t& y) {
  y = static_cast<int64_t>(1000 * x);
}

/// Largest relative error of one rounding to T.
template <typename T>
constexpr double unit_roundoff() {
  if (std::is_same_v<T, float>) return 0x1p-24;
  if (std::is_same_v<T, bf16>) return 0x1p-8;
  if (std::is_same_v<T, f16>) return 0x1p-11;
  if (std::is_same_v<T, double>) return 0x1p-53;
  return 0;
}

/// What rank `rank` begins with.
template <typename T>
std::vector<T> values_of(int rank, size_t count) {
  std::mt19937 random(static_cast<uint32_t>(1000 * rank + 17));
  std::uniform_real_distribution<double> uniform(-1, 1);
  std::vector<T> values(count);
  for (T& value : values) from_double(uniform(random), value);
  return values;
}

/// The sum in double, and a bound on the error of R - 1 additions in T, in any order.
struct ExactSum {
  double sum = 0, allowed = 0;
};
template <typename T>
std::vector<ExactSum> exact_sums(int world, size_t count) {
  std::vector<ExactSum> sums(count);
  for (int rank = 0; rank < world; ++rank) {
    const std::vector<T> values = values_of<T>(rank, count);
    for (size_t i = 0; i < count; ++i) {
      sums[i].sum += to_double(values[i]);
      sums[i].allowed += std::abs(to_double(values[i])) * (world - 1) * unit_roundoff<T>() * 1.01;
    }
  }
  if (std::is_same_v<T, f16>)  // subnormal sums
    for (ExactSum& sum : sums) sum.allowed += (world - 1) * 0x1p-25;
  return sums;
}

template <typename T>
bool same_bits(std::span<const T> a, std::span<const T> b) {
  return a.size() == b.size() &&
         std::equal(std::as_bytes(a).begin(), std::as_bytes(a).end(), std::as_bytes(b).begin());
}

/// Guards around the data: a collective must not write beside it.
template <typename T>
struct Guarded {
  explicit Guarded(const std::vector<T>& values) : all(values.size() + 2, guard()) {
    std::copy(values.begin(), values.end(), all.begin() + 1);
  }
  static T guard() {
    T value;
    from_double(0.77, value);
    return value;
  }
  std::span<T> values() { return std::span(all).subspan(1, all.size() - 2); }
  bool whole() const {
    const T expected = guard();
    return same_bits<T>({&all.front(), 1}, {&expected, 1}) &&
           same_bits<T>({&all.back(), 1}, {&expected, 1});
  }
  std::vector<T> all;
};

template <typename T>
void expect_sums(std::span<const T> got, std::span<const ExactSum> expected, size_t first) {
  for (size_t i = 0; i < got.size(); ++i) {
    const ExactSum& e = expected[first + i];
    ASSERT_LE(std::abs(to_double(got[i]) - e.sum), e.allowed)
        << "element " << first + i << ": got " << to_double(got[i]) << ", expected " << e.sum;
  }
}

/// What a rank's all-reduces ended with, in order.
using Reduced = std::vector<std::vector<std::byte>>;

/// Every collective on `count` elements of T, as rank `group.rank()` sees it.
template <typename T>
void expect_collectives(ProcessGroup& group, size_t count, Reduced& reduced) {
  const int rank = group.rank(), world = group.world();
  SCOPED_TRACE(
      fmt::format("rank {} of {}, {} {}", rank, world, count, name_of(element_type_of<T>)));
  Guarded<T> all(values_of<T>(rank, count)), scattered = all, gathered = all, sent = all;
  // All at once: the group runs them in order.
  Handle handles[] = {group.all_reduce(Elements{all.values()}),
                      group.reduce_scatter(Elements{scattered.values()}),
                      group.broadcast(Elements{sent.values()}, world - 1),
                      group.all_gather(Elements{gathered.values()}), group.barrier()};
  for (Handle& handle : handles) handle.wait();

  const std::vector<ExactSum> sums = exact_sums<T>(world, count);
  const auto block_of = [&](std::span<T> values, int number) {
    const Elements block = Elements{values}.block(number, world);
    return std::span<const T>(reinterpret_cast<T*>(block.data), static_cast<size_t>(block.count));
  };
  expect_sums<T>(all.values(), sums, 0);
  const auto mine = block_of(scattered.values(), rank);
  expect_sums<T>(mine, sums, static_cast<size_t>(mine.data() - scattered.values().data()));
  EXPECT_TRUE(same_bits<T>(sent.values(), values_of<T>(world - 1, count))) << "broadcast";
  for (int r = 0; r < world; ++r) {
    std::vector<T> theirs = values_of<T>(r, count);
    EXPECT_TRUE(same_bits<T>(block_of(gathered.values(), r), block_of(theirs, r)))
        << "all_gather, block " << r;
  }
  EXPECT_TRUE(all.whole() && scattered.whole() && gathered.whole() && sent.whole());
  const auto bytes = std::as_bytes(all.values());
  reduced.emplace_back(bytes.begin(), bytes.end());
}

constexpr size_t kBucket = 1024;  // elements

/// Worlds of 1 to 8 ranks, sizes at and beside the borders, all types; and each all-reduce gives
/// every rank the same bits.
inline void expect_all_collectives(const RunMaker& run) {
  for (int world = 1; world <= 8; ++world) {
    const GroupMaker make = run(world);
    std::vector<Reduced> reduced(static_cast<size_t>(world));
    const auto errors = run_ranks(world, [&](int rank) {
      const auto group = make(rank);
      ASSERT_EQ(group->rank(), rank);
      ASSERT_EQ(group->world(), world);
      Reduced& mine = reduced[static_cast<size_t>(rank)];
      for (const size_t count :
           {size_t{0}, size_t{1}, size_t{37}, kBucket - 1, kBucket, kBucket + 1}) {
        expect_collectives<float>(*group, count, mine);
        expect_collectives<bf16>(*group, count, mine);
        expect_collectives<f16>(*group, count, mine);
      }
      expect_collectives<double>(*group, 37, mine);
      expect_collectives<int64_t>(*group, 37, mine);
    });
    for (const std::string& error : errors) EXPECT_EQ(error, "");
    for (const Reduced& theirs : reduced) EXPECT_EQ(theirs, reduced[0]) << "ranks differ in bits";
  }
}

}  // namespace minibert::testing
