// A small value tree: what a TOML text, a default or a --set argument becomes before it is bound to
// a struct.
//
// Every node knows where it was written, so that each problem can name its place.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace emulsion::config {

/// Where a key or a value was written.
struct Place {
  int64_t line = 0;    // from 1; 0: nowhere in the file
  int64_t column = 0;  // from 1
  std::string origin;  // stands for file:line:column when not empty, e.g. "--set optimizer.lr"
};

/// One value. Only the member that `kind` names has a meaning.
struct Node {
  enum class Kind {
    null,     // an optional that is not set
    boolean,  //
    integer,  //
    number,   //
    string,   //
    list,     // `items`
    table,    // `items`, each with its `key`
    date,     // a TOML date or time, which no field takes; its text is in `string`
  };

  Kind kind = Kind::null;
  bool boolean = false;
  int64_t integer = 0;
  double number = 0;
  std::string string;
  std::vector<Node> items;

  std::string key;  // the name it has in the table that holds it
  Place key_place;
  Place place;

  static Node of(bool value);
  static Node of(int64_t value);
  static Node of(double value);
  static Node of(std::string value);
  static Node list();
  static Node table();

  /// The entry `name` of a table, or null.
  const Node* find(std::string_view name) const;
  Node* find(std::string_view name);

  /// Sets the entry `name` of a table, in place if it is there and at the end if not; returns it.
  Node& set(std::string_view name, Node value);
};

/// The value as one line of TOML: `0.1`, `"a"`, `[1, 2]`, `{ a = 1 }`; `not set` for null.
/// Doubles are the shortest text that reads back exactly.
std::string inline_text(const Node& node);

/// What an error message says was found: `string "x"`, `integer 3`, `a table`.
std::string found_text(const Node& node);

/// A key as TOML writes it: bare if possible, quoted otherwise.
std::string key_text(std::string_view key);

/// `parent.key`, or `key` if parent is empty.
std::string join_path(std::string_view parent, std::string_view key);

/// `a.0."b.c"` as its parts. Throws Error{config} for an empty part or an open quote.
std::vector<std::string> split_path(std::string_view path);

}  // namespace emulsion::config
