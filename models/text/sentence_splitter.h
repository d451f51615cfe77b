// sentence_splitter.h: splits a paragraph of prose into sentences, by rules and without a trained
// model. Called by text_reader.cpp for --format paragraphs. NSP only joins and separates sentences,
// so a wrong border costs little, but borders must be stable: the same text gives the same examples
// on every machine and in every locale. Easy to break: "Mr. Darcy", "J. R. R. Tolkien",
// `"What!" cried she`, "consciousness.--Miss". Test: ctest -R sentence.
#pragma once

#include <string_view>
#include <vector>

namespace minibert {

/// The sentences of `paragraph` (valid UTF-8, one paragraph, line ends already joined), trimmed,
/// none empty; together they are the whole text except blanks. A sentence ends
///   - after . ! ? or an ellipsis, with the closing quotes and brackets that follow, if a blank or
///     a dash (-- or U+2014) comes next and then, after opening quotes and brackets, an upper-case
///     letter, a digit or a letter without case,
///   - after the ideographic full stops of Chinese and Japanese, always,
///   - at the end of the paragraph;
/// but not after a title or other abbreviation (Mr. Dr. St. e.g. ..., and No. Vol. p. before a
/// number), nor after a single capital (an initial), except `I`, which ends sentences more often
/// than it abbreviates a name. Marks without a letter or digit join the sentence before them, or
/// the first one; a paragraph of nothing else (`* * *`) has no sentences.
std::vector<std::string_view> split_sentences(std::string_view paragraph);

/// Sentences that readers take from one paragraph. Each costs `data build` some hundred bytes until
/// its document is tokenised, so that 64 MiB of `Go. Go. Go.` would take 6 GB.
inline constexpr size_t kMostSentences = size_t{1} << 20;

}  // namespace minibert
