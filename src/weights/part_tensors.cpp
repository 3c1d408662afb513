#include "weights/part_tensors.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <atomic>
#include <set>

#include "core/error.h"
#include "nn/pattern.h"
#include "weights/arrange.h"

namespace emulsion::weights {
namespace {

std::string shape_text(at::IntArrayRef shape) { return fmt::format("[{}]", fmt::join(shape, ", ")); }

bool matches(const std::vector<std::string>& patterns, const std::string& name) {
  return std::any_of(patterns.begin(), patterns.end(),
                     [&](const std::string& pattern) { return nn::glob_match(pattern, name); });
}

/// Looks at dtype and shape alone: nothing is read before all are known to fit.
void check(const PartTensors& tensors, const NameRule& rule, const io::TensorFile::Entry& entry) {
  const std::string where = tensors.file().path().string();
  EMULSION_CHECK(at::isFloatingType(entry.dtype), format,
                 "[{}] '{}': expected floating-point numbers, got {}; the file is no model in a form that is read",
                 where, entry.name, c10::toString(entry.dtype));
  const Tensor form = to_canonical(rule, at::empty(entry.shape, at::TensorOptions(at::kMeta).dtype(entry.dtype)));
  EMULSION_CHECK(form.sizes() == at::IntArrayRef(rule.shape), shape,
                 "[{}] '{}': expected shape {}{}, got {}; the file is of another architecture", where, entry.name,
                 shape_text(rule.foreign_shape()), rule.canonical == entry.name ? "" : " for '" + rule.canonical + "'",
                 shape_text(entry.shape));
}

/// A tensor of the store, the rule for it and where the file has it.
struct Source {
  nn::Param* param;
  const NameRule* rule;
  const io::TensorFile::Entry* entry;
};

void read(const io::TensorFile& file, const Source& source, at::ScalarType dtype) {
  file.prefetch(*source.entry);
  const Tensor value = to_canonical(*source.rule, file.tensor(source.entry->name));
  source.param->value = arranged(value, dtype);
  if (!source.param->value.is_alias_of(value)) file.release(*source.entry);
}

/// Each thread takes the next tensor, in the order in which they lie in the file.
void read_all(const io::TensorFile& file, std::vector<Source> sources, at::ScalarType dtype) {
  std::stable_sort(sources.begin(), sources.end(), [](const Source& a, const Source& b) {
    return std::pair(a.entry->shard, a.entry->begin) < std::pair(b.entry->shard, b.entry->begin);
  });
  std::atomic<size_t> next = 0;
  at::parallel_for(0, at::get_num_threads(), 1, [&](int64_t, int64_t) {
    const at::NoGradGuard no_grad;
    for (size_t i = next++; i < sources.size(); i = next++) read(file, sources[i], dtype);
  });
}

std::vector<std::string> unexpected_names(const PartTensors& tensors, const std::set<std::string>& used,
                                          const std::vector<std::string>& ignorable, LoadReport* report) {
  std::vector<std::string> unexpected;
  for (const auto& [name, entry] : tensors.entries()) {
    if (used.contains(name)) continue;
    if (!matches(ignorable, name)) {
      unexpected.push_back(entry->name);
    } else if (report) {
      report->ignored.push_back(entry->name);
    }
  }
  return unexpected;
}

}  // namespace

std::string list_some(const std::vector<std::string>& names, size_t shown) {
  shown = std::min(names.size(), shown);
  const std::string text = fmt::format("{}", fmt::join(names.begin(), names.begin() + static_cast<ptrdiff_t>(shown), ", "));
  return names.size() > shown ? text + fmt::format(" and {} more", names.size() - shown) : text;
}

PartTensors::PartTensors(const io::TensorFile& file, const std::string& prefix) : file_(&file) {
  for (const auto& entry : file.entries()) {
    if (entry.name.starts_with(prefix)) entries_[entry.name.substr(prefix.size())] = &entry;
  }
}

const io::TensorFile::Entry* PartTensors::find(const std::string& name) const {
  const auto found = entries_.find(name);
  return found == entries_.end() ? nullptr : found->second;
}

std::optional<std::vector<int64_t>> PartTensors::shape(const std::string& name) const {
  const auto* entry = find(name);
  return entry ? std::optional(entry->shape) : std::nullopt;
}

std::string PartTensors::describe(const std::string& name) const {
  const auto* entry = find(name);
  return entry ? entry->name + " " + shape_text(entry->shape) : "no '" + name + "'";
}

void fill(nn::ParamStore& store, const PartTensors& tensors, const NameRules& rules, at::ScalarType dtype,
          const std::vector<std::string>& ignorable, LoadReport* report) {
  std::vector<std::string> missing;
  std::set<std::string> used;
  for (const NameRule& rule : rules) {
    if (tensors.contains(rule.foreign)) {
      used.insert(rule.foreign);
    } else {
      missing.push_back(rule.foreign);
    }
  }
  const auto unexpected = unexpected_names(tensors, used, ignorable, report);
  EMULSION_CHECK(missing.empty() && unexpected.empty(), format,
                 "[{}] its tensors are not those of the architecture: {} missing{}{}; {} unexpected{}{}",
                 tensors.file().path().string(), missing.size(), missing.empty() ? "" : ": ", list_some(missing),
                 unexpected.size(), unexpected.empty() ? "" : ": ", list_some(unexpected));
  std::vector<Source> sources;
  for (const NameRule& rule : rules) {
    const auto* entry = tensors.find(rule.foreign);
    check(tensors, rule, *entry);
    sources.push_back({&store.at(rule.canonical), &rule, entry});
  }
  read_all(tensors.file(), std::move(sources), dtype);
}

}  // namespace emulsion::weights
