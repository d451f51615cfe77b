// text_stage.cpp: see text_stage.h.
#include "models/text/text_stage.h"

#include <algorithm>
#include <memory>

#include "core/parallel.h"

namespace minibert {
namespace {

constexpr int64_t kBatchBytes = 4 << 20;  // text tokenised at once
constexpr int64_t kSentenceGrain = 64;    // sentences per block

}  // namespace

TextStage::TextStage(const WordPieceTokenizer& tokenizer, const TokenTable& table,
                     const DataSettings& settings, const std::filesystem::path& folder,
                     int64_t memory, bool to_store)
    : tokenizer_(tokenizer), table_(table), settings_(settings), observer_(tokenizer) {
  const bool holds_out = settings.hold_out_every > 0;
  const auto documents = [&](const char* name, int64_t bytes) {
    return DocumentSet(folder, name, bytes, table.vocab_size, to_store);
  };
  parts_[0].documents = documents("training", holds_out ? memory / 4 * 3 : memory);
  if (holds_out) parts_[1].documents = documents("held-out", memory / 4);
  for (TextPart& part : parts_) part.unigrams.resize(static_cast<size_t>(table.vocab_size));
}

void TextStage::add(Document&& document) {
  for (const std::string& sentence : document)
    pending_bytes_ += static_cast<int64_t>(sentence.size());
  pending_.push_back(std::move(document));
  if (pending_bytes_ >= kBatchBytes) flush();
}

void TextStage::finish() {
  flush();
  worker_.wait();
  for (TextPart& part : parts_) part.documents.seal();
  for (int part = 0; part < 2; ++part) {
    const CorpusFacts cut = parts_[part].facts;
    parts_[part].facts = observer_.facts(part);
    parts_[part].facts.cut_sentences = cut.cut_sentences;
    parts_[part].facts.cut_tokens = cut.cut_tokens;
  }
}

void TextStage::flush() {
  auto batch = std::make_shared<std::vector<Document>>(std::move(pending_));
  worker_.give([this, batch] { tokenise(*batch); });
  pending_.clear();
  pending_bytes_ = 0;
}

void TextStage::tokenise(const std::vector<Document>& documents) {
  std::vector<const std::string*> texts;
  for (const Document& document : documents) {
    for (const std::string& sentence : document) texts.push_back(&sentence);
  }
  std::vector<Sentence> sentences(texts.size());
  parallel_for(static_cast<int64_t>(texts.size()), kSentenceGrain, [&](int64_t begin, int64_t end) {
    for (auto i = static_cast<size_t>(begin); i < static_cast<size_t>(end); ++i) {
      sentences[i].ids = tokenizer_.encode(*texts[i]);
      sentences[i].look = observer_.look(*texts[i], sentences[i].ids);
    }
  });
  size_t first = 0;
  for (const Document& document : documents) {
    deal(document, std::span(sentences).subspan(first, document.size()));
    first += document.size();
  }
}

void TextStage::deal(const Document& document, std::span<Sentence> sentences) {
  std::vector<SentenceLook> looks;
  std::vector<int64_t> tokens;
  int64_t total = 0;
  for (Sentence& sentence : sentences) {
    looks.push_back(std::move(sentence.look));
    tokens.push_back(static_cast<int64_t>(sentence.ids.size()));
    total += tokens.back();
  }
  if (total > 0) ++dealt_;
  const int number = total > 0 && is_held_out(dealt_, settings_.hold_out_every) ? 1 : 0;
  observer_.add(document, looks, tokens, number);
  if (total == 0) return;
  TextPart& part = parts_[number];
  part.documents.begin_document();
  ++part.counts.documents;
  part.counts.tokens += total;
  for (const Sentence& sentence : sentences) {
    if (sentence.ids.empty()) continue;
    add_in_pieces(sentence.ids, part);
    ++part.counts.sentences;
    for (const int32_t id : sentence.ids) ++part.unigrams[static_cast<size_t>(id)];
    part.counts.unknown_tokens += std::count(sentence.ids.begin(), sentence.ids.end(), table_.unk);
  }
}

void TextStage::add_in_pieces(std::span<const int32_t> sentence, TextPart& part) {
  pieces_.clear();
  cut_sentence(sentence, table_, settings_.examples, pieces_);
  for (const auto piece : pieces_) part.documents.add_sentence(piece);
  if (pieces_.size() == 1) return;
  ++part.facts.cut_sentences;
  part.facts.cut_tokens += static_cast<int64_t>(sentence.size());
}

}  // namespace minibert
