// Internal to data: texts and numbers one behind the other in one string, and read back.
#pragma once

#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <type_traits>

#include "core/error.h"

namespace emulsion::data {

/// Appends a plain value as it lies in memory.
template <class T>
  requires std::is_trivially_copyable_v<T>
void pack(std::string& to, const T& value) {
  to.append(reinterpret_cast<const char*>(&value), sizeof(value));
}

/// Appends length and bytes.
inline void pack_text(std::string& to, std::string_view text) {
  pack(to, static_cast<uint32_t>(text.size()));
  to.append(text);
}

/// Reads in the order of packing. Throws: Error{format} where less is left than is asked for.
class Unpacker {
 public:
  explicit Unpacker(std::string_view bytes) : rest_(bytes) {}

  bool done() const { return rest_.empty(); }

  template <class T>
    requires std::is_trivially_copyable_v<T>
  T take() {
    T value;
    std::memcpy(&value, bytes(sizeof(T)).data(), sizeof(T));
    return value;
  }

  std::string text() { return std::string(bytes(take<uint32_t>())); }

  std::string_view bytes(size_t count) {
    EMULSION_CHECK(count <= rest_.size(), format, "[index] expected {} more bytes, got {}", count, rest_.size());
    const std::string_view head = rest_.substr(0, count);
    rest_.remove_prefix(count);
    return head;
  }

 private:
  std::string_view rest_;
};

}  // namespace emulsion::data
