#include "io/pickle.h"

#include <array>
#include <bit>
#include <cstring>

#include "core/error.h"
#include "io/content.h"
#include "io/pickle_machine.h"

namespace emulsion::io {

const char* to_string(PickleKind kind) {
  constexpr const char* kNames[] = {"None",     "a boolean", "an integer", "a number", "a text",
                                    "bytes",    "a list",    "a tuple",    "a dict",   "a name",
                                    "a tensor", "a storage", "an object"};
  return kNames[static_cast<size_t>(kind)];
}

void refuse_pickle(const std::filesystem::path& path, uint64_t at, const std::string& message) {
  throw Error(ErrorCode::format, fmt::format("{}: byte {}: {}", path.string(), at, message));
}

// --- Bytes ---------------------------------------------------------------------------------------

void PickleMachine::refuse(const std::string& message) const {
  refuse_pickle(source_.path, opcode_at_, message);
}

void PickleMachine::refuse_end(const std::string& expected) const {
  const uint64_t left = end_ - at_;
  if (end_ == source_.end) {
    refuse(fmt::format("expected {}, got {} bytes: the pickle is cut off; fetch the file again",
                       expected, left));
  }
  refuse(
      fmt::format("expected {} within the {} bytes that a pickle may have, got {} bytes to their "
                  "end; no checkpoint is like this: the file is hostile",
                  expected, kMaxPickle, left));
}

std::string_view PickleMachine::take(uint64_t size) {
  if (size > end_ - at_) refuse_end(fmt::format("{} bytes for opcode {}", size, opcode_name()));
  const std::string_view bytes = source_.file.substr(at_, size);
  at_ += size;
  return bytes;
}

uint64_t PickleMachine::take_number(size_t width) {
  uint64_t value = 0;
  std::memcpy(&value, take(width).data(), width);
  return value;
}

std::string_view PickleMachine::take_line() {
  constexpr size_t kMaxName = 256;
  const std::string_view rest = source_.file.substr(at_, end_ - at_);
  const size_t length = rest.substr(0, kMaxName).find('\n');
  if (length == rest.npos && rest.size() < kMaxName) {
    refuse_end(fmt::format("a name and a line end for opcode {}", opcode_name()));
  }
  if (length == rest.npos) {
    refuse(
        fmt::format("expected a name of less than {} bytes and a line end after opcode {}, got "
                    "'{}'; the file is damaged or hostile",
                    kMaxName, opcode_name(), printable(rest.substr(0, 40))));
  }
  at_ += length + 1;
  return rest.substr(0, length);
}

// --- Stack, marks and memo -----------------------------------------------------------------------

PickleRef PickleMachine::add(PickleNode node) {
  if (pickle_.nodes.size() == kMaxValues) {
    refuse(
        fmt::format("expected at most {} values, got more; no checkpoint holds that many: the "
                    "file is hostile",
                    kMaxValues));
  }
  node.at = opcode_at_;
  pickle_.nodes.push_back(std::move(node));
  return static_cast<PickleRef>(pickle_.nodes.size() - 1);
}

void PickleMachine::push_ref(PickleRef ref) {
  if (stack_.size() == kMaxStack) {
    refuse(fmt::format("expected a stack of at most {} values, got more; the file is hostile",
                       kMaxStack));
  }
  stack_.push_back(ref);
}

void PickleMachine::push(PickleNode node) { push_ref(add(std::move(node))); }

PickleRef PickleMachine::pop() {
  const PickleRef ref = top();
  stack_.pop_back();
  return ref;
}

PickleRef PickleMachine::top() const {
  if (stack_.size() <= (marks_.empty() ? 0 : marks_.back())) {
    refuse(
        fmt::format("expected a value on the stack for opcode {}, got none; the file is damaged "
                    "or hostile",
                    opcode_name()));
  }
  return stack_.back();
}

std::vector<PickleRef> PickleMachine::pop_to_mark() {
  if (marks_.empty()) {
    refuse(
        fmt::format("expected a MARK on the stack for opcode {}, got none; the file is damaged "
                    "or hostile",
                    opcode_name()));
  }
  const auto begin = stack_.begin() + static_cast<ptrdiff_t>(marks_.back());
  std::vector<PickleRef> items(begin, stack_.end());
  stack_.erase(begin, stack_.end());
  marks_.pop_back();
  return items;
}

void PickleMachine::mark() {
  if (marks_.size() == kMaxMarks) {
    refuse(fmt::format("expected at most {} MARKs within each other, got more; the file is hostile",
                       kMaxMarks));
  }
  marks_.push_back(stack_.size());
}

void PickleMachine::put(uint64_t index) {
  const PickleRef ref = top();
  if (index >= kMaxOpcodes) {
    refuse(fmt::format("expected a place in the memo below {}, got {}; the file is hostile",
                       kMaxOpcodes, index));
  }
  if (index >= memo_.size()) memo_.resize(index + 1, kNothing);
  if (memo_[index] == kNothing) ++memo_count_;
  memo_[index] = ref;
}

void PickleMachine::get(uint64_t index) {
  if (index >= memo_.size() || memo_[index] == kNothing) {
    refuse(
        fmt::format("expected a value at place {} of the memo, got none; the file is damaged or "
                    "hostile",
                    index));
  }
  push_ref(memo_[index]);
}

// --- Plain values --------------------------------------------------------------------------------

void PickleMachine::push_integer(int64_t value) {
  push({.kind = PickleKind::integer, .integer = value});
}

void PickleMachine::push_real() {
  uint64_t bits = 0;
  for (const char c : take(8)) bits = bits << 8 | static_cast<uint8_t>(c);
  push({.kind = PickleKind::real, .real = std::bit_cast<double>(bits)});
}

void PickleMachine::push_long(size_t width) {
  const std::string_view bytes = take(take_number(width));
  if (bytes.size() > 8) return push({.kind = PickleKind::opaque});
  const bool negative = !bytes.empty() && (bytes.back() & 0x80) != 0;
  uint64_t value = negative ? ~uint64_t{0} : 0;
  std::memcpy(&value, bytes.data(), bytes.size());
  push_integer(static_cast<int64_t>(value));
}

void PickleMachine::push_text(size_t width) {
  const std::string_view text = take(take_number(width));
  for (size_t i = 0; i < text.size();) {
    const size_t length = static_cast<uint8_t>(text[i]) < 0x80 ? 1 : utf8_length(text.substr(i, 4));
    if (length == 0) {
      refuse(
          fmt::format("expected UTF-8 after opcode {}, got byte 0x{:02x} at place {} of it; the "
                      "file is damaged",
                      opcode_name(), static_cast<uint8_t>(text[i]), i));
    }
    i += length;
  }
  push({.kind = PickleKind::text, .text = text});
}

void PickleMachine::push_bytes(size_t width) {
  const std::string_view bytes = take(take_number(width));
  push({.kind = PickleKind::bytes, .text = bytes});
}

}  // namespace emulsion::io
