// other_families.h: models of Transformers that look like BERT and compute something else. Called
// by config.cpp (their classes, in configurations of 2019 without model_type) and weight_files.cpp
// (their tensors).
// Easy to break: the class is compared as a beginning (RobertaForMaskedLM), the prefix as a whole
// part of a name.
// Test: ctest -R 'models_bert_config|peer_folders'. Source: base_model_prefix of Transformers' classes.
#pragma once

namespace minibert {

struct ModelFamily {
  const char* class_name;  // beginning of the names of its classes
  const char* prefix;      // of its tensors, before the dot
};

inline constexpr ModelFamily kOtherFamilies[] = {
    {"Roberta", "roberta"},
    {"XLMRoberta", "roberta"},
    {"Camembert", "roberta"},
    {"Electra", "electra"},
    {"Albert", "albert"},
    {"DistilBert", "distilbert"},
    {"Deberta", "deberta"},
    {"MPNet", "mpnet"},
    {"Longformer", "longformer"},
    {"MobileBert", "mobilebert"},
    {"LayoutLM", "layoutlm"},
    {"Esm", "esm"},
    {"ConvBert", "convbert"},
    {"RoFormer", "roformer"},
    {"RemBert", "rembert"},
    {"Ernie", "ernie"},
    {"IBert", "ibert"},
    {"Splinter", "splinter"},
    {"Luke", "luke"},
    {"Nezha", "nezha"},
};

}  // namespace minibert
