// emulsion data: what is in a folder of pictures, as training would see it.
#include <CLI/CLI.hpp>
#include <cstdio>
#include <map>

#include "core/error.h"
#include "data/buckets.h"
#include "data/index.h"
#include "data/picture_checks.h"
#include "io/jsonl.h"
#include "terminal.h"
#include "text.h"
#include "verbs.h"

namespace emulsion::app {
namespace {

struct Arguments {
  std::string folder;
  int64_t resolution = 512;
  bool quick = false;
  bool json = false;
};

std::string listed(const std::map<std::string, int64_t>& counts) {
  std::string text;
  for (const auto& [name, count] : counts) {
    text += fmt::format("{}{} {}", text.empty() ? "" : ", ", human_count(count), name);
  }
  return text;
}

std::string sizes(const data::Index& index) {
  const auto area = [](const data::Sample& sample) { return sample.width * sample.height; };
  const auto least = std::ranges::min_element(index.samples, {}, area), most = std::ranges::max_element(index.samples, {}, area);
  const auto text = [](const data::Sample& s) { return fmt::format("{} x {}", s.width, s.height); };
  return text(*least) == text(*most) ? "all " + text(*least)
                                     : fmt::format("{} to {}", text(*least), text(*most));
}

std::map<data::Size, int64_t> bucket_counts(const data::Index& index,
                                            const data::DataConfig& config) {
  const data::Buckets buckets(config);
  std::map<data::Size, int64_t> counts;
  for (const data::Sample& sample : index.samples) {
    counts[buckets.fit(sample.width, sample.height).size] += sample.repeats;
  }
  return counts;
}

int64_t without_caption(const data::Index& index) {
  return std::count_if(index.samples.begin(), index.samples.end(), [](const data::Sample& sample) {
    return std::all_of(sample.captions.begin(), sample.captions.end(),
                       [](const std::string& caption) { return caption.empty(); });
  });
}

int64_t too_small(const data::Index& index, int64_t resolution) {
  return std::count_if(index.samples.begin(), index.samples.end(), [&](const data::Sample& sample) {
    return sample.width * sample.height < resolution * resolution;
  });
}

void print_json(const data::Index& index, int64_t resolution) {
  for (const data::Problem& problem : index.problems) {
    std::printf("%s\n", io::json_line({{"event", "problem"},
                                       {"place", problem.place},
                                       {"reason", problem.reason},
                                       {"action", problem.action}})
                            .c_str());
  }
  std::printf("%s\n", io::json_line({{"event", "result"},
                                     {"pictures", static_cast<int64_t>(index.samples.size())},
                                     {"draws_per_epoch", index.draws()},
                                     {"without_caption", without_caption(index)},
                                     {"smaller_than_resolution", too_small(index, resolution)},
                                     {"problems", static_cast<int64_t>(index.problems.size())}})
                          .c_str());
}

void print_report(const data::Index& index, const data::DataConfig& config) {
  std::vector<std::vector<std::string>> rows = {
      {"pictures", fmt::format("{} ({})", human_count(static_cast<int64_t>(index.samples.size())),
                               listed(index.formats))},
      {"sizes", sizes(index)},
      {"captions", listed(index.caption_origins)},
      {"per epoch", human_count(index.draws()) + " pictures, counting repeats"}};
  if (const int64_t count = without_caption(index); count > 0) {
    rows.push_back({"no caption", human_count(count) +
                                      " pictures: they train as pictures of nothing; "
                                      "put a .txt file with a caption beside each"});
  }
  if (const int64_t count = too_small(index, config.resolution); count > 0) {
    rows.push_back(
        {"enlarged", fmt::format("{} pictures have fewer pixels than {} x {}", human_count(count),
                                 config.resolution, config.resolution)});
  }
  std::fputs(table(rows).c_str(), stdout);
  std::printf("\nBuckets at resolution %ld:\n", static_cast<long>(config.resolution));
  rows.clear();
  for (const auto& [size, count] : bucket_counts(index, config)) {
    rows.push_back({fmt::format("{} x {}", size.width, size.height), human_count(count)});
  }
  std::fputs(table(rows).c_str(), stdout);
  if (index.problems.empty()) return;
  std::printf("\nProblems (%zu):\n", index.problems.size());
  for (const data::Problem& problem : index.problems) {
    std::printf("  %s\n", data::to_string(problem).c_str());
  }
}

void check(const Arguments& arguments) {
  data::DataConfig config;
  config.resolution = arguments.resolution;
  config.sources.emplace_back().path = arguments.folder;
  data::validate(config);
  data::Index index = data::scan(config);
  if (!arguments.quick) data::check_pictures(index, *make_reporter(arguments.json));
  EMULSION_CHECK(!index.samples.empty(), format,
                 "{}: expected pictures that can be read, got {} that cannot, e.g. {}",
                 arguments.folder, index.problems.size(), data::to_string(index.problems.front()));
  if (arguments.json) return print_json(index, config.resolution);
  print_report(index, config);
}

}  // namespace

void add_data(CLI::App& app) {
  auto arguments = std::make_shared<Arguments>();
  CLI::App* verb =
      add_verb(app, "data", "Looks at training pictures.", "emulsion data check photos");
  verb->require_subcommand(1);
  CLI::App* check_verb = add_verb(
      *verb, "check",
      "Says what would be trained: counts, sizes, buckets, missing captions, broken files.\n"
      "Captions lie beside the pictures (.txt, .caption), in metadata.jsonl, or in the names.",
      "emulsion data check photos --resolution 512");
  check_verb->add_option("folder", arguments->folder, "Folder of pictures")
      ->required()
      ->option_text("FOLDER");
  check_verb
      ->add_option("--resolution", arguments->resolution, "Side of a square training picture [512]")
      ->option_text("PIXELS");
  check_verb->add_flag("--quick", arguments->quick,
                       "Read the headers only; broken data is not found");
  add_json(*check_verb, arguments->json);
  check_verb->callback([arguments] { check(*arguments); });
}

}  // namespace emulsion::app
