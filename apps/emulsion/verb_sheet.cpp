// emulsion sheet: rows of pictures in one PNG.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <filesystem>

#include "core/error.h"
#include "generate/sheet.h"
#include "io/image.h"
#include "verbs.h"

namespace emulsion::app {
namespace {

namespace fs = std::filesystem;

struct Arguments {
  std::vector<std::string> rows;
  std::string output = "sheet.png";
  int64_t cell = 128;
};

std::vector<fs::path> pictures_of(const std::string& text) {
  std::vector<fs::path> files;
  if (fs::is_directory(text)) {
    for (const auto& entry : fs::directory_iterator(text)) {
      if (io::is_image_path(entry.path())) files.push_back(entry.path());
    }
    std::sort(files.begin(), files.end());
    return files;
  }
  for (const std::string& file : CLI::detail::split(text, ',')) files.emplace_back(file);
  return files;
}

generate::SheetRow row_of(const std::string& text) {
  const size_t equals = text.find('=');
  EMULSION_CHECK(equals != std::string::npos, config,
                 "row '{}': expected LABEL=FOLDER or LABEL=FILE,FILE,...", text);
  generate::SheetRow row{text.substr(0, equals), {}};
  for (const fs::path& file : pictures_of(text.substr(equals + 1)))
    row.pictures.push_back(io::read_image(file));
  EMULSION_CHECK(!row.pictures.empty(), not_found, "row '{}': no pictures there", row.label);
  return row;
}

void make(const Arguments& arguments) {
  std::vector<generate::SheetRow> rows;
  for (const std::string& text : arguments.rows) rows.push_back(row_of(text));
  io::write_png(arguments.output, generate::make_sheet(rows, arguments.cell));
  std::printf("%s\n", arguments.output.c_str());
}

}  // namespace

void add_sheet(CLI::App& app) {
  auto a = std::make_shared<Arguments>();
  CLI::App* verb =
      add_verb(app, "sheet", "Puts rows of pictures into one PNG, each row under its label.",
               "emulsion sheet \"trained on=photos\" \"drawn=a.png,b.png\" -o compare.png");
  verb->add_option("rows", a->rows, "A label, and a folder or files")
      ->required()
      ->option_text("LABEL=PICTURES...");
  verb->add_option("--cell", a->cell, "Side of a picture in pixels [128]")
      ->option_text("N")
      ->check(CLI::Range(8, 2048));
  verb->add_option("-o,--output", a->output, "PNG to write [sheet.png]")->option_text("FILE");
  verb->callback([a] { make(*a); });
}

}  // namespace emulsion::app
