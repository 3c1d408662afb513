#include "fuzz/targets.h"

#include <fmt/format.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdlib>

#include "core/error.h"
#include "diffusion/scheduler_config.h"
#include "generate/infotext.h"
#include "io/file_error.h"
#include "io/tensor_contents.h"
#include "io/tensor_file.h"
#include "models/clip_text.h"
#include "models/prompt.h"
#include "models/prompt_parts.h"
#include "models/prompt_timeline.h"
#include "models/tokenizer.h"
#include "models/unet_config.h"
#include "models/vae.h"

namespace emulsion::fuzz {
namespace {

void require(bool holds) {
  if (!holds) std::abort();
}

template <class F>
void allow_errors(F&& f) {
  try {
    f();
  } catch (const Error& error) {
    require(error.code() != ErrorCode::internal);
  }
}

// --- Files of tensors ----------------------------------------------------------------------------

/// The bytes as a file that has a path, without touching a disk.
class MemoryFile {
 public:
  explicit MemoryFile(std::string_view bytes) : descriptor_(::memfd_create("fuzz", 0)) {
    io::write_fully(descriptor_.get(), path(), bytes.data(), bytes.size());
  }
  std::filesystem::path path() const { return fmt::format("/proc/self/fd/{}", descriptor_.get()); }

 private:
  io::ScopedDescriptor descriptor_;
};

/// Every tensor is read; what one says of itself must fit the file.
void read_tensors(std::string_view input) {
  const MemoryFile memory(input);
  const io::TensorFile file = io::open_tensor_file(memory.path());
  constexpr uint64_t kCopied = 1 << 20;
  for (const auto& entry : file.entries()) {
    require(entry.begin <= entry.end && entry.end <= input.size());
    allow_errors([&] {
      const Tensor tensor = file.tensor(entry.name);
      require(tensor.numel() == entry.numel());
      if (entry.bytes() <= kCopied) tensor.contiguous().clone();
    });
  }
}

/// First without a file: the sanitizer sees the end of a string, yet not that of a memory map.
template <io::TensorContents (*kRead)(const std::filesystem::path&, std::string_view)>
void read_file_of_tensors(std::string_view input) {
  allow_errors([&] {
    const std::string copy(input);
    kRead("fuzz", copy);
    read_tensors(input);
  });
}

// --- Texts ---------------------------------------------------------------------------------------

void read_prompt(std::string_view input) {
  static const models::ClipTokenizer tokenizer = models::ClipTokenizer::standard();
  const int64_t steps = input.empty() ? 1 : 1 + static_cast<uint8_t>(input[0]) % 50;
  const auto timeline = models::prompt_timeline(input, steps);
  require(!timeline.empty() && timeline.back().last_step >= steps - 1);
  models::parse_prompt(input);
  allow_errors([&] {
    for (const auto& part : models::split_prompt(input).parts) {
      for (const auto& timed : models::prompt_timeline(part.text, steps)) {
        for (const auto& chunk : models::tokenise_prompt(tokenizer, timed.text)) {
          require(chunk.ids.size() == models::kClipLength &&
                  chunk.weights.size() == chunk.ids.size());
        }
      }
    }
  });
}

void read_infotext(std::string_view input) {
  const generate::Infotext read = generate::parse_infotext(input);
  generate::parse_infotext(generate::to_text(read));
  for (const auto& [name, value] : read.settings) {
    if (name == "Sampler") generate::sampler_ids(value, "");
  }
}

/// What is read can be written, and reads back the same.
void read_configs(std::string_view input) {
  const std::string text(input);
  allow_errors([&] { models::to_json(models::unet_config_from_json(text, "fuzz")); });
  allow_errors([&] { models::to_json(models::vae_config_from_json(text, "fuzz")); });
  allow_errors([&] { models::to_json(models::clip_text_config_from_json(text, "fuzz")); });
  allow_errors([&] { diffusion::to_json(diffusion::parse_scheduler_config(text, "fuzz")); });
  allow_errors([&] { read_tensors(input); });  // the index of a set of shards
}

constexpr Target kTargets[] = {
    {"safetensors", read_file_of_tensors<io::read_safetensors>},
    {"torch_zip", read_file_of_tensors<io::read_torch_zip>},
    {"torch_legacy", read_file_of_tensors<io::read_torch_legacy>},
    {"prompt", read_prompt},
    {"infotext", read_infotext},
    {"json", read_configs},
};

}  // namespace

std::span<const Target> targets() { return kTargets; }

}  // namespace emulsion::fuzz
