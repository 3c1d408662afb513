// Models by name: where they are looked for, what is said of them, and what happens to names that nothing has.
#include "weights/catalogue.h"

#include <cstdlib>
#include <fstream>

#include "core/error.h"
#include "weights/load_model.h"
#include "weights/model_folder.h"
#include "weights/single_file.h"
#include "weights/tiny_model.h"

namespace emulsion::weights {
namespace {

using test::expect_contains;

class CatalogueTest : public ::testing::Test {
 protected:
  void SetUp() override {
    save_model_folder(temp / "first" / "little", test::tiny_model());
    std::ofstream(temp / "first" / "little" / "README.md") << "---\ntags: x\nlicense: cc-by-4.0\n---\n# A model\nlicense: no\n";
    save_model_folder(temp / "second" / "little", test::tiny_model(2));
    save_single_file(temp / "second" / "one.safetensors", test::tiny_model(3));
    std::ofstream(temp / "second" / "torn.safetensors") << "nothing";
    std::ofstream(temp / "second" / "notes.txt") << "no model";
    ::setenv("EMULSION_MODELS",
             ((temp / "first").string() + ":" + (temp / "second").string() + ":" + (temp / "missing").string()).c_str(), 1);
  }
  void TearDown() override { ::unsetenv("EMULSION_MODELS"); }

  const ListedModel* listed(const std::string& name) {
    all = listed_models();
    const auto found = std::ranges::find(all, name, &ListedModel::name);
    return found == all.end() ? nullptr : &*found;
  }
  test::TempFolder temp;
  std::vector<ListedModel> all;
};

TEST_F(CatalogueTest, ListsFoldersAndFilesTheFirstOfTwoWithOneName) {
  const ListedModel* little = listed("little");
  ASSERT_NE(little, nullptr);
  EXPECT_EQ(little->path, temp / "first" / "little");
  EXPECT_EQ(little->family, "own sizes");
  EXPECT_EQ(little->licence, "cc-by-4.0");
  EXPECT_GT(little->bytes, 10000);
  const ListedModel* one = listed("one");
  ASSERT_NE(one, nullptr);
  EXPECT_EQ(one->licence, "");
  EXPECT_EQ(listed("notes"), nullptr);
  ASSERT_NE(listed("torn"), nullptr);
  expect_contains(listed("torn")->family, {"cannot be read", "torn.safetensors"});
}

TEST_F(CatalogueTest, ANameStandsWhereAPathMay) {
  EXPECT_EQ(located("little"), temp / "first" / "little");
  EXPECT_EQ(located("one"), temp / "second" / "one.safetensors");
  EXPECT_EQ(located(temp / "second" / "little"), temp / "second" / "little");
  EXPECT_TRUE(load_model("one").unet);
}

TEST_F(CatalogueTest, AnUnknownNameGetsTheOneThatWasMeant) {
  expect_contains(test::error_message([] { located("litle"); }), {"'litle'", "did you mean 'little'?"});
  expect_contains(test::error_message([] { located("something-else"); }), {"`emulsion models`"});
  expect_contains(test::error_message([] { located("some/where"); }), {"'some/where'", "check the path"});
}

}  // namespace
}  // namespace emulsion::weights
