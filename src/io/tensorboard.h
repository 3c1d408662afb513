// TensorBoard event files: scalars, pictures and text, without TensorFlow or protobuf.
//
// A file is a sequence of records, each framed by its length and masked CRC32C sums
// (tensorflow/core/lib/io/ record_writer); a record is one Event message
// (tensorflow/core/util/event.proto).
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>

#include "core/tensor.h"

namespace emulsion::io {

/// CRC32C (Castagnoli polynomial), as in RFC 3720.
uint32_t crc32c(std::string_view bytes);

/// Writes one event file. Not for several threads at once.
class EventWriter {
 public:
  /// Creates `folder`/events.out.tfevents.<seconds>.emulsion.<pid>.<n>, or the file `folder`/`name`
  /// if `name` is not empty (TensorBoard wants "tfevents" in it); an existing file of that name is
  /// appended to. `purge_step` >= 0: TensorBoard drops what earlier files of the folder hold at or
  /// after that step. Throws: Error{io}; Error{config} if `name` lacks "tfevents".
  explicit EventWriter(const std::filesystem::path& folder, int64_t purge_step = -1,
                       const std::string& name = "");
  /// Flushes; errors are dropped here, so call flush() where they matter.
  ~EventWriter();
  EventWriter(const EventWriter&) = delete;
  EventWriter& operator=(const EventWriter&) = delete;

  /// `wall_time` in seconds since 1970; below 0: now.
  void scalar(std::string_view tag, int64_t step, double value, double wall_time = -1);
  /// `image` uint8 [H,W,3].
  void image(std::string_view tag, int64_t step, const Tensor& image, double wall_time = -1);
  void text(std::string_view tag, int64_t step, std::string_view text, double wall_time = -1);

  /// Hands everything written so far to the operating system. Also done whenever 64 KiB wait.
  void flush();

  const std::filesystem::path& path() const { return path_; }

 private:
  void record(std::string_view event);

  std::filesystem::path path_;
  std::string buffer_;
  int descriptor_ = -1;
};

}  // namespace emulsion::io
