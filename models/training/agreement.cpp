// agreement.cpp: small sums and broadcasts, from and to the host's memory.
#include "models/training/agreement.h"

#include <algorithm>
#include <array>
#include <vector>

#include "core/device_stream.h"
#include "core/kernels/copy.h"

namespace minibert {
namespace {

/// `tensor` becomes rank 0's.
void share(ProcessGroup& ranks, const Tensor& tensor) {
  if (tensor.device() == Device::cpu) return ranks.broadcast(Elements(tensor), 0).wait();
  const Tensor host = tensor.host_copy();
  ranks.broadcast(Elements(host), 0).wait();
  copy_to_device(host.raw(), tensor);
  hold_until_passed(host);
}

}  // namespace

Agreement agree(ProcessGroup& ranks, const Agreement& mine) {
  if (ranks.world() == 1) return mine;
  // Counts are whole numbers below 2^53, so their sums are exact.
  std::array<double, 8> v = {mine.mlm.loss_sum,
                             static_cast<double>(mine.mlm.rows),
                             static_cast<double>(mine.mlm.correct),
                             mine.nsp.loss_sum,
                             static_cast<double>(mine.nsp.rows),
                             static_cast<double>(mine.nsp.correct),
                             mine.stop ? 1.0 : 0.0,
                             mine.save ? 1.0 : 0.0};
  ranks.all_reduce(Elements(std::span(v))).wait();
  const auto counts = [&](size_t at) {
    return LossCounts{v[at], static_cast<int64_t>(v[at + 1]), static_cast<int64_t>(v[at + 2])};
  };
  return {counts(0), counts(3), v[6] > 0, v[7] > 0};
}

bool any_rank(ProcessGroup& ranks, bool mine) {
  if (ranks.world() == 1) return mine;
  double sum = mine ? 1.0 : 0.0;
  ranks.all_reduce(Elements(std::span(&sum, 1))).wait();
  return sum > 0;
}

void share_text(ProcessGroup& ranks, std::string& text) {
  auto size = static_cast<int64_t>(text.size());
  ranks.broadcast(Elements(std::span(&size, 1)), 0).wait();
  std::vector<int64_t> words((static_cast<size_t>(size) + 7) / 8);
  if (ranks.rank() == 0) std::ranges::copy(text, reinterpret_cast<char*>(words.data()));
  ranks.broadcast(Elements(std::span(words)), 0).wait();
  text.assign(reinterpret_cast<const char*>(words.data()), static_cast<size_t>(size));
}

void share_start(ProcessGroup& ranks, TrainerState& state, BertForPreTraining& model,
                 Optimizer& optimizer) {
  if (ranks.world() == 1) return;
  std::string text = to_json(state);
  share_text(ranks, text);
  state = parse_trainer_state(text, "rank 0");
  if (state.data_steps == 0) return;  // each rank has drawn the same weights
  share(ranks, model.arena().masters());
  for (const Tensor& moments : optimizer.moment_buffers()) share(ranks, moments);
  model.arena().refresh();
}

}  // namespace minibert
