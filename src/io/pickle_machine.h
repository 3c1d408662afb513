// Internal to io: the stack machine behind read_pickle. pickle.cpp has its parts,
// pickle_opcodes.cpp its opcodes, pickle_objects.cpp what becomes of objects.
#pragma once

#include <algorithm>
#include <string>
#include <string_view>
#include <vector>

#include "io/pickle.h"

namespace emulsion::io {

class PickleMachine {
 public:
  explicit PickleMachine(const PickleSource& source)
      : source_(source), end_(std::min(source.end, source.begin + kMaxPickle)), at_(source.begin) {}
  Pickle run();

 private:
  static constexpr uint64_t kMaxPickle = 64 << 20;
  static constexpr size_t kMaxOpcodes = 4'000'000;
  static constexpr size_t kMaxValues = 2'000'000;
  static constexpr size_t kMaxStack = 1'000'000;
  static constexpr size_t kMaxMarks = 1'000;
  static constexpr PickleRef kNothing = ~PickleRef{0};

  struct Opcode {
    uint8_t code;
    const char* name;
    void (*apply)(PickleMachine&);  // nullptr: known, and refused
  };
  static const Opcode kOpcodes[];
  static const Opcode* find_opcode(uint8_t code);
  const char* opcode_name() const;
  void step();

  [[noreturn]] void refuse(const std::string& message) const;
  [[noreturn]] void refuse_end(const std::string& expected) const;
  std::string_view take(uint64_t size);
  uint64_t take_number(size_t width);  // little-endian
  std::string_view take_line();

  PickleRef add(PickleNode node);
  void push_ref(PickleRef ref);
  void push(PickleNode node);
  PickleRef pop();
  PickleRef top() const;
  PickleNode& node(PickleRef ref) { return pickle_.nodes[ref]; }
  void mark();
  std::vector<PickleRef> pop_to_mark();
  void put(uint64_t index);
  void get(uint64_t index);

  void push_integer(int64_t value);
  void push_real();
  void push_long(size_t width);  // `width`: of the length in front
  void push_text(size_t width);
  void push_bytes(size_t width);

  void begin_protocol();
  void begin_frame();
  void discard();                 // POP: a value, or a MARK
  void push_tuple(size_t count);  // of the uppermost values
  void add_items(PickleKind expected, std::vector<PickleRef> items);
  void set_pairs(std::vector<PickleRef> pairs);
  void push_global(std::string_view module, std::string_view name);
  void push_stack_global();
  void push_persistent();
  void call();         // REDUCE
  void make_object();  // NEWOBJ
  void set_state();    // BUILD
  void push_dict_of(const PickleNode& arguments);
  const PickleGlobal& popped_global();
  PickleNode& popped_arguments();

  const PickleSource& source_;
  const uint64_t end_;
  uint64_t at_;
  uint64_t opcode_at_ = 0;
  size_t opcodes_ = 0;
  bool stopped_ = false;
  Pickle pickle_;
  std::vector<PickleRef> stack_;
  std::vector<size_t> marks_;
  std::vector<PickleRef> memo_;
  size_t memo_count_ = 0;
};

}  // namespace emulsion::io
