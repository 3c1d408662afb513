// A model trained for half a minute draws what its prompts say, and a LoRA moves it to a style: both measured.
//
// Four pictures of one colour each, captioned with the colour's name; the style is the same colours at a third of their
// brightness. The score is the distance of a drawing's mean colour to that of each prompt.
#include <array>
#include <cmath>
#include <sstream>

#include "run/tiny_run_files.h"

namespace emulsion::test {
namespace {

namespace fs = std::filesystem;
using Colour = std::array<double, 3>;

struct Subject {
  const char* name;
  Colour colour;
};
const Subject kSubjects[] = {
    {"red", {220, 30, 30}}, {"green", {30, 170, 40}}, {"blue", {30, 50, 220}}, {"yellow", {240, 220, 30}}};
constexpr double kStyle = 0.35;

Colour scaled(const Colour& c, double factor) { return {c[0] * factor, c[1] * factor, c[2] * factor}; }

double distance(const Colour& a, const Colour& b) { return std::hypot(a[0] - b[0], a[1] - b[1], a[2] - b[2]); }

void write_colour(const fs::path& file, const Colour& colour) {
  fs::create_directories(file.parent_path());
  Tensor picture = at::empty({8, 8, 3}, at::kByte);
  for (int64_t c = 0; c < 3; ++c) picture.select(2, c).fill_(static_cast<int64_t>(colour[static_cast<size_t>(c)]));
  io::write_png(file, picture);
}

constexpr const char* kCommon = R"(
[optimizer]
lr = 4e-3
beta2 = 0.99
[schedule]
shape = "cosine"
warmup_steps = 10
[objective]
timestep_sampling = "stratified"
[preview]
every = 0
[checkpoint]
every = 0
[model.architecture]
resolution = 8
vae_channels = [8, 16]
vae_groups = 2
unet_channels = [16, 32]
unet_groups = 4
unet_head_width = 16
unet_first_attention_level = 0
text_width = 32
text_layers = 1
text_heads = 2
text_merges = 200
[data]
resolution = 8
buckets = false
)";

class LearnsTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    folder = std::make_unique<TempFolder>();
    for (const Subject& subject : kSubjects) {
      const std::string file = std::string(subject.name) + ".png";
      write_colour(*folder / "plain" / file, subject.colour);
      write_colour(*folder / "style" / file, scaled(subject.colour, kStyle));
      write_colour(*folder / "all" / file, subject.colour);
      write_colour(*folder / "all" / ("dark " + file), scaled(subject.colour, kStyle));
      write_colour(*folder / "all" / ("middle " + file), scaled(subject.colour, 0.65));
    }
    const std::string model = "\"" + (*folder / "model" / "model").string() + "\"";
    train("autoencoder", "steps = 400\nbatch_size = 6\n", "type = \"autoencoder\"\ngradient = 0\n", "all");
    train("model", "steps = 300\nbatch_size = 8\nprediction = \"v_prediction\"\n",
          "type = \"diffusion\"\n[model]\nvae = \"" + (*folder / "autoencoder" / "model").string() + "\"\n", "plain",
          "caption_dropout = 0.1\n");
    train("style", "steps = 120\nbatch_size = 8\n",
          "type = \"lora\"\nrank = 4\nalpha = 8\ntargets = [\"unet.*.attn*.to_*\", \"unet.*.conv?\"]\n[model]\npath = " +
              model + "\n",
          "style");
  }
  static void TearDownTestSuite() { folder.reset(); }

  static void train(const std::string& name, const std::string& top, const std::string& method,
                    const std::string& pictures, const std::string& data = "") {
    const fs::path file = *folder / (name + ".toml");
    std::ofstream(file) << "name = \"" << name << "\"\noutput = \"" << folder->path().string()
                        << "\"\nseed = 1\nthreads = 1\nloader_threads = 0\n"
                        << top << "[method]\n"
                        << method << kCommon << data << "[[data.sources]]\npath = \"" << (*folder / pictures).string()
                        << "\"\n";
    const Ended ended = run_program({"train", file.string()});
    ASSERT_EQ(ended.code, 0) << ended.out;
  }

  /// What the program draws for the prompts: mean colours, and the final latents.
  struct Drawn {
    std::vector<Colour> colours;
    Tensor latents;
  };
  static Drawn draw(const std::vector<std::string>& prompts, const std::vector<std::string>& options) {
    const TempFolder out;
    std::vector<std::string> arguments = {"generate", (*folder / "model" / "model").string()};
    arguments.insert(arguments.end(), prompts.begin(), prompts.end());
    arguments.insert(arguments.end(), {"--steps", "8", "--seed", "3", "--json", "-o", (out / "pictures").string() + "/",
                                       "--save-latents", (out / "latents.safetensors").string()});
    arguments.insert(arguments.end(), options.begin(), options.end());
    const Ended ended = run_program(arguments);
    EXPECT_EQ(ended.code, 0) << ended.out;
    std::map<std::string, Colour> by_seed;  // names end in the seed, and seeds count up with the prompts
    for (const auto& entry : fs::directory_iterator(out / "pictures")) {
      const std::string stem = entry.path().stem();
      const Tensor mean = io::read_image(entry.path()).to(at::kDouble).mean({0, 1});
      by_seed[stem.substr(stem.rfind('-'))] = {mean[0].item<double>(), mean[1].item<double>(), mean[2].item<double>()};
    }
    Drawn drawn;
    for (const auto& [seed, colour] : by_seed) drawn.colours.push_back(colour);
    drawn.latents = io::SafetensorsFile::open(out / "latents.safetensors").tensor("latents").clone();
    return drawn;
  }

  static std::vector<std::string> names() {
    std::vector<std::string> all;
    for (const Subject& subject : kSubjects) all.push_back(subject.name);
    return all;
  }

  /// For how many prompts the drawing is nearer to the prompt's own colour than to every other one.
  static int own_colour_nearest(const std::vector<Colour>& drawn) {
    int right = 0;
    for (size_t i = 0; i < std::size(kSubjects); ++i) {
      size_t nearest = 0;
      for (size_t j = 1; j < std::size(kSubjects); ++j) {
        if (distance(drawn.at(i), kSubjects[j].colour) < distance(drawn.at(i), kSubjects[nearest].colour)) nearest = j;
      }
      right += nearest == i ? 1 : 0;
    }
    return right;
  }

  static double distance_to(const std::vector<Colour>& drawn, double factor) {
    double sum = 0;
    for (size_t i = 0; i < std::size(kSubjects); ++i) sum += distance(drawn.at(i), scaled(kSubjects[i].colour, factor));
    return sum / static_cast<double>(std::size(kSubjects));
  }

  static std::string show(const std::vector<Colour>& colours) {
    std::ostringstream text;
    for (const Colour& c : colours) text << "(" << c[0] << ", " << c[1] << ", " << c[2] << ") ";
    return text.str();
  }

  static std::unique_ptr<TempFolder> folder;
};
std::unique_ptr<TempFolder> LearnsTest::folder;

