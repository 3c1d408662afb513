#include <mutex>
#include <unordered_map>

#include "core/error.h"
#include "data/loader.h"
#include "data/masks.h"
#include "io/image.h"

namespace emulsion::data {
namespace {

// uint8 [h,w,4], straight alpha -> premultiplied, which can be resized without coloured fringes.
Tensor premultiplied(const Tensor& image) {
  Tensor out = image.clone();
  uint8_t* pixel = out.data_ptr<uint8_t>();
  for (int64_t i = 0; i < out.size(0) * out.size(1); ++i, pixel += 4) {
    for (int c = 0; c < 3; ++c) pixel[c] = static_cast<uint8_t>((pixel[c] * pixel[3] + 127) / 255);
  }
  return out;
}

int64_t offset(int64_t room, double where) {
  return std::min(static_cast<int64_t>(where * static_cast<double>(room + 1)), room);
}

struct Corner {
  int64_t left, top;
};

// Where `choices` cut `size` out of a picture of size `from`, before any flip.
Corner corner(Size from, Size size, const Choices& choices) {
  // The centre rounds down, as integer division does.
  const bool centre = choices.crop_x == 0.5 && choices.crop_y == 0.5;
  const int64_t room_x = from.width - size.width, room_y = from.height - size.height;
  return {centre ? room_x / 2 : offset(room_x, choices.crop_x), centre ? room_y / 2 : offset(room_y, choices.crop_y)};
}

std::vector<float> size_ids(const Sample& sample, const Fit& fit, const Choices& choices) {
  const Corner cut = corner(fit.resized, fit.size, choices);
  const int64_t left = choices.flip ? fit.resized.width - fit.size.width - cut.left : cut.left;
  std::vector<float> ids;
  for (const int64_t value : {sample.height, sample.width, cut.top, left, fit.size.height, fit.size.width}) {
    ids.push_back(static_cast<float>(value));
  }
  return ids;
}

// Writes the part of `image` (uint8 [h,w,3 or 4]) that `choices` name as [size.height,size.width,3]
// float in [-1, 1] to `out`.
void write_pixels(const Tensor& image, Size size, const Choices& choices, float* out) {
  const int64_t channels = image.size(2), stride = image.size(1) * channels;
  const Corner cut = corner({image.size(1), image.size(0)}, size, choices);
  const uint8_t* base = image.data_ptr<uint8_t>() + cut.top * stride + cut.left * channels;
  for (int64_t y = 0; y < size.height; ++y) {
    for (int64_t x = 0; x < size.width; ++x) {
      const int64_t from = choices.flip ? size.width - 1 - x : x;
      const uint8_t* pixel = base + y * stride + from * channels;
      const int hidden = channels == 4 ? 255 - pixel[3] : 0;
      for (int c = 0; c < 3; ++c, ++out) {
        const int value =
            pixel[c] + (hidden * choices.background[static_cast<size_t>(c)] + 127) / 255;
        *out = static_cast<float>(std::min(value, 255)) / 127.5f - 1.0f;
      }
    }
  }
}

// Writes the part of `mask` (uint8 [h,w]) that `choices` name as [size.height,size.width] float in [0, 1] to `out`.
void write_mask(const Tensor& mask, Size size, const Choices& choices, float* out) {
  const Corner cut = corner({mask.size(1), mask.size(0)}, size, choices);
  const uint8_t* base = mask.const_data_ptr<uint8_t>() + cut.top * mask.size(1) + cut.left;
  for (int64_t y = 0; y < size.height; ++y) {
    const uint8_t* row = base + y * mask.size(1);
    for (int64_t x = 0; x < size.width; ++x) *out++ = static_cast<float>(row[choices.flip ? size.width - 1 - x : x]) / 255.0f;
  }
}

}  // namespace

// Resized pictures by sample, until the budget is spent.
class BatchSource::Cache {
 public:
  explicit Cache(int64_t budget) : room_(budget) {}

  Tensor find(int64_t sample) {
    const std::lock_guard lock(mutex_);
    const auto found = pictures_.find(sample);
    return found == pictures_.end() ? Tensor() : found->second;
  }

  void keep(int64_t sample, const Tensor& picture) {
    const std::lock_guard lock(mutex_);
    if (picture.numel() > room_ || !pictures_.emplace(sample, picture).second) return;
    room_ -= picture.numel();
  }

