// The config engine: reads, writes, documents and overrides structs that have `fields()`
// (config/fields.h).
//
// Defaults live only in the structs. A problem is one line, "run.toml:6:1: unknown key
// 'optimizer.wieght_decay'; did you mean 'weight_decay'?", and one Error{config} carries all of
// them.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "config/explain.h"
#include "config/fields.h"
#include "config/override.h"
#include "config/render.h"
#include "config/resolve.h"
#include "config/toml.h"

namespace emulsion::config {

/// Names, types, documentation, limits and defaults of T.
template <class T>
Schema schema_of() {
  return Coder<T>::describe(T{});
}

/// Reads a TOML text with `overrides` (see apply_override) laid over it. `file` is only for
/// messages. Throws: one Error{config} with all problems, a line each, in the order of the file.
template <class T>
T from_toml(std::string_view text, std::string_view file, const Overrides& overrides) {
  T value{};
  Coder<T>::read(resolved_toml(Coder<T>::describe(value), text, file, overrides), value);
  return value;
}

template <class T>
T from_toml(std::string_view text, std::string_view file) {
  return from_toml<T>(text, file, {});
}

/// from_toml of a file's content. Throws also Error{not_found} or Error{io} if it cannot be read.
template <class T>
T from_toml_file(const std::filesystem::path& file, const Overrides& overrides = {}) {
  return from_toml<T>(read_config_text(file), file.string(), overrides);
}

/// The effective config: every field with its documentation, in declaration order (TOML wants a
/// table's plain values before its tables). from_toml gives back exactly `value`.
template <class T>
std::string to_toml(const T& value) {
  return toml_text(schema_of<T>(), Coder<T>::write(value));
}

/// JSON Schema, draft 2020-12, of the TOML file.
template <class T>
std::string json_schema() {
  return schema_json(schema_of<T>());
}

/// Changes one field as `--set path=value` does (see apply_override); `target` stays as it was on
/// error. Throws: Error{config} with all problems, placed at "--set <path>".
template <class T>
void override_field(T& target, std::string_view path, std::string_view value) {
  T changed{};
  Coder<T>::read(
      resolved_override(Coder<T>::describe(changed), Coder<T>::write(target), path, value),
      changed);
  target = std::move(changed);
}

/// One field's or section's meaning. Paths as in list_fields, or as in the file (`method.rank`,
/// `data.sources.0.repeats`). Throws: Error{not_found} with the closest path.
template <class T>
FieldInfo explain(std::string_view path) {
  return explain_field(schema_of<T>(), path);
}

/// All fields, flattened: `optimizer.lr`, `data.sources[].repeats`, `weights.<name>`,
/// `method.type`, `method(lora).rank`.
template <class T>
std::vector<FieldInfo> list_fields() {
  return flat_fields(schema_of<T>());
}

/// Lines "path: a -> b" for the fields that differ; "" if none does.
template <class T>
std::string diff(const T& a, const T& b) {
  return difference_text(Coder<T>::write(a), Coder<T>::write(b));
}

}  // namespace emulsion::config
