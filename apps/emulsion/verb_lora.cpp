// emulsion lora: what is done with trained LoRA files.
#include <CLI/CLI.hpp>
#include <cstdio>
#include <filesystem>

#include "adapters/adapter_set.h"
#include "arguments.h"
#include "core/error.h"
#include "core/stop.h"
#include "io/jsonl.h"
#include "model_arguments.h"
#include "terminal.h"
#include "text.h"
#include "verbs.h"
#include "weights/adapter_file.h"
#include "weights/load_model.h"
#include "weights/lora_file.h"
#include "weights/model_folder.h"
#include "weights/single_file.h"

namespace emulsion::app {
namespace {

namespace fs = std::filesystem;
using weights::LoraFile;
using weights::LowRankUpdate;

struct Arguments {
  std::string model, other, in, out, dtype;
  std::vector<std::string> files;  // FILE[:WEIGHT]
  weights::RankRule rule;
  bool json = false;
};

void save_model(const std::string& out, const models::Model& model, at::ScalarType dtype) {
  if (fs::path(out).extension() != ".safetensors") return weights::save_model_folder(out, model, dtype);
  weights::save_single_file(out, model, {.dtype = dtype, .title = fs::path(out).stem().string()});
}

/// What came of it: the file, and figures about it.
void say(const Arguments& a, const std::string& what, io::JsonFields figures) {
  figures.insert(figures.begin(), {{"event", "result"}, {"path", a.out}});
  std::printf("%s\n", a.json ? io::json_line(figures).c_str() : fmt::format("{}: {}", a.out, what).c_str());
}

void merge(const Arguments& a) {
  models::Model model = weights::load_model(a.model, {.dtype = at::ScalarType::Undefined});
  int64_t layers = 0;
  for (const std::string& text : a.files) {
    const auto [file, weight] = file_and_weight(text);
    adapters::AdapterSet set = weights::load_adapter(file, model);
    adapters::bake(set, weight, model.components());
    layers += static_cast<int64_t>(set.bound().size());
  }
  save_model(a.out, model, dtype_named(a.dtype.empty() ? "stored" : a.dtype));
  say(a, fmt::format("{} with {} in {} layers", a.model, counted(static_cast<int64_t>(a.files.size()), "adapters"), layers),
      {{"layers", layers}});
}

int64_t largest_rank(const LoraFile& lora) {
  int64_t rank = 0;
  for (const auto& [layer, update] : lora.layers) rank = std::max(rank, update.rank());
  return rank;
}

/// A change of weights, and what of it was kept: sums of squared norms.
struct Change {
  LoraFile lora;
  double whole = 0, kept = 0;

