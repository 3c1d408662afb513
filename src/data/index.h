// Which pictures and captions there are, and what is wrong with the others.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "data/config.h"

namespace emulsion::data {

/// One picture to train on.
struct Sample {
  std::filesystem::path path;
  std::string id;                     // stable: path relative to its source, unique in the index
  std::vector<std::string> captions;  // alternatives, at least one; "" where there is none
  int64_t width = 0, height = 0;      // pixels, upright
  bool has_alpha = false;
  int64_t repeats = 1;  // per epoch
  double weight = 1;    // of its loss
  std::filesystem::path mask;  // which parts count; the picture itself: its alpha; empty: all
  bool prior_prediction = false;  // the untouched model's prediction is the target
};

/// A file that is left out, or used other than its owner may expect.
struct Problem {
  std::filesystem::path path;
  std::string place;   // file, with line where there is one
  std::string reason;  // expected and actual
  std::string action;  // what was done, and the remedy
};

/// "place: reason; action"
std::string to_string(const Problem& problem);

struct Index {
  std::vector<Sample> samples;                     // sorted by source, then id
  std::vector<Problem> problems;                   // in the order found
  std::map<std::string, int64_t> formats;          // "png": 12
  std::map<std::string, int64_t> caption_origins;  // "sidecar", "metadata", "folder name",
                                                   // "file name", "fixed", "none"

  /// Sum of repeats: draws per epoch.
  int64_t draws() const;
};

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

/// Lower-case hexadecimal SHA-256 of a picture's file: the first part of cache keys.
std::string content_hash(const Sample& sample);

}  // namespace emulsion::data
