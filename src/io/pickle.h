// Internal to io: Python pickles read as inert data. Nothing is imported, constructed or called: an
// object becomes a node that says what the pickle asked for, and only the names of
// pickle_globals.cpp may be asked for.
#pragma once

#include <cstdint>
#include <deque>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "io/pickle_globals.h"

namespace emulsion::io {

enum class PickleKind : uint8_t {
  none,
  boolean,
  integer,
  real,
  text,        // UTF-8
  bytes,       // also the strings of Python 2
  list,        // items
  tuple,       // items
  dict,        // items: key, value, key, value, ... in the order of the file
  global,      // a name of the allow-list, not looked up anywhere
  call,        // items: the arguments, a tuple; of a global with a rebuild role
  persistent,  // items: the id, a tuple
  opaque,      // something that is skipped: an object, a set, an integer beyond 64 bits
};

/// "a dict", "a text", ... for messages.
const char* to_string(PickleKind kind);

/// Nodes refer to each other by their number. They may form cycles and share parts.
using PickleRef = uint32_t;

struct PickleNode {
  PickleKind kind = PickleKind::none;
  const PickleGlobal* global = nullptr;  // of a global, a call, a ParameterDict
  int64_t integer = 0;                   // also 0 or 1 of a boolean
  double real = 0;
  std::string_view text = {};  // of text and bytes: a view of the file
  std::vector<PickleRef> items = {};
  uint64_t at = 0;  // where in the file the opcode lies that made it
};

struct Pickle {
  std::deque<PickleNode> nodes;
  PickleRef root = 0;
  uint64_t end = 0;  // where in the file the byte after the pickle lies

  const PickleNode& operator[](PickleRef ref) const { return nodes[ref]; }
};

/// A stretch of a file that holds one pickle or several.
struct PickleSource {
  std::filesystem::path path;  // for messages only
  std::string_view file;       // the whole file
  uint64_t begin = 0, end = 0;
};

/// Reads the pickle at source.begin; protocols 2 to 5. At most 64 MB, 4 million opcodes and 2
/// million values, so that none takes more than a second or 512 MB.
///
/// Throws: Error{format}, naming the opcode or global and its place in the file, for whatever is
/// cut off, damaged, or could not come from a dict of tensors and plain values.
Pickle read_pickle(const PickleSource& source);

/// Throws Error{format}: "<path>: byte <at>: <message>".
[[noreturn]] void refuse_pickle(const std::filesystem::path& path, uint64_t at,
                                const std::string& message);

}  // namespace emulsion::io
