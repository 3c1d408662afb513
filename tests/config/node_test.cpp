#include "config/node.h"

#include <gtest/gtest.h>

#include <limits>

#include "core/error.h"

namespace emulsion::config {
namespace {

TEST(NodeTest, WritesNumbersShortestAndAsNumbers) {
  EXPECT_EQ(inline_text(Node::of(0.1)), "0.1");
  EXPECT_EQ(inline_text(Node::of(16.0)), "16.0");
  EXPECT_EQ(inline_text(Node::of(-3.0)), "-3.0");
  EXPECT_EQ(inline_text(Node::of(1e-5)), "1e-05");
  EXPECT_EQ(inline_text(Node::of(std::numeric_limits<double>::infinity())), "inf");
  EXPECT_EQ(inline_text(Node::of(int64_t{-7})), "-7");
}

TEST(NodeTest, EscapesStrings) {
  EXPECT_EQ(inline_text(Node::of(std::string("a\"b\\c\n\x01\x7fé"))),
            "\"a\\\"b\\\\c\\n\\u0001\\u007Fé\"");
}

TEST(NodeTest, WritesListsAndTablesOnOneLine) {
  Node list = Node::list();
  list.items = {Node::of(int64_t{1}), Node::of(int64_t{2})};
  Node table = Node::table();
  table.set("a b", list);
  table.set("c", Node::of(true));
  table.set("unset", Node{});
  EXPECT_EQ(inline_text(table), "{ \"a b\" = [1, 2], c = true }");
  EXPECT_EQ(inline_text(Node::table()), "{}");
}

TEST(NodeTest, SetReplacesInPlace) {
  Node table = Node::table();
  table.set("a", Node::of(true));
  table.set("b", Node::of(true));
  table.set("a", Node::of(int64_t{5}));
  ASSERT_EQ(table.items.size(), 2u);
  EXPECT_EQ(table.items[0].integer, 5);
}

TEST(NodeTest, CutsLongStringsBetweenCharacters) {
  const std::string letters(59, 'x');
  EXPECT_EQ(found_text(Node::of(letters + "éé")), "string \"" + letters + "...\"");
}

TEST(NodeTest, SplitsPathsAtDotsOutsideQuotes) {
  EXPECT_EQ(split_path("data.sources.0.repeats"),
            (std::vector<std::string>{"data", "sources", "0", "repeats"}));
  EXPECT_EQ(split_path("weights.\"a.b\""), (std::vector<std::string>{"weights", "a.b"}));
  EXPECT_EQ(join_path("weights", "a.b"), "weights.\"a.b\"");
}

TEST(NodeTest, RefusesBrokenPaths) {
  for (const char* path : {"", ".", "a.", ".a", "a..b", "\"a"}) {
    EXPECT_THROW(split_path(path), Error) << path;
  }
}

}  // namespace
}  // namespace emulsion::config
