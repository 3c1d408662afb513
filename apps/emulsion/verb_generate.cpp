// emulsion generate: pictures from prompts and pictures.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <future>
#include <map>
#include <set>

#include "arguments.h"
#include "config/enum_names.h"
#include "core/device.h"
#include "core/stop.h"
#include "generate/embeddings.h"
#include "generate/networks.h"
#include "generate_arguments.h"
#include "io/jsonl.h"
#include "io/safetensors.h"
#include "model_arguments.h"
#include "picture_file.h"
#include "terminal.h"
#include "verbs.h"
#include "weights/catalogue.h"
#include "weights/load_model.h"
#include "weights/verify.h"

namespace emulsion::app {
namespace {

namespace fs = std::filesystem;

struct Arguments : GenerateArguments {
  ModelArguments model_options;
};

models::Model load(const Arguments& arguments) {
  const at::ScalarType dtype = dtype_named(arguments.dtype);
  models::Model model = weights::load_model(arguments.model, load_options(arguments.model_options, dtype));
  const at::ScalarType vae_dtype = arguments.vae_dtype.empty() ? dtype : dtype_named(arguments.vae_dtype);
  if (!arguments.vae.empty()) {
    weights::replace_vae(model, arguments.vae, vae_dtype);
  } else if (vae_dtype != dtype) {
    weights::LoadOptions options = load_options(arguments.model_options, vae_dtype);
    options.parts = {"vae"};
    model.vae = std::move(weights::load_model(arguments.model, options).vae);
  }
  return model;
}

/// Writes pictures and says where.
class Pictures {
 public:
  /// `embeddings`: the words that prompts use, and their files' hashes.
  Pictures(const Arguments& arguments, const Asked& asked, std::vector<std::pair<std::string, std::string>> embeddings)
      : arguments_(arguments), asked_(asked), embeddings_(std::move(embeddings)) {
    // A folder may be given as "pictures/": its name is before the slash.
    const fs::path path = weights::located(arguments.model).lexically_normal(),
                   named = path.has_filename() ? path : path.parent_path();
    const bool file = fs::is_regular_file(named);
    model_ = (file ? named.stem() : named.filename()).string();
    // Reading gigabytes takes seconds, the first time: beside the drawing.
    if (file) model_hash_ = std::async(std::launch::async, [named] { return weights::remembered_hashes(named).short_hash(); });
  }

  void write(const fs::path& path, const Tensor& picture, size_t index) const {
    const auto text = generate::infotext_of(asked_.request, index, files_of(index), asked_.networks);
    write_picture(path, picture, generate::to_text(text));
    const io::JsonFields event = {{"event", "picture"},
                                  {"path", path.string()},
                                  {"seed", asked_.request.seed + static_cast<int64_t>(index)}};
    std::printf("%s\n", arguments_.json ? io::json_line(event).c_str() : path.c_str());
    std::fflush(stdout);
  }

 private:
  generate::UsedFiles files_of(size_t index) const {
    generate::UsedFiles files = {.model = model_, .embeddings = embeddings_};
    if (model_hash_.valid()) files.model_hash = model_hash_.get();
    std::map<std::string, std::string> hashes;
    for (const models::NetworkTag& tag : asked_.networks_of(index)) {
      if (tag.kind == "lora") hashes[tag.name] = weights::remembered_hashes(asked_.files.find(tag)).network_hash();
    }
    files.loras.assign(hashes.begin(), hashes.end());
    return files;
  }

