#include "train/config.h"

#include <algorithm>

#include "config/config.h"
#include "core/error.h"

namespace emulsion::train {

RunConfig load_run_config(const std::string& file,
                          const std::vector<std::pair<std::string, std::string>>& overrides) {
  RunConfig config = config::from_toml_file<RunConfig>(file, overrides);
  validate(config);
  return config;
}

std::vector<WordConfig> words_of(const RunConfig& config) {
  if (const auto* inversion = std::get_if<TextualInversionMethod>(&config.method)) return {*inversion};
  if (const auto* lora = std::get_if<LoraMethod>(&config.method)) return lora->words;
  return {};
}

void validate(const RunConfig& config) {
  std::vector<std::string> problems;
  const auto rule = [&](bool holds, const std::string& problem) {
    if (!holds) problems.push_back(problem);
  };
  rule(!config.stochastic_rounding || config.dtype == ComputeDtype::bfloat16,
       "stochastic_rounding is for weights in bfloat16; set dtype = \"bfloat16\" or take it out");
  if (config.fused_backward_pass) {
    rule(config.accumulate == 1, "fused_backward_pass uses up each gradient at once; set accumulate = 1");
    rule(config.clip == 0 || config.clip_by != optim::ClipBy::norm,
         "fused_backward_pass never has all gradients together; set clip_by = \"tensor_norm\" (or \"value\"), or clip = 0");
    rule(config.not_finite != NotFinite::skip,
         "fused_backward_pass cannot leave a step out once part of the weights have changed; set not_finite = \"roll_back\" or "
         "\"stop\"");
    rule(config.lanes <= 1, "fused_backward_pass computes a batch whole; set lanes = 1 or 0");
    rule(optim::takes_parts(config.optimizer),
         "fused_backward_pass updates tensor by tensor, but this optimizer.type looks at all together; take adamw or another");
  }
  const bool lora = std::holds_alternative<LoraMethod>(config.method);
  rule(!lora || !config.model.path.empty(),
       "model.path is empty, but method.type = \"lora\" trains on top of a model; give a model folder");
  rule(!std::holds_alternative<HypernetworkMethod>(config.method) || !config.model.path.empty(),
       "model.path is empty, but method.type = \"hypernetwork\" trains on top of a model; give a model folder");
  const LoraMethod* const adapter = std::get_if<LoraMethod>(&config.method);
  rule(!adapter || adapter->start.empty() || !adapters::starts_at_weight(*adapter),
       "method.start and method.init = \"pissa\" or \"olora\" both say how the adapter begins; take one out");
  rule(!adapter || !adapters::starts_at_weight(*adapter) ||
           std::ranges::none_of(config.data.sources, &data::SourceConfig::prior_prediction),
       "data.sources.prior_prediction needs the model as it was, and method.init = \"pissa\" or \"olora\" takes it apart; use "
       "another init");
  rule(!adapter || std::ranges::none_of(adapter->words, [&](const WordConfig& word) { return word.token == config.name; }),
       fmt::format("name = \"{}\" and a token of method.words would name the same file; give the run another name", config.name));
  rule(!adapter || adapter->words.empty() ||
           std::ranges::none_of(config.data.sources, &data::SourceConfig::prior_prediction),
       "data.sources.prior_prediction asks the model as it was, which does not know method.words; take one out");
  rule(config.model.merge.empty() || !config.model.path.empty(), "model.merge needs a model to merge into; give model.path");
  const auto* inversion = std::get_if<TextualInversionMethod>(&config.method);
  rule(!inversion || !config.model.path.empty(),
       "model.path is empty, but method.type = \"textual_inversion\" teaches a model a word; give a model folder");
  for (const WordConfig& word : words_of(config)) {
    rule(!word.token.empty() && word.token.find_first_of("/ \t,.") == std::string::npos,
         fmt::format("token = \"{}\" must be one word without spaces, commas, dots and slashes: it also names the file", word.token));
  }
  rule(!std::holds_alternative<DiffusionMethod>(config.method) || !config.model.path.empty() || !config.model.vae.empty(),
       "model.path and model.vae are both empty; a new diffusion model needs an autoencoder: train one with "
       "method.type = \"autoencoder\" and give its folder as model.vae");
  rule(!config.data.sources.empty(), "data.sources is empty; name at least one folder: [[data.sources]] path = \"...\"");
  const bool autoencoder = std::holds_alternative<AutoencoderMethod>(config.method);
  rule(!autoencoder || config.priors.empty(), "priors need a method that draws; method.type = \"autoencoder\" does not");
  rule(!autoencoder || std::ranges::all_of(config.data.sources, [](const auto& source) { return source.weight == 1; }),
       "data.sources.weight is not used by method.type = \"autoencoder\"; take it out");
  rule(!autoencoder || std::ranges::all_of(config.data.sources, [](const auto& source) { return source.mask.empty(); }),
       "data.sources.mask is not used by method.type = \"autoencoder\"; take it out");
  const bool untouched = lora || std::holds_alternative<HypernetworkMethod>(config.method);
  rule(untouched || std::ranges::none_of(config.data.sources, &data::SourceConfig::prior_prediction),
       "data.sources.prior_prediction needs the untouched model beside what trains; use method.type = \"lora\" or \"hypernetwork\", "
       "or [[priors]]");
  rule((config.validation.every > 0) != config.validation.sources.empty(),
       "validation.every and [[validation.sources]] belong together; give both or neither");
  rule(config.priors.empty() || !config.model.path.empty(), "priors need a model that knows the class; give model.path");
  rule(config.name.find('/') == std::string::npos && !config.name.empty() && config.name[0] != '.',
       fmt::format("name = \"{}\" must be a plain file name", config.name));
  rule(!(config.schedule.warmup_steps > 0 && config.schedule.warmup_fraction > 0),
       "schedule.warmup_steps and schedule.warmup_fraction are both set; keep one");
  EMULSION_CHECK(problems.empty(), config, "[run file] {}", fmt::join(problems, "\n[run file] "));
  data::validate(config.data);
  if (lora) adapters::validate(std::get<LoraMethod>(config.method));
  diffusion::validate(config.objective);
}

}  // namespace emulsion::train
