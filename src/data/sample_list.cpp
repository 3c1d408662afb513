#include "data/sample_list.h"

#include "core/error.h"
#include "data/file_state.h"
#include "data/packed_texts.h"

namespace emulsion::data {

uint64_t present_state(const Sample& sample) {
  uint64_t state = file_state(sample.path);
  if (!sample.caption_file.empty()) state = joined_states(state, file_state(sample.caption_file));
  if (has_own_mask(sample)) state = joined_states(state, file_state(sample.mask));
  return state;
}

uint64_t SampleList::end_of(size_t number) const {
  uint64_t end = 0;
  std::memcpy(&end, ends().data() + number * sizeof(end), sizeof(end));
  return end;
}

std::string_view SampleList::record(size_t number) const {
  EMULSION_CHECK(number < size(), internal, "[index] sample {} of {}", number, size());
  const uint64_t begin = number == 0 ? 0 : end_of(number - 1), end = end_of(number);
  const std::string_view all = records();
  EMULSION_CHECK(begin <= end && end <= all.size(), format, "[index] sample {} lies at bytes {} to {} of {}", number, begin, end,
                 all.size());
  return all.substr(begin, end - begin);
}

SampleFacts SampleList::facts(size_t number) const { return Unpacker(record(number)).take<SampleFacts>(); }

Sample SampleList::operator[](size_t number) const {
  Unpacker from(record(number));
  Sample sample;
  static_cast<SampleFacts&>(sample) = from.take<SampleFacts>();
  sample.path = from.text();
  sample.id = from.text();
  sample.mask = from.text();
  sample.caption_file = from.text();
  sample.content = from.text();
  while (!from.done()) sample.captions.push_back(from.text());
  return sample;
}

void SampleList::push_back(const Sample& sample) {
  EMULSION_CHECK(!is_in_file(), internal, "[index] a list in a file cannot grow");
  pack(records_, static_cast<const SampleFacts&>(sample));
  for (const std::string_view text : {std::string_view(sample.path.native()), std::string_view(sample.id),
                                      std::string_view(sample.mask.native()), std::string_view(sample.caption_file.native()),
                                      std::string_view(sample.content)}) {
    pack_text(records_, text);
  }
  for (const std::string& caption : sample.captions) pack_text(records_, caption);
  ends_.push_back(records_.size());
}

void SampleList::release(size_t first, size_t behind) const {
  if (!file_ || first >= behind) return;
  const auto at = static_cast<size_t>(records_in_file_.data() - file_->bytes().data());
  file_->release(at + (first == 0 ? 0 : end_of(first - 1)), at + end_of(behind - 1));
  const auto ends_at = static_cast<size_t>(ends_in_file_.data() - file_->bytes().data());
  file_->release(ends_at + first * sizeof(uint64_t), ends_at + behind * sizeof(uint64_t));
}

}  // namespace emulsion::data
