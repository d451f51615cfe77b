// labelled_fuzz.cpp: texts with labels, as CSV, TSV and JSON lines: the first byte says which.
// Reader: models/text/labelled_text.h.
#include "models/text/labelled_text.h"
#include "tests/fuzz/fuzz.h"

namespace minibert::fuzz {

void fuzz(std::string_view input) {
  if (input.empty()) return;
  constexpr const char* kNames[] = {"texts.csv", "texts.tsv", "texts.jsonl"};
  const auto path = write(kNames[static_cast<uint8_t>(input[0]) % 3], input.substr(1));
  succeeds([&] {
    const std::vector<LabelledText> texts = read_labelled_texts(path, {});
    const std::vector<std::string> labels = labels_of(texts);
    claim(!labels.empty() && labels.size() <= texts.size(), "each label is of a text");
    for (const int32_t number : label_numbers(texts, labels, "a", "b"))
      claim(number >= 0 && number < std::ssize(labels), "a file's own labels are known");
  });
}

std::vector<std::string> seeds() {
  return {std::string(1, '\0') + "text,label\na b,1\n\"a \"\"b\"\"\nc, d\",2\n\n",
          std::string(1, '\1') + "label\ttext\tmore\nx\ta b\t\ny\t\"c\td\"\tz\n",
          std::string(1, '\2') + "{\"text\":\"a\",\"label\":10}\n{\"text\":\"b\",\"label\":true}\n",
          "\2" + deep_json("text")};
}

}  // namespace minibert::fuzz
