// cgroup_test.cpp: limits of both versions of control groups, planted in a folder.
#include "core/cgroup.h"

#include <cmath>
#include <fstream>
#include <limits>

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <unistd.h>

namespace minibert {
namespace {

namespace fs = std::filesystem;

class Cgroup : public ::testing::Test {
 protected:
  Cgroup()
      : root_(fs::temp_directory_path() /
              fmt::format("minibert_cgroup_{}_{}", ::getpid(),
                          ::testing::UnitTest::GetInstance()->current_test_info()->name())) {}
  ~Cgroup() override { fs::remove_all(root_); }
  void plant(const std::string& path, const std::string& text) {
    fs::create_directories((root_ / path).parent_path());
    std::ofstream(root_ / path) << text;
  }
  const fs::path root_;
};

TEST_F(Cgroup, NothingIsNoLimit) {
  EXPECT_EQ(cgroup_cpus(root_), INFINITY);
  EXPECT_EQ(cgroup_memory(root_), std::numeric_limits<int64_t>::max());
  plant("sys/fs/cgroup/cpu.max", "max 100000\n");
  plant("sys/fs/cgroup/memory.max", "max\n");
  plant("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "-1\n");
  plant("sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n");
  plant("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
  EXPECT_EQ(cgroup_cpus(root_), INFINITY);
  EXPECT_EQ(cgroup_memory(root_), std::numeric_limits<int64_t>::max());
}

TEST_F(Cgroup, Version2OfAContainer) {
  plant("proc/self/cgroup", "0::/\n");
  plant("sys/fs/cgroup/cpu.max", "150000 100000\n");
  plant("sys/fs/cgroup/memory.max", "2147483648\n");
  EXPECT_EQ(cgroup_cpus(root_), 1.5);
  EXPECT_EQ(cgroup_memory(root_), int64_t{2} << 30);
}

TEST_F(Cgroup, Version1OfAContainer) {
  plant("proc/self/cgroup", "5:memory:/docker/1f\n4:cpu,cpuacct:/docker/1f\n");  // the host's path
  plant("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "50000\n");
  plant("sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n");
  plant("sys/fs/cgroup/memory/memory.limit_in_bytes", "1073741824\n");
  EXPECT_EQ(cgroup_cpus(root_), 0.5);
  EXPECT_EQ(cgroup_memory(root_), int64_t{1} << 30);
}

TEST_F(Cgroup, TheSmallestLimitAboveTheProcessCounts) {
  plant("proc/self/cgroup", "5:memory:/a/b\n4:cpuset:/c\n0::/job.slice/step/task\n");
  plant("sys/fs/cgroup/job.slice/step/task/cpu.max", "800000 100000");
  plant("sys/fs/cgroup/job.slice/cpu.max", "400000 100000");
  plant("sys/fs/cgroup/other/cpu.max", "100000 100000");
  plant("sys/fs/cgroup/memory/a/b/memory.limit_in_bytes", "3000");
  plant("sys/fs/cgroup/memory/a/memory.limit_in_bytes", "4000");
  EXPECT_EQ(cgroup_cpus(root_), 4);
  EXPECT_EQ(cgroup_memory(root_), 3000);
}

}  // namespace
}  // namespace minibert