  void add(double norm, const LowRankUpdate& update) {
    whole += norm * norm;
    kept += std::pow(weights::norm(update), 2);
  }
  double share() const { return whole == 0 ? 1 : std::sqrt(kept / whole); }
};

void save(const Arguments& a, const Change& change, at::ScalarType usual, const char* of_what) {
  const auto layers = static_cast<int64_t>(change.lora.layers.size());
  weights::write_lora(a.out, change.lora, a.dtype.empty() ? usual : dtype_named(a.dtype));
  say(a,
      fmt::format("{} layers, rank up to {}, {:.2f} % of the {}'s norm", layers, largest_rank(change.lora), 100 * change.share(),
                  of_what),
      {{"layers", layers}, {"rank", largest_rank(change.lora)}, {"kept_norm", change.share()}});
}

/// Every layer cut to what the rule keeps.
Change resized(const Arguments& a, LoraFile lora) {
  const auto reporter = make_reporter(a.json);
  Progress progress(*reporter, "Resizing", static_cast<int64_t>(lora.layers.size()), "layers");
  Change change;
  int64_t done = 0;
  for (auto& [layer, update] : lora.layers) {
    EMULSION_CHECK(!stop_requested(), cancelled, "stopped; nothing is written");
    const double whole = weights::norm(update);
    update = weights::resized(update, a.rule);
    change.add(whole, update);
    progress.advance(++done);
  }
  change.lora = std::move(lora);
  return change;
}

void add_up(const Arguments& a) {
  std::vector<LoraFile> files;
  std::vector<double> weights_of;
  for (const std::string& text : a.files) {
    const auto [file, weight] = file_and_weight(text);
    files.push_back(weights::read_lora(file));
    weights_of.push_back(weight);
  }
  LoraFile sum = weights::sum(files, weights_of);
  save(a, a.rule.any() ? resized(a, std::move(sum)) : Change{std::move(sum)}, at::kFloat, "change");
}

void resize(const Arguments& a) { save(a, resized(a, weights::read_lora(a.in)), at::kFloat, "change"); }

/// The layers in which two models differ, as LoRA.
Change difference(const Arguments& a, const models::Model& base, const models::Model& tuned) {
  const weights::LayerNames names(base);
  std::map<std::string, nn::Leaf*> others;
  for (const auto& [name, leaf] : adapters::leaves_of(tuned.components())) others[name] = leaf;
  const auto leaves = adapters::leaves_of(base.components());
  const auto reporter = make_reporter(a.json);
  Progress progress(*reporter, "Extracting", static_cast<int64_t>(leaves.size()), "layers");
  Change change;
  int64_t done = 0;
  for (const auto& [name, leaf] : leaves) {
    EMULSION_CHECK(!stop_requested(), cancelled, "stopped; nothing is written");
    progress.advance(++done);
    if (leaf->kind == nn::LeafKind::embedding || name.starts_with("vae.")) continue;
    const auto other = others.find(name);
    EMULSION_CHECK(other != others.end() && other->second->weight->shape == leaf->weight->shape, shape,
                   "[lora] '{}' is not the same layer in both models; they are of different families", name);
    const Tensor matrix = (other->second->weight->value - leaf->weight->value).contiguous().flatten(1);
    const double norm = matrix.norm().item<double>();
    if (norm == 0) continue;
    LowRankUpdate update = weights::low_rank(matrix, a.rule);
    update.down_shape.assign(leaf->weight->shape.begin() + 1, leaf->weight->shape.end());
    change.add(norm, update);
    change.lora.layers.emplace(names.written(name, weights::AdapterNaming::kohya), std::move(update));
  }
  return change;
}

void extract(const Arguments& a) {
  const Change change = difference(a, weights::load_model(a.model), weights::load_model(a.other));
  EMULSION_CHECK(!change.lora.layers.empty(), config,
                 "[lora] the two models are equal in every layer; there is nothing to extract");
  save(a, change, at::kHalf, "difference");
}

void diff(const Arguments& a) {
  const LoraFile one = weights::read_lora(a.in), two = weights::read_lora(a.other);
  std::vector<std::vector<std::string>> rows = {{"layer", "first's norm", "second's norm", "difference / first"}};
  for (const auto& [layer, update] : one.layers) {
    const auto other = two.layers.find(layer);
    if (other == two.layers.end()) {
      rows.push_back({layer, fmt::format("{:.4g}", weights::norm(update)), "missing", ""});
      continue;
    }
    const double first = weights::norm(update), apart = weights::norm(weights::sum({update, other->second}, {1, -1}, layer));
    if (a.json) {
      std::printf("%s\n", io::json_line({{"event", "layer"},
                                         {"name", layer},
                                         {"first", first},
                                         {"second", weights::norm(other->second)},
                                         {"difference", apart}})
                              .c_str());
    }
    rows.push_back({layer, fmt::format("{:.4g}", first), fmt::format("{:.4g}", weights::norm(other->second)),
                    first > 0 ? fmt::format("{:.4f}", apart / first) : "first is zero"});
  }
  for (const auto& [layer, update] : two.layers) {
    if (!one.layers.contains(layer)) rows.push_back({layer, "missing", fmt::format("{:.4g}", weights::norm(update)), ""});
  }
  if (!a.json) std::fputs(table(rows).c_str(), stdout);
}

void norms(const Arguments& a) {
  std::vector<std::vector<std::string>> rows = {{"layer", "rank", "norm", "rank of 90 %", "largest singular values"}};
  for (const auto& [layer, update] : weights::read_lora(a.in).layers) {
    const Tensor values = weights::singular_values(update);
    const int64_t enough = values[0].item<double>() > 0 ? weights::kept(values, {.keep_norm = 0.9}) : 0;
    std::vector<std::string> largest;
    for (int64_t i = 0; i < std::min<int64_t>(4, values.size(0)); ++i)
      largest.push_back(fmt::format("{:.3g}", values[i].item<double>()));
    if (a.json) {
      std::printf(
          "%s\n",
          io::json_line(
              {{"event", "layer"}, {"name", layer}, {"rank", update.rank()}, {"norm", weights::norm(update)}, {"rank_90", enough}})
              .c_str());
    }
    rows.push_back({layer, std::to_string(update.rank()), fmt::format("{:.4g}", weights::norm(update)), std::to_string(enough),
                    fmt::format("{}", fmt::join(largest, " "))});
  }
  if (!a.json) std::fputs(table(rows).c_str(), stdout);
}

/// One verb below `lora`, with what it takes.
class Verb {
 public:
  Verb(CLI::App& parent, const char* name, const char* about, const char* example, void (*run)(const Arguments&))
      : a_(std::make_shared<Arguments>()), verb_(add_verb(parent, name, about, example)) {
    add_json(*verb_, a_->json);
    verb_->callback([a = a_, run] {
      install_stop_handlers();
      run(*a);
    });
  }
  Verb& path(std::string Arguments::*place, const char* name, const char* text, const char* about) {
    verb_->add_option(name, (*a_).*place, about)->option_text(text)->required();
    return *this;
  }
  Verb& files() {
    verb_->add_option("files", a_->files, "LoRA files, each with a weight [1]")->option_text("FILE[:WEIGHT]...")->required();
    return *this;
  }
  Verb& output(const char* text, const char* dtype) {
    verb_->add_option("-o,--output", a_->out, "What to write")->option_text(text)->required();
    verb_->add_option("--dtype", a_->dtype, dtype)->option_text("DTYPE");
    return *this;
  }
  Verb& rank() {
    verb_->add_option("--rank", a_->rule.rank, "Largest rank of a layer")->option_text("N")->check(CLI::Range(1, 4096));
    verb_->add_option("--keep-norm", a_->rule.keep_norm, "Share of each layer's Frobenius norm that stays")
        ->option_text("X")
        ->check(CLI::Range(0.0, 1.0));
    verb_->add_option("--keep-sum", a_->rule.keep_sum, "Share of the sum of its singular values that stays")
        ->option_text("X")
        ->check(CLI::Range(0.0, 1.0));
    verb_->add_option("--ratio", a_->rule.ratio, "Singular values below the largest / X go")
        ->option_text("X")
        ->check(CLI::Range(1.0, 1e9));
    return *this;
  }