 private:
  std::mutex mutex_;
  std::unordered_map<int64_t, Tensor> pictures_;
  int64_t room_;
};

BatchSource::BatchSource(const Index& index, const DataConfig& config, const BatchPlan& plan,
                         uint64_t seed, int64_t memory_budget)
    : index_(index),
      config_(config),
      plan_(plan),
      seed_(seed),
      cache_(std::make_unique<Cache>(memory_budget)),
      masks_(std::make_unique<Cache>(memory_budget / 4)) {}

BatchSource::~BatchSource() = default;

Tensor BatchSource::decode(int64_t sample) const {
  const auto& entry = index_.samples[static_cast<size_t>(sample)];
  if (config_.random_background > 0 && entry.has_alpha) {
    return premultiplied(io::read_image_rgba(entry.path).contiguous());
  }
  return io::read_image(entry.path, {parse_colour(config_.background), {}});
}

Tensor BatchSource::resized(int64_t sample) const {
  if (Tensor kept = cache_->find(sample); kept.defined()) return kept;
  const Size size = plan_.fit(sample).resized;
  Tensor picture = decode(sample);
  if (picture.size(0) != size.height || picture.size(1) != size.width) {
    picture = io::resize_image(picture, size.width, size.height);
  }
  picture = picture.contiguous();
  cache_->keep(sample, picture);
  return picture;
}

Tensor BatchSource::resized_mask(int64_t sample) const {
  if (Tensor kept = masks_->find(sample); kept.defined()) return kept;
  const Size size = plan_.fit(sample).resized;
  const Tensor mask = read_mask(index_.samples[static_cast<size_t>(sample)]);
  const Tensor fitted = io::resize_image(mask.unsqueeze(-1), size.width, size.height).squeeze(-1).contiguous();
  masks_->keep(sample, fitted);
  return fitted;
}

/// [B,1,H,W], undefined where no sample of the batch has a mask.
Tensor BatchSource::masks(const Batch& batch) const {
  Tensor all;
  const Size size = plan_.fit(batch.samples.front()).size;
  for (size_t i = 0; i < batch.samples.size(); ++i) {
    const Choices choices = choose(config_, seed_, batch.draws[i]);
    if (index_.samples[static_cast<size_t>(batch.samples[i])].mask.empty() || choices.unmasked) continue;
    if (!all.defined()) all = at::ones({static_cast<int64_t>(batch.samples.size()), 1, size.height, size.width}, at::kFloat);
    with_context(fmt::format("loading the mask of {}", batch.ids[i]), [&] {
      write_mask(resized_mask(batch.samples[i]), size, choices, all[static_cast<int64_t>(i)].data_ptr<float>());
    });
  }
  return all;
}

Batch BatchSource::load_without_pixels(int64_t batch_index) const {
  Batch batch;
  batch.index = batch_index;
  std::vector<Tensor> sizes;
  for (const Item& item : plan_.batch(batch_index)) {
    const auto& sample = index_.samples[static_cast<size_t>(item.sample)];
    batch.captions.push_back(choose_caption(sample, config_, seed_, item.draw));
    batch.samples.push_back(item.sample);
    batch.draws.push_back(item.draw);
    batch.ids.push_back(sample.id);
    batch.contents.push_back(content_hash(sample));
    const Choices choices = choose(config_, seed_, item.draw);
    batch.flipped.push_back(choices.flip);
    batch.weights.push_back(sample.weight);
    batch.prior_prediction.push_back(sample.prior_prediction);
    sizes.push_back(at::tensor(size_ids(sample, plan_.fit(item.sample), choices)));
  }
  batch.size_ids = at::stack(sizes);
  batch.masks = masks(batch);
  return batch;
}

Batch BatchSource::load(int64_t batch_index) const {
  Batch batch = load_without_pixels(batch_index);
  const Size size = plan_.fit(batch.samples[0]).size;
  const auto count = static_cast<int64_t>(batch.samples.size());
  const Tensor pixels = at::empty({count, size.height, size.width, 3}, at::kFloat);
  for (int64_t i = 0; i < count; ++i) {
    const auto sample = batch.samples[static_cast<size_t>(i)];
    with_context(fmt::format("loading {}", batch.ids[static_cast<size_t>(i)]), [&] {
      write_pixels(resized(sample), size,
                   choose(config_, seed_, batch.draws[static_cast<size_t>(i)]),
                   pixels.data_ptr<float>() + i * size.height * size.width * 3);
    });
  }
  batch.pixels = pixels.permute({0, 3, 1, 2});
  return batch;
}

Batch BatchSource::fixed(const std::vector<int64_t>& samples) const {
  Batch batch;
  std::vector<Tensor> pixels, sizes;
  for (const int64_t number : samples) {
    const auto& sample = index_.samples[static_cast<size_t>(number)];
    pixels.push_back(picture(number, false));
    sizes.push_back(at::tensor(size_ids(sample, plan_.fit(number), {})));
    batch.ids.push_back(sample.id);
    batch.captions.push_back(sample.captions.front());
  }
  batch.samples = batch.draws = samples;
  batch.pixels = at::stack(pixels);
  batch.size_ids = at::stack(sizes);
  return batch;
}

Tensor BatchSource::picture(int64_t sample, bool flip) const {
  Choices choices;
  choices.flip = flip;
  choices.background = parse_colour(config_.background);
  const Size size = plan_.fit(sample).size;
  const Tensor pixels = at::empty({size.height, size.width, 3}, at::kFloat);
  with_context(fmt::format("loading {}", index_.samples[static_cast<size_t>(sample)].id),
               [&] { write_pixels(resized(sample), size, choices, pixels.data_ptr<float>()); });
  return pixels.permute({2, 0, 1});
}

Batch part_of(const Batch& batch, int64_t first, int64_t count) {
  const auto part = [&]<class T>(const std::vector<T>& all) {
    return all.empty() ? all : std::vector<T>(all.begin() + first, all.begin() + first + count);
  };
  const auto rows = [&](const Tensor& all) { return all.defined() ? all.narrow(0, first, count) : all; };
  return {batch.index,       rows(batch.pixels), part(batch.captions), part(batch.samples),
          part(batch.draws), part(batch.ids),    part(batch.contents), part(batch.flipped),  part(batch.weights),
          part(batch.prior_prediction), rows(batch.size_ids), rows(batch.masks)};
}

}  // namespace emulsion::data
