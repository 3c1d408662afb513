// The tensors of one part of a model within a file, and how they come into the part's store.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "io/tensor_file.h"
#include "nn/param_store.h"
#include "weights/load_options.h"
#include "weights/name_rules.h"

namespace emulsion::weights {

/// Tensors of `file` by their names without the part's prefix.
class PartTensors {
 public:
  /// All that begin with `prefix`.
  PartTensors(const io::TensorFile& file, const std::string& prefix);

  /// nullptr if there is none.
  const io::TensorFile::Entry* find(const std::string& name) const;
  bool contains(const std::string& name) const { return entries_.contains(name); }
  /// The shape, or nothing if there is no such tensor.
  std::optional<std::vector<int64_t>> shape(const std::string& name) const;
  /// "model.diffusion_model.input_blocks.0.0.weight [320, 4, 3, 3]", for reports.
  std::string describe(const std::string& name) const;

  const io::TensorFile& file() const { return *file_; }
  const std::map<std::string, const io::TensorFile::Entry*>& entries() const { return entries_; }
  /// Reads `name` from another tensor of the same file.
  void redirect(const std::string& name, const io::TensorFile::Entry& entry) { entries_[name] = &entry; }

 private:
  const io::TensorFile* file_;
  std::map<std::string, const io::TensorFile::Entry*> entries_;
};

/// Fills every tensor of `store`. Those that lie in the file as they are needed are views of its map; others are made once,
/// by all threads, in the order of the file, whose pages are given back behind them.
///
/// dtype: see LoadOptions. What matches no rule and no pattern of `ignorable` is unexpected; what does match a pattern is
/// noted in `report` if there is one.
/// Throws: Error{format} naming the missing and the unexpected tensors, or a tensor that holds no floating-point numbers;
/// Error{shape} naming tensor and shapes.
void fill(nn::ParamStore& store, const PartTensors& tensors, const NameRules& rules, at::ScalarType dtype,
          const std::vector<std::string>& ignorable, LoadReport* report);

/// "a, b, c and 12 more".
std::string list_some(const std::vector<std::string>& names, size_t shown = 5);

}  // namespace emulsion::weights
