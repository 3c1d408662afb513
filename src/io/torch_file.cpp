#include "core/error.h"
#include "io/tensor_contents.h"

namespace emulsion::io {

TensorContents read_torch_zip(const std::filesystem::path& path, std::string_view) {
  throw Error(ErrorCode::unsupported, fmt::format("{}: files of torch.save are not read yet; "
                                                  "convert it to safetensors", path.string()));
}

TensorContents read_torch_legacy(const std::filesystem::path& path, std::string_view) {
  throw Error(ErrorCode::unsupported, fmt::format("{}: files of torch.save are not read yet; "
                                                  "convert it to safetensors", path.string()));
}

}  // namespace emulsion::io
