// The sum of each row of a matrix [4, 100]: one warp a row, lanes 32 columns apart.
#include <cstdio>
#include <vector>

#include "core/cuda_kernel.h"

using namespace minibert;

__global__ void row_sums(const float* x, float* sums, int columns) {
  const int row = warp_id();  // the block has as many warps as x has rows
  float sum = 0;
  for (int i = lane_id(); i < columns; i += kWarpSize) {
    sum += x[row * columns + i];
  }
  for (int distance = 16; distance > 0; distance /= 2) {
    sum += __shfl_xor_sync(kFullMask, sum, distance);
  }
  if (lane_id() == 0) {
    sums[row] = sum;
  }
}

int main() {
  const int rows = 4, columns = 100;
  std::vector<float> x(rows * columns), sums(rows);
  for (size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(i % 7);
  float *x_device, *sums_device;
  MB_CUDA(cudaMalloc(&x_device, x.size() * sizeof(float)));
  MB_CUDA(cudaMalloc(&sums_device, sums.size() * sizeof(float)));
  MB_CUDA(cudaMemcpy(x_device, x.data(), x.size() * sizeof(float), cudaMemcpyHostToDevice));
  launch(row_sums, 1, rows * kWarpSize, 0, {}, x_device, sums_device, columns);
  MB_CUDA(
      cudaMemcpy(sums.data(), sums_device, sums.size() * sizeof(float), cudaMemcpyDeviceToHost));
  for (int row = 0; row < rows; ++row) {
    float wanted = 0;
    for (int i = 0; i < columns; ++i) wanted += x[row * columns + i];
    std::printf("row %d: %g, expected %g\n", row, sums[row], wanted);
  }
  cudaFree(x_device);
  cudaFree(sums_device);
}
