// Whole numbers from JSON files. The library alone would cut 2.5 to 2, and 1e20 to anything.
#pragma once

#include <concepts>
#include <cstdint>
#include <limits>
#include <string_view>

#include "core/error.h"

namespace emulsion {

/// The value under `key` as an integer. `Json` is one of nlohmann's types; `file` and `key` are for messages.
/// Throws: Error{format} if it is anything but a whole number of 63 bits and a sign.
template <class Json>
int64_t whole_number(const Json& value, std::string_view file, std::string_view key) {
  constexpr auto kLargest = static_cast<uint64_t>(std::numeric_limits<int64_t>::max());
  const bool fits = value.is_number_integer() &&
                    (!value.is_number_unsigned() || value.template get<uint64_t>() <= kLargest);
  EMULSION_CHECK(fits, format, "[{}] '{}' is {}; expected a whole number", file, key, value.dump());
  return value.template get<int64_t>();
}

}  // namespace emulsion
