#include "weights/part_tensors.h"

#include <algorithm>
#include <set>

#include "core/error.h"
#include "nn/pattern.h"

namespace emulsion::weights {
namespace {

std::string shape_text(at::IntArrayRef shape) { return fmt::format("[{}]", fmt::join(shape, ", ")); }

bool matches(const std::vector<std::string>& patterns, const std::string& name) {
  return std::any_of(patterns.begin(), patterns.end(),
                     [&](const std::string& pattern) { return nn::glob_match(pattern, name); });
}

/// As the store wants it: dtype and memory format in one step.
Tensor made_ready(const Tensor& value, at::ScalarType dtype) {
  const auto format = value.dim() == 4 ? at::MemoryFormat::ChannelsLast : at::MemoryFormat::Contiguous;
  if (dtype == at::ScalarType::Undefined || value.scalar_type() == dtype) return value.contiguous(format);
  return value.to(dtype, /*non_blocking=*/false, /*copy=*/false, format);
}

/// Reads one tensor through its rule.
Tensor read(const PartTensors& tensors, const NameRule& rule, const io::TensorFile::Entry& entry, at::ScalarType dtype) {
  const std::string where = tensors.file().path().string();
  EMULSION_CHECK(at::isFloatingType(entry.dtype), format,
                 "[{}] '{}': expected floating-point numbers, got {}; the file is no model in a form that is read",
                 where, entry.name, c10::toString(entry.dtype));
  const Tensor value = to_canonical(rule, tensors.file().tensor(entry.name));
  EMULSION_CHECK(value.sizes() == at::IntArrayRef(rule.shape), shape,
                 "[{}] '{}': expected shape {}{}, got {}; the file is of another architecture", where, entry.name,
                 shape_text(rule.foreign_shape()), rule.canonical == entry.name ? "" : " for '" + rule.canonical + "'",
                 shape_text(entry.shape));
  const Tensor ready = made_ready(value, dtype);
  if (!ready.is_alias_of(value)) tensors.file().release(entry);
  return ready;
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
  for (const NameRule& rule : rules) {
    store.assign(store.at(rule.canonical), read(tensors, rule, *tensors.find(rule.foreign), dtype));
  }
}

}  // namespace emulsion::weights
