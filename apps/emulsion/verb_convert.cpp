// emulsion convert: models from one layout and dtype into another.
#include <CLI/CLI.hpp>
#include <cstdio>

#include "core/error.h"
#include "io/jsonl.h"
#include "model_arguments.h"
#include "text.h"
#include "verbs.h"
#include "weights/load_model.h"
#include "weights/model_folder.h"
#include "weights/single_file.h"

namespace emulsion::app {
namespace {

namespace fs = std::filesystem;

struct Arguments {
  std::string in, out, layout, dtype = "stored", vae, title;
  std::vector<std::string> components;
  bool json = false;
  ModelArguments model;
};

/// "ldm" or "diffusers", as given or as the name of OUT says.
std::string layout_of(const Arguments& arguments) {
  const bool file = fs::path(arguments.out).extension() == ".safetensors";
  if (arguments.layout.empty()) return file ? "ldm" : "diffusers";
  EMULSION_CHECK(arguments.layout != "ldm" || file, config,
                 "OUT: expected a name that ends in .safetensors for the layout ldm, got '{}'", arguments.out);
  EMULSION_CHECK(arguments.layout != "diffusers" || !file, config,
                 "OUT: expected a folder for the layout diffusers, got '{}'", arguments.out);
  return arguments.layout;
}

int64_t bytes_in(const fs::path& path) {
  if (!fs::is_directory(path)) return static_cast<int64_t>(fs::file_size(path));
  int64_t bytes = 0;
  for (const auto& item : fs::recursive_directory_iterator(path)) {
    if (item.is_regular_file()) bytes += static_cast<int64_t>(item.file_size());
  }
  return bytes;
}

void print(const Arguments& arguments, const models::Model& model, const weights::LoadReport& report) {
  std::vector<std::vector<std::string>> rows;
  for (const auto& decision : report.decisions) rows.push_back({decision.what, decision.from});
  std::fputs(table(rows).c_str(), stdout);
  std::vector<std::string> parts;
  for (const nn::Component& part : model.components()) parts.push_back(part.name);
  std::printf("%s: %s, %s\n", arguments.out.c_str(), fmt::format("{}", fmt::join(parts, ", ")).c_str(),
              human_bytes(bytes_in(arguments.out)).c_str());
}

void print_json(const Arguments& arguments, const std::string& layout, const models::Model& model,
                const weights::LoadReport& report) {
  const auto event = [](const io::JsonFields& fields) { std::printf("%s\n", io::json_line(fields).c_str()); };
  for (const auto& decision : report.decisions) {
    event({{"event", "decision"}, {"what", decision.what}, {"from", decision.from}});
  }
  for (const nn::Component& part : model.components()) {
    event({{"event", "part"}, {"name", part.name}, {"numbers", part.store->numel()}});
  }
  event({{"event", "result"},
         {"path", arguments.out},
         {"layout", layout},
         {"dtype", arguments.dtype},
         {"bytes", bytes_in(arguments.out)}});
}

void convert(const Arguments& arguments) {
  const at::ScalarType dtype = dtype_named(arguments.dtype);
  const std::string layout = layout_of(arguments);
  std::error_code missing;
  EMULSION_CHECK(!fs::equivalent(arguments.in, arguments.out, missing), config,
                 "OUT: expected another place than IN, got '{}' for both", arguments.out);
  weights::LoadReport report;
  weights::LoadOptions options = load_options(arguments.model, at::ScalarType::Undefined);
  options.parts.insert(arguments.components.begin(), arguments.components.end());
  options.report = &report;
  models::Model model = weights::load_model(arguments.in, options);
  if (!arguments.vae.empty()) weights::replace_vae(model, arguments.vae, at::ScalarType::Undefined);
  if (layout == "diffusers") {
    weights::save_model_folder(arguments.out, model, dtype);
  } else {
    const std::string title = arguments.title.empty() ? fs::path(arguments.out).stem().string() : arguments.title;
    weights::save_single_file(arguments.out, model,
                              {.dtype = dtype,
                               .kohya_text_projection = arguments.model.kohya_projection,
                               .bare = arguments.components.size() == 1,
                               .title = title});
  }
  arguments.json ? print_json(arguments, layout, model, report) : print(arguments, model, report);
}

}  // namespace

void add_convert(CLI::App& app) {
  auto a = std::make_shared<Arguments>();
  CLI::App* verb = add_verb(app, "convert",
                            "Writes a model in another layout or dtype: a folder as diffusers has it, or a single file "
                            "as A1111, ComfyUI and kohya's scripts read it.",
                            "emulsion convert runs/fruit/model fruit.safetensors --dtype float16");
  const auto option = [&](const char* name, auto& value, const char* text, const char* about) {
    return verb->add_option(name, value, about)->option_text(text);
  };
  option("in", a->in, "IN", "Model folder or single file")->required();
  option("out", a->out, "OUT", "Folder, or a name that ends in .safetensors")->required();
  option("--layout", a->layout, "LAYOUT", "diffusers or ldm [as OUT is named]")
      ->check(CLI::IsMember({"diffusers", "ldm"}));
  option("--dtype", a->dtype, "DTYPE", "float32, float16, bfloat16 or stored [stored]");
  option("--component", a->components, "PART",
         "Only unet, vae, text_encoder or text_encoder_2; may be repeated. One alone makes a file without prefixes")
      ->allow_extra_args(false)
      ->check(CLI::IsMember({"unet", "vae", "text_encoder", "text_encoder_2"}));
  option("--vae", a->vae, "VAE", "Put this autoencoder in: a file or folder, of its own or of a model");
  option("--title", a->title, "TEXT", "Title in the header of a single file [its name]");
  add_json(*verb, a->json);
  add_model_arguments(*verb, a->model);
  verb->callback([a] { convert(*a); });
}

}  // namespace emulsion::app
