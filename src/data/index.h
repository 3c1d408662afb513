// Which pictures and captions there are, and what is wrong with the others.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "data/config.h"
#include "data/sample_list.h"

namespace emulsion::data {

/// A file that is left out, or used other than its owner may expect.
struct Problem {
  std::filesystem::path path;
  std::string place;   // file, with line where there is one
  std::string reason;  // expected and actual
  std::string action;  // what was done, and the remedy
};

/// "place: reason; action"
std::string to_string(const Problem& problem);

/// A file or folder that decides what is in an index, and its state (see file_state) when it was looked at.
struct Watched {
  std::filesystem::path path;
  uint64_t state = 0;
};

struct Index {
  SampleList samples;                              // sorted by source, then id
  std::vector<Problem> problems;                   // in the order found
  std::map<std::string, int64_t> formats;          // "png": 12
  std::map<std::string, int64_t> caption_origins;  // "sidecar", "metadata", "folder name",
                                                   // "file name", "fixed", "none"
  std::vector<Watched> watched;                    // besides the samples' own files

  /// Sum of repeats: draws per epoch.
  int64_t draws() const;
};

/// Adds the files of a picture that is left out to index.watched.
void watch_files(Index& index, const Sample& sample);

/// Lists the pictures of all sources, reading only their headers.
///
/// A source is a folder, searched with its sub-folders (hidden ones left out). A sub-folder named
/// N_name repeats its pictures N times. The caption of a picture is, in this order: the source's
/// fixed one; its entry in a metadata.jsonl or metadata.csv (columns file_name and text) of its
/// folder or one above; the file beside it with ending .txt or .caption; the name of an N_name
/// folder; its file name with - and _ as spaces and without numbers at the end.
///
/// Throws: Error{not_found} if a source does not exist or holds no picture; Error{io}. Everything
/// wrong with single files is a Problem, and the picture is left out.
Index scan(const DataConfig& config);

/// Lower-case hexadecimal SHA-256 of a picture's file, the first part of cache keys: Sample::content, computed where it is empty.
std::string content_hash(const Sample& sample);

}  // namespace emulsion::data
