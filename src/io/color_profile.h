// Internal to io: which colour profile a picture has.
#pragma once

#include <string>
#include <string_view>

namespace emulsion::io {

/// The description inside an ICC profile (ICC.1:2022, sections 7.3 and 9.2.41), ASCII part only; ""
/// if there is none.
std::string color_profile_name(std::string_view icc);

/// Whether the profile says that it is plain sRGB.
bool is_srgb_profile(std::string_view icc);

}  // namespace emulsion::io
