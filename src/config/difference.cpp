// Where two configs differ.
#include <fmt/format.h>

#include <algorithm>

#include "config/render.h"

namespace emulsion::config {
namespace {

bool is_list_of_tables(const Node& node) {
  const auto is_table = [](const Node& item) { return item.kind == Node::Kind::table; };
  return node.kind == Node::Kind::list && std::ranges::all_of(node.items, is_table);
}

std::string differences(const Node& a, const Node& b, const std::string& path);

std::string table_differences(const Node& a, const Node& b, const std::string& path) {
  const Node* type_a = a.find("type");
  const Node* type_b = b.find("type");
  if (type_a && type_b && type_a->string != type_b->string) {  // nothing else can be compared
    return differences(*type_a, *type_b, join_path(path, "type"));
  }
  static const Node kMissing;
  std::string lines;
  for (const Node& item : a.items) {
    const Node* other = b.find(item.key);
    lines += differences(item, other ? *other : kMissing, join_path(path, item.key));
  }
  for (const Node& item : b.items) {
    if (!a.find(item.key)) lines += differences(kMissing, item, join_path(path, item.key));
  }
  return lines;
}

std::string differences(const Node& a, const Node& b, const std::string& path) {
  if (a.kind == Node::Kind::table && b.kind == Node::Kind::table) {
    return table_differences(a, b, path);
  }
  std::string lines;
  if (is_list_of_tables(a) && is_list_of_tables(b) && a.items.size() == b.items.size()) {
    for (size_t i = 0; i < a.items.size(); ++i) {
      lines += differences(a.items[i], b.items[i], fmt::format("{}.{}", path, i));
    }
    return lines;
  }
  const std::string text_a = inline_text(a);
  const std::string text_b = inline_text(b);
  return text_a == text_b ? "" : fmt::format("{}: {} -> {}\n", path, text_a, text_b);
}

}  // namespace

std::string difference_text(const Node& a, const Node& b) { return differences(a, b, ""); }

}  // namespace emulsion::config
