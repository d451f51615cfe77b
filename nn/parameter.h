// parameter.h: how modules say which parameters they have, and get them.
// A model is a tree of plain structs. Each module lists its parameters once, in
// `parameters(ParameterWalk&)`; the model walks the tree twice: the first walk declares names and
// shapes in a ParameterTable, the second binds each Variable to its slice of the Arena. Names are
// the path through the tree and equal Hugging Face's, so that files need no rename table. Easy to
// break: both walks must visit the same modules. Test: ctest -R nn_modules.
#pragma once

#include <functional>
#include <initializer_list>
#include <string>
#include <vector>

#include "autograd/variable.h"
#include "core/arena.h"

namespace minibert {

/// How a parameter starts: nn/init.h.
enum class Initializer { truncated_normal, zeros, ones };

/// Whether a model's leaves have gradients in the arena.
enum class ModelUse { training, inference };

/// One walk over a model's modules.
class ParameterWalk {
 public:
  /// First walk: declares into `table`, and says in `initializers` how each slice starts.
  ParameterWalk(ParameterTable& table, std::vector<Initializer>& initializers)
      : table_(&table), initializers_(&initializers) {}
  /// Second walk: binds to `arena` (and to its gradients, if it has any) and lists the leaves.
  ParameterWalk(const Arena& arena, std::vector<Variable>& leaves)
      : arena_(&arena), leaves_(&leaves) {}

  /// A parameter of the module being walked. `storage_rows`: rows kept here, if more than the
  /// shape's (the padded vocabulary).
  void parameter(const char* name, Variable& variable, Shape shape, Initializer initializer,
                 int64_t storage_rows = 0);
  /// One leaf over several parameters of one shape that lie side by side: query, key, value. The
  /// leaf's first axis is theirs, one after the other.
  void fused(std::initializer_list<const char*> names, Variable& variable, Shape each,
             Initializer initializer);
  /// Parameters listed inside are read as f32 masters, whatever the compute type.
  void masters(const std::function<void()>& list);
  /// A module inside this one.
  template <typename Module>
  void child(const std::string& name, Module& module) {
    const size_t length = prefix_.size();
    prefix_ += name + ".";
    module.parameters(*this);
    prefix_.resize(length);
  }

 private:
  void declare(const std::string& name, Shape shape, Shape storage, Initializer initializer,
               bool adjacent);
  void bind(const std::string& first_name, const std::string& leaf_name, Variable& variable,
            Shape storage);

  ParameterTable* table_ = nullptr;
  std::vector<Initializer>* initializers_ = nullptr;
  const Arena* arena_ = nullptr;
  std::vector<Variable>* leaves_ = nullptr;
  std::string prefix_;
  bool master_ = false;
};

}  // namespace minibert
