// planted_bugs_test.cpp: faults of kernels that the engine must find, each beside its right version,
// which must give the same bits under every schedule. A bool template parameter plants the fault.
// A fault shows as a report, as a NaN, or as a result that changes with the order of threads; what
// only memory checks find (reads past an end, races that no order shows) is not for this test.
#include <cmath>
#include <set>
#include <vector>

#include "tests/tools/simt/engine/support.h"

namespace minibert {
namespace {

using Result = std::vector<float>;

/// One run of a kernel(out) over a block of `threads`.
Result result_of(void (*kernel)(float*), int threads, simt::Options options = {}) {
  const simt::OptionsScope scope(options);
  Result out(static_cast<size_t>(threads), -1.0f);
  launch(kernel, 1, threads, 0, {}, out.data());
  return out;
}
/// Of ten random orders, how many give another result than `wanted`.
int wrong_orders(void (*kernel)(float*), int threads, const Result& wanted) {
  int wrong = 0;
  for (uint64_t seed = 1; seed <= kSeeds; ++seed)
    wrong += result_of(kernel, threads, {.seed = seed}) != wanted;
  return wrong;
}
void expect_right(void (*kernel)(float*), int threads, const Result& wanted) {
  under_all_schedules([&] { EXPECT_EQ(result_of(kernel, threads, simt::options()), wanted); });
}
bool any_nan(const Result& x) {
  for (const float value : x)
    if (std::isnan(value)) return true;
  return false;
}

// ---- Missing __syncthreads; the reader is the last thread, so running in order hides it ----------
template <bool Fault>
__global__ void last_thread_adds(float* out) {
  MB_SHARED(float, x, 128);
  x[threadIdx.x] = static_cast<float>(threadIdx.x);
  if (!Fault) __syncthreads();
  float sum = 0;
  if (threadIdx.x == blockDim.x - 1)
    for (int i = 0; i < 128; ++i) sum += x[i];
  out[threadIdx.x] = sum;
}

TEST(SimtPlantedBugs, MissingSyncthreadsIsWrongInRandomOrders) {
  Result wanted(128, 0.0f);
  wanted[127] = 127 * 128 / 2;
  expect_right(last_thread_adds<false>, 128, wanted);
  EXPECT_EQ(result_of(last_thread_adds<true>, 128), wanted) << "in order it goes unseen";
  EXPECT_EQ(wrong_orders(last_thread_adds<true>, 128, wanted), 10);
}

// ---- Tree reduction that trusts warps to run in lockstep ------------------------------------------
template <bool Fault>
__global__ void tree_sum(float* out) {
  MB_SHARED(float, x, 64);
  const int i = static_cast<int>(threadIdx.x);
  x[i] = 1;
  __syncthreads();
  for (int half = 32; half > 0; half /= 2) {
    const float sum = i < half ? x[i] + x[i + half] : 0;
    if (!Fault || half == 32) __syncthreads();
    if (i < half) x[i] = sum;
    if (!Fault || half == 32) __syncthreads();
  }
  __syncthreads();
  out[i] = x[0];
}

TEST(SimtPlantedBugs, TreeReductionWithoutSyncsInTheLastWarpIsWrong) {
  expect_right(tree_sum<false>, 64, Result(64, 64.0f));
  EXPECT_NE(result_of(tree_sum<true>, 64), Result(64, 64.0f)) << "even in order";
  EXPECT_EQ(wrong_orders(tree_sum<true>, 64, Result(64, 64.0f)), 10);
}

// ---- Neighbours of a warp exchange through shared memory without __syncwarp ----------------------
template <bool Fault>
__global__ void exchange(float* out) {
  MB_SHARED(float, x, 32);
  const int lane = lane_id();
  x[lane] = static_cast<float>(lane);
  if (!Fault) __syncwarp();
  out[lane] = lane == 0 ? 0 : x[lane - 1];
}

TEST(SimtPlantedBugs, MissingSyncwarpIsWrongInRandomOrders) {
  Result wanted(32);
  for (int i = 0; i < 32; ++i) wanted[i] = static_cast<float>(std::max(i - 1, 0));
  expect_right(exchange<false>, 32, wanted);
  EXPECT_EQ(result_of(exchange<true>, 32), wanted) << "in order it goes unseen";
  EXPECT_EQ(wrong_orders(exchange<true>, 32, wanted), 10);
}

// ---- Write past a shared array ---------------------------------------------------------------------
template <bool Fault>
__global__ void past_the_end(float* out) {
  MB_SHARED(float, tile, 64);
  const int i = static_cast<int>(threadIdx.x) + (Fault ? 1 : 0);
  tile[i] = 1;
  out[threadIdx.x] = 1;
}

TEST(SimtPlantedBugs, WriteBehindASharedArrayBreaksItsCanary) {
  expect_right(past_the_end<false>, 64, Result(64, 1.0f));
#if SIMT_ASAN
  EXPECT_DEATH(result_of(past_the_end<true>, 64), "index 64 out of bounds");
#else
  const std::string report = report_of([] { result_of(past_the_end<true>, 64); });
  EXPECT_HAS(report, "something wrote past the end of tile (256 bytes), at byte 256");
  EXPECT_HAS(report, "in past_the_end<true>");
#endif
}

// ---- A pack at an address that is no multiple of its size -----------------------------------------
template <bool Fault>
__global__ void moves_packs(float* out) {
  MB_SHARED(float, x, 36);
  const int i = static_cast<int>(threadIdx.x);
  x[i] = static_cast<float>(i);
  if (i < 4) x[32 + i] = 0;
  __syncthreads();
  out[i] = load_pack<4>(x + i / 4 * 4 + (Fault ? 2 : 0))[i % 4];
}

TEST(SimtPlantedBugs, AMisalignedPackIsReported) {
  Result wanted(32);
  for (int i = 0; i < 32; ++i) wanted[i] = static_cast<float>(i);
  expect_right(moves_packs<false>, 32, wanted);
  const std::string report = report_of([] { result_of(moves_packs<true>, 32); });
  EXPECT_HAS(report, "misaligned: 16 bytes are moved together");
  EXPECT_HAS(report, "in moves_packs<true>");
}

// ---- A sum that starts in memory which nobody set -------------------------------------------------
template <bool Fault>
__global__ void accumulate(float* out) {
  MB_SHARED(float, sums, 32);
  const int lane = lane_id();
  if (!Fault) sums[lane] = 0;
  sums[lane] += static_cast<float>(lane);
  out[lane] = sums[lane];
}

TEST(SimtPlantedBugs, SharedMemoryThatWasNeverSetIsNaN) {
  EXPECT_FALSE(any_nan(result_of(accumulate<false>, 32)));
  EXPECT_TRUE(any_nan(result_of(accumulate<true>, 32)));
}

// ---- Barriers at different lines -------------------------------------------------------------------
template <bool Fault>
__global__ void divergent(float* out) {
  if (Fault && threadIdx.x >= 32) {
    __syncthreads();
  } else {
    __syncthreads();
  }
  out[threadIdx.x] = 1;
}

TEST(SimtPlantedBugs, BarriersReachedAtDifferentLinesAreReported) {
  expect_right(divergent<false>, 64, Result(64, 1.0f));
  under_all_schedules([] {
    const std::string report = report_of([] { result_of(divergent<true>, 64, simt::options()); });
    EXPECT_HAS(report, "divergent barrier: this thread is at __syncthreads at");
    EXPECT_HAS(report, "but others wait in __syncthreads at");
  });
}

// ---- A barrier that some threads never reach, while they wait elsewhere ---------------------------
__global__ void barrier_or_shuffle(float* out) {
  if (threadIdx.x < 16) __syncthreads();
  out[threadIdx.x] = __shfl_sync(kFullMask, 1.0f, 0);
}

TEST(SimtPlantedBugs, ABarrierInABranchIsADeadlockWithBothPlaces) {
  const std::string report = report_of([] { result_of(barrier_or_shuffle, 32); });
  EXPECT_HAS(report, "deadlock");
  EXPECT_HAS(report,
             "16 threads wait in __syncthreads at tests/tools/simt/engine/planted_bugs_test.cpp:");
  EXPECT_HAS(report,
             "16 threads wait in __shfl_sync at tests/tools/simt/engine/planted_bugs_test.cpp:");
  EXPECT_HAS(report, ": 16..31");
}

// ---- A shuffle of 32 lanes that only half of them reach -------------------------------------------
template <bool Fault>
__global__ void half_shuffles(float* out) {
  const float x = static_cast<float>(lane_id());
  float y = 0;
  if (!Fault || lane_id() < 16) y = __shfl_xor_sync(kFullMask, x, 1);
  out[lane_id()] = y;
}

TEST(SimtPlantedBugs, ShuffleWithHalfTheLanesAbsentIsADeadlock) {
  EXPECT_EQ(report_of([] { result_of(half_shuffles<false>, 32); }), "");
  under_all_schedules([] {
    const std::string report =
        report_of([] { result_of(half_shuffles<true>, 32, simt::options()); });
    EXPECT_HAS(report, "deadlock: no thread of the block can go on");
    EXPECT_HAS(report, "16 threads wait in __shfl_xor_sync at");
    EXPECT_HAS(report, ": 0..15");
    EXPECT_HAS(report, "16 threads have ended: 16..31");
  });
}

// ---- cp.async: a tile loaded in stages of 16 bytes a thread ---------------------------------------
enum class Copy { right, no_wait, no_trailing_barrier, no_leading_barrier };
alignas(16) float global_rows[4][32][4];

/// Adds four tiles, each copied into one buffer; thread i copies row i and reads row 31 - i.
template <Copy Fault>
__global__ void add_tiles(float* out) {
  MB_SHARED(float[4], tile, 32);
  const int i = static_cast<int>(threadIdx.x);
  float sum = 0;
  for (int t = 0; t < 4; ++t) {
    cp_async16(tile[i], global_rows[t][i]);
    cp_async_commit();
    if (Fault != Copy::no_wait) cp_async_wait<0>();
    if (Fault != Copy::no_leading_barrier) __syncthreads();
    for (int j = 0; j < 4; ++j) sum += tile[31 - i][j];
    if (Fault != Copy::no_trailing_barrier) __syncthreads();
  }
  out[i] = sum;
}
Result sum_of_tiles() {
  Result wanted(32);
  for (int t = 0; t < 4; ++t)
    for (int i = 0; i < 32; ++i)
      for (int j = 0; j < 4; ++j) {
        global_rows[t][i][j] = static_cast<float>(t * 1000 + i * 10 + j);
        wanted[31 - i] += global_rows[t][i][j];
      }
  return wanted;
}

TEST(SimtPlantedBugs, AMissingWaitShowsWhenCopiesArriveLate) {
  const Result wanted = sum_of_tiles();
  expect_right(add_tiles<Copy::right>, 32, wanted);
  const auto run = [](simt::Async async) {
    return result_of(add_tiles<Copy::no_wait>, 32, {.async = async});
  };
  EXPECT_TRUE(any_nan(run(simt::Async::late)));
  EXPECT_EQ(run(simt::Async::early), wanted) << "early copies hide it";
}

/// The next tile is fetched while this one is read: two buffers, and a third round that reuses the
/// first. Without the trailing barrier a fast warp overwrites what a slow one still reads; a copy that
/// arrives late, at the next round's wait, hides it in order.
template <bool Fault>
__global__ void double_buffer(float* out) {
  MB_SHARED(float[128], tile, 2);
  const int i =
      static_cast<int>(threadIdx.x);  // 64 threads: thread i copies a quarter of row i / 2
  const auto fetch = [&](int t) {
    if (t < 4 && i < 32) cp_async16(&tile[t % 2][i * 4], global_rows[t][i]);
    cp_async_commit();
  };
  float sum = 0;
  fetch(0);
  for (int t = 0; t < 4; ++t) {
    fetch(t + 1);
    cp_async_wait<1>();
    __syncthreads();
    for (int j = 0; j < 4; ++j) sum += tile[t % 2][(31 - i % 32) * 4 + j];
    if (!Fault) __syncthreads();
  }
  out[i] = sum;
}

TEST(SimtPlantedBugs, AMissingTrailingBarrierShowsWhenCopiesArriveEarly) {
  const Result half = sum_of_tiles();
  Result wanted = half;
  wanted.insert(wanted.end(), half.begin(), half.end());
  expect_right(double_buffer<false>, 64, wanted);
  EXPECT_EQ(result_of(double_buffer<true>, 64, {.async = simt::Async::late}), wanted)
      << "late copies hide it in order";
  EXPECT_NE(result_of(double_buffer<true>, 64, {.async = simt::Async::early}), wanted);
  EXPECT_NE(result_of(add_tiles<Copy::no_trailing_barrier>, 32, {.async = simt::Async::early}),
            half);
}

TEST(SimtPlantedBugs, AMissingBarrierBeforeTheTileIsReadShowsInEveryOrder) {
  const Result wanted = sum_of_tiles();
  EXPECT_NE(result_of(add_tiles<Copy::no_leading_barrier>, 32), wanted);
  EXPECT_EQ(wrong_orders(add_tiles<Copy::no_leading_barrier>, 32, wanted), 10);
}

// ---- A second barrier missing in a loop over one buffer --------------------------------------------
template <bool Fault>
__global__ void broadcast_in_turn(float* out) {
  MB_SHARED(float, box, 1);
  float sum = 0;
  for (int turn = 0; turn < 8; ++turn) {
    if (static_cast<int>(threadIdx.x) == turn * 8) box[0] = static_cast<float>(turn);
    __syncthreads();
    sum += box[0];
    if (!Fault) __syncthreads();
  }
  out[threadIdx.x] = sum;
}

TEST(SimtPlantedBugs, AMissingSecondBarrierInALoopIsWrong) {
  const Result wanted(64, 28.0f);
  expect_right(broadcast_in_turn<false>, 64, wanted);
  EXPECT_NE(result_of(broadcast_in_turn<true>, 64), wanted) << "even in order";
  EXPECT_EQ(wrong_orders(broadcast_in_turn<true>, 64, wanted), 10);
}

// ---- What the sanitizers' build finds besides -------------------------------------------------------
#if SIMT_ASAN
__global__ void reads_past_shared(float* out) {
  float* tile = dynamic_shared<float>();
  tile[threadIdx.x] = 1;
  __syncthreads();
  out[threadIdx.x] = tile[threadIdx.x + 1];
}
__global__ void misaligned(float* out) {
  const auto* four = reinterpret_cast<const float4*>(out + 1);
  out[threadIdx.x] = four->x + four->w;
}

TEST(SimtPlantedBugs, AsanFindsReadsPastAnEndAndUbsanMisalignedVectors) {
  float out[32];
  EXPECT_DEATH(launch(reads_past_shared, 1, 32, 32 * sizeof(float), {}, out), "use-after-poison");
  EXPECT_DEATH(result_of(misaligned, 32), "misaligned address");
}
#endif

}  // namespace
}  // namespace minibert
