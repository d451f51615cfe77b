// init.cpp: drawing initial values.
#include "nn/init.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "core/parallel.h"
#include "core/random.h"
#include "core/stream.h"

namespace minibert {
namespace {

/// Normal within two standard deviations, by drawing again.
double truncated_normal(RandomStream& stream) {
  for (;;) {
    const double x = stream.normal();
    if (std::abs(x) <= 2.0) return x;
  }
}

void fill(std::span<float> values, Initializer initializer, float standard_deviation,
          RandomStream stream) {
  switch (initializer) {
    case Initializer::zeros:
      std::fill(values.begin(), values.end(), 0.0f);
      break;
    case Initializer::ones:
      std::fill(values.begin(), values.end(), 1.0f);
      break;
    case Initializer::truncated_normal:
      for (float& x : values) x = static_cast<float>(standard_deviation * truncated_normal(stream));
      break;
  }
}

}  // namespace

void initialize_parameters(Arena& arena, const std::vector<Initializer>& initializers,
                           float standard_deviation, uint64_t seed) {
  const ParameterTable& table = arena.table();
  MB_CHECK(static_cast<int>(initializers.size()) == table.count(),
           "initialize_parameters: {} initializers are given, expected {}, one a parameter",
           initializers.size(), table.count());
  const Stream stream = current_stream();
  parallel_blocks(table.count(), [&](int64_t number) {
    const StreamScope scope(stream);  // a worker's own would not be waited for
    const ParameterSlice& slice = table[static_cast<int>(number)];
    std::vector<float> values(static_cast<size_t>(slice.used()));
    fill(values, initializers[static_cast<size_t>(number)], standard_deviation,
         RandomStream(seed, StreamPurpose::initialization, static_cast<uint64_t>(number)));
    arena.write(static_cast<int>(number), values);
  });
  arena.refresh();
}

std::vector<float> sinusoidal(const Shape& table, float standard_deviation) {
  MB_CHECK(table.rank() == 2, "sinusoidal: table is {}, expected [P, H]", table.str());
  const int64_t P = table[0], H = table[1];
  const double base = std::max(2.0, static_cast<double>(P) / 4);
  std::vector<float> values;
  values.reserve(static_cast<size_t>(P * H));
  for (int64_t p = 0; p < P; ++p) {
    for (int64_t h = 0; h < H; ++h) {
      const double exponent = static_cast<double>(h / 2 * 2) / static_cast<double>(H);
      const double angle = static_cast<double>(p) / std::pow(base, exponent);
      const double wave = h % 2 == 0 ? std::sin(angle) : std::cos(angle);
      values.push_back(static_cast<float>(std::numbers::sqrt2 * standard_deviation * wave));
    }
  }
  return values;
}

}  // namespace minibert
