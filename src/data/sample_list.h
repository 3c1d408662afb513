// Pictures to train on, in any number.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <iterator>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "io/file_map.h"

namespace emulsion::data {

/// What is known of a picture besides its texts.
struct SampleFacts {
  int64_t width = 0, height = 0;  // pixels, upright
  int64_t repeats = 1;            // per epoch
  double weight = 1;              // of its loss
  uint64_t state = 0;             // of its files (picture, mask, caption) when they were read; see file_state
  bool has_alpha = false;
  bool prior_prediction = false;  // the untouched model's prediction is the target
};

/// One picture to train on.
struct Sample : SampleFacts {
  std::filesystem::path path;
  std::string id;                      // stable: path relative to its source, unique in the index
  std::vector<std::string> captions;   // alternatives, at least one; "" where there is none
  std::filesystem::path mask;          // which parts count; the picture itself: its alpha; empty: all
  std::filesystem::path caption_file;  // beside the picture; empty: its caption comes from elsewhere
  std::string content;                 // SHA-256 of the picture's file, hexadecimal; empty: not computed yet
};

/// Whether its mask is another file than the picture.
inline bool has_own_mask(const Sample& sample) { return !sample.mask.empty() && sample.mask != sample.path; }

/// What Sample::state would be now.
uint64_t present_state(const Sample& sample);

/// Samples by number, each put together when it is asked for. In memory they take about the room of their texts; a list that
/// lies in a file takes none. Reading is safe from several threads.
class SampleList {
 public:
  class Iterator;

  SampleList() = default;

  /// The list that lies in `file`: `records` and `ends`, as the functions of these names give them, are parts of its bytes.
  SampleList(std::shared_ptr<const io::FileMap> file, std::string_view records, std::string_view ends)
      : file_(std::move(file)), records_in_file_(records), ends_in_file_(ends) {}

  size_t size() const { return ends().size() / sizeof(uint64_t); }
  bool empty() const { return size() == 0; }

  /// Throws: Error{format} if a file's bytes are damaged.
  Sample operator[](size_t number) const;
  SampleFacts facts(size_t number) const;

  /// Only for a list in memory.
  void push_back(const Sample& sample);

  Iterator begin() const;
  Iterator end() const;

  bool is_in_file() const { return file_ != nullptr; }

  /// The records one behind the other, and for each the place behind its end (uint64).
  std::string_view records() const { return file_ ? records_in_file_ : std::string_view(records_); }
  std::string_view ends() const {
    return file_ ? ends_in_file_
                 : std::string_view(reinterpret_cast<const char*>(ends_.data()), ends_.size() * sizeof(uint64_t));
  }

  /// Gives back the memory that looking at these samples took, if the list lies in a file.
  void release(size_t first, size_t behind) const;

 private:
  uint64_t end_of(size_t number) const;
  std::string_view record(size_t number) const;

  std::string records_;
  std::vector<uint64_t> ends_;
  std::shared_ptr<const io::FileMap> file_;
  std::string_view records_in_file_, ends_in_file_;
};

class SampleList::Iterator {
 public:
  using iterator_concept = std::forward_iterator_tag;
  using iterator_category = std::input_iterator_tag;  // it gives values, not references
  using value_type = Sample;
  using difference_type = std::ptrdiff_t;
  using reference = Sample;
  using pointer = void;

  Iterator() = default;
  Iterator(const SampleList& list, size_t number) : list_(&list), number_(number) {}

  Sample operator*() const { return (*list_)[number_]; }
  Iterator& operator++() {
    ++number_;
    return *this;
  }
  Iterator operator++(int) {
    const Iterator before = *this;
    ++number_;
    return before;
  }
  bool operator==(const Iterator&) const = default;

 private:
  const SampleList* list_ = nullptr;
  size_t number_ = 0;
};

inline SampleList::Iterator SampleList::begin() const { return {*this, 0}; }
inline SampleList::Iterator SampleList::end() const { return {*this, size()}; }

}  // namespace emulsion::data
