#include "models/clip_merges.h"

namespace emulsion::models {
namespace {
constexpr char kMerges[] =
#include "models/clip_merges.inc"
    ;
}  // namespace

std::string_view clip_merges() { return {kMerges, sizeof(kMerges) - 1}; }

}  // namespace emulsion::models
