// Internal to io: the directory of a ZIP archive whose records are stored without compression.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string_view>
#include <vector>

namespace emulsion::io {

struct ZipRecord {
  std::string_view name;        // a view of the file
  uint64_t begin = 0, end = 0;  // where in the file its data lies
};

/// In the order of the data. Every record is described twice, in front of its data and in the
/// directory at the end; both must say the same. With this there is one way to read the file: no
/// record hides behind another, in a comment, or before or after the archive.
///
/// Throws: Error{format} if it is cut off or damaged, compressed or encrypted, has a name twice, or
/// records that overlap.
/// Source: PKWARE, APPNOTE.TXT 6.3.10, sections 4.3 and 4.5.3 (ZIP64).
std::vector<ZipRecord> read_zip(const std::filesystem::path& path, std::string_view bytes);

}  // namespace emulsion::io