TEST_F(LearnsTest, EveryPromptGetsItsOwnColourAndNoneDoesWithoutConditioning) {
  const Drawn prompted = draw(names(), {"--cfg", "2"});
  EXPECT_EQ(own_colour_nearest(prompted.colours), 4) << show(prompted.colours);
  // The same score with conditioning cut, from the same noise: the prompts are all empty.
  const Drawn cut = draw({"", "", "", ""}, {"--cfg", "1"});
  EXPECT_LT(own_colour_nearest(cut.colours), 4) << show(cut.colours);
  // And with the prompts exchanged, the score follows the prompts, not the seeds.
  auto exchanged = names();
  std::reverse(exchanged.begin(), exchanged.end());
  auto colours = draw(exchanged, {"--cfg", "2"}).colours;
  EXPECT_LT(own_colour_nearest(colours), 2) << show(colours);
  std::reverse(colours.begin(), colours.end());
  EXPECT_EQ(own_colour_nearest(colours), 4) << show(colours);
}

TEST_F(LearnsTest, TheLoraMovesEveryPictureToItsStyleAndAtWeightZeroNoBit) {
  const std::string lora = (*folder / "style" / "style.safetensors").string();
  const Drawn plain = draw(names(), {"--cfg", "1"});
  const Drawn styled = draw(names(), {"--cfg", "1", "--lora", lora});
  const Drawn off = draw(names(), {"--cfg", "1", "--lora", lora + ":0"});
  EXPECT_TRUE(at::equal(off.latents, plain.latents));
  const double before = distance_to(plain.colours, kStyle), after = distance_to(styled.colours, kStyle);
  EXPECT_LT(after, 0.7 * before) << show(plain.colours) << " became " << show(styled.colours);
  EXPECT_LT(after, distance_to(styled.colours, 1)) << show(styled.colours);
}

}  // namespace
}  // namespace emulsion::test
