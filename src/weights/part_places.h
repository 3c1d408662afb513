// Where the parts of a model stand in files of the field, and in which names: one table.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "weights/part_tensors.h"

namespace emulsion::weights {

enum class Naming { ldm, diffusers, old_diffusers, open_clip, prefixed_clip, bare_clip };

/// A part as a file has it.
struct FoundPart {
  std::string part;    // "unet", "vae", "text_encoder", "text_encoder_2"
  std::string prefix;  // "first_stage_model."
  Naming naming;
  PartTensors tensors;
};

/// Looks for `part` in a single file of a whole model or of that part alone. `wrapper` ("state_dict.") stands before all
/// names. Nothing if it is not there.
std::optional<FoundPart> find_part(const io::TensorFile& file, const std::string& wrapper, const std::string& part);

/// The same in the file of a model folder's part, whose names have no prefix.
std::optional<FoundPart> find_lone_part(const io::TensorFile& file, const std::string& part);

/// Rules of a naming. Throw: Error{internal} for one that this kind of part never has.
NameRules rules_of(Naming naming, const models::UNetConfig& config);
NameRules rules_of(Naming naming, const models::VaeConfig& config);
NameRules rules_of(Naming naming, const models::ClipTextConfig& config, bool transpose_projection = true);

/// Patterns of the tensors that files carry within a part and that no model needs.
const std::vector<std::string>& ignorable_in(const std::string& part);

/// The same for tensors outside the parts: schedules, averages, training state.
const std::vector<std::string>& ignorable_outside_parts();

}  // namespace emulsion::weights
