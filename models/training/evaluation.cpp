// evaluation.cpp: sums over a pass, in double.
#include "models/training/evaluation.h"

#include <cmath>
#include <numeric>
#include <vector>

#include "autograd/loss_meter.h"
#include "models/text/loader.h"
#include "models/training/agreement.h"

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

double ratio(double sum, double rows) {
  return rows > 0 ? sum / rows : 0;
}

/// What a pass adds up, as numbers that ranks can sum: counts are below 2^53, so they stay exact.
struct Sums {
  double mlm_loss = 0, masked_tokens = 0, mlm_correct = 0;
  double nsp_loss = 0, pairs = 0, nsp_correct = 0;
  double unigram = 0;

  void add(const Sums& other) {
    mlm_loss += other.mlm_loss, masked_tokens += other.masked_tokens;
    mlm_correct += other.mlm_correct, nsp_loss += other.nsp_loss;
    pairs += other.pairs, nsp_correct += other.nsp_correct, unigram += other.unigram;
  }
};

/// Of one micro-batch.
Sums sums_of(const LossCounts& mlm, const LossCounts& nsp, double unigram) {
  return {mlm.loss_sum, static_cast<double>(mlm.rows), static_cast<double>(mlm.correct),
          nsp.loss_sum, static_cast<double>(nsp.rows), static_cast<double>(nsp.correct),
          unigram};
}

double unigram_sum(const PackedBatch& batch, const std::vector<double>& losses) {
  double sum = 0;
  for (const int32_t label : batch.mlm_label.span<int32_t>())
    if (label >= 0) sum += losses[static_cast<size_t>(label)];
  return sum;
}

EvaluationResult result_of(const Sums& sums, bool nsp) {
  EvaluationResult result;
  result.masked_tokens = static_cast<int64_t>(sums.masked_tokens);
  result.mlm_loss = ratio(sums.mlm_loss, sums.masked_tokens);
  result.mlm_accuracy = ratio(sums.mlm_correct, sums.masked_tokens);
  result.unigram_cross_entropy = ratio(sums.unigram, sums.masked_tokens);
  if (!nsp) return result;
  result.nsp_loss = ratio(sums.nsp_loss, sums.pairs);
  result.nsp_accuracy = ratio(sums.nsp_correct, sums.pairs);
  return result;
}

}  // namespace

std::optional<EvaluationResult> evaluate(const BertForPreTraining& model,
                                         std::shared_ptr<const ShardSet> data,
                                         const EvaluationOptions& options,
                                         const std::function<bool()>& stop, ProcessGroup* ranks) {
  const NoGrad guard;
  const std::vector<double> unigram = unigram_losses(*data);
  EvaluationReader reader(data, options.micro_batch_size, options.nsp, options.token_capacity);
  const LossMeter mlm_meter(1, model.device()), nsp_meter(1, model.device());
  StepContext context{.training = false, .mlm = mlm_meter.site()};
  if (options.nsp) context.nsp = nsp_meter.site();
  const int world = ranks ? ranks->world() : 1, rank = ranks ? ranks->rank() : 0;
  std::vector<Sums> by_batch;  // of this rank's micro-batches; zeros for the others'
  while (options.max_batches == 0 || std::ssize(by_batch) < options.max_batches) {
    const auto turn = std::ssize(by_batch) % world;  // all ranks count the same micro-batches
    if (turn == 0 && (world > 1 ? any_rank(*ranks, stop()) : stop())) return std::nullopt;
    const std::optional<PackedBatch> batch = reader.next();
    if (!batch) break;
    Sums& sums = by_batch.emplace_back();
    if (turn != rank) continue;
    mlm_meter.reset(), nsp_meter.reset();
    model.forward(upload(*batch, model.device()), context);
    sums = sums_of(mlm_meter.counts(), nsp_meter.counts(), unigram_sum(*batch, unigram));
  }
  if (world > 1) {
    static_assert(sizeof(Sums) == 7 * sizeof(double));
    const auto numbers = 7 * std::ssize(by_batch);
    ranks->all_reduce(Elements(by_batch.data(), numbers, ElementType::f64)).wait();
  }
  Sums all;  // in the order of the set, whoever computed what
  for (const Sums& sums : by_batch) all.add(sums);
  return result_of(all, options.nsp);
}

}  // namespace minibert
