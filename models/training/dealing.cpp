// dealing.cpp: largest first, or in order.
#include "models/training/dealing.h"

#include <algorithm>
#include <numeric>

#include "models/training/gradient_tree.h"

namespace minibert {

Deal deal_by_tokens(const StepPlan& plan, int world) {
  std::vector<int64_t> by_size(plan.cuts.size());
  std::iota(by_size.begin(), by_size.end(), int64_t{0});
  std::ranges::stable_sort(by_size, std::greater{}, [&](int64_t number) {
    return plan.cuts[static_cast<size_t>(number)].tokens;
  });
  Deal deal(static_cast<size_t>(world));
  std::vector<int64_t> tokens(deal.size());
  for (const int64_t number : by_size) {
    const auto least = static_cast<size_t>(std::ranges::min_element(tokens) - tokens.begin());
    deal[least].push_back(number);
    tokens[least] += plan.cuts[static_cast<size_t>(number)].tokens;
  }
  for (auto& numbers : deal) std::ranges::sort(numbers);
  return deal;
}

Deal deal_in_order(const StepPlan& plan, int world) {
  Deal deal(static_cast<size_t>(world));
  for (int rank = 0; rank < world; ++rank) {
    const TreeLeaves leaves = tree_leaves(static_cast<int64_t>(plan.cuts.size()), rank, world);
    auto& numbers = deal[static_cast<size_t>(rank)];
    numbers.resize(static_cast<size_t>(leaves.count()));
    std::iota(numbers.begin(), numbers.end(), leaves.first);
  }
  return deal;
}

double token_spread(const StepPlan& plan, const Deal& deal) {
  int64_t most = 0;
  for (const auto& numbers : deal) {
    int64_t tokens = 0;
    for (const int64_t number : numbers) tokens += plan.cuts[static_cast<size_t>(number)].tokens;
    most = std::max(most, tokens);
  }
  return static_cast<double>(most) * static_cast<double>(deal.size()) /
         static_cast<double>(std::max<int64_t>(1, plan.tokens));
}

}  // namespace minibert