 private:
  std::shared_ptr<Arguments> a_;
  CLI::App* verb_;
};

}  // namespace

void add_lora(CLI::App& app) {
  CLI::App* verb = add_verb(app, "lora", "Works on LoRA files: into a model, several into one, to another rank.",
                            "emulsion lora resize style.safetensors --keep-norm 0.95 -o small.safetensors");
  verb->require_subcommand(1);
  Verb(*verb, "merge", "Puts adapters of any kind into a model's weights.",
       "emulsion lora merge sd15.safetensors style.safetensors:0.8 -o styled.safetensors", merge)
      .path(&Arguments::model, "model", "MODEL", "Model folder or single file")
      .files()
      .output("OUT", "Folder, or a name that ends in .safetensors: float32, float16, bfloat16 or stored [stored]");
  Verb(*verb, "add", "Adds LoRA files up to one: exactly, the ranks added, or cut to a rank.",
       "emulsion lora add style.safetensors:0.7 face.safetensors --rank 32 -o both.safetensors", add_up)
      .files()
      .rank()
      .output("FILE", "float32, float16 or bfloat16 [float32]");
  Verb(*verb, "resize", "The nearest LoRA of a lower rank, by singular values.",
       "emulsion lora resize style.safetensors --keep-norm 0.95 -o small.safetensors", resize)
      .path(&Arguments::in, "in", "FILE", "LoRA file")
      .rank()
      .output("FILE", "float32, float16 or bfloat16 [float32]");
  Verb(*verb, "extract", "What a tuned model has learnt, as a LoRA for the base model.",
       "emulsion lora extract sd15.safetensors tuned.safetensors --rank 32 -o learnt.safetensors", extract)
      .path(&Arguments::model, "base", "BASE", "Model that the other was tuned from")
      .path(&Arguments::other, "tuned", "TUNED", "Tuned model")
      .rank()
      .output("FILE", "float32, float16 or bfloat16 [float16]");
  Verb(*verb, "diff", "Compares two LoRA files layer by layer.", "emulsion lora diff style.safetensors small.safetensors", diff)
      .path(&Arguments::in, "first", "FILE", "LoRA file")
      .path(&Arguments::other, "second", "FILE", "LoRA file");
  Verb(*verb, "norms", "How much each layer changes, and with which rank.", "emulsion lora norms style.safetensors", norms)
      .path(&Arguments::in, "in", "FILE", "LoRA file");
}

}  // namespace emulsion::app
