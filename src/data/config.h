// The [data] table of a run file.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace emulsion::data {

/// Which part of a picture is kept when its shape is not the bucket's.
enum class Crop { center, random };
constexpr auto enum_names(Crop) {
  return std::to_array<std::pair<Crop, const char*>>(
      {{Crop::center, "center"}, {Crop::random, "random"}});
}

struct SourceConfig {
  std::string path;
  int64_t repeats = 1;
  double weight = 1;
  std::string caption;
  std::string caption_prefix;
  std::string trigger;
  std::vector<std::string> templates;
  std::string mask;
  bool prior_prediction = false;

  template <class V>
  void fields(V& v) {
    v("path", path, "Folder of pictures: plain, with N_name sub-folders, or with metadata.jsonl.")
        .required();
    v("repeats", repeats, "How often each picture is seen per epoch; times N of an N_name folder.")
        .min(1)
        .max(100000);
    v("weight", weight, "What the loss of its pictures counts.").min(0);
    v("caption", caption, "One caption for every picture, instead of those that lie beside them.");
    v("caption_prefix", caption_prefix, "Put before every caption.");
    v("trigger", trigger,
      "A word for what is learnt: replaces [trigger] in captions; put before those without it.");
    v("templates", templates,
      "Sentences that captions are made into, one at random each time: [name] or [trigger] is the trigger, [filewords] the "
      "caption, as "
      "in AUTOMATIC1111. \"object\" and \"style\" stand for ready lists (Gal et al. 2022).");
    v("mask", mask,
      "Which parts of its pictures count for the loss: \"alpha\" (what is transparent does not), \"beside\" (NAME-masklabel.png "
      "beside each picture; white counts), or a folder of masks with the pictures' names. Empty: everything counts.");
    v("prior_prediction", prior_prediction,
      "Train towards what the untouched model predicts for its pictures, not towards the pictures: what they show stays as it is. "
      "For methods that leave the model's own weights alone.");
  }
};

struct DataConfig {
  int64_t resolution = 512;
  bool buckets = true;
  int64_t bucket_step = 0;
  int64_t bucket_min = 0;
  int64_t bucket_max = 0;
  bool upscale = true;
  Crop crop = Crop::center;
  int64_t crop_size = 0;
  double flip = 0;
  std::string background = "#ffffff";
  double random_background = 0;
  double unmasked_probability = 0;
  double caption_dropout = 0;
  double tag_dropout = 0;
  bool shuffle_tags = false;
  int64_t keep_tags = 0;
  bool cache_latents = true;
  std::vector<SourceConfig> sources;

  template <class V>
  void fields(V& v) {
    v("resolution", resolution, "Side of a square picture; other shapes keep its area.")
        .min(8)
        .max(8192)
        .unit("pixels");
    v("buckets", buckets, "Train on several shapes; otherwise every picture is cut to a square.");
    v("bucket_step", bucket_step,
      "Sides are multiples of this. 0: an eighth of the resolution, at most 64.")
        .min(0)
        .max(1024)
        .unit("pixels");
    v("bucket_min", bucket_min, "Shortest side. 0: half the resolution.").min(0).unit("pixels");
    v("bucket_max", bucket_max, "Longest side. 0: twice the resolution.").min(0).unit("pixels");
    v("upscale", upscale, "Enlarge small pictures; otherwise they train at their own size.");
    v("crop", crop, "Which part is kept where a picture's shape is not its bucket's.");
    v("crop_size", crop_size, "Train on random squares of this side. 0: whole pictures.")
        .min(0)
        .max(8192)
        .unit("pixels");
    v("flip", flip, "Probability of mirroring left and right.").min(0).max(1);
    v("background", background, "Colour under transparent pixels, #rrggbb.");
    v("random_background", random_background,
      "Probability of a random light colour under transparent pixels instead.")
        .min(0)
        .max(1);
    v("unmasked_probability", unmasked_probability, "Probability of training a whole picture in spite of its mask.")
        .min(0)
        .max(1);
    v("caption_dropout", caption_dropout, "Probability of training with an empty caption.")
        .min(0)
        .max(1);
    v("tag_dropout", tag_dropout,
      "Probability with which each comma-separated part of a caption is left out.")
        .min(0)
        .max(1);
    v("shuffle_tags", shuffle_tags, "Shuffle the comma-separated parts of captions.");
    v("keep_tags", keep_tags, "How many parts stay in front when shuffling, and stay at all.")
        .min(0);
    v("cache_latents", cache_latents,
      "Encode every picture once beforehand. Not with random crops or backgrounds.");
    v("sources", sources, "Where the pictures are.");
  }
};

/// "#rrggbb" as numbers. Throws: Error{config}.
std::array<uint8_t, 3> parse_colour(const std::string& text);

/// Whether pictures are the same every time, up to flipping, so that their latents can be kept.
bool pictures_are_fixed(const DataConfig& config);

/// Whether a picture's captions are trained as they are, so that their text states can be kept.
bool captions_are_fixed(const DataConfig& config);

/// Rules that span fields: crop size, bucket limits, colours, paths.
/// Throws: Error{config} with all problems, a line each.
void validate(const DataConfig& config);

}  // namespace emulsion::data
