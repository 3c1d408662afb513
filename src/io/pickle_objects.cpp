// What becomes of the names, objects and containers of a pickle: nodes, and nothing else.
#include <algorithm>

#include "core/error.h"
#include "io/content.h"
#include "io/pickle_machine.h"

namespace emulsion::io {
namespace {

constexpr const char* kHostile =
    "in Python this file could run programs: do not open it there; get the weights as safetensors";

std::string full_name(const PickleGlobal& global) {
  return fmt::format("{}.{}", global.module, global.name);
}

}  // namespace

void PickleMachine::begin_protocol() {
  const uint64_t version = take_number(1);
  if (version < 2 || version > 5 || opcodes_ != 1) {
    refuse(
        fmt::format("expected protocol 2 to 5 at the beginning of the pickle, got protocol {}{}; "
                    "save the file again with torch.save",
                    version, opcodes_ != 1 ? " within it" : ""));
  }
}

void PickleMachine::begin_frame() {
  const uint64_t size = take_number(8);
  if (size > end_ - at_) refuse_end(fmt::format("a FRAME of {} bytes", size));
}

void PickleMachine::discard() {
  if (!marks_.empty() && marks_.back() == stack_.size()) {
    marks_.pop_back();
  } else {
    pop();
  }
}

void PickleMachine::push_tuple(size_t count) {
  std::vector<PickleRef> items(count);
  for (size_t i = count; i-- > 0;) items[i] = pop();
  push({.kind = PickleKind::tuple, .items = std::move(items)});
}

void PickleMachine::add_items(PickleKind expected, std::vector<PickleRef> items) {
  PickleNode& target = node(top());
  if (target.kind == PickleKind::opaque) return;
  if (target.kind != expected) {
    refuse(fmt::format("expected {} for opcode {}, got {}; the file is damaged or hostile",
                       to_string(expected), opcode_name(), to_string(target.kind)));
  }
  target.items.insert(target.items.end(), items.begin(), items.end());
}

void PickleMachine::set_pairs(std::vector<PickleRef> pairs) {
  if (pairs.size() % 2 != 0) {
    refuse(
        fmt::format("expected pairs of key and value for opcode {}, got {} values; the file is "
                    "damaged or hostile",
                    opcode_name(), pairs.size()));
  }
  add_items(PickleKind::dict, std::move(pairs));
}

void PickleMachine::push_global(std::string_view module, std::string_view name) {
  const PickleGlobal* const global = find_pickle_global(module, name);
  if (global == nullptr) {
    refuse(
        fmt::format("global '{}.{}' (opcode {}) is not on the list of names that a file of "
                    "tensors needs; {}",
                    printable(module), printable(name), opcode_name(), kHostile));
  }
  push({.kind = PickleKind::global, .global = global});
}

void PickleMachine::push_stack_global() {
  const PickleNode name = node(pop());
  const PickleNode module = node(pop());
  if (name.kind != PickleKind::text || module.kind != PickleKind::text) {
    refuse(fmt::format("expected two texts for opcode STACK_GLOBAL, got {} and {}; {}",
                       to_string(module.kind), to_string(name.kind), kHostile));
  }
  push_global(module.text, name.text);
}

void PickleMachine::push_persistent() {
  const PickleRef id = pop();
  const PickleNode& tuple = node(id);
  const bool named = tuple.kind == PickleKind::tuple && !tuple.items.empty();
  const PickleNode& kind = named ? node(tuple.items[0]) : tuple;
  if (named && kind.text == "storage") {
    return push({.kind = PickleKind::persistent, .items = {id}});
  }
  // The old format writes the class of a module with its source text.
  const bool module = named && kind.text == "module" && tuple.items.size() == 4 &&
                      node(tuple.items[1]).kind == PickleKind::global;
  if (module) return push_ref(tuple.items[1]);
  refuse(fmt::format("expected the id of a storage for opcode BINPERSID, got {}{}; {}",
                     to_string(tuple.kind), named ? " of '" + printable(kind.text) + "'" : "",
                     kHostile));
}

const PickleGlobal& PickleMachine::popped_global() {
  const PickleNode& popped = node(pop());
  if (popped.kind != PickleKind::global) {
    refuse(fmt::format("expected a name to call for opcode {}, got {}; {}", opcode_name(),
                       to_string(popped.kind), kHostile));
  }
  return *popped.global;
}

PickleNode& PickleMachine::popped_arguments() {
  PickleNode& popped = node(pop());
  if (popped.kind != PickleKind::tuple) {
    refuse(fmt::format("expected a tuple of arguments for opcode {}, got {}; {}", opcode_name(),
                       to_string(popped.kind), kHostile));
  }
  return popped;
}

// OrderedDict(), dict(items), OrderedDict([(key, value), ...]), defaultdict(type).
void PickleMachine::push_dict_of(const PickleNode& arguments) {
  std::vector<PickleRef> pairs;
  if (!arguments.items.empty()) {
    const PickleNode& first = node(arguments.items[0]);
    if (first.kind == PickleKind::dict) {
      pairs = first.items;
    } else if (first.kind == PickleKind::list || first.kind == PickleKind::tuple) {
      for (const PickleRef ref : first.items) {
        const PickleNode& pair = node(ref);
        const bool valid = (pair.kind == PickleKind::list || pair.kind == PickleKind::tuple) &&
                           pair.items.size() == 2;
        if (!valid) {
          refuse(
              fmt::format("expected pairs of key and value to make a dict of, got {}; the file "
                          "is damaged or hostile",
                          to_string(pair.kind)));
        }
        pairs.insert(pairs.end(), pair.items.begin(), pair.items.end());
      }
    }
  }
  opcodes_ += pairs.size();  // copying the same list again and again counts, too
  push({.kind = PickleKind::dict, .items = std::move(pairs)});
}

void PickleMachine::call() {
  const PickleRef arguments = top();
  const PickleNode& given = popped_arguments();
  const PickleGlobal& global = popped_global();
  switch (global.role) {
    case PickleRole::dict:
      return push_dict_of(given);
    case PickleRole::size:
      if (given.items.size() == 1 && node(given.items[0]).kind == PickleKind::tuple) {
        return push_ref(given.items[0]);
      }
      break;
    case PickleRole::rebuild_tensor:
    case PickleRole::rebuild_tensor_v3:
    case PickleRole::rebuild_parameter:
      return push({.kind = PickleKind::call, .global = &global, .items = {arguments}});
    case PickleRole::opaque:
      return push({.kind = PickleKind::opaque, .global = &global});
    case PickleRole::parameter_dict:
    case PickleRole::storage:
    case PickleRole::dtype:
      break;
  }
  refuse(
      fmt::format("'{}' is not called with {} arguments by any file of tensors (opcode REDUCE); "
                  "the file is damaged or hostile",
                  full_name(global), given.items.size()));
}

void PickleMachine::make_object() {
  const PickleNode& given = popped_arguments();
  const PickleGlobal& global = popped_global();
  if (global.role == PickleRole::dict) return push_dict_of(given);
  if (global.role == PickleRole::parameter_dict) {
    return push({.kind = PickleKind::dict, .global = &global});
  }
  if (global.role != PickleRole::opaque) {
    refuse(
        fmt::format("'{}' is not made by any file of tensors (opcode NEWOBJ); the file is damaged "
                    "or hostile",
                    full_name(global)));
  }
  push({.kind = PickleKind::opaque, .global = &global});
}

void PickleMachine::set_state() {
  const PickleRef state = pop();
  PickleNode& target = node(top());
  if (target.kind == PickleKind::opaque) return;
  if (target.kind != PickleKind::dict) {
    refuse(fmt::format("expected an object for opcode BUILD, got {}; {}", to_string(target.kind),
                       kHostile));
  }
  // The attributes of a dict ("_metadata" of a state dict) are left out. A ParameterDict holds its
  // items in one.
  if (target.global == nullptr || node(state).kind != PickleKind::dict) return;
  const std::vector<PickleRef>& attributes = node(state).items;
  for (size_t i = 0; i + 1 < attributes.size(); i += 2) {
    const PickleNode& key = node(attributes[i]);
    const PickleNode& value = node(attributes[i + 1]);
    if (key.text != "_parameters" || value.kind != PickleKind::dict) continue;
    opcodes_ += value.items.size();
    target.items = value.items;
  }
}

}  // namespace emulsion::io
