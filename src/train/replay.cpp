#include "train/replay.h"

#include "core/error.h"
#include "train/trainer.h"

namespace emulsion::train {

NamedTensors replay(const RunConfig& config, Method& method, const io::SafetensorsFile& recording, bool update) {
  EMULSION_CHECK(recording.contains("step.0.latents"), not_found,
                 "[replay] {}: expected 'step.0.latents', .noise, .timesteps and .context or .input_ids; it has none",
                 recording.path().string());
  Learner learner(config, method);
  NamedTensors out;
  for (int64_t k = 0; recording.contains(fmt::format("step.{}.latents", k)); ++k) {
    const auto name = [k](const std::string& what) { return fmt::format("step.{}.{}", k, what); };
    const auto optional = [&](const std::string& what) {
      return recording.contains(name(what)) ? recording.tensor(name(what)) : Tensor();
    };
    DenoisingInputs inputs;
    inputs.latents = recording.tensor(name("latents")).to(at::kFloat);
    inputs.noise = recording.tensor(name("noise")).to(at::kFloat);
    inputs.timesteps = recording.tensor(name("timesteps")).to(at::kLong);
    inputs.conditioning = {optional("context"), optional("pooled"), optional("size_ids")};
    const Tensor ids = optional("input_ids");
    EMULSION_CHECK(inputs.conditioning.context.defined() || ids.defined(), not_found,
                   "[replay] {}: expected '{}' or '{}', found neither", recording.path().string(), name("context"),
                   name("input_ids"));
    learner.begin(k);
    const Loss loss = method.replay(inputs, ids);
    loss.value.backward();
    out.emplace_back(name("prediction"), loss.prediction.detach());
    out.emplace_back(name("loss"), loss.value.detach());
    for (const Trainable& trainable : learner.trainables()) {
      Tensor& grad = trainable.place->mutable_grad();
      if (grad.defined()) out.emplace_back(name("grad." + trainable.name), grad.clone());
      if (!update) grad = Tensor();
    }
    if (update) out.emplace_back(name("grad_norm"), at::scalar_tensor(learner.update().grad_norm, at::kFloat));
  }
  if (update) {
    for (const optim::Param& param : learner.params()) out.emplace_back("final." + param.name, optim::weight_of(param).clone());
  }
  return out;
}

}  // namespace emulsion::train
