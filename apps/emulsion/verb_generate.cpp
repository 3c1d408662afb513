// emulsion generate: pictures from prompts.
#include <CLI/CLI.hpp>
#include <cstdio>
#include <optional>

#include "adapters/adapter_set.h"
#include "arguments.h"
#include "config/enum_names.h"
#include "core/device.h"
#include "core/error.h"
#include "core/stop.h"
#include "generate/parameters.h"
#include "io/image.h"
#include "io/jsonl.h"
#include "io/safetensors.h"
#include "model_arguments.h"
#include "terminal.h"
#include "verbs.h"
#include "weights/adapter_file.h"
#include "weights/load_model.h"

namespace emulsion::app {
namespace {

namespace fs = std::filesystem;

struct Arguments {
  ModelArguments model_options;
  std::string model, vae, size, dtype = "float32", syntax = "weighted", rng = "emulsion", output = ".";
  std::string init_latents, save_latents;
  std::vector<std::string> loras;
  int64_t batch = 1;
  bool grid = false, json = false;
  generate::Request request;
};

Tensor read_latents(const std::string& file) {
  const auto opened = io::SafetensorsFile::open(file);
  EMULSION_CHECK(opened.contains("latents"), format,
                 "{}: expected a tensor 'latents' [B,C,h,w], it holds none", file);
  return opened.tensor("latents").to(at::kFloat);
}

/// The request that the arguments describe: every prompt `batch` times.
generate::Request request_of(const Arguments& arguments) {
  generate::Request request = arguments.request;
  EMULSION_CHECK(arguments.batch >= 1 && arguments.batch <= 1024, config,
                 "--batch: expected 1 to 1024, got {}", arguments.batch);
  request.prompts.clear();
  for (const std::string& prompt : arguments.request.prompts) {
    std::string text = prompt;
    if (text.ends_with("] ")) text.pop_back();  // see with_brackets_kept in main.cpp
    request.prompts.insert(request.prompts.end(), static_cast<size_t>(arguments.batch), text);
  }
  if (!arguments.size.empty()) {
    const auto [width, height] = parse_size(arguments.size);
    request.width = width;
    request.height = height;
  }
  request.rng = config::value_of<NoiseSource>(arguments.rng);
  if (arguments.syntax == "plain") request.prompt_syntax = generate::PromptSyntax::plain;
  if (!arguments.init_latents.empty()) request.init_latents = read_latents(arguments.init_latents);
  return request;
}

/// LoRA files while they act.
struct Loras {
  Loras(const std::vector<std::string>& arguments, const models::Model& model) {
    for (const std::string& text : arguments) {
      const auto [file, weight] = file_and_weight(text);
      sets.push_back(weights::load_adapter(file, model.components()));
      tags.push_back({"lora", fs::path(file).stem().string(), weight, weight});
    }
    std::vector<adapters::ActiveAdapters::Entry> entries;
    for (size_t i = 0; i < sets.size(); ++i) entries.push_back({&sets[i], tags[i].unet_strength});
    active.emplace(entries);
  }
  std::vector<adapters::AdapterSet> sets;
  std::vector<models::NetworkTag> tags;
  std::optional<adapters::ActiveAdapters> active;
};

/// Pictures that are drawn together: eight of 512 x 512, or as many of another size as have their pixels.
size_t pictures_at_once(const generate::Request& request) {
  constexpr int64_t kPixels = 8 * 512 * 512;
  return static_cast<size_t>(std::max<int64_t>(1, kPixels / (request.width * request.height)));
}

void draw(const Arguments& arguments) {
  install_stop_handlers();
  set_compute_threads(0);
  const auto reporter = make_reporter(arguments.json);
  generate::Request request = request_of(arguments);
  const at::ScalarType dtype = arguments.dtype == "bfloat16" ? at::kBFloat16 : at::kFloat;
  models::Model model = weights::load_model(arguments.model, load_options(arguments.model_options, dtype));
  if (!arguments.vae.empty()) weights::replace_vae(model, arguments.vae, dtype);
  const Loras loras(arguments.loras, model);
  request = generate::resolve(request, model);
  // A folder may be given as "pictures/": its name is before the slash.
  const std::string model_name = fs::path(arguments.model).lexically_normal().filename().string();

  std::vector<Tensor> latents, pictures;
  const auto write = [&](const fs::path& path, const Tensor& picture, size_t index) {
    const auto text = generate::infotext_of(request, index, model_name, loras.tags);
    io::write_png(path, picture, {{"parameters", generate::to_text(text)}});
    const io::JsonFields event = {{"event", "picture"},
                                  {"path", path.string()},
                                  {"seed", request.seed + static_cast<int64_t>(index)}};
    std::printf("%s\n", arguments.json ? io::json_line(event).c_str() : path.c_str());
    std::fflush(stdout);
  };
  const size_t count = request.prompts.size(), at_once = pictures_at_once(request);
  for (size_t first = 0; first < count; first += at_once) {
    const auto part = generate::part_of(request, first, std::min(at_once, count - first));
    latents.push_back(generate::sample_latents(model, part, *reporter));
    pictures.push_back(generate::decode_latents(model, latents.back()));
    for (size_t i = 0; i < part.prompts.size(); ++i) {
      write(output_path(arguments.output, request, first + i),
            pictures.back()[static_cast<int64_t>(i)], first + i);
    }
  }
  if (arguments.grid && count > 1) {
    const auto columns = generate::grid_columns(static_cast<int64_t>(count));
    write(grid_path(arguments.output, request), generate::make_grid(at::cat(pictures), columns), 0);
  }
  if (!arguments.save_latents.empty())
    io::write_safetensors(arguments.save_latents, {{"latents", at::cat(latents).cpu()}});
}

}  // namespace

void add_generate(CLI::App& app) {
  auto a = std::make_shared<Arguments>();
  CLI::App* verb =
      add_verb(app, "generate", "Draws a picture for every prompt. The PNG carries its parameters.",
               "emulsion generate runs/model/model \"a red apple\" --lora "
               "runs/style/style.safetensors:0.8 -o apple.png");
  generate::Request& r = a->request;
  const auto option = [&](const char* name, auto& value, const char* text, const char* about) {
    return verb->add_option(name, value, about)->option_text(text);
  };
  option("model", a->model, "MODEL", "Model folder (diffusers layout) or single file")->required();
  option("prompt", r.prompts, "PROMPT...", "What to draw")->required();
  option("--negative", r.negative, "TEXT", "What not to draw");
  add_model_arguments(*verb, a->model_options);
  option("--vae", a->vae, "VAE", "Draw with this autoencoder: a file or folder, of its own or of a model");
  option("--lora", a->loras, "FILE[:WEIGHT]", "Use a LoRA; may be repeated")
      ->allow_extra_args(false);
  option("--seed", r.seed, "N", "Of the first picture; the next ones count up [0]")
      ->check(CLI::NonNegativeNumber);
  option("--rng", a->rng, "KIND", "What a seed means: emulsion, cpu (PyTorch), nv (CUDA) [emulsion]")
      ->check(CLI::IsMember({"emulsion", "cpu", "nv"}));
  option("--steps", r.steps, "N", "Steps of the sampler [20]")->check(CLI::Range(1, 1000));
  option("--cfg", r.cfg, "X", "Guidance scale; 1: none [7]")->check(CLI::NonNegativeNumber);
  option("--cfg-rescale", r.cfg_rescale, "X", "0 to 1, against burnt colours of a large --cfg [0]")
      ->check(CLI::Range(0.0, 1.0));
  option("--clip-skip", r.clip_skip, "N", "Text state N layers from the end [the model's]")
      ->check(CLI::Range(0, 24));
  option("--sampler", r.sampler, "ID", "ddim, euler, euler_ancestral, dpmpp_2m [the model's]");
  option("--schedule", r.schedule, "ID",
         "normal, karras, leading, linspace, trailing [the model's]");
  option("--size", a->size, "WxH", "Pixels [the model's]");
  option("--batch", a->batch, "N", "Pictures of each prompt [1]");
  option("--dtype", a->dtype, "DTYPE", "float32 or bfloat16 [float32]")
      ->check(CLI::IsMember({"float32", "bfloat16"}));
  option("--prompt-syntax", a->syntax, "KIND",
         "weighted: (word:1.2) counts; plain: as written [weighted]")
      ->check(CLI::IsMember({"weighted", "plain"}));
  option("--init-latents", a->init_latents, "FILE",
         "Start from 'latents' [B,C,h,w], standard normal, of this safetensors");
  option("--save-latents", a->save_latents, "FILE",
         "Write the final latents, in the scale of the U-Net");
  option("-o,--output", a->output, "PATH", "A .png file, or a folder [.]");
  verb->add_flag("--grid", a->grid, "Also write all pictures side by side");
  add_json(*verb, a->json);
  verb->callback([a] { draw(*a); });
}

}  // namespace emulsion::app