  const Arguments& arguments_;
  const Asked& asked_;
  const std::vector<std::pair<std::string, std::string>> embeddings_;
  std::string model_;
  std::shared_future<std::string> model_hash_;
};

std::vector<std::pair<std::string, std::string>> hashes_of(const std::vector<generate::WordVectors>& words,
                                                           const generate::NamedFiles& files) {
  std::vector<std::pair<std::string, std::string>> hashes;
  for (const generate::WordVectors& word : words) {
    const fs::path file = files.find(word.name, "embedding", "--embeddings-dir");
    hashes.emplace_back(word.name, weights::remembered_hashes(file).sha256.substr(0, 12));
  }
  return hashes;
}

/// And the words that the called adapters bring along; those of the folder come first.
std::vector<generate::WordVectors> with_bundled(std::vector<generate::WordVectors> words, const Asked& asked,
                                                const models::Model& model) {
  std::set<fs::path> adapters;
  for (size_t i = 0; i < asked.request.prompts.size(); ++i) {
    for (const models::NetworkTag& tag : asked.networks_of(i)) {
      if (tag.kind == "lora") adapters.insert(asked.files.find(tag));
    }
  }
  for (const fs::path& file : adapters) {
    for (generate::WordVectors& word : generate::bundled_embeddings(file, model)) {
      if (std::ranges::find(words, word.name, &generate::WordVectors::name) == words.end()) words.push_back(std::move(word));
    }
  }
  return words;
}

void draw(const Arguments& arguments) {
  install_stop_handlers();
  set_compute_threads(0);
  const auto reporter = make_reporter(arguments.json);
  Asked asked = asked_by(arguments, *reporter);
  models::Model model = load(arguments);
  asked.request = generate::resolve(asked.request, model);
  generate::Networks networks(model, asked.files);
  const generate::NamedFiles words(arguments.embeddings_folder);
  const auto used_words = generate::embeddings_of(asked.texts(), words, model);
  const generate::ActiveEmbeddings embeddings(model, with_bundled(used_words, asked, model));
  asked.request.names = embeddings.names();
  const Pictures files(arguments, asked, hashes_of(used_words, words));

  std::vector<Tensor> latents, pictures;
  const size_t count = asked.request.prompts.size();
  for (size_t first = 0, part = 0; first < count; first += part) {
    part = asked.drawn_together(first);
    const auto active = networks.activate(asked.networks_of(first));
    const auto request = generate::part_of(asked.request, first, part);
    latents.push_back(generate::sample_latents(model, request, *reporter));
    pictures.push_back(generate::finish(model, request, latents.back(), *reporter));
    for (size_t i = 0; i < part; ++i) {
      files.write(output_path(arguments.output, asked.request, first + i), pictures.back()[static_cast<int64_t>(i)], first + i);
    }
  }
  if (arguments.grid && count > 1) {
    const auto columns = generate::grid_columns(static_cast<int64_t>(count));
    files.write(grid_path(arguments.output, asked.request), generate::make_grid(at::cat(pictures), columns), 0);
  }
  if (!arguments.save_latents.empty()) {
    io::write_safetensors(arguments.save_latents, {{"latents", at::cat(latents).cpu()}});
  }
}

/// Keeps rare options out of --help; --help-more shows them too.
void hide_rare(CLI::App& verb, const std::vector<std::string>& names) {
  std::vector<CLI::Option*> rare;
  for (const std::string& name : names) rare.push_back(verb.get_option(name));
  for (CLI::Option* option : verb.get_options()) {
    if (option->get_group() == "Model") rare.push_back(option);
  }
  for (CLI::Option* option : rare) option->group("");
  verb.add_flag_callback(
      "--help-more",
      [rare] {
        for (CLI::Option* option : rare) option->group("More");
        throw CLI::CallForHelp();
      },
      "Show rarer options, too");
}

}  // namespace

void add_generate(CLI::App& app) {
  auto a = std::make_shared<Arguments>();
  CLI::App* verb = add_verb(app, "generate", "Draws a picture for every prompt. It carries its parameters.",
                            "emulsion generate runs/model/model \"a red apple\" --lora "
                            "runs/style/style.safetensors:0.8 -o apple.png");
  const auto option = [&](const char* name, auto& value, const char* text, const std::string& about) {
    return verb->add_option(name, value, about)->option_text(text);
  };
  option("model", a->model, "MODEL", "Model folder (diffusers layout) or single file")->required();
  option("prompt", a->prompts, "PROMPT...", "What to draw");
  option("--negative", a->negative, "TEXT", "What not to draw");
  option("--from-image", a->from_image, "FILE", "Draw again what this picture says of itself");
  option("--init-image", a->init_image, "FILE", "Start from this picture");
  option("--mask", a->mask, "FILE", "Draw only where this is white");
  option("--strength", a->strength, "X", "Share of the steps taken from the picture [0.75]");
  add_model_arguments(*verb, a->model_options);
  option("--vae", a->vae, "PATH", "Draw with this autoencoder: a file or folder");
  option("--lora", a->loras, "FILE[:WEIGHT]", "Use a LoRA; may be repeated")->allow_extra_args(false);
  option("--lora-dir", a->lora_folder, "FOLDER", "LoRA for <lora:NAME:WEIGHT>");
  option("--hypernetwork", a->hypernetworks, "FILE[:WEIGHT]", "Use a hypernetwork; may be repeated")->allow_extra_args(false);
  option("--hypernetwork-dir", a->hypernetwork_folder, "FOLDER", "Hypernetworks for <hypernet:NAME:WEIGHT>");
  option("--embeddings", a->embeddings_folder, "FOLDER", "Textual inversion, by name");
  option("--seed", a->seed, "N", "Of the first; the next count up [0]")->check(CLI::NonNegativeNumber);
  option("--rng", a->rng, "KIND", "Seeds as emulsion, cpu (PyTorch), nv (CUDA)")
      ->check(CLI::IsMember({"emulsion", "cpu", "nv"}));
  option("--steps", a->steps, "N", "Steps of the sampler [20]")->check(CLI::Range(1, 1000));
  option("--cfg", a->cfg, "X", "Guidance scale; 1: none [7]")->check(CLI::NonNegativeNumber);
  option("--cfg-rescale", a->cfg_rescale, "X", "0 to 1, against burnt colours [0]")->check(CLI::Range(0.0, 1.0));
  option("--clip-skip", a->clip_skip, "N", "The text state N layers from the end [the model's]")->check(CLI::Range(0, 24));
  std::vector<std::string_view> samplers;
  for (const diffusion::Sampler& sampler : diffusion::samplers()) samplers.push_back(sampler.id);
  const auto schedules = config::names_of<diffusion::SigmaSchedule>();
  option("--sampler", a->sampler, "ID", fmt::format("{} [the model's]", fmt::join(samplers, ", ")));
  option("--schedule", a->schedule, "ID", fmt::format("{} [the model's]", fmt::join(schedules, ", ")));
  option("--size", a->size, "WxH", "Pixels [the picture's or the model's]");
  option("--batch", a->batch, "N", "Pictures of each prompt [1]");
  option("--dtype", a->dtype, "DTYPE", "float32 or bfloat16 [float32]")->check(CLI::IsMember({"float32", "bfloat16"}));
  option("--vae-dtype", a->vae_dtype, "DTYPE", "The same for the autoencoder")
      ->check(CLI::IsMember({"float32", "bfloat16"}));
  option("--vae-tiling", a->vae_tiling, "WHEN", "Autoencoder in tiles: auto, on, off")
      ->check(CLI::IsMember({"auto", "on", "off"}));
  option("--prompt-syntax", a->syntax, "KIND", "weighted or plain [weighted]")
      ->check(CLI::IsMember({"weighted", "plain"}));
  option("--init-latents", a->init_latents, "FILE", "Start from these (docs/formats.md)");
  option("--save-latents", a->save_latents, "FILE", "Write the final latents");
  option("-o,--output", a->output, "PATH", "A .png, .jpg or .webp file, or a folder [.]");
  verb->add_flag("--grid", a->grid, "Also write all pictures side by side");
  add_json(*verb, a->json);
  hide_rare(*verb, {"--vae-dtype", "--vae-tiling", "--cfg-rescale", "--clip-skip", "--prompt-syntax", "--init-latents",
                    "--save-latents", "--hypernetwork", "--hypernetwork-dir"});
  verb->callback([a] { draw(*a); });
}

}  // namespace emulsion::app
