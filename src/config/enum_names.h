// Names of enum values, as the run file spells them.
//
// Beside the enum, in its namespace:
//
//   enum class Prediction { epsilon, v, sample };
//   constexpr auto enum_names(Prediction) {
//     return std::to_array<std::pair<Prediction, const char*>>(
//         {{Prediction::epsilon, "epsilon"}, {Prediction::v, "v"}, {Prediction::sample,
//         "sample"}});
//   }
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

namespace emulsion::config {

template <class E>
concept NamedEnum = std::is_enum_v<E> && requires(E value) {
  enum_names(value).size();
};

namespace detail {
[[noreturn]] void refuse_enum_value(int64_t value);
[[noreturn]] void refuse_enum_name(std::string_view name, const std::vector<std::string>& names);
}  // namespace detail

/// All names, in the order of the table.
template <NamedEnum E>
std::vector<std::string> names_of() {
  std::vector<std::string> names;
  for (const auto& [value, name] : enum_names(E{})) names.emplace_back(name);
  return names;
}

/// The name of a value, e.g. "epsilon". Throws Error{internal} for a value that has none.
template <NamedEnum E>
const char* name_of(E value) {
  for (const auto& [candidate, name] : enum_names(value)) {
    if (candidate == value) return name;
  }
  detail::refuse_enum_value(static_cast<int64_t>(value));
}

/// The value with that name. Throws Error{config} with the list of names and the closest one.
template <NamedEnum E>
E value_of(std::string_view name) {
  for (const auto& [value, candidate] : enum_names(E{})) {
    if (name == candidate) return value;
  }
  detail::refuse_enum_name(name, names_of<E>());
}

}  // namespace emulsion::config
