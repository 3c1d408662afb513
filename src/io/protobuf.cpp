#include "io/protobuf.h"

#include <bit>

namespace emulsion::io {
namespace {

enum WireType { kVarint = 0, kFixed64 = 1, kBytes = 2, kFixed32 = 5 };

}  // namespace

void ProtoMessage::varint(uint64_t value) {
  for (; value >= 0x80; value >>= 7) text_ += static_cast<char>(value | 0x80);
  text_ += static_cast<char>(value);
}

void ProtoMessage::tag(int field, int wire_type) {
  varint(static_cast<uint64_t>(field) << 3 | static_cast<uint64_t>(wire_type));
}

ProtoMessage& ProtoMessage::integer(int field, int64_t value) {
  tag(field, kVarint);
  varint(static_cast<uint64_t>(value));
  return *this;
}

ProtoMessage& ProtoMessage::float32(int field, float value) {
  tag(field, kFixed32);
  const auto bits = std::bit_cast<uint32_t>(value);
  text_.append(reinterpret_cast<const char*>(&bits), sizeof(bits));
  return *this;
}

ProtoMessage& ProtoMessage::float64(int field, double value) {
  tag(field, kFixed64);
  const auto bits = std::bit_cast<uint64_t>(value);
  text_.append(reinterpret_cast<const char*>(&bits), sizeof(bits));
  return *this;
}

ProtoMessage& ProtoMessage::bytes(int field, std::string_view value) {
  tag(field, kBytes);
  varint(value.size());
  text_ += value;
  return *this;
}

}  // namespace emulsion::io
