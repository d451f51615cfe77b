// verbs.h: one function per verb file, called by main.cpp to add its subcommand.
// A verb parses its flags, calls the libraries and prints; it throws Error and never exits.
#pragma once

#include <string>
#include <vector>

#include <CLI/CLI.hpp>

namespace minibert {

/// The long flags of a verb, "--model", to find the nearest to a misspelt one.
inline std::vector<std::string> flags_of(const CLI::App& verb) {
  std::vector<std::string> flags;
  for (const CLI::Option* option : verb.get_options())
    for (const std::string& name : option->get_lnames()) flags.push_back("--" + name);
  return flags;
}

void add_tokenizer_verb(CLI::App& app);  // tokenizer train | encode
void add_data_verb(CLI::App& app);       // data build | inspect
void add_plan_verb(CLI::App& app);
void add_train_verb(CLI::App& app);
void add_verify_resume_verb(CLI::App& app);
void add_report_verb(CLI::App& app);
void add_compare_verb(CLI::App& app);
void add_finetune_verb(CLI::App& app);  // finetune squad | classify
void add_eval_verb(CLI::App& app);      // eval mlm | squad | classify
void add_eval_squad(CLI::App& eval);
void add_eval_classify(CLI::App& eval);
void add_fill_mask_verb(CLI::App& app);
void add_embed_verb(CLI::App& app);
void add_env_verb(CLI::App& app);
void add_doctor_verb(CLI::App& app);
void add_gradcheck_verb(CLI::App& app);
void add_bench_verb(CLI::App& app);  // bench OP... | gemm | step | all-reduce

}  // namespace minibert
