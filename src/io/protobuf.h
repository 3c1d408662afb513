// Internal to io: protocol-buffer messages written by hand
// (https://protobuf.dev/programming-guides/encoding).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace emulsion::io {

/// A message under construction; fields lie in the order of the calls.
class ProtoMessage {
 public:
  ProtoMessage& integer(int field, int64_t value);
  ProtoMessage& float32(int field, float value);
  ProtoMessage& float64(int field, double value);
  ProtoMessage& bytes(int field, std::string_view value);
  ProtoMessage& message(int field, const ProtoMessage& value) { return bytes(field, value.text()); }

  const std::string& text() const { return text_; }

 private:
  void varint(uint64_t value);
  void tag(int field, int wire_type);
  std::string text_;
};

}  // namespace emulsion::io
