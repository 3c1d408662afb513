// What the network reads in each step: times, turns, and several prompts for one picture.
#include "generate/prompt_plan.h"

#include "core/error.h"
#include "generate/generate.h"
#include "weights/tiny_model.h"

namespace emulsion::generate {
namespace {

class PromptPlanTest : public ::testing::Test {
 protected:
  PromptPlan plan(const std::vector<std::string>& prompts, const std::string& negative = "", double cfg = 7,
                  PromptSyntax syntax = PromptSyntax::weighted) const {
    const at::NoGradGuard no_grad;
    return {model, prompts, negative, {.syntax = syntax}, {.cfg = cfg, .steps = 4}};
  }
  /// Whether the rows of a step read these texts.
  bool reads(const PromptPlan& plan, int64_t step, const std::vector<std::string>& texts) const {
    const at::NoGradGuard no_grad;
    const Tensor expected = text_states(model, texts, {.syntax = PromptSyntax::plain}).context;
    const Tensor actual = plan.conditioning(step).context;
    return actual.sizes() == expected.sizes() && test::close(actual, expected, 1e-6);
  }
  Tensor draw(const std::string& prompt, double cfg = 3) const {
    Request request;
    request.prompts = {prompt};
    request.steps = 4;
    request.cfg = cfg;
    Reporter silent;
    return sample_latents(model, request, silent);
  }

  models::Model model = test::tiny_model();
};

TEST_F(PromptPlanTest, TextsChangeWithTheSteps) {
  // As A1111 counts: [a:b:1] holds a for the steps 0 and 1.
  const PromptPlan later = plan({"[a:b:1] c"}, "[d|e]");
  EXPECT_TRUE(reads(later, 0, {"d", "a c"}));
  EXPECT_TRUE(reads(later, 1, {"d", "a c"}));
  EXPECT_TRUE(reads(later, 2, {"e", "b c"}));
  EXPECT_TRUE(reads(later, 3, {"d", "b c"}));
  EXPECT_TRUE(reads(later, 9, {"d", "b c"}));  // a solver may take more steps than it was asked for
}

TEST_F(PromptPlanTest, PlainSyntaxHasNoTimesNoAndAndNoTags) {
  for (const char* text : {"[a:b:1]", "[a|b]", "a AND b", "a <lora:x:1>"}) {
    const PromptPlan plain = plan({text}, text, 7, PromptSyntax::plain);
    for (int64_t step = 0; step < 4; ++step) EXPECT_TRUE(reads(plain, step, {text, text})) << text;
  }
}

TEST_F(PromptPlanTest, TagsAreNotRead) {
  EXPECT_TRUE(reads(plan({"a b<lora:style:0.8>"}, "", 1), 0, {"a b"}));
}

TEST_F(PromptPlanTest, RowsAndGuidanceOfOneTextEach) {
  const Tensor x = at::randn({2, 4, 8, 8}), out = at::randn({4, 4, 8, 8});
  const PromptPlan guided = plan({"a", "b"});
  EXPECT_TRUE(at::equal(guided.rows(x), at::cat({x, x})));
  EXPECT_TRUE(test::close(guided.guide(out), out.narrow(0, 0, 2) + 7 * (out.narrow(0, 2, 2) - out.narrow(0, 0, 2)), 1e-6));
  const PromptPlan unguided = plan({"a", "b"}, "", 1);
  EXPECT_TRUE(at::equal(unguided.rows(x), x));
  EXPECT_TRUE(at::equal(unguided.guide(x), x));
}

TEST_F(PromptPlanTest, SeveralTextsOfAPictureAddUp) {
  const PromptPlan composed = plan({"a", "b :0.5 AND c :2"});
  const Tensor x = at::randn({2, 4, 8, 8}), out = at::randn({5, 4, 8, 8});
  EXPECT_TRUE(reads(composed, 0, {"", "", "a", "b", "c"}));
  EXPECT_TRUE(at::equal(composed.rows(x), at::stack({x[0], x[1], x[0], x[1], x[1]})));
  const Tensor guided = composed.guide(out);
  EXPECT_TRUE(test::close(guided[0], out[0] + 7 * (out[2] - out[0]), 1e-5));
  EXPECT_TRUE(test::close(guided[1], out[1] + 7 * (0.5 * (out[3] - out[1]) + 2 * (out[4] - out[1])), 1e-5));
  // Also where there is no guidance otherwise.
  EXPECT_TRUE(reads(plan({"b AND c"}, "d", 1), 0, {"d", "b", "c"}));
}

TEST_F(PromptPlanTest, DrawingFollowsThePlan) {
  const Tensor a = draw("a"), b = draw("b");
  EXPECT_TRUE(at::equal(draw("[a:b:4]"), a));
  EXPECT_TRUE(at::equal(draw("[a:b:0]"), b));
  EXPECT_TRUE(at::equal(draw("[b:a:3]"), b));
  const Tensor once = draw("[a:b:1]"), twice = draw("[a:b:2]"), turns = draw("[a|b]");
  const std::vector<Tensor> all = {a, b, once, twice, turns};
  for (size_t i = 0; i < all.size(); ++i) {
    for (size_t j = 0; j < i; ++j) EXPECT_FALSE(test::close(all[i], all[j], 1e-6)) << i << " " << j;
  }
  EXPECT_TRUE(test::close(draw("a AND a :0", 3), a, 1e-4));
  EXPECT_FALSE(test::close(draw("a AND b", 3), a, 1e-3));
}

}  // namespace
}  // namespace emulsion::generate
