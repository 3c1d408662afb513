// The opcodes that Python's picklers write for data, protocols 2 to 5 (Lib/pickletools.py).
#include <array>

#include "core/error.h"
#include "io/pickle_machine.h"

namespace emulsion::io {

using Machine = PickleMachine;

constexpr PickleMachine::Opcode PickleMachine::kOpcodes[] = {
    {0x80, "PROTO", [](Machine& m) { m.begin_protocol(); }},
    {0x95, "FRAME", [](Machine& m) { m.begin_frame(); }},
    {'.', "STOP", [](Machine& m) { m.stopped_ = true; }},

    {'N', "NONE", [](Machine& m) { m.push({}); }},
    {0x88, "NEWTRUE", [](Machine& m) { m.push({.kind = PickleKind::boolean, .integer = 1}); }},
    {0x89, "NEWFALSE", [](Machine& m) { m.push({.kind = PickleKind::boolean}); }},
    {'K', "BININT1", [](Machine& m) { m.push_integer(static_cast<int64_t>(m.take_number(1))); }},
    {'M', "BININT2", [](Machine& m) { m.push_integer(static_cast<int64_t>(m.take_number(2))); }},
    {'J', "BININT", [](Machine& m) { m.push_integer(static_cast<int32_t>(m.take_number(4))); }},
    {0x8a, "LONG1", [](Machine& m) { m.push_long(1); }},
    {0x8b, "LONG4", [](Machine& m) { m.push_long(4); }},
    {'G', "BINFLOAT", [](Machine& m) { m.push_real(); }},
    {0x8c, "SHORT_BINUNICODE", [](Machine& m) { m.push_text(1); }},
    {'X', "BINUNICODE", [](Machine& m) { m.push_text(4); }},
    {0x8d, "BINUNICODE8", [](Machine& m) { m.push_text(8); }},
    {'U', "SHORT_BINSTRING", [](Machine& m) { m.push_bytes(1); }},
    {'T', "BINSTRING", [](Machine& m) { m.push_bytes(4); }},
    {'C', "SHORT_BINBYTES", [](Machine& m) { m.push_bytes(1); }},
    {'B', "BINBYTES", [](Machine& m) { m.push_bytes(4); }},
    {0x8e, "BINBYTES8", [](Machine& m) { m.push_bytes(8); }},

    {'(', "MARK", [](Machine& m) { m.mark(); }},
    {'0', "POP", [](Machine& m) { m.discard(); }},
    {'1', "POP_MARK", [](Machine& m) { m.pop_to_mark(); }},
    {')', "EMPTY_TUPLE", [](Machine& m) { m.push_tuple(0); }},
    {0x85, "TUPLE1", [](Machine& m) { m.push_tuple(1); }},
    {0x86, "TUPLE2", [](Machine& m) { m.push_tuple(2); }},
    {0x87, "TUPLE3", [](Machine& m) { m.push_tuple(3); }},
    {'t', "TUPLE",
     [](Machine& m) { m.push({.kind = PickleKind::tuple, .items = m.pop_to_mark()}); }},
    {']', "EMPTY_LIST", [](Machine& m) { m.push({.kind = PickleKind::list}); }},
    {'a', "APPEND", [](Machine& m) { m.add_items(PickleKind::list, {m.pop()}); }},
    {'e', "APPENDS", [](Machine& m) { m.add_items(PickleKind::list, m.pop_to_mark()); }},
    {'}', "EMPTY_DICT", [](Machine& m) { m.push({.kind = PickleKind::dict}); }},
    {'s', "SETITEM",
     [](Machine& m) {
       const PickleRef value = m.pop();
       const PickleRef key = m.pop();
       m.set_pairs({key, value});
     }},
    {'u', "SETITEMS", [](Machine& m) { m.set_pairs(m.pop_to_mark()); }},
    {0x8f, "EMPTY_SET", [](Machine& m) { m.push({.kind = PickleKind::opaque}); }},
    {0x90, "ADDITEMS", [](Machine& m) { m.add_items(PickleKind::opaque, m.pop_to_mark()); }},
    {0x91, "FROZENSET",
     [](Machine& m) {
       m.pop_to_mark();
       m.push({.kind = PickleKind::opaque});
     }},

    {'q', "BINPUT", [](Machine& m) { m.put(m.take_number(1)); }},
    {'r', "LONG_BINPUT", [](Machine& m) { m.put(m.take_number(4)); }},
    {0x94, "MEMOIZE", [](Machine& m) { m.put(m.memo_count_); }},
    {'h', "BINGET", [](Machine& m) { m.get(m.take_number(1)); }},
    {'j', "LONG_BINGET", [](Machine& m) { m.get(m.take_number(4)); }},

    {'c', "GLOBAL",
     [](Machine& m) {
       const std::string_view module = m.take_line();
       m.push_global(module, m.take_line());
     }},
    {0x93, "STACK_GLOBAL", [](Machine& m) { m.push_stack_global(); }},
    {'Q', "BINPERSID", [](Machine& m) { m.push_persistent(); }},
    {'R', "REDUCE", [](Machine& m) { m.call(); }},
    {0x81, "NEWOBJ", [](Machine& m) { m.make_object(); }},
    {'b', "BUILD", [](Machine& m) { m.set_state(); }},

    // Known, and refused: nothing writes them into a file of tensors.
    {'2', "DUP", nullptr},
    {'I', "INT", nullptr},
    {'L', "LONG", nullptr},
    {'F', "FLOAT", nullptr},
    {'S', "STRING", nullptr},
    {'V', "UNICODE", nullptr},
    {'l', "LIST", nullptr},
    {'d', "DICT", nullptr},
    {'p', "PUT", nullptr},
    {'g', "GET", nullptr},
    {'P', "PERSID", nullptr},
    {'i', "INST", nullptr},
    {'o', "OBJ", nullptr},
    {0x82, "EXT1", nullptr},
    {0x83, "EXT2", nullptr},
    {0x84, "EXT4", nullptr},
    {0x92, "NEWOBJ_EX", nullptr},
    {0x96, "BYTEARRAY8", nullptr},
    {0x97, "NEXT_BUFFER", nullptr},
    {0x98, "READONLY_BUFFER", nullptr},
};

const PickleMachine::Opcode* PickleMachine::find_opcode(uint8_t code) {
  static constexpr auto kTable = [] {
    std::array<const Opcode*, 256> table{};
    for (const Opcode& opcode : kOpcodes) table[opcode.code] = &opcode;
    return table;
  }();
  return kTable[code];
}

const char* PickleMachine::opcode_name() const {
  const Opcode* opcode = find_opcode(static_cast<uint8_t>(source_.file[opcode_at_]));
  return opcode == nullptr ? "?" : opcode->name;
}

void PickleMachine::step() {
  opcode_at_ = at_;
  if (at_ == end_) refuse_end("the opcode STOP");
  const auto code = static_cast<uint8_t>(source_.file[at_++]);
  const Opcode* const opcode = find_opcode(code);
  if (opcode == nullptr) {
    refuse(
        fmt::format("expected an opcode of a pickle, got 0x{:02x}; the file is damaged: fetch it "
                    "again",
                    code));
  }
  if (opcode->apply == nullptr) {
    refuse(
        fmt::format("opcode {} (0x{:02x}) is not read: no file of tensors needs it; where it "
                    "comes from Python 2's ASCII protocol, save the file again with torch.save",
                    opcode->name, code));
  }
  if (++opcodes_ > kMaxOpcodes) {
    refuse(fmt::format("expected at most {} opcodes, got more; the file is hostile", kMaxOpcodes));
  }
  opcode->apply(*this);
}

Pickle PickleMachine::run() {
  while (!stopped_) step();
  pickle_.root = pop();
  if (!stack_.empty() || !marks_.empty()) {
    refuse(
        fmt::format("expected one value at the end of the pickle, got {} more; the file is "
                    "damaged or hostile",
                    stack_.size() + marks_.size()));
  }
  pickle_.end = at_;
  return std::move(pickle_);
}

Pickle read_pickle(const PickleSource& source) { return PickleMachine(source).run(); }

}  // namespace emulsion::io
