// init.cpp: drawing initial values.
#include "nn/init.h"

#include <algorithm>
#include <cmath>

#include "core/parallel.h"
#include "core/random.h"

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

void initialize_parameters(const Arena& arena, const std::vector<Initializer>& initializers,
                           float standard_deviation, uint64_t seed) {
  const ParameterTable& table = arena.table();
  MB_CHECK(static_cast<int>(initializers.size()) == table.count(),
           "initialize_parameters: {} initializers are given, expected {}, one a parameter",
           initializers.size(), table.count());
  parallel_blocks(table.count(), [&](int64_t number) {
    const ParameterSlice& slice = table[static_cast<int>(number)];
    const std::span<float> values = arena.weight(static_cast<int>(number)).span<float>();
    const auto used = static_cast<size_t>(slice.used());
    fill(values.first(used), initializers[static_cast<size_t>(number)], standard_deviation,
         RandomStream(seed, StreamPurpose::initialization, static_cast<uint64_t>(number)));
    std::fill(values.begin() + static_cast<ptrdiff_t>(used), values.end(), 0.0f);
  });
}

}  // namespace minibert
