// memory.cu: ways into and out of memory: ldmatrix in its six forms, cp.async with each number of
// source bytes and in groups, and the packed loads and stores of core/cuda_kernel.h.
// Models: plain loops over the bytes. Source: PTX ISA 9.0, 9.7.14.5.15 (ldmatrix), 9.7.9.25 (cp.async).
#include <algorithm>

#include "core/ptx.h"
#include "tools/conformance/ldmatrix.h"
#include "tools/conformance/report.h"

namespace minibert::conformance {
namespace {

// ---- ldmatrix --------------------------------------------------------------------------------------
void run_ldmatrix(Report& report) {
  for (const int matrices : {1, 2, 4})
    for (const bool transposed : {false, true}) {
      const std::vector<uint32_t> wanted = loaded_matrices(matrices, transposed);
      const Buffer<uint32_t> out(wanted.size());
      launch(load_matrices, 1, 32, 0, {}, matrices, transposed, out.data());
      report.exact(text("ldmatrix x%d%s", matrices, transposed ? " trans" : ""), out.read(),
                   wanted);
    }
}

// ---- cp.async ----------------------------------------------------------------------------------------
constexpr int kUnit = 16;  // bytes

/// Thread t copies the first t of 16 bytes (t = 0 .. 16), then all or none as t is even or odd.
__global__ void copy_some(const uint8_t* from, uint8_t* to) {
  MB_SHARED(uint8_t[kUnit], tile, 34);
  const int t = thread_in_block();
  if (t <= kUnit) {
    for (int i = 0; i < kUnit; ++i) tile[t][i] = tile[17 + t][i] = 0xEE;
    cp_async16(tile[t], from + t * kUnit, t);
    cp_async16_if(tile[17 + t], from + t * kUnit, t % 2 == 0);
  }
  cp_async_commit();
  cp_async_wait<0>();
  __syncthreads();
  if (t <= kUnit)
    for (int i = 0; i < kUnit; ++i) {
      to[t * kUnit + i] = tile[t][i];
      to[(17 + t) * kUnit + i] = tile[17 + t][i];
    }
}

constexpr int kStages = 3, kTiles = 10;

/// Three groups under way: tile i is added to `to` while tiles i + 1 and i + 2 are copied.
__global__ void copy_staged(const uint32_t* from, uint32_t* to) {
  MB_SHARED(uint32_t[128], stage, kStages);
  const int t = thread_in_block();  // of 32: 4 words each
  const auto start = [&](int tile) {
    if (tile < kTiles) cp_async16(&stage[tile % kStages][4 * t], from + tile * 128 + 4 * t);
    cp_async_commit();
  };
  for (int tile = 0; tile < kStages - 1; ++tile) start(tile);
  uint32_t sum[4] = {};
  for (int tile = 0; tile < kTiles; ++tile) {
    cp_async_wait<kStages - 2>();
    __syncthreads();
    start(tile + kStages - 1);
    for (int i = 0; i < 4; ++i) {
      sum[i] = sum[i] * 3 + stage[tile % kStages][127 - (4 * t + i)];  // another thread's words
      to[tile * 128 + 4 * t + i] = sum[i];
    }
  }
}

void run_cp_async(Report& report) {
  Random random(7);
  std::vector<uint8_t> bytes(17 * kUnit);
  for (uint8_t& byte : bytes) byte = static_cast<uint8_t>(random.bits());
  std::vector<uint32_t> wanted;
  for (const bool by_flag : {false, true})
    for (int t = 0; t <= kUnit; ++t)
      for (int i = 0; i < kUnit; ++i)
        wanted.push_back(i < (by_flag ? (t % 2 == 0 ? 16 : 0) : t) ? bytes[t * kUnit + i] : 0);
  const Buffer<uint8_t> there(bytes), out(wanted.size());
  launch(copy_some, 1, 32, 0, {}, there.data(), out.data());
  const std::vector<uint8_t> got = out.read();
  report.exact("cp.async of 0 to 16 bytes", std::vector<uint32_t>(got.begin(), got.end()), wanted);

  std::vector<uint32_t> words(kTiles * 128), sums(words.size());
  for (uint32_t& word : words) word = random.bits();
  for (int k = 0; k < 128; ++k) {
    uint32_t sum = 0;
    for (int tile = 0; tile < kTiles; ++tile)
      sums[tile * 128 + k] = sum = sum * 3 + words[tile * 128 + 127 - k];
  }
  const Buffer<uint32_t> words_there(words), staged(words.size());
  launch(copy_staged, 1, 32, 0, {}, words_there.data(), staged.data());
  report.exact("cp.async in three groups", staged.read(), sums);
}

// ---- Packs ---------------------------------------------------------------------------------------------
template <int N>
__global__ void copy_packs(const uint16_t* from, uint16_t* to, int64_t n) {
  const int64_t i = (int64_t{blockIdx.x} * blockDim.x + threadIdx.x) * N;
  if (i >= n) return;
  store_pack(to + i, load_pack<N>(from + i));
  store_pack_once(to + n + i, load_pack_once<N>(from + i));
}
template <int N>
void run_packs(Report& report) {
  constexpr int64_t kElements = 4096;
  Random random(N);
  std::vector<uint16_t> x(kElements);
  for (uint16_t& value : x) value = static_cast<uint16_t>(random.bits());
  std::vector<uint32_t> wanted(x.begin(), x.end());
  wanted.insert(wanted.end(), x.begin(), x.end());
  const Buffer<uint16_t> there(x), out(wanted.size());
  launch(copy_packs<N>, kElements / N / 64, 64, 0, {}, there.data(), out.data(), kElements);
  const std::vector<uint16_t> got = out.read();
  report.exact(text("packs of %d bytes", 2 * N), std::vector<uint32_t>(got.begin(), got.end()),
               wanted);
}

}  // namespace

void run_memory(Report& report) {
  run_ldmatrix(report);
  run_cp_async(report);
  run_packs<1>(report);
  run_packs<2>(report);
  run_packs<4>(report);
  run_packs<8>(report);
}

}  // namespace minibert::conformance
