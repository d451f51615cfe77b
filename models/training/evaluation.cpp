// evaluation.cpp: sums over a pass, in double.
#include "models/training/evaluation.h"

#include <cmath>
#include <numeric>
#include <vector>

#include "autograd/loss_meter.h"
#include "models/text/loader.h"

namespace minibert {
namespace {

/// -ln of each token's share of the training text, add-one: [V].
std::vector<double> unigram_losses(const ShardSet& data) {
  const std::vector<uint64_t> counts = data.unigram_counts();
  const uint64_t sum = std::accumulate(counts.begin(), counts.end(), uint64_t{0});
  const double total = static_cast<double>(sum + counts.size());
  std::vector<double> losses;
  for (const uint64_t count : counts)
    losses.push_back(-std::log(static_cast<double>(count + 1) / total));
  return losses;
}

double ratio(double sum, int64_t rows) {
  return rows > 0 ? sum / static_cast<double>(rows) : 0;
}

}  // namespace

std::optional<EvaluationResult> evaluate(const BertForPreTraining& model,
                                         std::shared_ptr<const ShardSet> data,
                                         const EvaluationOptions& options,
                                         const std::function<bool()>& stop) {
  const NoGrad guard;
  const std::vector<double> unigram = unigram_losses(*data);
  EvaluationReader reader(data, options.micro_batch_size, options.nsp, options.token_capacity);
  const LossMeter mlm_meter(1, model.device()), nsp_meter(1, model.device());
  StepContext context{.training = false, .mlm = mlm_meter.site()};
  if (options.nsp) context.nsp = nsp_meter.site();
  double unigram_sum = 0;
  for (int64_t batch_number = 0; options.max_batches == 0 || batch_number < options.max_batches;
       ++batch_number) {
    if (stop()) return std::nullopt;
    const std::optional<PackedBatch> batch = reader.next();
    if (!batch) break;
    model.forward(upload(*batch, model.device()), context);
    for (const int32_t label : batch->mlm_label.span<int32_t>())
      if (label >= 0) unigram_sum += unigram[static_cast<size_t>(label)];
  }
  const LossCounts mlm = mlm_meter.counts(), nsp = nsp_meter.counts();
  EvaluationResult result;
  result.masked_tokens = mlm.rows;
  result.mlm_loss = ratio(mlm.loss_sum, mlm.rows);
  result.mlm_accuracy = ratio(static_cast<double>(mlm.correct), mlm.rows);
  result.unigram_cross_entropy = ratio(unigram_sum, mlm.rows);
  if (!options.nsp) return result;
  result.nsp_loss = ratio(nsp.loss_sum, nsp.rows);
  result.nsp_accuracy = ratio(static_cast<double>(nsp.correct), nsp.rows);
  return result;
}

}  // namespace minibert
