// Infotext: texts as real web UIs write them, settings that come back, and texts that mean harm.
#include "generate/infotext.h"

#include "core/random.h"
#include "support/support.h"

namespace emulsion::generate {
namespace {

using Settings = std::vector<std::pair<std::string, std::string>>;

TEST(InfotextTest, ReadsWhatA1111Writes) {
  const Infotext read = parse_infotext(
      "a castle on a hill, <lora:castle:0.8>\nsecond line\nNegative prompt: blurry, ugly\nmore of it\n"
      "Steps: 20, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 7, Seed: 12345, Size: 512x768, Model hash: "
      "abc123def0, Model: dreamshaper_8, VAE hash: 735e4c3a44, VAE: ft-mse.safetensors, Denoising strength: 0.4, Clip skip: "
      "2, RNG: CPU, Lora hashes: \"castle: deadbeef, b: 01\", Version: v1.10.1");
  EXPECT_EQ(read.prompt, "a castle on a hill, <lora:castle:0.8>\nsecond line");
  EXPECT_EQ(read.negative, "blurry, ugly\nmore of it");
  EXPECT_EQ(read.settings, (Settings{{"Steps", "20"},
                                     {"Sampler", "DPM++ 2M"},
                                     {"Schedule type", "Karras"},
                                     {"CFG scale", "7"},
                                     {"Seed", "12345"},
                                     {"Size", "512x768"},
                                     {"Model hash", "abc123def0"},
                                     {"Model", "dreamshaper_8"},
                                     {"VAE hash", "735e4c3a44"},
                                     {"VAE", "ft-mse.safetensors"},
                                     {"Denoising strength", "0.4"},
                                     {"Clip skip", "2"},
                                     {"RNG", "CPU"},
                                     {"Lora hashes", "castle: deadbeef, b: 01"},
                                     {"Version", "v1.10.1"}}));
}

TEST(InfotextTest, ATextWithoutSettingsIsAPrompt) {
  EXPECT_EQ(parse_infotext("just a cat"), (Infotext{"just a cat", "", {}}));
  EXPECT_EQ(parse_infotext("time: 12, place: here"), (Infotext{"time: 12, place: here", "", {}}));
  EXPECT_EQ(parse_infotext(""), Infotext{});
  EXPECT_EQ(parse_infotext("a\nNegative prompt: b"), (Infotext{"a", "b", {}}));
  EXPECT_EQ(parse_infotext("Steps: 1, Seed: 2, CFG scale: 3"),
            (Infotext{"", "", {{"Steps", "1"}, {"Seed", "2"}, {"CFG scale", "3"}}}));
}

TEST(InfotextTest, ValuesWithSeparatorsAreQuoted) {
  const Infotext written{"a, \"b\"", "c: d", {{"Model", "x, y"}, {"VAE", "a:b\n\"c\" \\ d"}, {"Note/1", "plain"}, {"Size", "8x8"}}};
  EXPECT_EQ(to_text(written),
            "a, \"b\"\nNegative prompt: c: d\nModel: \"x, y\", VAE: \"a:b\\n\\\"c\\\" \\\\ d\", Note/1: plain, Size: 8x8");
  EXPECT_EQ(parse_infotext(to_text(written)), written);
}

TEST(InfotextTest, BrokenQuotesAreReadToTheNextComma) {
  const Infotext read = parse_infotext("x\nAa: \"never closed, Bb: \"closed\", Cc: \"more\" behind, Dd: \\\"");
  EXPECT_EQ(read.settings, (Settings{{"Aa", "\"never closed"}, {"Bb", "closed"}, {"Cc", "\"more\" behind"}, {"Dd", "\\\""}}));
}

TEST(InfotextTest, TwoHundredGeneratedSettingsComeBack) {
  // Whatever is in them, but for spaces around lines, which no reader keeps.
  const std::vector<std::string> pieces = {"a", ",", ":", "\"", "\\", "é", "雪", "(b:1.2)", " x", "\n- y", "Seed", "<lora:z:1>", "7", "😀"};
  Stream stream(3, Purpose::augment, 0, 0);
  const auto text = [&] {
    std::string out = "s";
    for (int64_t n = stream.below(12); n > 0; --n) out += pieces[static_cast<size_t>(stream.below(static_cast<int64_t>(pieces.size())))];
    return out;
  };
  for (int i = 0; i < 200; ++i) {
    const Infotext written{text(), text(), {{"Steps", "20"}, {"Model", text()}, {"Lora hashes", text()}, {"Version", "1"}}};
    EXPECT_EQ(parse_infotext(to_text(written)), written);
  }
}

TEST(InfotextTest, HostileTextIsReadInTime) {
  for (const std::string piece : {"\"", "Aa: \"", "a", "aa:", ": ", "\n", "Negative prompt:", "\\", "Aa: \"\\\"", "Aa:\"b\"c", "\xff"}) {
    std::string text;
    while (text.size() < 1'000'000) text += piece;
    parse_infotext(text);
    to_text(parse_infotext(text));
  }
}

TEST(SamplerTitlesTest, TheWebUisNamesMeanOurs) {
  const auto ids = [](const char* sampler, const char* schedule) {
    const SamplerIds found = sampler_ids(sampler, schedule);
    return found.sampler + " " + found.schedule;
  };
  EXPECT_EQ(ids("DPM++ 2M", "Karras"), "dpmpp_2m karras");
  EXPECT_EQ(ids("DPM++ 2M Karras", ""), "dpmpp_2m karras");
  EXPECT_EQ(ids("DPM++ 2M SDE Exponential", ""), "dpmpp_2m_sde exponential");
  EXPECT_EQ(ids("DPM++ 2M", "Automatic"), "dpmpp_2m karras");
  EXPECT_EQ(ids("Euler a", ""), "euler_ancestral normal");
  EXPECT_EQ(ids("Euler", "Uniform"), "euler normal");
  EXPECT_EQ(ids("Euler", "Normal"), "euler normal");
  EXPECT_EQ(ids("Euler", "SGM Uniform"), "euler sgm_uniform");
  EXPECT_EQ(ids("DDIM", "leading"), "ddim leading");
  EXPECT_EQ(ids("Something new", "Odd"), "Something new Odd");
  EXPECT_EQ(sampler_title("dpmpp_2s_ancestral"), "DPM++ 2S a");
  EXPECT_EQ(sampler_title("unheard_of"), "unheard_of");
  EXPECT_EQ(schedule_title("karras"), "Karras");
  EXPECT_EQ(schedule_title("trailing"), "trailing");
}

}  // namespace
}  // namespace emulsion::generate
